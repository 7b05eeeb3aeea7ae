"""The source of custom layers, as hashes: they tell which method has changed, and keep nobody's code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import textwrap
from typing import Any

from models.manifest import LayerRecord

_LIBRARIES = {"builtins", "keras", "tensorflow"}


def record_of(value: Any) -> LayerRecord:
    """Where a class or function comes from here, with a hash of its source and of each method.

    A class's own bases count as its source, those of a library do not. There is no hash where there is no source file:
    in an interactive session, or for a compiled module.
    """
    family = inspect.getmro(value) if inspect.isclass(value) else (value,)
    own = [item for item in family if item is value or item.__module__.partition(".")[0] not in _LIBRARIES]
    try:
        sources = [inspect.getsource(item) for item in own]
    except (OSError, TypeError):
        return LayerRecord(module=value.__module__, source_sha256=None)
    methods = {
        name if item is value else f"{item.__name__}.{name}": _sha256(text)
        for item, source in zip(own, sources, strict=True)
        for name, text in _methods(source).items()
    }
    return LayerRecord(module=value.__module__, source_sha256=_sha256("".join(sources)), methods=methods)


def change_of(before: LayerRecord, today: LayerRecord) -> str | None:
    """What of a layer's origin is not as it was, in words; None where all is."""
    if before.source_sha256 == today.source_sha256:
        return None if before.module == today.module else f"it is in {today.module} instead of {before.module}"
    if not before.methods or not today.methods:
        return "its source differs"
    old, new = before.methods, today.methods
    lines = [
        _listed("differs", [name for name in new if name in old and old[name] != new[name]]),
        _listed("is new", [name for name in new if name not in old]),
        _listed("is gone", [name for name in old if name not in new]),
    ]
    return ", ".join(filter(None, lines)) or "only what is outside its methods differs"


def told(changes: dict[str, str]) -> str:
    """Changed layers by name, each with what of it differs, for a sentence."""
    return ", ".join(f"{name} ({change})" for name, change in changes.items())


def _listed(what: str, names: list[str]) -> str:
    return f"{', '.join(f'`{name}`' for name in names)} {what}" if names else ""


def _methods(source: str) -> dict[str, str]:
    """The source of each function in a class's body; that of a property and its setter together."""
    definition = ast.parse(textwrap.dedent(source)).body[0]
    found: dict[str, str] = {}
    for item in definition.body if isinstance(definition, ast.ClassDef) else []:
        if isinstance(item, ast.FunctionDef):
            decorators = "".join(map(ast.dump, item.decorator_list))
            found[item.name] = found.get(item.name, "") + decorators + _code(source, item)
    return found


def _code(source: str, item: ast.FunctionDef) -> str:
    return ast.get_source_segment(textwrap.dedent(source), item) or ""


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

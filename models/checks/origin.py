"""Where a layer's classes come from, so that another process can import them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.checks.fresh_process import Source
from models.checks.verdict import NotApplicableError


def is_keras_own(cls: type) -> bool:
    """Whether Keras itself defines the class."""
    return cls.__module__.split(".")[0] in {"keras", "keras_hub", "tensorflow"}


def source_of(objects: Iterable[Any]) -> Source:
    """The modules and class names that another process needs to revive these objects.

    Raises:
        NotApplicableError: one of them was typed into an interactive session, so there is no file to import.
    """
    modules: dict[str, str | None] = {}
    classes: list[str] = []
    for item in objects:
        defined = item if hasattr(item, "__qualname__") else type(item)
        module = getattr(defined, "__module__", None) or "builtins"
        if module.split(".")[0] in {"keras", "builtins", "tensorflow", "numpy", "jax", "torch"}:
            continue
        modules[module] = _file_of(module, defined)
        if defined.__qualname__ not in classes:
            classes.append(defined.__qualname__)
    return Source(modules, classes)


def is_local(cls: type) -> bool:
    """Whether the class is made inside a function, where no other process can import it."""
    return "<locals>" in cls.__qualname__


def _file_of(module: str, defined: Any) -> str | None:
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or not Path(path).is_file():
        raise NotApplicableError(
            f"`{defined.__qualname__}` is defined in `{module}`, which has no file that another process could import; "
            "move the layer into a module to have its reload checked"
        )
    return str(Path(path).resolve())

"""What a `.keras` file says of itself, read without Keras and before Keras parses it.

The file is a zip of `metadata.json`, `config.json`, `model.weights.h5` and `assets/`. Anything else in it is refused,
and so is one that grows when unpacked: Keras stores its members uncompressed.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_MAX_CONFIG_BYTES = 64 * 2**20
_MAX_GROWTH_BYTES = 64 * 2**20


class KerasFileError(ValueError):
    """The file is not a `.keras` file that is safe to hand to Keras."""


@dataclass(frozen=True)
class ObjectReference:
    """A custom class or function that a model was saved with.

    `registered_name` is `package>Name`, or the bare name where nobody registered it. A function of Keras's own, which
    looks like one that nobody registered, counts as custom here.
    """

    module: str | None
    class_name: str
    registered_name: str


def custom_objects_in(path: Path) -> list[ObjectReference]:
    """The custom objects that the model in `path` needs to answer, each once, in order of appearance.

    Losses and metrics that it was compiled with are left out: it is never loaded with them.

    Raises:
        KerasFileError: the file is not a `.keras` file, or holds what such a file never does.
    """
    config = {key: value for key, value in read_config(path).items() if key != "compile_config"}
    return list(dict.fromkeys(_references(config)))


def read_config(path: Path) -> dict[str, Any]:
    """The model's configuration, after the file's members have been checked.

    Raises:
        KerasFileError: as `custom_objects_in`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            config = json.loads(archive.read("config.json"))
    except KerasFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, RuntimeError) as error:
        # RuntimeError: an encrypted member, an unknown compression, too deep a configuration.
        raise KerasFileError(f"`{path.name}` is not a whole .keras file: {error}.") from error
    if not isinstance(config, dict):
        raise KerasFileError(f"`{path.name}` holds no model configuration.")
    return config


def config_differences(expected: Any, found: Any, where: str, owner: str = "") -> Iterator[str]:
    """A line for each place at which two configurations differ.

    Args:
        expected, found: Configurations, or the same part of both.
        where: Its place in the whole.
        owner: The layer that it belongs to, or whatever else in a list has a name; empty where there is none.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from config_differences(expected.get(key), found.get(key), f"{where}.{key}", owner)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (old, new) in enumerate(zip(expected, found, strict=True)):
            yield from config_differences(old, new, f"{where}[{index}]", _name_of(old) or owner)
    elif repr(expected) != repr(found):  # NaN equals NaN here
        whose = f" of `{owner}`" if owner else ""
        yield f"`{where}`{whose} is {found!r} instead of {expected!r}"


def _name_of(item: Any) -> str:
    """The name of a saved layer, or of anything else that says its own; empty where it has none."""
    for holder in (item, item.get("config")) if isinstance(item, dict) else ():
        if isinstance(holder, dict) and isinstance(name := holder.get("name"), str):
            return name
    return ""


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise KerasFileError("The .keras file holds a member twice.")
    for name in names:
        parts = PurePosixPath(name).parts
        if name not in _MEMBERS and (parts[:1] != ("assets",) or ".." in parts):
            raise KerasFileError(f"The .keras file holds a member that Keras never writes: {name!r}.")
    if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
        raise KerasFileError(f"The model's configuration is larger than {_MAX_CONFIG_BYTES} bytes.")
    if sum(entry.file_size for entry in entries) > size + _MAX_GROWTH_BYTES:
        raise KerasFileError("The .keras file unpacks to far more than its size.")


def _references(value: Any) -> Iterator[ObjectReference]:
    """Walks without recursion, so that deep nesting cannot exhaust the stack."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            reference = _reference(item)
            if reference is not None:
                yield reference
            pending.extend(reversed(item.values()))
        elif isinstance(item, list):
            pending.extend(reversed(item))


def _reference(item: dict[str, Any]) -> ObjectReference | None:
    class_name, module = item.get("class_name"), item.get("module")
    registered_name = item.get("registered_name") or class_name
    if not isinstance(class_name, str) or not isinstance(registered_name, str) or "config" not in item:
        return None
    if class_name == "function":  # Keras writes the module `builtins` for every function
        name = item["config"]
        return ObjectReference(None, class_name, name) if isinstance(name, str) else None
    if module is None and registered_name == class_name:  # a value of Keras's own, such as `__tensor__`
        return None
    if isinstance(module, str) and (module == "keras" or module.startswith("keras.")) and registered_name == class_name:
        return None
    return ObjectReference(module if isinstance(module, str) else None, class_name, registered_name)

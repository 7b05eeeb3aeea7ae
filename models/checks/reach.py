"""What a layer holds: every object its attributes lead to, and the plain data among them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import keras
import numpy as np

from models.checks.origin import is_keras_own
from models.checks.tensors import as_array

_MAX_DEPTH = 8
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)


def _own_attributes(holder: Any) -> dict[str, Any]:
    """The attributes of an object without those that Keras and its backend give every layer."""
    if not isinstance(holder, keras.layers.Layer):
        return dict(vars(holder))
    hidden = {*vars(keras.layers.Layer()), "_functional"}
    return {name: value for name, value in vars(holder).items() if name not in hidden and not name.startswith("_self_")}


def is_variable(value: Any) -> bool:
    """Whether the value is a Keras variable or a raw variable of a backend."""
    if isinstance(value, keras.Variable):
        return True
    root = type(value).__module__.split(".")[0]
    return root == "tensorflow" and hasattr(value, "assign") and hasattr(value, "read_value")


def reachable(layer: Any) -> Iterator[tuple[str, Any]]:
    """Everything a layer's own attributes lead to, through containers, sub-layers and plain objects.

    Yields the way to it (`encoder.blocks[2].kernel`) and the object.
    """
    yield from _walk(layer, "", {id(layer)}, 0)


def _walk(owner: Any, way: str, seen: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    for step, value in _members(owner):
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        here = f"{way}{step}".lstrip(".")
        yield here, value
        if not is_variable(value):
            yield from _walk(value, here, seen, depth + 1)


def _members(owner: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(owner, dict):
        yield from ((f"[{key!r}]", value) for key, value in list(owner.items()))
    elif isinstance(owner, list | tuple | set | frozenset):
        yield from ((f"[{index}]", value) for index, value in enumerate(list(owner)))
    elif _has_open_attributes(owner):
        yield from ((f".{name}", value) for name, value in _own_attributes(owner).items())


def _has_open_attributes(value: Any) -> bool:
    if isinstance(value, type | ModuleType | FunctionType | MethodType | np.ndarray | keras.KerasTensor):
        return False
    root = type(value).__module__.split(".")[0]
    return hasattr(value, "__dict__") and root not in {"tensorflow", "builtins", "jax", "torch", "functools"}


@dataclass(frozen=True)
class PlainAttribute:
    """One attribute holding plain data: where it is, and a copy of what it held."""

    owner: Any
    name: str
    way: str
    value: Any

    def put(self, value: Any) -> None:
        """Sets the attribute, past Keras's tracking."""
        if isinstance(self.owner, type):
            setattr(self.owner, self.name, value)
        else:
            vars(self.owner)[self.name] = value


def plain_attributes(layer: Any) -> dict[str, PlainAttribute]:
    """The plain data (numbers, text, arrays, containers of them) that a layer and what it holds keep, by way."""
    owners = [("", layer), *((way, value) for way, value in reachable(layer) if _holds_data(value))]
    found: dict[str, PlainAttribute] = {}
    for way, owner in owners:
        for name, value in _own_attributes(owner).items():
            _note(found, owner, name, f"{way}.{name}".lstrip("."), value)
    for cls in type(layer).__mro__:
        if not is_keras_own(cls) and cls is not object:
            for name, value in list(vars(cls).items()):
                if not name.startswith("__"):
                    _note(found, cls, name, f"{cls.__name__}.{name}", value)
    return found


def _holds_data(value: Any) -> bool:
    return _has_open_attributes(value) and not is_variable(value) and not isinstance(value, list | tuple | dict | set)


def _note(found: dict[str, PlainAttribute], owner: Any, name: str, way: str, value: Any) -> None:
    with contextlib.suppress(TypeError):  # not plain data
        found[way] = PlainAttribute(owner, name, way, copy_of_plain(value))


def copy_of_plain(value: Any) -> Any:
    """A deep copy of plain data.

    Raises:
        TypeError: the value is, or holds, something else.
    """
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {key: copy_of_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        kind = list if isinstance(value, list) else tuple if isinstance(value, tuple) else set
        return kind(copy_of_plain(item) for item in value)
    if not is_variable(value) and keras.ops.is_tensor(value):
        return as_array(value)
    raise TypeError(f"not plain data: {type(value)}")


def same_plain(left: Any, right: Any) -> bool:
    """Whether two copies of plain data are equal, NaN to itself too."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        left, right = np.asarray(left), np.asarray(right)
        return bool(np.array_equal(left, right, equal_nan=left.dtype.kind == right.dtype.kind == "f"))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_plain(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(same_plain(a, b) for a, b in zip(left, right, strict=True))
    return bool(left == right) or repr(left) == repr(right) == "nan"

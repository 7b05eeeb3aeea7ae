"""What is wrong with a value of JSON, as TensorFlow Serving says it. Asked only once something is known to be wrong."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from models.manifest import TensorSpec

_LONGEST_TEXT = 200
_MAX_NDIM = 64

_DTYPES = {"float16": "half", "float32": "float", "float64": "double"}
_LEAVES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}, "U": {str}}
_TYPES: dict[type, str] = {
    type(None): "Null",
    dict: "Object",
    list: "Array",
    str: "String",
    int: "Number",
    float: "Number",
}


def text_of(value: Any) -> str:
    """A JSON value as text, cut so that an answer stays short."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def rows_fault(rows: list[Any], names: list[str]) -> str | None:
    """What is wrong with the form of `instances`: values and objects do not mix, and objects have all the keys."""
    if not isinstance(rows[0], dict) and len(names) > 1:
        return (
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_named(rows[0]):
        for row, value in enumerate(rows):
            if _is_named(value):
                return f"Expecting value/list but got object at item {row} of input list"
        return None
    wanted = set(names)
    for row, value in enumerate(rows):
        if not _is_named(value):
            return f"Expecting object but got list at item {row} of input list"
        if value.keys() != wanted:
            return _keys_fault(row, value, wanted)
    return None


def columns_fault(spec: TensorSpec, value: Any, key: str | None) -> str | None:
    """What is wrong with the value of one input; None if TensorFlow Serving would find nothing wrong with it.

    Args:
        spec: Of the input.
        value: All of its value or, if `key` is given, its rows in `instances`.
        key: How to name the input.
    """
    if len(_shape(value)) >= _MAX_NDIM:
        return None
    if key is None:
        return _fault(value, _shape(value), spec, 0)
    first = _shape(value[0])
    for row, item in enumerate(value):
        shape = _shape(item)
        fault = _fault(item, shape, spec, 0)
        if fault is None and shape != first:
            fault = f"Expecting shape {_brackets(first)} but got: {_brackets(shape)}"
        if fault:
            return f"Failed to process element: {row}{key} of 'instances' list. Error: INVALID_ARGUMENT: {fault}"
    return None


def inputs_fault(sent: Iterable[str], wanted: Iterable[str]) -> str | None:
    """What is wrong with the names of the inputs of a message over gRPC."""
    sent, wanted = set(sent), set(wanted)
    extra, missing = sent - wanted, wanted - sent
    if len(sent) != len(wanted):
        return (
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({_set(sent)}) != len({_set(wanted)}). "
            f"Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    if extra:
        return (
            f"input tensor alias not found in signature: {min(extra)[:_LONGEST_TEXT]}. "
            f"Inputs expected to be in the set {_set(wanted)}."
        )
    return None


def outputs_fault(asked: Sequence[str], known: Iterable[str]) -> str | None:
    """What is wrong with the names of the outputs that such a message asks for."""
    known = set(known)
    for place, name in enumerate(asked):
        if name not in known:
            return (
                f"output tensor alias not found in signature: {name[:_LONGEST_TEXT]} "
                f"Outputs expected to be in the set {_set(known)}."
            )
        if name in asked[:place]:
            return f"duplicate output tensor alias: {name}"
    return None


def metadata_fault(fields: Sequence[str]) -> str | None:
    """What is wrong with the fields of a model's metadata that are asked for over gRPC; there is but one."""
    if not fields:
        return "GetModelMetadataRequest must specify at least one metadata_field"
    other = next((field for field in fields if field != "signature_def"), None)
    return None if other is None else f"Metadata field {other[:_LONGEST_TEXT]} is not supported"


def is_lossy(value: float, spec: TensorSpec) -> bool:
    """Whether a number has no place in a float input: an integer between two floats, or what is beyond the largest."""
    with np.errstate(over="ignore"):
        narrow = float(spec.numpy_dtype.type(value))
    return narrow != value if isinstance(value, int) else np.isinf(narrow) and not np.isinf(value)


def lossy_fault(value: float, spec: TensorSpec) -> str:
    """What is wrong with a number that `is_lossy`."""
    return f"Cannot convert JSON value: {value} to {_DTYPES[spec.dtype]} without loss of precision."


def _keys_fault(row: int, value: dict[str, Any], wanted: set[str]) -> str:
    for name in value:
        if name not in wanted:
            return (
                f"Failed to process element: {row} key: {name[:_LONGEST_TEXT]} of 'instances' list. "
                f"Error: INVALID_ARGUMENT: JSON object: does not have named input: {name[:_LONGEST_TEXT]}"
            )
    return (
        f"Failed to process element: {row} of 'instances' list. JSON object: {text_of(value)} "
        f"keys must be equal to: {','.join(sorted(wanted))}"
    )


def _fault(value: Any, shape: list[int], spec: TensorSpec, level: int) -> str | None:
    rank = len(shape)
    if not isinstance(value, list):
        if level == rank:
            return _leaf_fault(value, spec)
        return (
            f"JSON Value: {text_of(value)} found at incorrect level: {level + 1} in the JSON DOM. "
            f"Expected at level: {rank}"
        )
    if level >= rank:
        return f"Encountered list at unexpected level: {level} expected < {rank}"
    if len(value) != shape[level]:
        return f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
    return next((fault for item in value if (fault := _fault(item, shape, spec, level + 1))), None)


def _leaf_fault(value: Any, spec: TensorSpec) -> str | None:
    dtype = "bool" if spec.nullable and spec.dtype == "int8" else _DTYPES.get(spec.dtype, spec.dtype)
    wanted = {bool} if dtype == "bool" else _LEAVES[spec.numpy_dtype.kind]
    if value is None and spec.nullable:
        return None
    if type(value) in wanted:
        return lossy_fault(value, spec) if spec.dtype in _DTYPES and is_lossy(value, spec) else None
    if spec.dtype == "string" and isinstance(value, dict):
        return f"JSON Value: {text_of(value)} not formatted correctly for base64 data"
    kind = str(value) if isinstance(value, bool) else _TYPES[type(value)]
    return f"JSON Value: {text_of(value)} Type: {kind} is not of expected type: {dtype}"


def _shape(value: Any) -> list[int]:
    """The shape that the first value at each level says."""
    shape: list[int] = []
    while isinstance(value, list) and len(shape) < _MAX_NDIM:
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _set(names: set[str]) -> str:
    return f"{{{','.join(sorted(names))[:_LONGEST_TEXT]}}}"


def _brackets(shape: list[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))

"""Tensors of the Open Inference Protocol: JSON lists and raw bytes to arrays, and arrays to both.

Nothing is coerced, and nothing copied that need not be: a binary tensor of numbers is a view of the body.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from models.manifest import DType, TensorSpec, null_of
from service.errors import InvalidRequest
from service.protocols.datatypes import BFLOAT16, OF_DTYPE, OF_V2, widen_bfloat16
from service.protocols.tensors import describe, not_in_json, to_strings
from service.protocols.v2_request import InputTensor

_LENGTH = struct.Struct("<I")
_BYTES = "BYTES"

_LEAVES: dict[str, tuple[str, set[type]]] = {
    "f": ("numbers", {int, float}),
    "i": ("integers", {int}),
    "u": ("integers", {int}),
    "b": ("true or false", {bool}),
    "U": ("strings", {str}),
}


def check_datatype(spec: TensorSpec, tensor: InputTensor) -> None:
    """Checks that a tensor is of its input's datatype.

    Raises:
        InvalidRequest: it is not.
    """
    wanted = OF_DTYPE[spec.dtype].v2
    if tensor.datatype == wanted or (tensor.datatype == BFLOAT16 and spec.dtype == "float32"):
        return
    raise InvalidRequest(f"Input `{spec.name}` must be {wanted}. Received: {tensor.datatype}.")


def from_json(spec: TensorSpec, tensor: InputTensor) -> np.ndarray:
    """The array of an input whose values are in the JSON, flat or nested as its shape says.

    Raises:
        InvalidRequest: they are too many or too few, nested otherwise, or not of the dtype.
    """
    if tensor.datatype == BFLOAT16:
        raise InvalidRequest(f"Input `{spec.name}` must be sent as bytes: JSON cannot carry {BFLOAT16}.")
    leaves = _flatten(tensor)
    dtype = spec.numpy_dtype
    words, types = _LEAVES[dtype.kind]
    if spec.nullable:
        words, types = f"{words} or null", types | {type(None)}
    if strangers := set(map(type, leaves)) - types:
        index, value = next((i, leaf) for i, leaf in enumerate(leaves) if type(leaf) in strangers)
        raise InvalidRequest(f"Input `{spec.name}` must hold {words}. Value {index} is {describe(value)}.")
    if spec.nullable:
        leaves = [null_of(spec.dtype) if leaf is None else leaf for leaf in leaves]
    return _convert(spec, leaves).reshape(tensor.shape)


def from_bytes(spec: TensorSpec, tensor: InputTensor, data: memoryview) -> np.ndarray:
    """The array of an input whose values are raw bytes; a view of them where they are aligned numbers.

    Raises:
        InvalidRequest: they are too many or too few, or strings are not UTF-8.
    """
    if tensor.datatype == _BYTES:
        texts = [decode_text(spec, item) for item in split_strings(spec.name, data)]
        _check_count(tensor, len(texts))
        return to_strings(spec, np.array(texts, dtype=object), texts).reshape(tensor.shape)
    wire = np.dtype("<u2") if tensor.datatype == BFLOAT16 else OF_V2[tensor.datatype].wire
    assert wire is not None  # noqa: S101 - BYTES alone has none
    if len(data) != tensor.num_values * wire.itemsize:
        raise InvalidRequest(
            f"Input `{spec.name}` of shape {list(tensor.shape)} must have {tensor.num_values * wire.itemsize} bytes. "
            f"Received: {len(data)}."
        )
    values = np.frombuffer(data, wire).reshape(tensor.shape)
    if tensor.datatype == BFLOAT16:
        return widen_bfloat16(values)
    if wire.kind == "b" and (values.view(np.uint8) > 1).any():
        raise InvalidRequest(f"Input `{spec.name}` must hold bytes that are 0 or 1.")
    # Vector instructions of a runtime may fail on numbers that are not where their size says.
    return values if values.flags.aligned and values.dtype.isnative else values.astype(spec.numpy_dtype)


def split_strings(name: str, data: memoryview) -> list[memoryview]:
    """The elements of a BYTES tensor, each with its length before it.

    Raises:
        InvalidRequest: a length is more than there is.
    """
    found: list[memoryview] = []
    offset, end = 0, len(data)
    while offset < end:
        start = offset + _LENGTH.size
        length = _LENGTH.unpack_from(data, offset)[0] if start <= end else end
        offset = start + length
        if offset > end:
            raise InvalidRequest(f"Input `{name}` ends within string {len(found)}.")
        found.append(data[start:offset])
    return found


def to_json(name: str, dtype: DType, values: np.ndarray) -> Any:
    """A flat list as orjson takes it, which writes NaN as null.

    Raises:
        NotInJson: there is an infinity among the values.
    """
    if dtype == "string":
        return values.ravel().tolist()
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise not_in_json(name, "Infinity", np.isinf(values), "Ask for the output as bytes: `binary_data`.")
    return np.ascontiguousarray(values).reshape(-1)


def to_bytes(dtype: DType, values: np.ndarray) -> bytes | memoryview:
    """The raw bytes of a tensor; a view of the array where its numbers lie in order."""
    wire = OF_DTYPE[dtype].wire
    if wire is not None:
        return np.ascontiguousarray(values, wire).reshape(-1).view(np.uint8).data
    texts = [text.encode() for text in values.ravel().tolist()]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(text)), text) for text in texts))


def _flatten(tensor: InputTensor) -> list[Any]:
    """The values in order. Data is nested as its shape says where its first item is a list, else flat."""
    leaves = tensor.data or []
    if leaves and type(leaves[0]) is list:
        for axis, size in enumerate(tensor.shape):
            rows = leaves if axis else [leaves]
            if not all(type(row) is list and len(row) == size for row in rows):
                raise InvalidRequest(
                    f"`data` of input `{tensor.name}` must be flat, or nested as its shape {list(tensor.shape)} says."
                )
            leaves = list(chain.from_iterable(rows))
    _check_count(tensor, len(leaves))
    return leaves


def _check_count(tensor: InputTensor, count: int) -> None:
    if count != tensor.num_values:
        raise InvalidRequest(
            f"Input `{tensor.name}` of shape {list(tensor.shape)} must have {tensor.num_values} values. "
            f"Received: {count}."
        )


def _convert(spec: TensorSpec, leaves: list[Any]) -> np.ndarray:
    dtype = spec.numpy_dtype
    if dtype.kind == "U":
        return to_strings(spec, np.array(leaves, dtype=object), leaves)
    convert: Callable[[list[Any], np.dtype[Any]], np.ndarray] = _to_floats if dtype.kind == "f" else np.array
    try:
        return convert(leaves, dtype)
    except OverflowError as error:
        raise InvalidRequest(f"Input `{spec.name}` must hold values that fit {OF_DTYPE[spec.dtype].v2}.") from error


def _to_floats(leaves: list[Any], dtype: np.dtype[Any]) -> np.ndarray:
    wide = np.array(leaves, np.float64)
    with np.errstate(over="ignore"):
        values = wide.astype(dtype, copy=False)
    if (np.isinf(values) & ~np.isinf(wide)).any():
        raise OverflowError
    return values


def decode_text(spec: TensorSpec, text: memoryview) -> str:
    """One string of an input.

    Raises:
        InvalidRequest: it is not UTF-8.
    """
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Input `{spec.name}` must hold strings in UTF-8.") from error

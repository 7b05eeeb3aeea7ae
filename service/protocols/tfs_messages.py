"""TensorFlow's TensorProto and Example to arrays and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tensorflow_serving.apis import predict_pb2

from models.manifest import TensorSpec, dtype_name
from service.errors import InvalidRequest
from service.protocols.datatypes import DATATYPES, Datatype

_LISTS = {
    "DT_FLOAT": "float_val",
    "DT_DOUBLE": "double_val",
    "DT_INT8": "int_val",
    "DT_INT16": "int_val",
    "DT_INT32": "int_val",
    "DT_INT64": "int64_val",
    "DT_UINT8": "int_val",
    "DT_UINT16": "int_val",
    "DT_UINT32": "uint32_val",
    "DT_UINT64": "uint64_val",
    "DT_BOOL": "bool_val",
    "DT_HALF": "half_val",
    "DT_STRING": "string_val",
}
"""The field of a TensorProto in which each type is listed."""
_OF_NAME: dict[str, Datatype] = {item.tensorflow: item for item in DATATYPES}
_NAMES: dict[str, str] = {item.dtype: item.tensorflow for item in DATATYPES}
_INPUT = (
    predict_pb2.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].message_type.fields_by_name["value"].message_type
)
_ENUM = _INPUT.fields_by_name["dtype"].enum_type
_MAX_NDIM = 64
_MAX_TEXT_BYTES = 256 * 2**20


def array_of(spec: TensorSpec, proto: Any, limit: int) -> np.ndarray:
    """The array of a TensorProto, in the dtype that it says and of at most `limit` bytes.

    Its values are raw bytes or a list; a list may be shorter than the shape, whose last value then stands for the rest.

    Raises:
        InvalidRequest: its parts contradict one another, or it is of a type that no input has.
    """
    kind = _ENUM.values_by_number.get(proto.dtype)
    if kind is None or kind.name not in _OF_NAME:
        raise InvalidRequest(
            f"Input `{spec.name}` must be {spec.dtype}. Received: {kind.name if kind else proto.dtype}."
        )
    wire = _OF_NAME[kind.name].wire
    shape = [dim.size for dim in proto.tensor_shape.dim]
    count = math.prod(shape)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0 or len(shape) > _MAX_NDIM:
        raise InvalidRequest(f"Input `{spec.name}` must have a known shape. Received: {shape[:_MAX_NDIM]}.")
    if count * (wire.itemsize if wire else 1) > limit or (shape and shape[0] and not count):
        raise InvalidRequest(
            f"Input `{spec.name}` must have values, of at most {limit} bytes. Received: shape {shape}."
        )
    if proto.tensor_content:
        return _fitted(spec, _from_content(spec, proto.tensor_content, wire, shape))
    values = list(getattr(proto, _LISTS[kind.name]))
    if len(values) > count or (count and not values):
        raise InvalidRequest(f"Input `{spec.name}` must have {count} values for its shape. Received: {len(values)}.")
    values += values[-1:] * (count - len(values))
    return _fitted(spec, _from_list(spec, values, wire).reshape(shape))


def proto_of(values: np.ndarray, proto: Any) -> None:
    """Fills `proto` with an array, as a list of its type, which is what TensorFlow Serving answers with."""
    name = _NAMES[dtype_name(values)]
    proto.dtype = _ENUM.values_by_name[name].number
    for size in values.shape:
        proto.tensor_shape.dim.add(size=size)
    if name == "DT_HALF":
        values = values.view(np.uint16)
    flat = values.ravel().tolist()
    getattr(proto, _LISTS[name]).extend([text.encode() for text in flat] if name == "DT_STRING" else flat)


def features_of(example: Any) -> dict[str, Any]:
    """An Example as JSON has it: lists of numbers or text by name.

    Raises:
        InvalidRequest: bytes that are no UTF-8.
    """
    found: dict[str, Any] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        values = list(getattr(feature, kind).value) if kind else []
        found[name] = [_text(name, value) for value in values] if kind == "bytes_list" else values
    return found


def _from_content(spec: TensorSpec, content: bytes, wire: np.dtype[Any] | None, shape: list[int]) -> np.ndarray:
    if wire is None or len(content) != math.prod(shape) * wire.itemsize:
        raise InvalidRequest(
            f"Input `{spec.name}` must have the bytes of its shape {shape} in `tensor_content`. "
            f"Received: {len(content)}."
        )
    array: np.ndarray = np.frombuffer(content, wire).reshape(shape)
    if wire.kind == "b" and np.frombuffer(content, np.uint8).max(initial=0) > 1:
        raise InvalidRequest(f"Input `{spec.name}` must hold 0 or 1 for booleans.")
    return array


def _from_list(spec: TensorSpec, values: list[Any], dtype: np.dtype[Any] | None) -> np.ndarray:
    if dtype is None:
        texts = [_text(spec.name, value) for value in values]
        longest = max(map(len, texts), default=0)
        if longest * len(texts) * 4 > _MAX_TEXT_BYTES:
            raise InvalidRequest(
                f"Input `{spec.name}` is too large: {len(texts)} strings of up to {longest} characters."
            )
        return np.array(texts, np.str_)
    if dtype == np.float16:
        bits = np.array(values, np.int64)
        if bits.size and not 0 <= bits.min() <= bits.max() <= np.iinfo(np.uint16).max:
            raise InvalidRequest(f"Input `{spec.name}` must hold the 16 bits of a number in each `half_val`.")
        return bits.astype(np.uint16).view(np.float16)
    if dtype.kind not in "iu":
        return np.array(values, dtype)
    wide = np.array(values, np.uint64 if dtype == np.uint64 else np.int64)
    if wide.size and (wide.min() < np.iinfo(dtype).min or wide.max() > np.iinfo(dtype).max):
        raise InvalidRequest(f"Input `{spec.name}` must hold integers that fit {dtype}.")
    return wide.astype(dtype)


def _fitted(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """A nullable int8 input holds booleans, and is told to callers as one of them."""
    is_boolean = array.dtype.kind == "b" and spec.nullable and spec.dtype == "int8"
    return array.astype(np.int8) if is_boolean else array


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"Input `{name}` must hold UTF-8. Received: other bytes.") from error
    if text.endswith("\0"):
        raise InvalidRequest(f"Input `{name}` must hold strings that do not end in a NUL character.")
    return text

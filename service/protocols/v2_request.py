"""An inference request of the Open Inference Protocol as JSON, checked for its form; no model is known here."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import orjson

from service.errors import InvalidRequest, NotSupported
from service.protocols.datatypes import BFLOAT16, OF_V2
from service.protocols.tensors import describe

MAX_NDIM = 32
LARGEST_SIZE = 2**31 - 1
_MOST_VALUES = 2**40
_MICROSECONDS = 1e-6

Parameters = dict[str, Any]


class InputTensor(NamedTuple):
    """One input. `data` is JSON's list, or None where `size` bytes follow the JSON."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | None
    size: int

    @property
    def num_values(self) -> int:
        """How many values its shape holds."""
        return math.prod(self.shape)


class OutputChoice(NamedTuple):
    """One output that was asked for: whether as bytes, and if `classes` is not 0 as so many best classes a row."""

    name: str
    is_binary: bool
    classes: int


class InferMessage(NamedTuple):
    """A request. `outputs` None asks for all, in the form that `is_binary` says; `timeout` is in seconds."""

    id: str | None
    inputs: list[InputTensor]
    outputs: list[OutputChoice] | None
    is_binary: bool
    timeout: float | None


def read_json(text: bytes | bytearray | memoryview) -> Any:
    """JSON, and the tokens NaN, Infinity and -Infinity, which Triton's client writes.

    Raises:
        InvalidRequest: it is no such thing.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not error.doc[error.pos :].lstrip("-").startswith(("NaN", "Inf")):
            raise InvalidRequest(f"The body is not JSON: {error}.") from error
    try:
        document = json.loads(bytes(text).decode(), parse_float=_finite)
        json.dumps(document, ensure_ascii=False).encode()  # fails on half a surrogate pair, as orjson does
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def parse_message(document: Any) -> InferMessage:
    """The request that a JSON document is.

    Raises:
        InvalidRequest: it is none.
        NotSupported: it asks for shared memory.
    """
    content = _object("The body", document)
    identity = content.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidRequest(f"`id` must be a string. Received: {describe(identity)}.")
    parameters = _parameters("the request", content)
    is_binary = _flag(parameters, "binary_data_output", default=False)
    inputs = [_input(item) for item in _list("inputs", content.get("inputs"))]
    wanted = content.get("outputs")
    outputs = [] if wanted is None else [_output(item, is_binary) for item in _list("outputs", wanted)]
    _check_unique("inputs", [item.name for item in inputs])
    _check_unique("outputs", [item.name for item in outputs])
    return InferMessage(identity, inputs, outputs or None, is_binary, _timeout(parameters))


def _input(item: Any) -> InputTensor:
    content = _object("Each input", item)
    name = _name("input", content)
    parameters = _parameters(f"input `{name}`", content)
    datatype = content.get("datatype")
    if not isinstance(datatype, str) or (datatype not in OF_V2 and datatype != BFLOAT16):
        known = ", ".join([*OF_V2, BFLOAT16])
        raise InvalidRequest(f"`datatype` of input `{name}` must be one of {known}. Received: {describe(datatype)}.")
    shape = _shape(name, content.get("shape"))
    size = parameters.get("binary_data_size")
    if size is None:
        data = content.get("data")
        if not isinstance(data, list):
            raise InvalidRequest(
                f"Input `{name}` must have a list as `data`, or `binary_data_size`. Received: {describe(data)}."
            )
        return InputTensor(name, datatype, shape, data, 0)
    if content.get("data") is not None:
        raise InvalidRequest(f"Input `{name}` must have `data` or `binary_data_size`, not both.")
    if type(size) is not int or size < 0:
        raise InvalidRequest(
            f"`binary_data_size` of input `{name}` must be a whole number from 0. Received: {describe(size)}."
        )
    return InputTensor(name, datatype, shape, None, size)


def _output(item: Any, is_binary: bool) -> OutputChoice:
    content = _object("Each output", item)
    name = _name("output", content)
    parameters = _parameters(f"output `{name}`", content)
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise InvalidRequest(
            f"`classification` of output `{name}` must be a whole number from 0. Received: {describe(classes)}."
        )
    return OutputChoice(name, _flag(parameters, "binary_data", default=is_binary), classes)


def _parameters(owner: str, content: dict[str, Any]) -> Parameters:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters` of {owner} must be an object. Received: {describe(parameters)}.")
    if "shared_memory_region" in parameters:
        raise NotSupported("Shared memory is not supported. Send the tensor in the body.")
    return parameters


def _timeout(parameters: Parameters) -> float | None:
    """The parameter is in microseconds; 0 is none."""
    value = parameters.get("timeout", 0)
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        value = int(value)
    if type(value) is not int or value < 0:
        raise InvalidRequest(f"`timeout` must be a whole number of microseconds. Received: {describe(value)}.")
    return min(value, 2**53) * _MICROSECONDS or None


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"`{name}` must be true or false. Received: {describe(value)}.")
    return value


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    is_shape = isinstance(shape, list) and len(shape) <= MAX_NDIM
    if not is_shape or not all(type(size) is int and 0 <= size <= LARGEST_SIZE for size in shape):
        raise InvalidRequest(
            f"`shape` of input `{name}` must be a list of at most {MAX_NDIM} sizes from 0 to {LARGEST_SIZE}. "
            f"Received: {describe_list(shape)}."
        )
    if math.prod(max(size, 1) for size in shape) > _MOST_VALUES:  # which NumPy minds even where one of them is 0
        raise InvalidRequest(f"Input `{name}` must have a shape of fewer values. Received: {describe_list(shape)}.")
    return tuple(shape)


def describe_list(value: Any) -> str:
    """A list with its values, where `describe` says no more than that it is one."""
    if isinstance(value, list) and len(value) <= MAX_NDIM:
        return f"[{', '.join(map(describe, value))}]"
    return describe(value)


def _object(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be an object. Received: {describe(value)}.")
    return value


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f"`{name}` must be a list. Received: {describe(value)}.")
    return value


def _name(what: str, content: dict[str, Any]) -> str:
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(f"Each {what} must have a `name`. Received: {describe(name)}.")
    return name


def _check_unique(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"`{what}` must name each tensor once. Named again: {describe(twice)}.")

"""TensorFlow Serving's JSON to tensors, and its words for what is wrong with it.

What these errors are called is what `json_tensor.cc` of TensorFlow Serving calls them. Where it takes no JSON value for
a missing one, a nullable input takes null here too.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest, NotSupported
from service.protocols.tensors import decode
from service.protocols.tfs_faults import columns_fault, is_lossy, lossy_fault, rows_fault, text_of

Layout = Literal["row", "column"]

SIGNATURE_NAME = "serving_default"
_MAX_NDIM = 64
EXACT_BITS = {"float32": 24, "float64": 53}


class Document(NamedTuple):
    """A body, parsed. `is_finite` says that it holds none of the tokens NaN, Infinity and -Infinity."""

    members: dict[str, Any]
    is_finite: bool


def parse(body: bytes) -> Document:
    """The JSON object of a body, with NaN and infinities as TensorFlow Serving takes them.

    Raises:
        InvalidRequest: it is no JSON object, or asks for a signature that there is not.
    """
    if not body:
        raise InvalidRequest("JSON Parse error: The document is empty")
    is_finite = True
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise InvalidRequest(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
        document, is_finite = _parse_with_tokens(body), False
    if not isinstance(document, dict):
        raise InvalidRequest(f"JSON Value: {text_of(document)} Is not object")
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidRequest(
            f"JSON Value: {text_of(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    check_signature_name(name)
    return Document(document, is_finite)


def decode_predict(document: Document, signature: Signature) -> tuple[Tensors, Layout]:
    """The tensors of `instances` or `inputs`, and which of the two it was.

    Raises:
        InvalidRequest: the document is not what TensorFlow Serving takes for this signature.
        NotSupported: an input is of half precision, which its JSON cannot carry.
    """
    members = document.members
    if "instances" in members and "inputs" in members:
        raise InvalidRequest(
            f"JSON Value: {text_of(members)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in members:
        return _from_instances(document, signature), "row"
    if "inputs" in members:
        return _from_inputs(document, signature), "column"
    raise InvalidRequest("Missing 'inputs' or 'instances' key")


def decode_examples(document: Document, signature: Signature) -> Tensors:
    """The tensors of `examples`, whose features are flat lists or single values, with those of `context` for each.

    Raises:
        InvalidRequest: the document is not what TensorFlow Serving takes, or a feature is missing.
        NotSupported: as `decode_predict`.
    """
    members = document.members
    if "examples" not in members:
        raise InvalidRequest(
            f"JSON Value: {text_of(members)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = members["examples"]
    if not isinstance(examples, list):
        raise InvalidRequest(f"JSON Value: {text_of(members)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise InvalidRequest(f"JSON Value: {text_of(members)} 'examples' value is an empty array")
    for example in (members.get("context", {}), *examples):
        if not isinstance(example, dict):
            raise InvalidRequest(f"Example must be JSON object but got JSON {text_of(example)}")
    merged = [members.get("context", {}) | example for example in examples]
    return {spec.name: _feature(spec, merged, document.is_finite) for spec in signature.inputs}


def _feature(spec: TensorSpec, examples: list[dict[str, Any]], is_finite: bool) -> np.ndarray:
    for example in examples:
        if spec.name not in example:
            raise InvalidRequest(f"Feature: {spec.name} (data type: {spec.dtype}) is required but could not be found.")
    values = [example[spec.name] for example in examples]
    if len(spec.shape) == 1:  # a list of one is a feature's usual form, also where the model wants a single value
        values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    else:
        values = [value if isinstance(value, list) else [value] for value in values]
    array = _tensor(spec, values, is_finite)
    sizes = [-1 if size is None else size for size in spec.shape[1:]]
    is_flat = array.ndim == 2 and len(sizes) > 1 and -1 not in sizes
    return array.reshape(len(array), *sizes) if is_flat and array.shape[1] == np.prod(sizes) else array


def _from_instances(document: Document, signature: Signature) -> Tensors:
    members, specs = document.members, signature.inputs
    rows = members["instances"]
    if not isinstance(rows, list):
        raise InvalidRequest(f"JSON Value: {text_of(members)} Excepting 'instances' to be an list/array")
    if not rows:
        raise InvalidRequest(f"JSON Value: {text_of(members)} No values in 'instances' array")
    if fault := rows_fault(rows, [spec.name for spec in specs]):
        raise InvalidRequest(fault)
    if not _is_named(rows[0]):
        return {specs[0].name: _tensor(specs[0], rows, document.is_finite, key="")}
    return {
        spec.name: _tensor(spec, [row[spec.name] for row in rows], document.is_finite, key=f" key: {spec.name}")
        for spec in specs
    }


def _from_inputs(document: Document, signature: Signature) -> Tensors:
    inputs, specs = document.members["inputs"], signature.inputs
    if not _is_named(inputs):
        if len(specs) > 1:
            raise InvalidRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {specs[0].name: _tensor(specs[0], inputs, document.is_finite)}
    for spec in specs:
        if spec.name not in inputs:
            raise InvalidRequest(f"Missing named input: {spec.name} in 'inputs' object.")
    return {spec.name: _tensor(spec, inputs[spec.name], document.is_finite) for spec in specs}


def _tensor(spec: TensorSpec, value: Any, is_finite: bool, *, key: str | None = None) -> np.ndarray:
    """The array of one input. `key` is how an error names it where `value` holds the rows of `instances`."""
    if spec.dtype == "float16":
        raise NotSupported(f"Conversion of JSON Value: {text_of(value)} to type: half")
    if spec.dtype == "string":
        value = _without_base64(value, 0)
    rows = value if isinstance(value, list) else [value]
    try:
        array = _array(spec, rows, is_finite)
    except InvalidRequest as error:
        raise InvalidRequest(columns_fault(spec, value, key) or str(error)) from error
    return array if rows is value else array[0]


def _array(spec: TensorSpec, rows: list[Any], is_finite: bool) -> np.ndarray:
    if spec.dtype not in EXACT_BITS:
        return decode(spec, rows)
    array = decode(spec, rows) if is_finite else _floats_with_tokens(spec, rows)
    if (np.abs(array) >= 2.0 ** EXACT_BITS[spec.dtype]).any():  # from there on, not each integer is a float
        for leaf in np.array(rows, dtype=object).ravel().tolist():
            if isinstance(leaf, int) and is_lossy(leaf, spec):
                raise InvalidRequest(lossy_fault(leaf, spec))
    return array


def _floats_with_tokens(spec: TensorSpec, rows: list[Any]) -> np.ndarray:
    values = np.array(rows, dtype=object)
    if set(map(type, values.ravel().tolist())) - {int, float}:
        return decode(spec, rows)
    wide = values.astype(np.float64)
    with np.errstate(over="ignore"):
        array: np.ndarray = wide.astype(spec.numpy_dtype)
    if (np.isinf(array) & np.isfinite(wide)).any():  # too large: `decode` says so, of numbers without tokens
        return decode(spec, np.where(np.isinf(wide), 0, wide).tolist())
    return array


def _without_base64(value: Any, level: int) -> Any:
    """The same with text in place of `{"b64": ...}`, which is how bytes are written in JSON."""
    if isinstance(value, list):
        return [_without_base64(item, level + 1) for item in value] if level < _MAX_NDIM else value
    if not isinstance(value, dict) or not _is_base64(value):
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except (binascii.Error, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise InvalidRequest("A string must be UTF-8. Received: other bytes, in base64.") from error
        raise InvalidRequest("Unable to base64 decode") from error


def _is_base64(value: dict[str, Any]) -> bool:
    return value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def check_signature_name(name: str) -> None:
    """Refuses any signature but the one that there is, which the empty name stands for.

    Raises:
        InvalidRequest: it is another.
    """
    if name not in {"", SIGNATURE_NAME}:
        raise InvalidRequest(f'Serving signature name: "{name}" not found in signature def')


def _parse_with_tokens(body: bytes) -> Any:
    """What Python's own parser makes of a body that orjson refuses, as it knows NaN and the infinities."""
    try:
        document = json.loads(body.decode(), parse_float=_finite, parse_int=_integer)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair, say, is no text
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"JSON Parse error: {error}") from error
    return document


def _finite(digits: str) -> float:
    number = float(digits)
    if np.isinf(number):
        raise ValueError("Number too big to be stored in double.")
    return number


def _integer(digits: str) -> int | float:
    """An integer of at most 64 bits, as orjson has them; a float beyond."""
    return int(digits) if len(digits) < 20 else _finite(digits)

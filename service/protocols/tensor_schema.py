"""Tensors in JSON Schema's terms: what an input's rows may hold, and what an output's do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from models.manifest import DType, TensorSpec
from service.inference import shape_in_words

Schema = dict[str, Any]

# Swagger UI makes up rows as long as they must be where no example is given, and hangs over those of a large picture.
_MOST_VALUES = 4096
_FORMATS = {"float32": "float", "float64": "double"}
_TYPES = {"b": "boolean", "f": "number", "i": "integer", "u": "integer", "U": "string"}


class Bodies(NamedTuple):
    """What one protocol takes and gives for one signature."""

    request: Schema
    response: Schema


class Examples(NamedTuple):
    """A request that works as it stands, and its answer."""

    request: Any
    response: Any


def leaf(spec: TensorSpec) -> Schema:
    """One value as it is in JSON. Integers have their dtype's range, and so have floats of less than 64 bits."""
    if spec.nullable:
        # NumPy's booleans have no room for null: an int8 with missing values holds true, false and null.
        dtype: DType = "bool" if spec.dtype == "int8" else spec.dtype
        schema = number_or_text(dtype)
        return {**schema, "type": [schema["type"], "null"]}
    return number_or_text(spec.dtype)


def number_or_text(dtype: DType) -> Schema:
    """One value of a dtype; none of them is null."""
    kind = np.dtype(np.str_ if dtype == "string" else dtype).kind
    schema: Schema = {"type": _TYPES[kind]}
    if kind in "iu":
        bounds = np.iinfo(dtype)
        return {**schema, "format": dtype, "minimum": int(bounds.min), "maximum": int(bounds.max)}
    if dtype in _FORMATS:
        schema["format"] = _FORMATS[dtype]
    if dtype in {"float16", "float32"}:
        most = np.finfo(dtype).max
        largest = max(float(most), float(str(most)))  # as answers have it, in the digits of either dtype
        schema |= {"minimum": -largest, "maximum": largest}
    return schema


def nested(item: Schema, sizes: Sequence[int | None]) -> Schema:
    """Lists within lists, as a shape says; None is any size. Of many values, only their greatest number is said."""
    is_large = prod(size or 1 for size in sizes) > _MOST_VALUES
    schema = item
    for size in reversed(sizes):
        schema = {"type": "array", "items": schema}
        if size is not None:
            schema |= {"maxItems": size} if is_large else {"minItems": size, "maxItems": size}
    return schema


def value(spec: TensorSpec, item: Schema | None = None) -> Schema:
    """One row of a tensor, whose values are as `item` says, else as `leaf` does."""
    return {**nested(item or leaf(spec), spec.shape[1:]), "description": describe(spec)}


def rows(row: Schema) -> Schema:
    """One row at least."""
    return {"type": "array", "minItems": 1, "items": row}


def record(properties: dict[str, Schema], optional: Iterable[str] = ()) -> Schema:
    """An object with these keys and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def one_of(schemas: Sequence[Schema]) -> Schema:
    """Any of several schemas, or the only one."""
    return schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}


def reference(name: str) -> Schema:
    """A schema of the document, by its name there."""
    return {"$ref": f"#/components/schemas/{name}"}


def describe(spec: TensorSpec) -> str:
    """Dtype and shape in words."""
    return f"{spec.dtype}{' or missing' if spec.nullable else ''}, shape {shape_in_words(spec.shape)}"

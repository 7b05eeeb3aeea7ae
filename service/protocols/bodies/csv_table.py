"""Tables of comma-separated values, with names in the first line and types from the signature.

An input with a value a row has a column of its name; one with a list of `n` values a row has the columns `name[0]` to
`name[n-1]`. An empty cell is a missing value.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import numpy as np
import orjson

from models.manifest import Signature, Tensors, TensorSpec
from service.errors import InvalidRequest
from service.protocols.bodies.fitting import check_names
from service.protocols.tensors import decode as decode_values

_BOOLEANS = {"true": True, "false": False}
_LONGEST_CELL = 40


def misfit(specs: tuple[TensorSpec, ...]) -> str | None:
    """Why a table cannot hold these tensors."""
    for spec in specs:
        if len(spec.shape) > 2 or None in spec.shape[1:]:
            return f"holds a value or a list of fixed length a row, and `{spec.name}` has neither. Use JSON or .npz."
    return None


def decode(body: bytes, signature: Signature, limit: int) -> Tensors:  # noqa: ARG001 - nothing is unpacked
    """The columns of each input, in whatever order they came."""
    names, rows = _table(body)
    columns = {spec.name: _columns_of(spec) for spec in signature.inputs}
    check_names([column for spec in signature.inputs for column in columns[spec.name]], names)
    place = {name: index for index, name in enumerate(names)}
    return {spec.name: _decode(spec, [place[name] for name in columns[spec.name]], rows) for spec in signature.inputs}


def encode(tensors: Tensors) -> bytes:
    """A line for each row, numbers with as many digits as tell them apart."""
    header: list[str] = []
    columns: list[list[str]] = []
    for name, values in tensors.items():
        flat = values.reshape(len(values), -1)
        header += [name] if values.ndim == 1 else [f"{name}[{index}]" for index in range(flat.shape[1])]
        columns += [_texts(np.ascontiguousarray(column)) for column in flat.T]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return file.getvalue().encode()


def _table(body: bytes) -> tuple[list[str], list[list[str]]]:
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not CSV in UTF-8: {error}.") from error
    lines = [line for line in lines if line]
    if not lines:
        raise InvalidRequest("The first line must name the columns. Received: an empty body.")
    names, *rows = lines
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidRequest(f"Each row must have {len(names)} cells. Row {number} has {len(row)}.")
    return names, rows


def _columns_of(spec: TensorSpec) -> list[str]:
    if len(spec.shape) == 1:
        return [spec.name]
    return [f"{spec.name}[{index}]" for index in range(spec.shape[1] or 0)]


def _decode(spec: TensorSpec, places: list[int], rows: list[list[str]]) -> np.ndarray:
    if not rows:
        raise InvalidRequest("There must be at least one row under the names of the columns. Received: none.")
    values = [[_value(spec, row[place], number) for place in places] for number, row in enumerate(rows)]
    return decode_values(spec, [row[0] for row in values] if len(spec.shape) == 1 else values)


def _value(spec: TensorSpec, cell: str, row: int) -> Any:
    """The value of a cell as JSON would have it."""
    is_boolean = spec.dtype == "bool" or (spec.nullable and spec.dtype == "int8")
    if spec.nullable and not cell:
        return None
    if spec.dtype == "string":
        return cell
    try:
        if is_boolean:
            return _BOOLEANS[cell.strip().lower()]
        if "_" in cell:
            raise ValueError
        return _float(cell) if spec.numpy_dtype.kind == "f" else int(cell)
    except (ValueError, KeyError, OverflowError) as error:
        wanted = "true or false" if is_boolean else "numbers" if spec.numpy_dtype.kind == "f" else "integers"
        if isinstance(error, OverflowError):
            wanted += f" that fit {spec.dtype}"
        shown = repr(cell if len(cell) <= _LONGEST_CELL else f"{cell[:_LONGEST_CELL]}…")
        raise InvalidRequest(f"Input `{spec.name}` must hold {wanted}. Row {row} holds {shown}.") from error


def _float(cell: str) -> float:
    number = float(cell)
    if math.isinf(number) and "inf" not in cell.lower():
        raise OverflowError
    return number


def _texts(column: np.ndarray) -> list[str]:
    if column.dtype.kind == "U":
        return [str(text) for text in column]
    texts = orjson.dumps(column, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].decode().split(",")
    return [str(float(value)) if text == "null" else text for text, value in zip(texts, column, strict=True)]

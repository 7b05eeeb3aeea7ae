"""JSON values to arrays. Nothing is coerced: a string is no number, a fraction no integer, a boolean neither.

A nullable input takes null too, and holds it as `models.artifact.null_of` its dtype. NumPy's booleans have no room for
that: a nullable int8 input takes true, false and null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from models.artifact import TensorSpec, null_of
from service.errors import InvalidRequest

_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "fractions or very large integers", "U": "strings"}


def decode(spec: TensorSpec, rows: list[Any], *, may_hold_booleans: bool) -> np.ndarray:
    """The array of one input, its dtype as `spec` says, its shape as it came.

    Args:
        spec: The input.
        rows: Its rows, as JSON gave them.
        may_hold_booleans: Whether the body holds `true` or `false` at all. NumPy would take them for numbers, and
            looking for them costs a walk over every value.

    Raises:
        InvalidRequest: rows of different shapes, or a value that is not of the dtype.
    """
    if spec.nullable:
        rows = _without_nulls(spec, rows)
    array = _to_array(spec, rows)
    check = {"b": _is_boolean, "U": _is_string}.get(_numpy_dtype(spec).kind, _is_number)
    needs_walk = check is _is_string or array.dtype.kind == "O" or (may_hold_booleans and check is _is_number)
    if needs_walk:
        _check_each(spec, rows, check)
    if check is _is_string:
        return np.array(rows, dtype=np.str_)
    if check is _is_boolean or array.dtype.kind not in "iuf":
        return _exact(spec, array)
    return _to_float(spec, array) if _numpy_dtype(spec).kind == "f" else _to_integer(spec, rows, array)


def encode(spec: TensorSpec, values: np.ndarray) -> list[Any]:
    """The rows of an input as JSON has them: what `decode` takes, and gives `values` for."""
    rows: list[Any] = values.tolist()
    if not spec.nullable:
        return rows
    null = null_of(spec.dtype)
    return [_encode_value(spec, value, null) for value in rows]


def _encode_value(spec: TensorSpec, value: Any, null: float | int | str) -> Any:
    if isinstance(value, list):
        return [_encode_value(spec, item, null) for item in value]
    if value == null or value != value:  # noqa: PLR0124 - NaN
        return None
    return bool(value) if spec.dtype == "int8" else value


def _without_nulls(spec: TensorSpec, rows: Any) -> Any:
    """The rows with what stands for null in its place, and for the booleans of an int8 input their numbers."""
    if isinstance(rows, list):
        return [_without_nulls(spec, row) for row in rows]
    if rows is None:
        return null_of(spec.dtype)
    if spec.dtype != "int8":
        return rows
    if not isinstance(rows, bool):
        raise InvalidRequest(f"Input `{spec.name}` must hold true, false or null. Received: {_describe(rows)}.")
    return int(rows)


def _to_array(spec: TensorSpec, rows: list[Any]) -> np.ndarray:
    try:
        return np.array(rows)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(_ragged_message(spec, rows)) from error


def _exact(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    if array.dtype != _numpy_dtype(spec):
        raise InvalidRequest(f"Input `{spec.name}` must hold {_wanted(spec)}. Received: {_KINDS[array.dtype.kind]}.")
    return array


def _to_float(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = array.astype(_numpy_dtype(spec))
    is_wrong = np.isinf(values) if spec.nullable else ~np.isfinite(values)  # NaN is a null: JSON has none of its own
    if is_wrong.any():
        row = int(np.argwhere(is_wrong)[0][0])
        raise InvalidRequest(
            f"Input `{spec.name}` must hold numbers that fit {spec.dtype}. Row {row} holds a larger one."
        )
    return values


def _to_integer(spec: TensorSpec, rows: list[Any], array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":  # fractions, or integers too different in size for one of NumPy's integer types
        _check_each(spec, rows, _is_integer)
    bounds = np.iinfo(_numpy_dtype(spec))
    try:
        values = np.array(rows, dtype=_numpy_dtype(spec))
        fits = not array.size or (array.min() >= bounds.min and array.max() <= bounds.max)
    except OverflowError:
        fits = False
    if not fits:
        raise InvalidRequest(f"Input `{spec.name}` must hold integers from {bounds.min} to {bounds.max}.")
    return values


def _check_each(spec: TensorSpec, rows: list[Any], is_right: Callable[[Any], bool]) -> None:
    for row, values in enumerate(rows):
        for value in _leaves(values):
            if not is_right(value):
                raise InvalidRequest(
                    f"Input `{spec.name}` must hold {_wanted(spec)}. Row {row} holds {_describe(value)}."
                )


def _leaves(value: Any) -> Iterator[Any]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        else:
            yield item


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool)


def _is_string(value: Any) -> bool:
    return isinstance(value, str)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numpy_dtype(spec: TensorSpec) -> np.dtype[Any]:
    return np.dtype(np.str_ if spec.dtype == "string" else spec.dtype)


def _wanted(spec: TensorSpec) -> str:
    kind = _numpy_dtype(spec).kind
    wanted = {"b": "true or false", "U": "strings", "f": "numbers"}.get(kind, "integers")
    return f"{wanted} or null" if spec.nullable else wanted


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _ragged_message(spec: TensorSpec, rows: list[Any]) -> str:
    shapes = [_shape(row) for row in rows]
    for row, shape in enumerate(shapes):
        if shape is None:
            return f"Input `{spec.name}` must hold rows of one shape. Row {row} is ragged: its lists differ in length."
        if shape != shapes[0]:
            return (
                f"Input `{spec.name}` must hold rows of one shape. "
                f"Row 0 has shape {shapes[0]}, row {row} has shape {shape}."
            )
    return f"Input `{spec.name}` is nested too deeply."


def _shape(row: Any) -> tuple[int, ...] | None:
    try:
        return np.array(row).shape
    except (ValueError, RecursionError):
        return None

"""JSON values to arrays. Nothing is coerced: a string is no number, a fraction no integer, a boolean neither.

A nullable input takes null too, and holds it as `models.manifest.null_of` its dtype. NumPy's booleans have no room for
that: a nullable int8 input takes true, false and null.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import orjson

from models.manifest import TensorSpec, null_of
from service.errors import InvalidRequest, NotInJson

# NumPy stores strings padded to the longest, so one long string among many short ones would take all memory.
_MAX_STRING_BYTES = 256 * 2**20
_MAX_NDIM = 64

_LEAVES: dict[str, tuple[str, set[type]]] = {
    "f": ("numbers", {int, float}),
    "i": ("integers", {int}),
    "u": ("integers", {int}),
    "b": ("true or false", {bool}),
    "U": ("strings", {str}),
}
_LARGEST = {np.dtype(name): float(np.finfo(name).max) for name in ("float16", "float32")}
_BLAS_IS_ALONE = 4096  # values; for many more it starts threads, which takes longer than the work


def decode(spec: TensorSpec, rows: list[Any]) -> np.ndarray:
    """The array of one input, its dtype as `spec` says, its shape as it came.

    Raises:
        InvalidRequest: rows of different shapes, or a value that is not of the dtype.
    """
    array = _decode_regular(spec, rows)
    return _decode_exactly(spec, rows) if array is None else array


def dump(content: Any) -> bytes:
    """JSON of Python's values and NumPy's arrays."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def narrow_floats(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """Flat float64 numbers as `dtype`; None if one of them is too large for it."""
    if dtype == values.dtype:
        return values
    if surely_within(values, _LARGEST[dtype]):
        return values.astype(dtype)
    with np.errstate(over="ignore"):
        array = values.astype(dtype)
    return None if np.isinf(array).any() else array


def surely_within(values: np.ndarray, largest: float) -> bool:
    """Whether all of a flat array's are at most `largest`, in either direction; it may say no of some that are."""
    if len(values) > _BLAS_IS_ALONE:
        return bool(-largest <= values.min() and values.max() <= largest)
    # One call for few values: if the squares sum to less than its square, so does each. `vdot` alone of its kind does
    # not warn when squares overflow.
    return bool(np.vdot(values, values) < largest * largest)


def narrow_integers(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """Flat integers of 64 bits as `dtype`; None if one of them is out of its range."""
    array = values.astype(dtype, copy=False)
    return array if array is values or (array == values).all() else None


def _decode_regular(spec: TensorSpec, rows: list[Any]) -> np.ndarray | None:
    """What `_decode_exactly` gives for rows of one shape that hold what they must; None for any others."""
    leaves: list[Any] = rows
    shape = [len(rows)]
    while (found := set(map(type, leaves))) == {list} and len(shape) < _MAX_NDIM:
        sizes = set(map(len, leaves))
        if len(sizes) > 1:
            return None
        shape.append(sizes.pop())
        leaves = list(chain.from_iterable(leaves))
    dtype = spec.numpy_dtype
    if found - _wanted(spec, dtype)[1]:
        return None
    if type(None) in found:
        leaves = [null_of(spec.dtype) if leaf is None else leaf for leaf in leaves]
    if dtype.kind == "f":
        array = narrow_floats(np.array(leaves, np.float64), dtype)
        return None if array is None else array.reshape(shape)
    if dtype.kind == "U":
        longest = max(map(len, leaves), default=0)
        if longest * len(leaves) * 4 > _MAX_STRING_BYTES or any(value.endswith("\0") for value in leaves):
            return None
    try:
        return np.array(leaves, dtype).reshape(shape)
    except OverflowError:
        return None


def _decode_exactly(spec: TensorSpec, rows: list[Any]) -> np.ndarray:
    """Looks at the values one by one, and says which of them is wrong."""
    dtype = spec.numpy_dtype
    wanted, types = _wanted(spec, dtype)
    values = np.array(rows, dtype=object)  # as they are: NumPy would else turn booleans and strings into one another
    leaves = values.ravel().tolist()
    strangers = set(map(type, leaves)) - types
    others = strangers - {list}
    if others:
        row, value = next((row, value) for row, value in _leaves(rows) if type(value) in others)
        raise InvalidRequest(f"Input `{spec.name}` must hold {wanted}. Row {row} holds {describe(value)}.")
    if strangers:
        raise InvalidRequest(_ragged_message(spec, rows))
    if spec.nullable:
        leaves = [null_of(spec.dtype) if leaf is None else leaf for leaf in leaves]
        values = np.array(leaves, dtype=object).reshape(values.shape)
    if dtype.kind == "U":
        return to_strings(spec, values, leaves)
    return _to_floats(spec, values, dtype) if dtype.kind == "f" else _to_exact(spec, rows, values, dtype)


def encode(spec: TensorSpec, values: np.ndarray) -> list[Any]:
    """The rows of an input as JSON has them: what `decode` takes, and gives `values` for."""
    rows: list[Any] = values.tolist()
    return [_with_nulls(spec, row) for row in rows] if spec.nullable else rows


def not_in_json(name: str, words: str, is_lost: np.ndarray, way_out: str) -> NotInJson:
    """The error for an output, some values of which JSON cannot carry: those where `is_lost`, which are `words`."""
    rows = np.asarray(is_lost.reshape(len(is_lost), -1).any(axis=1))
    return NotInJson(
        f"Output `{name}` holds {words} in {np.count_nonzero(rows)} of {len(rows)} rows, "
        f"which JSON cannot carry. {way_out}"
    )


def describe(value: Any) -> str:
    """A JSON value in few words, for an error message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def _wanted(spec: TensorSpec, dtype: np.dtype[Any]) -> tuple[str, set[type]]:
    """What an input must hold, in words and as Python's types."""
    if not spec.nullable:
        return _LEAVES[dtype.kind]
    words, types = ("true, false", {bool}) if spec.dtype == "int8" else _LEAVES[dtype.kind]
    return f"{words} or null", types | {type(None)}


def _with_nulls(spec: TensorSpec, value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nulls(spec, item) for item in value]
    if value == null_of(spec.dtype) or value != value:  # noqa: PLR0124 - NaN
        return None
    return bool(value) if spec.dtype == "int8" else value


def _to_floats(spec: TensorSpec, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    with np.errstate(over="ignore"):
        array = values.astype(dtype)
    # What is infinite came so, from a form that can say it; JSON can not, nor NaN: one that is here stands for null.
    is_too_large = np.isinf(array) & np.isfinite(values.astype(np.float64))
    if is_too_large.any():
        where = tuple(np.argwhere(is_too_large)[0])
        raise InvalidRequest(
            f"Input `{spec.name}` must hold numbers that fit {spec.dtype}. "
            f"Row {where[0]} holds {describe(values[where])}."
        )
    return array


def _to_exact(spec: TensorSpec, rows: list[Any], values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    try:
        return values.astype(dtype)
    except OverflowError as error:
        bounds = np.iinfo(dtype)
        row, value = next((r, v) for r, v in _leaves(rows) if v is not None and not bounds.min <= v <= bounds.max)
        raise InvalidRequest(
            f"Input `{spec.name}` must hold integers from {bounds.min} to {bounds.max}. Row {row} holds {value}."
        ) from error


def to_strings(spec: TensorSpec, values: np.ndarray, leaves: list[str]) -> np.ndarray:
    """An array of Python's strings, and the same flat, as one of NumPy's.

    Raises:
        InvalidRequest: they would take too much memory, or one ends in a NUL.
    """
    longest = max(map(len, leaves), default=0)
    if longest * len(leaves) * 4 > _MAX_STRING_BYTES:
        raise InvalidRequest(
            f"Input `{spec.name}` is too large: {len(leaves)} strings, the longest of {longest} characters. "
            "Send fewer rows at a time, or the long strings alone."
        )
    if any(value.endswith("\0") for value in leaves):
        raise InvalidRequest(f"Input `{spec.name}` must hold strings that do not end in a NUL character.")
    return values.astype(np.str_)


def _leaves(rows: list[Any]) -> Iterator[tuple[int, Any]]:
    """Every value with its row. Walks without recursion, so that deep nesting cannot exhaust the stack."""
    for row, values in enumerate(rows):
        pending = [values]
        while pending:
            item = pending.pop()
            if isinstance(item, list):
                pending.extend(reversed(item))
            else:
                yield row, item


def _ragged_message(spec: TensorSpec, rows: list[Any]) -> str:
    first = _shape(rows[0])
    for row, values in enumerate(rows):
        shape = _shape(values)
        if shape is not None and len(shape) >= _MAX_NDIM:
            return f"Input `{spec.name}` is nested too deeply: row {row} has {_MAX_NDIM} dimensions or more."
        if shape is None:
            return f"Input `{spec.name}` must hold rows of one shape. Row {row} is ragged: its lists differ in length."
        if shape != first:
            return (
                f"Input `{spec.name}` must hold rows of one shape. "
                f"Row 0 has shape {first}, row {row} has shape {shape}."
            )
    return f"Input `{spec.name}` is nested too deeply: with its rows it has more than {_MAX_NDIM} dimensions."


def _shape(row: Any) -> tuple[int, ...] | None:
    """The shape of one row, or None if it is ragged. Depth beyond NumPy's limit is left out."""
    values = np.array(row, dtype=object)
    is_ragged = values.ndim < _MAX_NDIM and any(isinstance(value, list) for value in values.ravel().tolist())
    return None if is_ragged else values.shape

"""Columns: what type each is, told from all of its cells, and its cells as the model's inputs take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.manifest import ColumnType, DType, null_of
from models.problem import DATE_PATTERN

MISSING = (
    "", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "?",
    "inf", "-inf", "Inf", "-Inf", "Infinity", "-Infinity",
)  # fmt: skip
"""Cells of a CSV that are no number, boolean or date, but missing. In a category only the empty cell is."""
_DATE = rf"^\s*{DATE_PATTERN}\s*$"


@dataclass(frozen=True)
class Column:
    """A column with its type. `dtype` is that of the model's input; `shape` that of one row's value."""

    name: str
    header: str
    type: ColumnType
    dtype: DType
    shape: tuple[int, ...] = ()
    missing: int = 0
    is_integer: bool = False

    @property
    def description(self) -> str:
        """The type in words."""
        kind = "integer " if self.type == "category" and self.dtype == "int64" else ""
        size = f" of shape {self.shape}" if self.shape else ""
        return f"{kind}{self.type}{size}"

    def decode(self, values: pa.Array) -> np.ndarray:
        """The cells as the model's input takes them, missing ones as `null_of(dtype)`."""
        if self.shape:
            flat = values
            while pa.types.is_fixed_size_list(flat.type):
                flat = flat.flatten()
            return self._number(flat).reshape(-1, *self.shape)
        parsed = parse(values, self.type, is_integer=self.dtype == "int64")
        null = null_of("float32" if self.dtype == "bool" else self.dtype)
        if self.dtype == "string":
            return np.asarray(pc.fill_null(parsed, "").to_numpy(zero_copy_only=False), dtype=np.str_)
        if self.dtype == "bool":
            return np.asarray(pc.fill_null(parsed, False).to_numpy(zero_copy_only=False), dtype=np.bool_)
        if self.type == "number":
            return self._number(parsed)
        arrow_type = pa.int8() if self.dtype == "int8" else pa.int64()
        return np.asarray(pc.fill_null(pc.cast(parsed, arrow_type), null).to_numpy(zero_copy_only=False))

    def _number(self, values: pa.Array) -> np.ndarray:
        return to_float32(values, f"Column `{self.name}`", f"leave the column out: --columns {self.name}=ignore")


class TypeSurvey:
    """Finds a column's type from its cells, batch by batch."""

    def __init__(self, name: str, header: str, wanted: ColumnType | None = None) -> None:
        self.name, self.header, self.wanted = name, header, wanted
        self.possible: list[str] = ["boolean", "integer", "number", "date"]
        self.shape: tuple[int, ...] = ()
        self.arrow_type: pa.DataType | None = None
        self.rows = self.empty = self.unreadable = 0
        self.missing = {"boolean": 0, "number": 0, "date": 0}
        self.example = ""

    def add(self, values: pa.Array) -> None:
        """Looks at more cells.

        Raises:
            ValueError: they are of a kind that no model takes.
        """
        self.rows += len(values)
        self.arrow_type = values.type
        if pa.types.is_fixed_size_list(values.type):
            self._add_arrays(values)
            return
        if not is_text(values.type):
            self.possible = [_kind_of(self.name, values.type)]
            if self.wanted == "category" and pa.types.is_uint64(values.type):
                _check_int64(self.name, values)
            self.empty += len(values) - len(_present(values))
            return
        values = _as_text(values)
        self.empty += values.null_count
        present = _present(values)
        self.missing = {kind: count + len(values) - len(present) for kind, count in self.missing.items()}
        self.possible = [kind for kind in self.possible if _all_are(present, kind)]
        if self.wanted in self.missing:
            parsed = parse(present, self.wanted)
            if parsed.null_count:
                self.unreadable += parsed.null_count
                self.example = pc.filter(present, pc.is_null(parsed))[0].as_py()

    def column(self) -> Column:
        """The column as all cells say.

        Raises:
            ValueError: it cannot be of the type that was asked for.
        """
        found = self.possible[0] if self.possible and self._has_values() else "category"
        if not self._has_values():
            found = "number"  # nothing but gaps: a number that is always missing
        is_integer = found == "integer"
        type_: ColumnType = self.wanted or ("number" if is_integer else found)  # type: ignore[assignment]
        if self.shape and type_ != "number":
            raise ValueError(f"Column `{self.name}` holds arrays of numbers, which cannot be a {type_}.")
        is_from_text = self.arrow_type is not None and is_text(self.arrow_type)
        if not is_from_text and self.wanted and self.wanted not in ("category", "number" if is_integer else found):
            raise ValueError(f"Column `{self.name}` is a {found} in the file and cannot be a {self.wanted}.")
        missing = self.empty
        if is_from_text and type_ in self.missing:
            missing = self.missing[type_] + self.unreadable
        return Column(
            self.name, self.header, type_, self._dtype(type_, found, missing), self.shape, missing, is_integer
        )

    def note(self) -> str | None:
        """What a user should know of the column's cells, if anything."""
        if not self.unreadable:
            return None
        return (
            f"{self.unreadable} cells of `{self.name}` are no {self.wanted} and count as missing, "
            f"{self.example!r} for one."
        )

    def _add_arrays(self, values: pa.Array) -> None:
        shape, inner = [], values.type
        while pa.types.is_fixed_size_list(inner):
            shape.append(inner.list_size)
            inner = inner.value_type
        if values.null_count or _kind_of(self.name, inner) not in ("integer", "number"):
            raise ValueError(f"Column `{self.name}` must hold an array of numbers in each row. Received: {values.type}")
        self.shape, self.possible = tuple(shape), ["number"]
        flat = values
        while pa.types.is_fixed_size_list(flat.type):
            flat = flat.flatten()
        self.empty += len(flat) - len(_present(flat))

    def _has_values(self) -> bool:
        counted = self.missing["number"] if self.arrow_type is not None and is_text(self.arrow_type) else self.empty
        return bool(self.shape) or counted < self.rows

    def _dtype(self, type_: ColumnType, found: str, missing: int) -> DType:
        if type_ == "number":
            return "float32"
        if type_ == "boolean":
            return "int8" if missing else "bool"
        return "int64" if type_ == "category" and found == "integer" else "string"


def parse(values: pa.Array, type_: str, *, is_integer: bool = False) -> pa.Array:
    """The cells as Arrow values of the type, null where they are missing or cannot be read."""
    if is_text(values.type):
        values = _as_text(values)
        if type_ == "category" and not is_integer:
            return values
        values = pc.if_else(pc.is_in(pc.utf8_trim_whitespace(values), _MISSING), None, values)
    if type_ == "category":
        return _cast(values, pa.int64() if is_integer else pa.string())
    if type_ == "date":
        return _date_text(values)
    if type_ == "boolean":
        return _boolean(values)
    return _cast(values, pa.float64())


def to_float32(values: pa.Array, what: str, way_out: str) -> np.ndarray:
    """Numbers as float32, NaN where they are missing. One that is too large is a ValueError with `way_out`."""
    wide = _cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        numbers: np.ndarray = wide.astype(np.float32)
    if np.isinf(numbers).any():
        worst = wide[np.isinf(numbers)][0]
        raise ValueError(f"{what} must hold numbers that fit float32. It holds {worst:g}: mend it, or {way_out}")
    return numbers


def is_text(type_: pa.DataType) -> bool:
    """Whether cells are strings, plain or looked up in a dictionary."""
    plain = type_.value_type if pa.types.is_dictionary(type_) else type_
    return bool(pa.types.is_string(plain) or pa.types.is_large_string(plain) or pa.types.is_string_view(plain))


def check_overrides(overrides: dict[str, str], columns: tuple[str, ...]) -> None:
    """Checks what `--columns` says.

    Raises:
        ValueError: it names a column that is not there, or a type that there is none of.
    """
    for name, type_ in overrides.items():
        if name not in columns:
            raise ValueError(f"There is no column `{name}`. Columns: {', '.join(columns)}.")
        if type_ not in (*get_args(ColumnType), "ignore"):
            raise ValueError(f"A column is {', '.join(get_args(ColumnType))} or ignore. Received: {name}={type_}")


_MISSING = pa.array(MISSING)


def _kind_of(name: str, type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "integer"
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_) or pa.types.is_null(type_):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "date"
    raise ValueError(
        f"Column `{name}` must hold numbers, strings, booleans or dates. Received: {type_}. Leave it out: --columns "
        f"{name}=ignore"
    )


def _check_int64(name: str, values: pa.Array) -> None:
    largest = pc.max(values).as_py()
    if largest is not None and largest > np.iinfo(np.int64).max:
        raise ValueError(
            f"Column `{name}` must hold integers below 2^63 to be a category. It holds {largest}: store it as text, "
            f"or leave it out: --columns {name}=ignore"
        )


def _present(values: pa.Array) -> pa.Array:
    """The cells that hold something. In text, words for a missing value hold nothing."""
    if pa.types.is_floating(values.type):
        return values.filter(pc.fill_null(pc.is_finite(values), False))
    values = values.drop_null()
    if is_text(values.type):
        return values.filter(pc.invert(pc.is_in(pc.utf8_trim_whitespace(values), _MISSING)))
    return values


def _all_are(present: pa.Array, kind: str) -> bool:
    if not len(present):
        return True
    if kind == "date":
        return bool(pc.all(pc.match_substring_regex(present, _DATE)).as_py())
    trimmed = pc.utf8_trim_whitespace(present)
    if kind == "boolean":
        return bool(pc.all(pc.is_in(pc.utf8_lower(trimmed), pa.array(["true", "false"]))).as_py())
    if pc.any(pc.match_substring_regex(trimmed, r"^[-+]?0[0-9]")).as_py():
        return False  # 01234 is a code: as a number it would lose its zero
    try:
        pc.cast(trimmed, pa.int64() if kind == "integer" else pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _cast(values: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(values.type):
        values = pc.cast(values, pa.float64())
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, None)
    if not is_text(values.type):
        return pc.cast(values, type_, safe=False)
    trimmed = pc.utf8_trim_whitespace(values)
    try:
        return pc.cast(trimmed, type_)
    except pa.ArrowInvalid:  # somewhere is a cell that cannot be read
        return pa.array([_read(cell, type_) for cell in trimmed.to_pylist()], type_)


def _read(cell: str | None, type_: pa.DataType) -> Any:
    try:
        return None if cell is None else pc.cast(pa.scalar(cell), type_).as_py()
    except pa.ArrowInvalid:
        return None


def _date_text(values: pa.Array) -> pa.Array:
    if is_text(values.type):
        return pc.if_else(pc.match_substring_regex(values, _DATE), values, None)
    if pa.types.is_timestamp(values.type):
        return pc.strftime(pc.cast(values, pa.timestamp("s"), safe=False), format="%Y-%m-%dT%H:%M:%S")
    return pc.strftime(values, format="%Y-%m-%d")


def _boolean(values: pa.Array) -> pa.Array:
    if not is_text(values.type):
        return values
    lower = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    return pc.if_else(pc.is_in(lower, pa.array(["true", "false"])), pc.equal(lower, "true"), None)


def _as_text(values: pa.Array) -> pa.Array:
    return values if values.type == pa.string() else pc.cast(values, pa.string())

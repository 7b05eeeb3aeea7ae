"""Figures of a column's training rows, gathered batch by batch: what its preprocessing needs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.columns import Column
from models.manifest import ColumnRecord, null_of
from models.problem import Feature

MAX_CATEGORIES = 10_000
_MAX_COUNTED = 200_000
_EXACT = 2**24
"""Integers up to here are exact in float32."""


class ColumnStatistics:
    """Mean, variance and range of numbers and dates; how often each category occurs."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.count = np.zeros(column.shape)
        self.mean = np.zeros(column.shape)
        self.squares = np.zeros(column.shape)
        self.minimum = np.full(column.shape, np.inf)
        self.maximum = np.full(column.shape, -np.inf)
        self.categories: Counter[str | int] = Counter()

    def add(self, values: np.ndarray) -> None:
        """Takes in more training values, as `Column.decode` gives them."""
        if not len(values):
            return
        if self.column.type in ("number", "date"):
            self._add_numbers(days_since_1970(values) if self.column.type == "date" else values.astype(np.float64))
            return
        found, counts = np.unique(values, return_counts=True)
        self.categories.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        if len(self.categories) > _MAX_COUNTED:  # names, say: what is rare so far would hardly make it
            self.categories = Counter(dict(self.categories.most_common(_MAX_COUNTED // 2)))

    @property
    def variance(self) -> np.ndarray:
        """The variance of the values, 0 where there is none."""
        return np.minimum(self.squares / np.maximum(self.count, 1), np.finfo(np.float32).max)

    @property
    def vocabulary(self) -> tuple[str, ...] | tuple[int, ...]:
        """The categories that occur twice or more, the most frequent first."""
        if self.column.type == "boolean":
            return (0, 1, int(null_of("int8"))) if self.column.dtype == "int8" else ()
        often = [(-count, value) for value, count in self.categories.items() if count > 1]
        return tuple(value for _, value in sorted(often)[:MAX_CATEGORIES])  # type: ignore[return-value] # of one type

    def feature(self) -> Feature:
        """What a builder is told of the column."""
        return Feature(
            name=self.column.name,
            type=self.column.type,
            dtype=self.column.dtype,
            shape=self.column.shape,
            nullable=self.column.missing > 0,
            mean=self.mean,
            variance=self.variance,
            vocabulary=self.vocabulary,
        )

    def record(self) -> ColumnRecord:
        """What the manifest says of the column."""
        has_range = self.column.type in ("number", "date") and bool(np.any(self.count))
        total = max(float(self.count.sum()), 1.0)
        return ColumnRecord(
            name=self.column.name,
            header=self.column.header,
            type=self.column.type,
            missing=self.column.missing,
            minimum=float(self.minimum.min()) if has_range else None,
            maximum=float(self.maximum.max()) if has_range else None,
            mean=float((self.mean * self.count).sum() / total) if has_range else None,
            categories=len(self.vocabulary) if self.column.type == "category" else None,
        )

    def note(self) -> str | None:
        """What a user should know of the column's values, if anything."""
        name = self.column.name
        is_constant = not np.any(self.squares)
        if self.column.type in ("category", "boolean"):
            is_constant = len(self.categories) <= 1
            if self.column.type == "category" and not is_constant and not self.vocabulary:
                return f"Every training row has its own `{name}`, which therefore tells nothing. Leave it out?"
        elif not np.any(self.count):
            return f"Column `{name}` has no values and tells nothing."
        elif is_constant and self.column.is_integer and abs(self.maximum) >= _EXACT:
            return (
                f"Column `{name}` is constant in float32, which rounds integers above 16,777,216, and tells nothing. "
                f"Is it a code? --columns {name}=category"
            )
        return f"Column `{name}` is constant and tells nothing." if is_constant else None

    def _add_numbers(self, values: np.ndarray) -> None:
        """Joins two means and sums of squares (Chan, Golub and LeVeque, 1979)."""
        known = ~np.isnan(values)
        count = known.sum(axis=0)
        mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(known, (values - mean) ** 2, 0).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        difference = mean - self.mean
        self.squares += squares + difference**2 * self.count * count / total
        self.mean += np.where(count > 0, difference * count / total, 0)
        self.count += count
        self.minimum = np.minimum(self.minimum, np.where(known, values, np.inf).min(axis=0))
        self.maximum = np.maximum(self.maximum, np.where(known, values, -np.inf).max(axis=0))


def days_since_1970(dates: np.ndarray) -> np.ndarray:
    """The days of dates as text, as fractions; NaN for what is none."""
    text = pc.utf8_slice_codeunits(pc.utf8_trim_whitespace(pa.array(dates, pa.string())), 0, 10)
    days = pc.strptime(text, format="%Y-%m-%d", unit="s", error_is_null=True)
    seconds = pc.cast(pc.cast(days, pa.int64()), pa.float64())
    result: np.ndarray = seconds.to_numpy(zero_copy_only=False) / 86_400
    return result

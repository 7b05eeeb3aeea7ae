"""The target: whether it is classified or estimated, told from all of its cells."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from export.columns import Column, TypeSurvey, is_text, parse, to_float32
from models.manifest import Task

MAX_CLASSES = 1000
_MAX_INTEGER_CLASSES = 20


@dataclass(frozen=True)
class Target:
    """What is predicted. `labels` are a classification's classes, `counts` their rows; a regression has neither."""

    column: Column
    labels: tuple[str, ...] | None
    counts: tuple[int, ...]
    rows: int

    @property
    def task(self) -> Task:
        """Whether a class or a number is predicted."""
        return "regression" if self.labels is None else "classification"

    def decode(self, values: pa.Array) -> np.ndarray:
        """A class index, or a number, for each cell; -1, or NaN, where it is missing."""
        if self.labels is None:
            numbers = parse(values, "number")
            return to_float32(numbers, f"The target `{self.column.name}`", "train on its logarithm, say.")
        found = pc.index_in(class_names(values, self.column), pa.array(self.labels))
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


class TargetSurvey:
    """Finds out what a target is, batch by batch."""

    def __init__(self, name: str, header: str) -> None:
        self.types = TypeSurvey(name, header)
        self.raw: Counter[str] = Counter()
        self.has_too_many = False

    def add(self, values: pa.Array) -> None:
        """Looks at more cells."""
        self.types.add(values)
        if self.types.shape:
            raise ValueError(f"The target `{self.types.name}` must hold one value in each row. Received: {values.type}")
        if self.has_too_many:
            return
        texts = _texts(values)
        for item in pc.value_counts(texts.drop_null()).to_pylist():
            self.raw[item["values"]] += item["counts"]
        self.has_too_many = len(self.raw) > 20 * MAX_CLASSES

    def target(self, task: Task | None) -> Target:
        """The target as all cells say, or as `task` does.

        Raises:
            ValueError: there is nothing to learn.
        """
        column = self.types.column()
        rows = self.types.rows - column.missing
        if not rows:
            raise ValueError(f"The target `{column.name}` is missing in every row.")
        counts = self._class_counts(column)
        if not self.has_too_many and len(counts) == 1:
            raise ValueError(
                f"The target `{column.name}` must have different values. Every row has {next(iter(counts))!r}."
            )
        if (task or self._guess(column, len(counts), rows)) == "regression":
            if column.type != "number":
                raise ValueError(f"A regression's target must be a number. `{column.name}` is a {column.description}.")
            return Target(column, None, (), rows)
        if self.has_too_many or len(counts) > MAX_CLASSES:
            raise ValueError(
                f"A target can have at most {MAX_CLASSES} classes. `{column.name}` has more: is it the right column?"
            )
        labels = sorted(counts, key=_order)
        return Target(column, tuple(labels), tuple(counts[label] for label in labels), rows)

    def _class_counts(self, column: Column) -> Counter[str]:
        counts: Counter[str] = Counter()
        texts = pa.array(list(self.raw), pa.string())
        for raw, name in zip(self.raw, class_names(texts, column).to_pylist(), strict=True):
            if name is not None:
                counts[name] += self.raw[raw]
        return counts

    def _guess(self, column: Column, num_classes: int, rows: int) -> Task:
        if column.type == "date":
            raise ValueError(f"A date cannot be predicted. Received: the target `{column.name}`")
        is_count = column.is_integer and (num_classes > _MAX_INTEGER_CLASSES or 2 * num_classes > rows)
        is_number = column.type == "number" and not column.is_integer
        return "regression" if self.has_too_many or is_number or is_count else "classification"


def class_names(values: pa.Array, column: Column) -> pa.Array:
    """The class of each cell as text, null where it is missing."""
    texts = _texts(values)
    if column.type == "category":
        return texts
    present = pc.if_else(pc.is_null(parse(texts, column.type)), None, pc.utf8_trim_whitespace(texts))
    return pc.utf8_lower(present) if column.type == "boolean" else present


def _texts(values: pa.Array) -> pa.Array:
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, None)
    return values if is_text(values.type) and values.type == pa.string() else pc.cast(values, pa.string())


def _order(label: str) -> tuple[float, str]:
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label

"""The rows that prove a model: real ones that it has not learned from, and the edges of what it may be sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.datasets import Dataset, Rows, concatenate
from export.splitting import Part
from export.statistics import ColumnStatistics
from models.manifest import Tensors, null_of

_UNKNOWN = "a value that no row had"


def golden_rows(dataset: Dataset, *, count: int = 16) -> Tensors:
    """Rows from the test part, then four edge rows: zero or empty, smallest, largest, and missing or unknown.

    Args:
        dataset: What the model was trained on.
        count: How many real rows, spread over the test part.
    """
    size = dataset.sizes[Part.TEST]
    real = _pick(dataset, np.unique(np.linspace(0, size - 1, num=min(count, size)).astype(np.int64)))
    return {item.column.name: np.concatenate([real.inputs[item.column.name], _edges(item)]) for item in dataset.columns}


def _pick(dataset: Dataset, wanted: np.ndarray) -> Rows:
    found, first = [], 0
    for rows in dataset.stream(Part.TEST):
        here = wanted[(wanted >= first) & (wanted < first + len(rows))] - first
        if len(here):
            found.append(rows.take(here))
        first += len(rows)
    return concatenate(found)


def _edges(item: ColumnStatistics) -> np.ndarray:
    column = item.column
    if column.type == "number":
        known = item.count > 0
        smallest, largest = np.where(known, item.minimum, 0.0), np.where(known, item.maximum, 0.0)
        last = np.full(column.shape, np.nan) if column.missing else item.mean
        return np.stack([np.zeros(column.shape), smallest, largest, last]).astype(np.float32)
    if column.dtype == "bool":
        return np.array([False, False, True, True])
    if column.dtype == "string":
        return np.array(["", *_ends(item), _UNKNOWN], dtype=np.str_)
    null = int(null_of(column.dtype))
    return np.array([0, *_ends(item), null], dtype=column.dtype)


def _ends(item: ColumnStatistics) -> tuple[Any, Any]:
    if item.column.type == "date":
        ends = [item.minimum, item.maximum] if np.any(item.count) else [np.float64(0), np.float64(0)]
        first, last = (str(np.datetime64("1970-01-01") + np.timedelta64(int(end), "D")) for end in ends)
        return first, last
    known = item.vocabulary or (item.column.dtype == "string" and "") or 0
    return (known[0], known[-1]) if isinstance(known, tuple) else (known, known)

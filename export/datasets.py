"""Data to train on: a table read once for its types, once for its figures, and then as often as there are epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn import datasets as shipped

from export.columns import Column, TypeSurvey, check_overrides
from export.config import DataConfig
from export.splitting import Dealer, Part
from export.statistics import ColumnStatistics
from export.tables import Table, open_table, to_arrow, usable_names
from export.target import Target, TargetSurvey
from models.manifest import DatasetRecord, Tensors
from models.problem import Problem

MIN_ROWS = 10
_CACHE_BYTES = 96 * 2**20
"""A part with less is kept in memory; a larger one is read from the file each time."""
_SHIPPED: dict[str, Callable[..., Any]] = {
    "digits": shipped.load_digits,
    "wine": shipped.load_wine,
    "breast_cancer": shipped.load_breast_cancer,
    "diabetes": shipped.load_diabetes,
    "iris": shipped.load_iris,
}


@dataclass(frozen=True)
class Rows:
    """Some rows: inputs by name as the model takes them, and the targets, class indices or numbers."""

    inputs: Tensors
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(values.nbytes for values in [*self.inputs.values(), self.targets])

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows at an index or mask."""
        return Rows({name: values[chosen] for name, values in self.inputs.items()}, self.targets[chosen])


@dataclass(frozen=True)
class Dataset:
    """A table whose columns, target and training figures are known.

    Attributes:
        problem: What a builder is told.
        columns: The inputs' columns, with figures of the training rows.
        target: What is predicted.
        sizes: Rows of each part.
        record: Name, hash and size, for the manifest.
        notes: What a user should know.
        stream: Gives the rows of a part, from the first to the last, each time it is called.
    """

    problem: Problem
    columns: tuple[ColumnStatistics, ...]
    target: Target
    sizes: dict[Part, int]
    record: DatasetRecord
    notes: tuple[str, ...]
    stream: Callable[[Part], Iterator[Rows]]

    def load(self, part: Part) -> Rows:
        """All rows of a part at once, where that is known to be little."""
        return concatenate(list(self.stream(part)))


def load_dataset(config: DataConfig) -> Dataset:
    """Opens the data of a configuration and reads it twice.

    Raises:
        ValueError: there is no such data or column, a file is damaged, or there is nothing to learn.
    """
    table, default_target = _open(config)
    target_name = _target_name(config.target or default_target, table)
    overrides = config.overrides
    check_overrides(overrides, table.columns)
    if target_name in overrides:
        raise ValueError(f"`{target_name}` is the target, whose type is told by --task. Take it out of --columns.")
    columns, target, notes = _survey(table, target_name, overrides, config)
    if target.rows < MIN_ROWS:
        raise ValueError(f"{table.name} must have at least {MIN_ROWS} rows with a target. Received: {target.rows}")
    dealt = partial(_dealt, table, columns, target, config)
    statistics, sizes, targets, cache = _gather(dealt, columns)
    if min(sizes.values()) == 0:
        raise ValueError(_too_few_rows(table.name, target))
    notes += [note for item in statistics if (note := item.note())]

    def stream(part: Part) -> Iterator[Rows]:
        return iter([cache[part]]) if part in cache else _stream(dealt, part)

    return Dataset(
        problem=Problem(
            name=table.name,
            features=tuple(item.feature() for item in statistics),
            labels=target.labels,
            mean=targets[0],
            spread=targets[1],
        ),
        columns=tuple(statistics),
        target=target,
        sizes=sizes,
        record=DatasetRecord(name=table.name, sha256=table.sha256, rows=target.rows),
        notes=(*table.notes, *notes),
        stream=stream,
    )


def concatenate(parts: list[Rows]) -> Rows:
    """Rows one after the other."""
    if len(parts) == 1:
        return parts[0]
    inputs = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return Rows(inputs, np.concatenate([part.targets for part in parts]))


def _open(config: DataConfig) -> tuple[Table, str | None]:
    if config.data in _SHIPPED:
        return _shipped_table(config.data), "target"
    return open_table(Path(config.data), encoding=config.encoding), None


def _shipped_table(name: str) -> Table:
    """One of scikit-learn's sets: the digits as one column of 64 gray values, the others with named columns."""
    data = _SHIPPED[name]()
    labels = getattr(data, "target_names", None)
    targets = data.target if labels is None else np.asarray(labels).astype(str)[data.target]
    arrays = [data.data.astype(np.float32)] if name == "digits" else list(data.data.T)
    headers = ["features"] if name == "digits" else [str(header) for header in data.feature_names]
    columns, notes = usable_names(headers)
    columns = [*columns, "target"]
    batch = pa.RecordBatch.from_arrays([to_arrow(array) for array in [*arrays, targets]], names=columns)
    digest = hashlib.sha256(data.data.tobytes() + data.target.tobytes()).hexdigest()
    return Table(name, tuple(columns), (*headers, "target"), lambda: iter([batch]), digest, tuple(notes))


def _target_name(wanted: str | None, table: Table) -> str:
    if wanted is None:
        raise ValueError(f"Say which column to predict: --target {table.columns[-1]}. Columns: {_names(table)}.")
    if wanted in table.columns:
        return wanted
    if wanted in table.headers:
        return table.columns[table.headers.index(wanted)]
    raise ValueError(f"There is no column `{wanted}` in {table.name} to predict. Columns: {_names(table)}.")


def _names(table: Table) -> str:
    shown = ", ".join(table.columns[:20])
    return shown if len(table.columns) <= 20 else f"{shown} and {len(table.columns) - 20} more"


def _too_few_rows(name: str, target: Target) -> str:
    if not target.labels:
        return f"{name} has too few rows to hold some out. Received: {target.rows} with a target"
    way_out = ", or --task regression" if target.column.type == "number" else ""
    return (
        f"{name} has too few rows of each class to hold some out. Its {target.rows} rows have {len(target.labels)} "
        f"classes in `{target.column.name}`: name another --target{way_out}"
    )


def _survey(
    table: Table, target_name: str, overrides: dict[str, Any], config: DataConfig
) -> tuple[list[Column], Target, list[str]]:
    """The first reading: types, missing cells, classes."""
    headers = dict(zip(table.columns, table.headers, strict=True))
    target = TargetSurvey(target_name, headers[target_name])
    surveys = [
        TypeSurvey(name, headers[name], overrides.get(name))
        for name in table.columns
        if name != target_name and overrides.get(name) != "ignore"
    ]
    if not surveys:
        raise ValueError(f"{table.name} has no column beside the target to predict it from.")
    for batch in table.read():
        target.add(batch.column(target_name))
        for survey in surveys:
            survey.add(batch.column(survey.name))
    if not target.types.rows:
        raise ValueError(f"{table.name} has column names and no rows.")
    found = target.target(config.task)
    notes = [note for survey in surveys if (note := survey.note())]
    if found.column.missing:
        notes.append(f"{found.column.missing} rows without `{target_name}` are left out.")
    if found.labels is not None and 10 * min(found.counts) * len(found.counts) < found.rows:
        rarest = found.labels[int(np.argmin(found.counts))]
        advice = "rows weigh by class" if config.balance else "--balance makes classes count alike"
        notes.append(f"Classes are uneven: {min(found.counts)} of {found.rows} rows are {rarest!r}; {advice}.")
    return [survey.column() for survey in surveys], found, notes


def _dealt(
    table: Table, columns: list[Column], target: Target, config: DataConfig
) -> Iterator[tuple[Rows, np.ndarray]]:
    """All rows that have a target, with the part of each."""
    dealer = Dealer(
        num_classes=len(target.labels or "?"),
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )
    for batch in table.read():
        targets = target.decode(batch.column(target.column.name))
        rows = Rows({column.name: column.decode(batch.column(column.name)) for column in columns}, targets)
        known = targets >= 0 if target.labels else ~np.isnan(targets)
        if not known.all():
            rows = rows.take(known)
        yield rows, dealer.deal(rows.targets if target.labels else np.zeros(len(rows), dtype=np.int64))


def _stream(dealt: Callable[[], Iterator[tuple[Rows, np.ndarray]]], part: Part) -> Iterator[Rows]:
    for rows, parts in dealt():
        chosen = parts == part
        if chosen.any():
            yield rows.take(chosen)


def _gather(
    dealt: Callable[[], Iterator[tuple[Rows, np.ndarray]]], columns: list[Column]
) -> tuple[list[ColumnStatistics], dict[Part, int], tuple[float, float], dict[Part, Rows]]:
    """The second reading: figures of the training rows, and of each part the rows themselves where they are few."""
    statistics = [ColumnStatistics(column) for column in columns]
    targets = ColumnStatistics(Column("target", "target", "number", "float32"))
    sizes = dict.fromkeys(Part, 0)
    kept: dict[Part, list[Rows]] = {part: [] for part in Part}
    kept_bytes = dict.fromkeys(Part, 0)
    for rows, parts in dealt():
        for part in Part:
            chosen = rows.take(parts == part)
            sizes[part] += len(chosen)
            if part == Part.TRAIN:
                targets.add(chosen.targets)
                for item in statistics:
                    item.add(chosen.inputs[item.column.name])
            kept_bytes[part] += chosen.nbytes
            if kept_bytes[part] > _CACHE_BYTES:
                kept.pop(part, None)
            elif len(chosen):
                kept[part].append(chosen)
    cache = {part: concatenate(kept.pop(part)) for part in list(kept) if kept[part]}
    return statistics, sizes, (float(targets.mean), float(np.sqrt(targets.variance)) or 1.0), cache

"""What was found in the data, for the terminal and for the manifest."""

from __future__ import annotations

from export.config import TrainConfig
from export.datasets import Dataset
from export.splitting import Part
from export.statistics import ColumnStatistics
from models.manifest import TrainingRecord

_MAX_LINES = 40


def summary(dataset: Dataset) -> list[str]:
    """A line for each column with its type, gaps and range, then what is predicted, then what a user should know."""
    rows = [("COLUMN", "TYPE", "MISSING", "VALUES"), *(_row(item) for item in dataset.columns[:_MAX_LINES])]
    widths = [max(len(row[cell]) for row in rows) for cell in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(dataset.columns) > _MAX_LINES:
        lines.append(f"and {len(dataset.columns) - _MAX_LINES} more columns")
    sizes = dataset.sizes
    name, target = dataset.target.column.name, dataset.target
    what = f"classify `{name}` into {len(target.labels)} classes" if target.labels else f"estimate `{name}`"
    lines.append(
        f"Will {what} from {len(dataset.columns)} columns: {sizes[Part.TRAIN]} rows to train on, "
        f"{sizes[Part.VALIDATION]} to watch, {sizes[Part.TEST]} held out."
    )
    return [*lines, *(f"Note: {note}" for note in dataset.notes)]


def training_record(
    config: TrainConfig, dataset: Dataset, metrics: dict[str, float], history: dict[str, tuple[float, ...]]
) -> TrainingRecord:
    """What the manifest says of a training."""
    return TrainingRecord(
        config=config.model_dump(mode="json"),
        dataset=dataset.record,
        seed=config.seed,
        metrics=metrics,
        task=dataset.target.task,
        target=dataset.target.column.name,
        columns=tuple(item.record() for item in dataset.columns),
        history=history,
        notes=dataset.notes,
    )


def _row(item: ColumnStatistics) -> tuple[str, str, str, str]:
    record = item.record()
    values = ""
    if item.column.type == "category":
        known = ", ".join(str(value) or "(empty)" for value in item.vocabulary[:4])
        values = f"{record.categories} known: {known}{', ...' if len(item.vocabulary) > 4 else ''}"
    elif record.minimum is not None and record.maximum is not None:
        values = f"{record.minimum:g} to {record.maximum:g}{' days since 1970' if record.type == 'date' else ''}"
    return record.name, item.column.description, str(record.missing or ""), values

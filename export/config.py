"""The training configuration, apart from the code that trains, so that `--help` needs no TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.command_line import Names, Sizes
from models.manifest import Task


class DataConfig(BaseModel):
    """What decides the rows: the data, what its columns are, and the split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(
        "digits",
        description="A CSV, Parquet or NPZ file, or digits, wine, breast_cancer, diabetes or iris of scikit-learn.",
    )
    target: str | None = Field(None, description="The column to predict.")
    task: Task | None = Field(None, description="classification or regression, where the target does not tell.")
    columns: Names = Field(
        (), description="Types that are not to be inferred: zip=category,built=number; also boolean, date, ignore."
    )
    encoding: str = Field("utf-8", description="Encoding of a CSV file.")
    balance: bool = Field(False, description="Weigh rows so that each class counts alike in training.")
    validation_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the rows that early stopping watches.")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="Share of the rows kept for the published metrics.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the split, the weights and the shuffling.")

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        for item in columns:
            if "=" not in item:
                raise ValueError("a column and its type are written name=type, such as zip=category")
        names = [item.rsplit("=", 1)[0] for item in columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a column can have one type in --columns. Given more than once: {', '.join(twice)}")
        return columns

    @property
    def overrides(self) -> dict[str, Any]:
        """The types given in `columns`, by column."""
        return dict(item.rsplit("=", 1) for item in self.columns)


class TrainConfig(DataConfig):
    """What decides the trained weights. It goes into the manifest as it is."""

    model: Literal["mlp", "encoder"] = Field("mlp", description="The builder: mlp or encoder.")
    builder: str | None = Field(None, description="Your own builder instead, as my.module:build.")
    hidden_units: Sizes = Field((256, 256), min_length=1, description="Units of each hidden layer or block.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Share of activations dropped in training; by default the builder's own."
    )
    epochs: int = Field(100, ge=1, description="Most passes over the training rows.")
    patience: int = Field(20, ge=1, description="Epochs without a better validation loss before training stops.")
    batch_size: int | None = Field(
        None, ge=1, description="Rows in a training step; by default 64, and up to 4096 where there are many rows."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size.")


def data_name(data: str) -> str:
    """The name of a data set, and by default of its model: a file's without folder and ending, in plain letters."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", Path(data).stem).lstrip(".")[:100] or "data"

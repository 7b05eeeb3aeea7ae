"""What a builder is told: the columns a model takes, as the training rows show them, and what it is to predict."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.manifest import ColumnType, DType, Task

DATE_PATTERN = (
    r"([0-9]{4}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|[0-9]{4}-(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    r"|[0-9]{4}-02-(0[1-9]|1[0-9]|2[0-8])|([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9]([.,][0-9]+)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""A day of the calendar as ISO 8601 has it, with or without a time.

A time zone is read over: the clock counts as it is written.
"""


@dataclass(frozen=True)
class Feature:
    """One input of the model, raw as the client sends it.

    Attributes:
        name: Of the input.
        type: What its values mean.
        dtype: Of the input: float32, bool, int8 (a boolean with missing values), int64 or string.
        shape: Of one row's value; () but for a column of arrays.
        nullable: Whether values may be missing, and are then `models.manifest.null_of(dtype)`.
        mean, variance: Of a number's training values, of shape `shape`; of a date's in days since 1970, of shape ().
        vocabulary: A category's known values, strings or integers, the most frequent first.
    """

    name: str
    type: ColumnType
    dtype: DType = "float32"
    shape: tuple[int, ...] = ()
    nullable: bool = False
    mean: np.ndarray = field(default_factory=lambda: np.zeros(()))
    variance: np.ndarray = field(default_factory=lambda: np.ones(()))
    vocabulary: tuple[str, ...] | tuple[int, ...] = ()


@dataclass(frozen=True)
class Problem:
    """What to build a model for.

    Attributes:
        name: The model's name.
        features: Its inputs, in order.
        labels: The classes to tell apart; None is regression.
        mean, spread: Of a regression's target over the training rows; `spread` is above 0.
    """

    name: str
    features: tuple[Feature, ...]
    labels: tuple[str, ...] | None = None
    mean: float = 0.0
    spread: float = 1.0

    @property
    def task(self) -> Task:
        """Whether a class or a number is predicted."""
        return "regression" if self.labels is None else "classification"

    def layer_name(self, name: str) -> str:
        """`name`, or something like it where an input has that name already."""
        taken = {feature.name for feature in self.features}
        while name in taken:
            name += "_"
        return name

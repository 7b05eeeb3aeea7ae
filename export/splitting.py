"""The split into training, validation and test rows: dealt row by row, so that a stream needs no second look."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_GOLDEN_RATIO = 0.6180339887498949
_PHASES = 7919


class Part(IntEnum):
    """Which rows: those that are learned from, those that early stopping watches, those the metrics come from."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2


class Dealer:
    """Deals rows to the parts, class by class, so that each part has the same mix.

    The k-th row of a class goes where the fraction of `phase + k * golden ratio` falls: any run of rows is dealt in
    the right shares to within a row or two, whatever the order of the file. The first row of a class is for training.
    The same arguments and rows give the same parts on every machine.
    """

    def __init__(self, *, num_classes: int, validation_fraction: float, test_fraction: float, seed: int) -> None:
        self.validation_fraction, self.test_fraction = validation_fraction, test_fraction
        held_out = validation_fraction + test_fraction
        self.phases = held_out + (1 - held_out) * np.random.default_rng([_PHASES, seed]).random(num_classes)
        self.dealt = np.zeros(num_classes, dtype=np.int64)

    def deal(self, classes: np.ndarray) -> np.ndarray:
        """The part of each of the next rows, by their class."""
        order = np.argsort(classes, kind="stable")
        counts = np.bincount(classes, minlength=len(self.dealt))
        starts = np.cumsum(counts) - counts
        place = np.empty(len(classes), dtype=np.int64)
        place[order] = np.arange(len(classes)) - np.repeat(starts, counts)
        fraction = np.modf(self.phases[classes] + (self.dealt[classes] + place) * _GOLDEN_RATIO)[0]
        self.dealt += counts
        parts = np.full(len(classes), Part.TRAIN, dtype=np.int8)
        parts[fraction < self.test_fraction + self.validation_fraction] = Part.VALIDATION
        parts[fraction < self.test_fraction] = Part.TEST
        return parts

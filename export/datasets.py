"""Data to train on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from sklearn import datasets as shipped
from sklearn.model_selection import train_test_split

from models.artifact import DatasetRecord, Tensors


@dataclass(frozen=True)
class Dataset:
    """Rows with their classes.

    `inputs` are raw features by name, `targets` the class index of each row, `labels` the classes' names.
    """

    name: str
    inputs: Tensors
    targets: np.ndarray
    labels: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.targets)

    def take(self, indices: np.ndarray) -> Dataset:
        """The rows at `indices`."""
        inputs = {name: values[indices] for name, values in self.inputs.items()}
        return Dataset(self.name, inputs, self.targets[indices], self.labels)

    def record(self) -> DatasetRecord:
        """Name, size and a hash of the content."""
        digest = hashlib.sha256()
        for array in [*self.inputs.values(), self.targets]:
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return DatasetRecord(name=self.name, sha256=digest.hexdigest(), rows=self.rows)


@dataclass(frozen=True)
class Split:
    """Three parts of a data set without a common row."""

    train: Dataset
    validation: Dataset
    test: Dataset


def load_digits() -> Dataset:
    """1,797 handwritten digits as 8x8 scans of 0 to 16 (scikit-learn's copy of the UCI set; no download)."""
    pixels, targets = shipped.load_digits(return_X_y=True)
    labels = tuple(str(digit) for digit in range(10))
    return Dataset("digits", {"features": pixels.astype(np.float32)}, targets.astype(np.int64), labels)


def split(dataset: Dataset, *, validation_fraction: float, test_fraction: float, seed: int) -> Split:
    """Splits by class, so that each part has the same mix. The same arguments give the same rows on every machine.

    Args:
        dataset: At least a few rows of each class.
        validation_fraction, test_fraction: Shares of all rows, each in (0, 1).
        seed: Of the shuffle.
    """
    rest, test = train_test_split(
        np.arange(dataset.rows), test_size=test_fraction, random_state=seed, stratify=dataset.targets
    )
    train, validation = train_test_split(
        rest,
        test_size=validation_fraction / (1 - test_fraction),
        random_state=seed,
        stratify=dataset.targets[rest],
    )
    return Split(dataset.take(train), dataset.take(validation), dataset.take(test))

"""A training put aside: all that it needs to go on as if it had never been interrupted."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import numpy as np

from models.golden import load_tensors, save_tensors

CHECKPOINT = ".training.npz"
_SECONDS_BETWEEN = 10.0


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        epoch, step: The epoch to go on with, and how many of its batches have been learned from.
        loss_sum: Of the rows of these batches.
        history: A figure for each epoch that is over.
        best_loss, epochs_without_gain: What early stopping watches.
        best_weights: The model's weights at `best_loss`.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    best_loss: float = math.inf
    epochs_without_gain: int = 0
    best_weights: list[np.ndarray] = field(default_factory=list)


class Checkpoint:
    """The file of one training. `identity` is what must be the same for it to be gone on with."""

    def __init__(self, path: Path, identity: dict[str, Any], *, seconds_between: float = _SECONDS_BETWEEN) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.seconds_between = seconds_between
        self._last = monotonic()

    def save_if_due(self, trainer: keras.Model, progress: Progress) -> None:
        """Writes the state, unless that has been done a moment ago. A crash leaves the one before it or this one."""
        if monotonic() - self._last < self.seconds_between:
            return
        state = {key: value for key, value in asdict(progress).items() if key != "best_weights"}
        text = json.dumps({"identity": self.identity, "progress": state})
        temporary = self.path.with_name(f"{self.path.stem}-writing.npz")
        save_tensors(
            temporary,
            state={"json": np.array(text)},
            variables=_numbered([keras.ops.convert_to_numpy(variable) for variable in _variables(trainer)]),
            best=_numbered(progress.best_weights),
        )
        temporary.replace(self.path)
        self._last = monotonic()

    def restore(self, trainer: keras.Model) -> Progress:
        """Puts the state back into a trainer as it was built.

        Raises:
            ValueError: the file is damaged, or of a training with another configuration or other data.
        """
        try:
            with zipfile.ZipFile(self.path):
                state = json.loads(str(load_tensors(self.path, "state")["json"]))
                values, best = (list(load_tensors(self.path, group).values()) for group in ("variables", "best"))
        except (ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError("The interrupted training cannot be read. Train without --resume.") from error
        differences = _differences(state["identity"], self.identity)
        variables = _variables(trainer)
        if not differences and [value.shape for value in values] != [tuple(item.shape) for item in variables]:
            differences = ["the model's weights have other shapes"]
        if differences:
            raise ValueError(
                f"The interrupted training was another one: {'; '.join(differences)}. Give the options of then, or "
                "train without --resume."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return Progress(**state["progress"], best_weights=best)

    def remove(self) -> None:
        """Forgets the training."""
        self.path.unlink(missing_ok=True)


def _variables(trainer: keras.Model) -> list[keras.Variable]:
    """Weights, states of random generators, and the optimizer's variables."""
    return [*trainer.variables, *trainer.optimizer.variables]


def _numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(number): array for number, array in enumerate(arrays)}


def _differences(before: dict[str, Any], today: dict[str, Any]) -> list[str]:
    keys = sorted(before.keys() | today.keys())
    return [
        f"`{key}` was {before.get(key)} and is {today.get(key)}" for key in keys if before.get(key) != today.get(key)
    ]

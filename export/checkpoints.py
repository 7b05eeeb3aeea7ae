"""A training put aside: all that it needs to go on as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import json
import math
import secrets
import signal
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import numpy as np

from models.golden import load_tensors, save_tensors
from models.locking import made_and_locked

_ALL = ".training-????????.npz"
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
    """The file of one training in its model's folder.

    `identity` is what must be the same for it to be gone on with: trainings of another have files of their own.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, seconds_between: float = _SECONDS_BETWEEN) -> None:
        text = json.dumps(identity, sort_keys=True)
        self.path = folder / f".training-{hashlib.sha256(text.encode()).hexdigest()[:8]}.npz"
        self.identity = json.loads(text)
        self.seconds_between = seconds_between
        self._last = monotonic()

    def save_if_due(self, trainer: keras.Model, progress: Progress) -> None:
        """Writes the state, unless that has been done a moment ago."""
        if monotonic() - self._last >= self.seconds_between:
            self.save(trainer, progress)

    def save(self, trainer: keras.Model, progress: Progress) -> None:
        """Writes the state. A crash leaves the one before it or this one."""
        state = {key: value for key, value in asdict(progress).items() if key != "best_weights"}
        text = json.dumps({"identity": self.identity, "progress": state})
        temporary = self.path.with_name(f"{self.path.stem}-{secrets.token_hex(8)}.npz")
        with made_and_locked(self.path.parent):
            temporary.touch()
        try:
            save_tensors(
                temporary,
                state={"json": np.array(text)},
                variables=_numbered([keras.ops.convert_to_numpy(variable) for variable in _variables(trainer)]),
                best=_numbered(progress.best_weights),
            )
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)
        self._last = monotonic()

    @contextmanager
    def saved_on_interrupt(self, trainer: keras.Model, progress: Progress) -> Iterator[None]:
        """Writes the state where Ctrl-C or SIGTERM ends the block, however long ago that was done."""
        try:
            yield
        except KeyboardInterrupt:
            self.save(trainer, progress)
            raise

    def is_there(self) -> bool:
        """Whether this training was interrupted before.

        Raises:
            ValueError: only others of the same model were; the message says what differs in the one most like it.
        """
        if self.path.exists():
            return True
        others = []
        for path in sorted(self.path.parent.glob(_ALL)):
            with _readable(path):
                others.append(_differences(_state(path)["identity"], self.identity))
        if others:
            raise _another(min(others, key=len))
        return False

    def restore(self, trainer: keras.Model) -> Progress:
        """Puts the state back into a trainer as it was built.

        Raises:
            ValueError: the file is damaged, or of a training with another configuration or other data.
        """
        with _readable(self.path):
            state = _state(self.path)
            values, best = (list(load_tensors(self.path, group).values()) for group in ("variables", "best"))
        differences = _differences(state["identity"], self.identity)
        variables = _variables(trainer)
        if not differences and [value.shape for value in values] != [tuple(item.shape) for item in variables]:
            differences = ["the model's weights have other shapes"]
        if differences:
            raise _another(differences)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return Progress(**state["progress"], best_weights=best)

    def remove(self) -> None:
        """Forgets the training."""
        self.path.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM wait until the block is done, so that what it changes together stays together."""
    if threading.current_thread() is not threading.main_thread():  # no other gets signals
        yield
        return
    noted: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: noted.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if noted:
            signal.raise_signal(noted[0])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tells in plain words that the state at `path` is damaged."""
    try:
        with zipfile.ZipFile(path):  # NumPy takes files of other kinds
            yield
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"The interrupted training `{path.name}` cannot be read. Train without --resume.") from error


def _state(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(str(load_tensors(path, "state")["json"]))
    return state


def _another(differences: list[str]) -> ValueError:
    return ValueError(
        f"The interrupted training was another one: {'; '.join(differences)}. Give the options of then, or train "
        "without --resume."
    )


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

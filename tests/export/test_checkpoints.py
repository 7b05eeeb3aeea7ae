"""Checkpoints: an interrupted training goes on as if nothing had happened, and only with what it was begun with."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from export import training
from export.checkpoints import Checkpoint
from export.config import TrainConfig
from export.datasets import Dataset, load_dataset
from export.training import TrainResult, train
from models.golden import save_tensors

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(data="iris", hidden_units=(6,), dropout=0.3, epochs=6, batch_size=16)


@pytest.fixture(scope="module")
def iris() -> Dataset:
    return load_dataset(CONFIG)


@pytest.fixture(scope="module")
def uninterrupted(iris: Dataset) -> TrainResult:
    return train(CONFIG, iris, show_progress=False)


def checkpoint(folder: Path, *, seconds_between: float = 0, **identity: object) -> Checkpoint:
    return Checkpoint(folder, identity or {"epochs": 6}, seconds_between=seconds_between)


def interrupt(monkeypatch: pytest.MonkeyPatch, iris: Dataset, folder: Path, steps: int) -> None:
    """Trains, and presses Ctrl-C in the middle of a step, long before the state is due to be written."""
    step, done = training._step, 0

    def interrupted_step(*arguments: object) -> float:
        nonlocal done
        done += 1
        if done == steps:
            signal.raise_signal(signal.SIGINT)
        return step(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training, "_step", interrupted_step)
        with pytest.raises(KeyboardInterrupt):
            train(CONFIG, iris, checkpoint=checkpoint(folder, seconds_between=1e9), show_progress=False)


@pytest.mark.parametrize("steps", [1, 7, 14, 17])  # 7 steps are an epoch
def test_resumed_training_ends_with_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, iris: Dataset, uninterrupted: TrainResult, tmp_path: Path, steps: int
) -> None:
    interrupt(monkeypatch, iris, tmp_path, steps)
    result = train(CONFIG, iris, checkpoint=checkpoint(tmp_path), resume=True, show_progress=False)
    assert result.history == uninterrupted.history
    for first, second in zip(result.model.get_weights(), uninterrupted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_other_training_is_not_gone_on_with(monkeypatch: pytest.MonkeyPatch, iris: Dataset, tmp_path: Path) -> None:
    interrupt(monkeypatch, iris, tmp_path, 3)
    message = r"^The interrupted training was another one: `epochs` was 6 and is 9. Give the"
    with pytest.raises(ValueError, match=message):
        checkpoint(tmp_path, epochs=9).is_there()


def test_trainings_of_one_name_leave_each_other_alone(
    monkeypatch: pytest.MonkeyPatch, iris: Dataset, tmp_path: Path
) -> None:
    interrupt(monkeypatch, iris, tmp_path, 3)
    other = checkpoint(tmp_path, epochs=9)
    train(CONFIG, iris, checkpoint=other, show_progress=False)
    assert other.is_there()
    other.remove()
    assert checkpoint(tmp_path).is_there()
    assert len(list(tmp_path.glob("*.npz"))) == 1


def test_the_most_alike_training_is_told(tmp_path: Path) -> None:
    for number, seed in ((1, 5), (2, 4)):
        save_tensors(
            Checkpoint(tmp_path, {"number": number, "seed": seed}).path,
            state={"json": np.array(json.dumps({"identity": {"number": number, "seed": seed}}))},
        )
    with pytest.raises(ValueError, match=r"another one: `number` was 2 and is 1\. Give"):
        checkpoint(tmp_path, number=1, seed=4).is_there()


def test_model_of_other_shape_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, iris: Dataset, tmp_path: Path
) -> None:
    interrupt(monkeypatch, iris, tmp_path, 3)
    wider = CONFIG.model_copy(update={"hidden_units": (7,)})
    with pytest.raises(ValueError, match="the model's weights have other shapes"):
        train(wider, iris, checkpoint=checkpoint(tmp_path), resume=True, show_progress=False)


def test_damaged_checkpoint_is_told_with_the_way_out(iris: Dataset, tmp_path: Path) -> None:
    checkpoint(tmp_path).path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"cannot be read. Train without --resume"):
        train(CONFIG, iris, checkpoint=checkpoint(tmp_path), resume=True, show_progress=False)


def test_training_outside_the_main_thread_leaves_signals_alone(iris: Dataset) -> None:
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(train, CONFIG.model_copy(update={"epochs": 1}), iris, show_progress=False).result()
    assert len(result.history["loss"]) == 1


def test_state_is_not_written_more_often_than_asked(tmp_path: Path) -> None:
    Checkpoint(tmp_path, {}, seconds_between=1e9).save_if_due(keras.Model(), None)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []

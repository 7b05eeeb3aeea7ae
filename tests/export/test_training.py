"""Training: the same arguments give the same weights, and the metrics are those of the held-out rows."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from export.config import TrainConfig
from export.datasets import Dataset
from export.training import TrainResult, split_for, train

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(hidden_units=(8,), dropout=0.1, epochs=30, patience=5, learning_rate=0.01, seed=3)


@pytest.fixture(scope="module")
def clouds() -> Dataset:
    """Three clouds of points that a line separates."""
    random = np.random.default_rng(0)
    targets = np.repeat(np.arange(3), 40)
    centres = np.array([[0, 0], [8, 0], [0, 8]])[targets]
    points = (centres + random.normal(size=(120, 2))).astype(np.float32)
    return Dataset("clouds", {"features": points}, targets, ("a", "b", "c"))


@pytest.fixture(scope="module")
def result(clouds: Dataset) -> TrainResult:
    return train(CONFIG, clouds, show_progress=False)


def test_clouds_are_told_apart(result: TrainResult) -> None:
    assert result.metrics["test_accuracy"] > 0.95


def test_metrics_are_those_of_the_returned_model(result: TrainResult) -> None:
    test = result.split.test
    probabilities = keras.ops.convert_to_numpy(result.model(test.inputs["features"]))
    assert result.metrics["test_accuracy"] == np.mean(probabilities.argmax(axis=1) == test.targets)
    loss = -np.log(probabilities[np.arange(test.rows), test.targets]).mean()
    assert result.metrics["test_loss"] == pytest.approx(loss, abs=1e-5)  # another batch size


def test_same_arguments_give_the_same_weights(clouds: Dataset, result: TrainResult) -> None:
    again = train(CONFIG, clouds, show_progress=False)
    for first, second in zip(result.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_model_comes_without_its_optimizer(result: TrainResult) -> None:
    assert not result.model.compiled


def test_model_is_named_after_its_data(result: TrainResult) -> None:
    assert (result.model.name, result.model.output_shape) == ("clouds", (None, 3))


def test_split_is_the_one_of_the_configuration(clouds: Dataset, result: TrainResult) -> None:
    assert split_for(CONFIG, clouds).test.record() == result.split.test.record()


def test_progress_is_one_bar_with_the_figures(clouds: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    train(CONFIG.model_copy(update={"epochs": 2}), clouds)
    bar = capsys.readouterr().err
    assert "2/2" in bar
    assert "validation loss" in bar

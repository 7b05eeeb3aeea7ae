"""Metrics, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from export.datasets import Rows
from export.metrics import evaluate
from models.problem import Problem

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet([1, 1, 1], size=5000)
CLASSES = RANDOM.choice(3, size=5000)
NUMBERS = RANDOM.normal(100, 5, size=5000)


def parts(answers: np.ndarray, targets: np.ndarray) -> list[Rows]:
    return [Rows({"x": answers[:10]}, targets[:10]), Rows({"x": answers[10:]}, targets[10:])]


def test_classification_is_measured_as_scikit_learn_does() -> None:
    problem = Problem("m", (), labels=("a", "b", "c"))
    found = evaluate(lambda inputs: inputs["x"], parts(PROBABILITIES, CLASSES), problem, majority=1)
    assert found["accuracy"] == np.mean(PROBABILITIES.argmax(axis=1) == CLASSES)
    assert found["loss"] == pytest.approx(log_loss(CLASSES, PROBABILITIES))
    assert found["baseline_accuracy"] == np.mean(CLASSES == 1)


def test_regression_is_measured_as_scikit_learn_does() -> None:
    answers = NUMBERS + RANDOM.normal(size=5000)
    problem = Problem("m", (), mean=99.0, spread=5.0)
    found = evaluate(lambda inputs: inputs["x"], parts(answers, NUMBERS), problem, majority=0)
    assert found["rmse"] == pytest.approx(root_mean_squared_error(NUMBERS, answers))
    assert found["mae"] == pytest.approx(mean_absolute_error(NUMBERS, answers))
    assert found["r2"] == pytest.approx(r2_score(NUMBERS, answers))
    assert found["baseline_rmse"] == pytest.approx(root_mean_squared_error(NUMBERS, np.full(5000, 99.0)))

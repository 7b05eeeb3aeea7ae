"""Figures on held-out rows, beside those of a model that always gives the most frequent class, or the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from export.datasets import Rows
from models.manifest import Tensors
from models.problem import Problem

Predict = Callable[[Tensors], np.ndarray]
Observe = Callable[[Rows, np.ndarray], None]
_ROWS = 4096


def evaluate(
    predict: Predict,
    parts: Iterable[Rows],
    problem: Problem,
    majority: int,
    class_weights: np.ndarray | None = None,
    observe: Observe | None = None,
) -> dict[str, float]:
    """The metrics of a model on rows that it has not learned from.

    Args:
        predict: From inputs to probabilities, or to numbers.
        parts: The rows.
        problem: What is predicted.
        majority: The most frequent class of the training rows.
        class_weights: How much a row of each class counts in the loss; None counts all alike.
        observe: Called with each batch of rows and the answers to them.

    Returns:
        For a classification `accuracy`, `loss` (cross-entropy) and `baseline_accuracy`; for a regression `rmse`,
        `mae`, `r2` and `baseline_rmse`.
    """
    sums, rows = np.zeros(4), 0
    for batch in _batches(parts):
        answers = predict(batch.inputs).astype(np.float64)
        if problem.labels:
            weights = np.ones(len(problem.labels)) if class_weights is None else class_weights
            sums += _class_sums(answers, batch.targets, majority, weights[batch.targets])
        else:
            sums += _error_sums(answers, batch, problem)
        rows += len(batch)
        if observe:
            observe(batch, answers)
    means = [float(mean) for mean in sums / rows]
    if problem.labels:
        return {"accuracy": means[0], "loss": means[1] / means[3], "baseline_accuracy": means[2]}
    variance = means[2] - means[3] ** 2
    return {
        "rmse": means[0] ** 0.5,
        "mae": means[1],
        "r2": 1 - means[0] / variance if variance > 0 else 0.0,
        "baseline_rmse": means[2] ** 0.5,
    }


def _batches(parts: Iterable[Rows]) -> Iterable[Rows]:
    for rows in parts:
        for start in range(0, len(rows), _ROWS):
            yield rows.take(np.arange(start, min(start + _ROWS, len(rows))))


def _class_sums(answers: np.ndarray, targets: np.ndarray, majority: int, weights: np.ndarray) -> np.ndarray:
    """Right answers, weighted losses, rows of the most frequent class, weights."""
    of_true_class = answers[np.arange(len(targets)), targets]
    losses = -np.log(np.clip(of_true_class, 1e-12, 1)) * weights
    return np.array(
        [np.sum(answers.argmax(axis=1) == targets), losses.sum(), np.sum(targets == majority), weights.sum()]
    )


def _error_sums(answers: np.ndarray, rows: Rows, problem: Problem) -> np.ndarray:
    """Sums of the squared and absolute errors, then of the targets' squared and plain distance from the mean."""
    errors, distances = answers - rows.targets, rows.targets.astype(np.float64) - problem.mean
    return np.array([np.sum(errors**2), np.sum(np.abs(errors)), np.sum(distances**2), np.sum(distances)])

"""What a model does on held-out rows, kept small however many they are: sums, the worst rows, and a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import JsonValue

from export.datasets import Rows, concatenate
from export.report_data import CalibrationBin, Classification, Evaluation, Regression, WorstRow
from models.manifest import null_of
from models.problem import Feature, Problem

_NUM_CONFUSIONS = 900
"""Enough for each of those among 30 classes."""
_NUM_BINS = 10
_NUM_WORST = 12
_NUM_SAMPLED = 1000
_MAX_VALUES = 4096
_MAX_TEXT = 200


class Evaluator:
    """Takes in held-out rows with the model's answers, batch by batch."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem = problem
        self.rows = 0
        self.confusion = np.zeros((len(problem.labels or ()),) * 2, dtype=np.int64)
        self.bins = np.zeros((_NUM_BINS, 3))
        self.worst: _Kept | None = None
        self.sample: _Kept | None = None
        self.random = np.random.default_rng([_NUM_SAMPLED, seed])

    def add(self, rows: Rows, answers: np.ndarray) -> None:
        """Takes in rows and their answers: probabilities of shape (rows, classes), or numbers of shape (rows,)."""
        self.rows += len(rows)
        if self.problem.labels:
            self._add_classes(rows, answers)
        else:
            self._add_numbers(rows, answers)

    def evaluation(self) -> Evaluation:
        """What was found so far."""
        return Evaluation(rows=self.rows, found=self._classification() if self.problem.labels else self._regression())

    def _add_classes(self, rows: Rows, answers: np.ndarray) -> None:
        places = np.arange(len(rows))
        predicted = answers.argmax(axis=1)
        np.add.at(self.confusion, (rows.targets, predicted), 1)
        confidence = np.clip(np.nan_to_num(answers[places, predicted]), 0, 1)
        bins = np.minimum((confidence * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
        np.add.at(self.bins, bins, np.stack([np.ones(len(rows)), confidence, predicted == rows.targets], axis=1))
        of_true_class = answers[places, rows.targets]
        self.worst = _keep(self.worst, rows, answers, np.nan_to_num(of_true_class, nan=-1), _NUM_WORST)

    def _add_numbers(self, rows: Rows, answers: np.ndarray) -> None:
        errors = np.abs(answers - rows.targets)
        self.worst = _keep(self.worst, rows, answers, -np.nan_to_num(errors, nan=np.inf), _NUM_WORST)
        finite = np.isfinite(answers)
        drawn = self.random.random(len(rows))[finite]
        targets = Rows({}, rows.targets[finite])
        self.sample = _keep(self.sample, targets, answers[finite], drawn, _NUM_SAMPLED)

    def _classification(self) -> Classification:
        correct = np.diagonal(self.confusion)
        wrong = self.confusion - np.diag(correct)
        order = np.argsort(-wrong, axis=None, kind="stable")[:_NUM_CONFUSIONS]
        pairs = zip(*(index.tolist() for index in np.unravel_index(order, wrong.shape)), strict=True)
        return Classification(
            support=tuple(self.confusion.sum(axis=1).tolist()),
            predicted=tuple(self.confusion.sum(axis=0).tolist()),
            correct=tuple(correct.tolist()),
            confusions=tuple((true, taken, int(wrong[true, taken])) for true, taken in pairs if wrong[true, taken]),
            calibration=tuple(
                CalibrationBin(rows=int(count), confidence=_rounded(total / count), accuracy=_rounded(right / count))
                for count, total, right in self.bins.tolist()
                if count
            ),
            worst=self._worst_rows(),
        )

    def _regression(self) -> Regression:
        sample = self.sample
        return Regression(
            targets=tuple(_rounded(value) for value in sample.rows.targets.tolist()) if sample else (),
            answers=tuple(_rounded(value) for value in sample.answers.tolist()) if sample else (),
            worst=self._worst_rows(),
        )

    def _worst_rows(self) -> tuple[WorstRow, ...]:
        if self.worst is None:
            return ()
        features = {feature.name: feature for feature in self.problem.features}
        kept = self.worst
        return tuple(
            WorstRow(inputs=_inputs(kept.rows, row, features), **_verdict(kept, row, self.problem.labels))
            for row in range(len(kept.rows))
        )


@dataclass(frozen=True)
class _Kept:
    """The rows with the lowest ranks of all that were seen, the lowest first."""

    rows: Rows
    answers: np.ndarray
    ranks: np.ndarray


def _keep(kept: _Kept | None, rows: Rows, answers: np.ndarray, ranks: np.ndarray, count: int) -> _Kept:
    best = np.argsort(ranks, kind="stable")[:count]
    added = _Kept(rows.take(best), answers[best], ranks[best])
    if kept is None:
        return added
    joined = concatenate([kept.rows, added.rows])
    answers, ranks = np.concatenate([kept.answers, added.answers]), np.concatenate([kept.ranks, added.ranks])
    best = np.argsort(ranks, kind="stable")[:count]
    return _Kept(joined.take(best), answers[best], ranks[best])


def _verdict(kept: _Kept, row: int, labels: tuple[str, ...] | None) -> dict[str, Any]:
    target, answer = kept.rows.targets[row], kept.answers[row]
    if labels is None:
        return {"target": _plain(target), "answer": _plain(answer)}
    predicted = int(answer.argmax())
    return {
        "target": labels[int(target)],
        "answer": labels[predicted],
        "true_probability": _plain(answer[int(target)]),
        "probability": _plain(answer[predicted]),
    }


def _inputs(rows: Rows, row: int, features: dict[str, Feature]) -> dict[str, JsonValue]:
    return {
        name: _value(values[row], features.get(name))
        for name, values in rows.inputs.items()
        if values[row].size <= _MAX_VALUES
    }


def _value(value: Any, feature: Feature | None) -> JsonValue:
    """A row's value of one input, as JSON has it."""
    if np.ndim(value):
        return [_value(item, feature) for item in value]
    if feature and feature.nullable and value == null_of(feature.dtype):
        return None
    if feature and feature.type == "boolean":
        return bool(value)
    return _plain(value)


def _plain(value: Any) -> str | float | int | bool | None:
    if isinstance(value, np.str_):
        return str(value[:_MAX_TEXT])
    if isinstance(value, np.floating):
        return _rounded(float(value)) if np.isfinite(value) else None
    plain: bool | int = value.item()
    return plain


def _rounded(value: float) -> float:
    """A number in the seven digits that float32 has."""
    return float(f"{value:.7g}")

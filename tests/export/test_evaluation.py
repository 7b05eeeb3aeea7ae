"""What is kept of the held-out rows: the same however they come, true to scikit-learn, and small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from export.datasets import Rows
from export.evaluation import Evaluator
from export.report_data import Evaluation
from models.problem import Feature, Problem

RANDOM = np.random.default_rng(0)
LABELS = ("a", "b", "c")
PROBABILITIES = RANDOM.dirichlet([1, 1, 1], size=3000)
CLASSES = RANDOM.choice(3, size=3000)
NUMBERS = RANDOM.normal(100, 5, size=3000)
ERRORS = RANDOM.normal(size=3000)
CLASSIFIED = Problem("m", (), labels=LABELS)
ESTIMATED = Problem("m", ())


def evaluation(problem: Problem, answers: np.ndarray, targets: np.ndarray, size: int = 512) -> Evaluation:
    """The evaluation of rows that come in batches, each row with its place as the input `x`."""
    evaluator = Evaluator(problem, seed=0)
    for start in range(0, len(targets), size):
        batch = slice(start, start + size)
        places = np.arange(len(targets), dtype=np.int64)[batch]
        evaluator.add(Rows({"x": places}, targets[batch]), answers[batch])
    return evaluator.evaluation()


def test_confusions_are_those_of_scikit_learn() -> None:
    found = evaluation(CLASSIFIED, PROBABILITIES, CLASSES).found
    counts = np.diag(found.correct)
    for true, taken, rows in found.confusions:
        counts[true, taken] = rows
    wanted = confusion_matrix(CLASSES, PROBABILITIES.argmax(axis=1))
    np.testing.assert_array_equal(counts, wanted)
    assert found.support == tuple(wanted.sum(axis=1))
    assert found.predicted == tuple(wanted.sum(axis=0))


def test_calibration_error_is_the_mean_distance_of_sureness_from_rightness() -> None:
    found = evaluation(CLASSIFIED, PROBABILITIES, CLASSES).found
    sure, right = PROBABILITIES.max(axis=1), PROBABILITIES.argmax(axis=1) == CLASSES
    bins = [np.floor(sure * 10) == tenth for tenth in range(10)]
    wanted = sum(abs(right[chosen].sum() - sure[chosen].sum()) for chosen in bins) / len(sure)
    assert found.calibration_error == pytest.approx(wanted, abs=1e-6)  # kept in seven digits


def test_worst_rows_are_those_whose_class_got_least() -> None:
    worst = evaluation(CLASSIFIED, PROBABILITIES, CLASSES).found.worst
    of_true_class = PROBABILITIES[np.arange(3000), CLASSES]
    assert [row.inputs["x"] for row in worst] == np.argsort(of_true_class)[:12].tolist()
    first = int(of_true_class.argmin())
    assert (worst[0].target, worst[0].answer) == (LABELS[CLASSES[first]], LABELS[PROBABILITIES[first].argmax()])
    assert worst[0].true_probability == pytest.approx(of_true_class.min(), rel=1e-6)


def test_worst_numbers_are_those_with_the_largest_errors() -> None:
    worst = evaluation(ESTIMATED, NUMBERS + ERRORS, NUMBERS).found.worst
    assert [row.inputs["x"] for row in worst] == np.argsort(-np.abs(ERRORS))[:12].tolist()


def test_sample_of_numbers_is_bounded_and_fair() -> None:
    found = evaluation(ESTIMATED, NUMBERS + ERRORS, NUMBERS).found
    assert len(found.targets) == len(found.answers) == 1000
    errors = np.subtract(found.answers, found.targets)
    assert abs(errors.mean() - ERRORS.mean()) < 0.15  # five standard errors of 1000 rows


@pytest.mark.parametrize(
    ("problem", "answers", "targets"),
    [(CLASSIFIED, PROBABILITIES, CLASSES), (ESTIMATED, NUMBERS + ERRORS, NUMBERS)],
)
def test_batches_make_no_difference(problem: Problem, answers: np.ndarray, targets: np.ndarray) -> None:
    assert evaluation(problem, answers, targets, 7) == evaluation(problem, answers, targets, 3000)


def test_of_many_classes_only_the_frequent_confusions_are_kept() -> None:
    labels = tuple(map(str, range(200)))
    answers = RANDOM.dirichlet(np.ones(200), size=3000)
    found = evaluation(Problem("m", (), labels=labels), answers, RANDOM.choice(200, size=3000)).found
    counts = [rows for _, _, rows in found.confusions]
    assert len(counts) == 900
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        (CLASSIFIED, lambda answers: answers * np.nan),
        (CLASSIFIED, lambda answers: answers - np.inf),
        (CLASSIFIED, lambda answers: answers * 1e30),
        (ESTIMATED, lambda answers: answers * np.nan),
        (ESTIMATED, lambda answers: answers + np.inf),
    ],
)
def test_answers_that_are_no_numbers_are_the_worst_and_break_nothing(
    problem: Problem, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    answers, targets = (PROBABILITIES, CLASSES) if problem.labels else (NUMBERS + ERRORS, NUMBERS)
    strange = answers.copy()
    strange[1234] = change(strange[1234])
    found = evaluation(problem, strange, targets)
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
    if not np.isfinite(strange[1234]).all():
        assert found.found.worst[0].inputs["x"] == 1234


def test_values_are_kept_as_a_client_would_send_them() -> None:
    features = (
        Feature("length", "number", nullable=True),
        Feature("open", "boolean", "int8", nullable=True),
        Feature("code", "category", "int64", nullable=True),
        Feature("city", "category", "string", nullable=True),
        Feature("picture", "number", shape=(2, 2)),
        Feature("film", "number", shape=(100, 100)),
    )
    inputs = {
        "length": np.array([0.1, np.nan], np.float32),
        "open": np.array([1, -128], np.int8),
        "code": np.array([8010, np.iinfo(np.int64).min]),
        "city": np.array(["Graz", ""]),
        "picture": np.ones((2, 2, 2), np.float32),
        "film": np.ones((2, 100, 100), np.float32),
    }
    evaluator = Evaluator(Problem("m", features), seed=0)
    evaluator.add(Rows(inputs, np.array([1.0, 2.0])), np.array([3.0, 3.0]))
    picture = {"picture": [[1.0, 1.0], [1.0, 1.0]]}
    assert [row.inputs for row in evaluator.evaluation().found.worst] == [
        {"length": 0.1, "open": True, "code": 8010, "city": "Graz", **picture},
        {"length": None, "open": None, "code": None, "city": None, **picture},
    ]

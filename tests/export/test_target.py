"""The target: classes or a number, as its cells say or as the user does; and when there is nothing to learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from export.target import Target, TargetSurvey


def survey(cells: Any, task: Any = None) -> Target:
    found = TargetSurvey("y", "y")
    values = cells if isinstance(cells, pa.Array) else pa.array(cells)
    for start in range(0, len(values), 7):
        found.add(values[start : start + 7])
    return found.target(task)


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["yes", "no", "yes", None], ("no", "yes")),
        (["2", "10", "2", "NA", "10"], ("2", "10")),
        (["True", "false", "TRUE"] * 3, ("false", "true")),
        (pa.array([3, 1, 3, None, 1]), ("1", "3")),
        (pa.array([True, False, True]), ("false", "true")),
    ],
)
def test_few_values_are_classes(cells: Any, labels: tuple[str, ...]) -> None:
    assert survey(cells).labels == labels


@pytest.mark.parametrize("cells", [["1.5", "2.5"], [str(n) for n in range(30)], pa.array([1.0, 2.0, 1.0, 2.0])])
def test_fractions_and_many_integers_are_a_regression(cells: Any) -> None:
    assert survey(cells).task == "regression"


def test_task_wins_over_the_guess() -> None:
    assert survey(["1", "2"] * 9, "regression").labels is None
    assert survey(["1.5", "2.5"] * 9, "classification").labels == ("1.5", "2.5")


def test_classes_are_decoded_to_their_index() -> None:
    assert survey(["b", "a", "b"]).decode(pa.array(["a", None, "b", "other"])).tolist() == [0, -1, 1, -1]


def test_integer_classes_of_any_spelling_are_decoded() -> None:
    cells = pa.array([3, 1, 3, 1])
    assert survey(cells).decode(cells).tolist() == [1, 0, 1, 0]


def test_numbers_are_decoded_with_nan_for_gaps() -> None:
    np.testing.assert_array_equal(survey(["1.5", "2.5"]).decode(pa.array(["1.5", "NA"])), [1.5, np.nan])


@pytest.mark.parametrize("cells", [["1.5", "1e300"], pa.array([1.5, 1e300])])
def test_number_too_large_for_float32_is_refused(cells: Any) -> None:
    values = cells if isinstance(cells, pa.Array) else pa.array(cells)
    with pytest.raises(ValueError, match=r"^The target `y` must hold numbers that fit float32. It holds 1e\+300"):
        survey(cells).decode(values)


def test_rows_of_each_class_are_counted() -> None:
    target = survey(["a", "b", "a", None])
    assert (target.counts, target.rows) == ((2, 1), 3)


@pytest.mark.parametrize(
    ("cells", "task", "message"),
    [
        (["a", "a"], None, r"^The target `y` must have different values. Every row has 'a'\."),
        (["1.5", "1.5"], None, "must have different values"),
        (pa.array([None, None], pa.string()), None, r"^The target `y` is missing in every row\."),
        (["a", "b"], "regression", r"^A regression's target must be a number. `y` is a category\."),
        ([f"name {n}" for n in range(1500)], None, r"^A target can have at most 1000 classes"),
        (["2024-01-01", "2024-01-02"], None, r"^A date cannot be predicted"),
        (pa.FixedSizeListArray.from_arrays(pa.array([1, 2]), 2), None, "must hold one value in each row"),
    ],
)
def test_target_without_anything_to_learn_is_refused(cells: Any, task: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        survey(cells, task)

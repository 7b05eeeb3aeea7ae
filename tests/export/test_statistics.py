"""Figures gathered in batches are those of all values at once."""

from __future__ import annotations

import numpy as np
import pytest

from export.columns import Column
from export.statistics import ColumnStatistics, days_since_1970


def gather(column: Column, *batches: np.ndarray) -> ColumnStatistics:
    statistics = ColumnStatistics(column)
    for batch in batches:
        statistics.add(batch)
    return statistics


NUMBER = Column("x", "x", "number", "float32", missing=1)
INTEGER = Column("x", "x", "number", "float32", is_integer=True)
WORD = Column("x", "x", "category", "string")


def test_mean_variance_and_range_are_those_of_all_values() -> None:
    values = np.random.default_rng(0).normal(1e6, 3, size=1000)
    statistics = gather(NUMBER, values[:10], np.array([]), values[10:900], np.array([np.nan]), values[900:])
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-12)  # the order of sums
    assert statistics.variance == pytest.approx(values.var(), rel=1e-9)
    record = statistics.record()
    assert (record.minimum, record.maximum) == (values.min(), values.max())


def test_arrays_have_a_mean_for_each_place() -> None:
    column = Column("x", "x", "number", "float32", shape=(2,))
    statistics = gather(column, np.array([[1.0, 10.0]]), np.array([[3.0, np.nan]]))
    np.testing.assert_array_equal(statistics.mean, [2, 10])
    assert (statistics.record().minimum, statistics.record().maximum) == (1, 10)


def test_dates_count_in_days() -> None:
    statistics = gather(Column("x", "x", "date", "string"), np.array(["1970-01-02", "", "1970-01-04"]))
    assert (statistics.record().minimum, statistics.record().maximum, float(statistics.mean)) == (1, 3, 2)


def test_vocabulary_is_what_occurs_twice_the_most_frequent_first() -> None:
    statistics = gather(WORD, np.array(["b", "a", "once"]), np.array(["c", "b", "a", "b"]), np.array(["c"]))
    assert statistics.vocabulary == ("b", "a", "c")


def test_many_names_do_not_fill_the_memory() -> None:
    names = np.arange(150_000).astype(str)
    statistics = gather(WORD, np.array(["often"] * 9), names, np.char.add(names, "x"))
    assert len(statistics.categories) <= 200_000
    assert statistics.vocabulary == ("often",)


@pytest.mark.parametrize(
    ("column", "values", "note"),
    [
        (NUMBER, [1.0, 1.0], "Column `x` is constant and tells nothing."),
        (NUMBER, [np.nan], "Column `x` has no values and tells nothing."),
        (NUMBER, [1.0, 2.0], None),
        (INTEGER, [5.0, 5.0], "Column `x` is constant and tells nothing."),
        (
            INTEGER,
            [2.0**62, 2.0**62],
            (
                "Column `x` is constant in float32, which rounds integers above 16,777,216, and tells nothing. "
                "Is it a code? --columns x=category"
            ),
        ),
        (WORD, ["a", "a"], "Column `x` is constant and tells nothing."),
        (WORD, ["a", "b"], "Every training row has its own `x`, which therefore tells nothing. Leave it out?"),
        (WORD, ["a", "a", "b"], None),
        (Column("x", "x", "boolean", "bool"), [True, True], "Column `x` is constant and tells nothing."),
    ],
)
def test_column_that_tells_nothing_is_told(column: Column, values: list[object], note: str | None) -> None:
    assert gather(column, np.array(values)).note() == note


def test_days_count_from_1970() -> None:
    np.testing.assert_array_equal(
        days_since_1970(np.array(["1970-01-02", "1969-12-31 12:00", "", "soon"])), [1, -1, np.nan, np.nan]
    )

"""Types of columns: inferred from every cell, overridden by name, and decoded to what the model's inputs take."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from export.columns import Column, TypeSurvey, check_overrides

SMALLEST = np.iinfo(np.int64).min


def survey(cells: list[Any] | pa.Array, wanted: Any = None) -> Column:
    found = TypeSurvey("x", "x", wanted)
    values = cells if isinstance(cells, pa.Array) else pa.array(cells)
    for start in range(0, len(values), 2):  # in batches, as files come
        found.add(values[start : start + 2])
    return found.column()


@pytest.mark.parametrize(
    ("cells", "type_", "dtype", "missing"),
    [
        (["1", " 2.5", "-3e2"], "number", "float32", 0),
        (["1", "2", None], "number", "float32", 1),
        (["1", "NA", "?", "nan"], "number", "float32", 3),
        (["1", "2", "three"], "category", "string", 0),
        (["a", None, "NA"], "category", "string", 1),
        (["true", "False", "TRUE"], "boolean", "bool", 0),
        (["true", "", "NA"], "boolean", "int8", 2),
        (["2024-02-29", "1999-12-31 23:59", "2024-01-01T01:02:03.5Z"], "date", "string", 0),
        (["2024-02-29", None], "date", "string", 1),
        (["2024-13-01", "2024-01-01"], "category", "string", 0),
        (["2024-02-30", "2024-01-01"], "category", "string", 0),
        (["01234", "5678"], "category", "string", 0),
        (["0.5", "0", "-0.1"], "number", "float32", 0),
        ([None, "NA"], "number", "float32", 2),
    ],
)
def test_type_of_text_is_inferred_from_all_cells(cells: list[str], type_: str, dtype: str, missing: int) -> None:
    column = survey(pa.array(cells, pa.string()))
    assert (column.type, column.dtype, column.missing) == (type_, dtype, missing)


@pytest.mark.parametrize(
    ("cells", "type_", "dtype"),
    [
        (pa.array([1, 2]), "number", "float32"),
        (pa.array([1.5, None]), "number", "float32"),
        (pa.array([True, None]), "boolean", "int8"),
        (pa.array([date(2024, 2, 29)]), "date", "string"),
        (pa.array(["a", "b"]).dictionary_encode(), "category", "string"),
    ],
)
def test_type_in_the_file_counts(cells: pa.Array, type_: str, dtype: str) -> None:
    assert (survey(cells).type, survey(cells).dtype) == (type_, dtype)


@pytest.mark.parametrize(
    ("cells", "wanted", "dtype"),
    [
        (["1", "2"], "category", "int64"),
        (["1.5", "2"], "category", "string"),
        (["01", "2"], "number", "float32"),
        (["2024-01-01"], "category", "string"),
    ],
)
def test_override_wins_over_what_is_inferred(cells: list[str], wanted: str, dtype: str) -> None:
    column = survey(cells, wanted)
    assert (column.type, column.dtype) == (wanted, dtype)


def test_cells_that_the_override_cannot_read_count_as_missing_and_are_told() -> None:
    found = TypeSurvey("x", "x", "number")
    found.add(pa.array(["1", "n.a.", "3", None]))
    assert found.column().missing == 2
    assert found.note() == "1 cells of `x` are no number and count as missing, 'n.a.' for one."
    np.testing.assert_array_equal(found.column().decode(pa.array(["1", "n.a."])), np.array([1, np.nan], np.float32))


def test_day_that_the_calendar_lacks_counts_as_missing() -> None:
    found = TypeSurvey("x", "x", "date")
    found.add(pa.array(["2024-02-30", "2023-02-29", "2024-02-29"]))
    column = found.column()
    assert column.missing == 2
    assert column.decode(pa.array(["2024-02-30", "2024-02-29"])).tolist() == ["", "2024-02-29"]


def test_override_that_the_file_contradicts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Column `x` is a date in the file and cannot be a number"):
        survey(pa.array([date(2024, 2, 29)]), "number")


def test_column_of_lists_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Column `x` must hold numbers, .* Leave it out: --columns x=ignore"):
        survey(pa.array([[1], [2, 3]]))


@pytest.mark.parametrize(
    ("cells", "wanted", "decoded"),
    [
        (["1", "NA", "inf", " 4 "], None, [1, np.nan, np.nan, 4]),
        (["a", None, " b "], None, ["a", "", " b "]),
        (["true", "False"], None, [True, False]),
        (["true", None, "false"], None, [1, -128, 0]),
        (["7", None], "category", [7, SMALLEST]),
        (["2024-01-02", None], None, ["2024-01-02", ""]),
        (pa.array([1.5, None, float("nan"), float("inf")]), None, [1.5, np.nan, np.nan, np.nan]),
        (pa.array([date(2024, 1, 2), None]), None, ["2024-01-02", ""]),
        (pa.array([datetime(2024, 1, 2, 3, 4, 5)]), None, ["2024-01-02T03:04:05"]),
        (pa.array([True, None]), None, [1, -128]),
        (pa.array([7, None]), "category", [7, SMALLEST]),
    ],
)
def test_cells_are_decoded_to_what_the_input_takes(cells: Any, wanted: Any, decoded: list[Any]) -> None:
    column = survey(cells, wanted)
    values = column.decode(cells if isinstance(cells, pa.Array) else pa.array(cells, pa.string()))
    np.testing.assert_array_equal(values, np.array(decoded))
    assert values.dtype.kind == np.dtype(np.str_ if column.dtype == "string" else column.dtype).kind


def test_column_of_arrays_keeps_its_shape() -> None:
    cells = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4, 5, 6]), 2)
    column = survey(cells)
    assert (column.type, column.shape) == ("number", (2,))
    np.testing.assert_array_equal(column.decode(cells[1:]), [[3, 4], [5, 6]])


def test_category_beyond_int64_is_refused() -> None:
    assert survey(pa.array([2**63 - 1, None], pa.uint64()), "category").dtype == "int64"
    with pytest.raises(ValueError, match=r"^Column `x` must hold integers below 2\^63 .* It holds 9223372036854775808"):
        survey(pa.array([1, 2**63], pa.uint64()), "category")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"y": "number"}, r"^There is no column `y`. Columns: x\."),
        ({"x": "text"}, r"^A column is number, category, boolean, date or ignore. Received: x=text"),
    ],
)
def test_override_that_makes_no_sense_is_refused(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_overrides(overrides, ("x",))

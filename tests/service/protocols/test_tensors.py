from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.errors import InvalidRequest
from service.protocols.tensors import decode, describe
from tests.service.fakes import spec

NUMBERS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


def nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def refusal(dtype: str, rows: list[Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(spec("x", dtype), rows)
    return str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "rows"),
    [
        *((dtype, [[1.5, -2], [0, 1]]) for dtype in NUMBERS),
        *((dtype, [[0, 127], [1, 2]]) for dtype in INTEGERS),
        ("bool", [[True, False]]),
        ("string", [["a", ""], ["Łódź", "x\0y"]]),
        ("float32", [1, 2, 3]),
        ("float32", [[[[1.0]], [[2.0]]]]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint64", [0, 2**63, 2**64 - 1]),
        ("float64", [2**63, -1, 0.5]),
    ],
)
def test_values_come_out_as_they_went_in(dtype: str, rows: list[Any]) -> None:
    array = decode(spec("x", dtype), rows)
    assert array.dtype == ("U4" if dtype == "string" else dtype)
    assert array.tolist() == rows


@pytest.mark.parametrize(("dtype", "wanted"), [("float32", np.float32), ("int8", np.int8), ("bool", np.bool_)])
def test_empty_rows_keep_their_shape_for_the_signature_check(dtype: str, wanted: type) -> None:
    array = decode(spec("x", dtype), [[], []])
    assert (array.shape, array.dtype) == ((2, 0), wanted)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1.5", "'1.5'"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ({"a": 1}, "an object"),
        ("x" * 1000, f"'{'x' * 39}…"),
    ],
)
def test_value_of_another_type_among_numbers_is_named_with_its_row(value: Any, words: str) -> None:
    message = refusal("float32", [[1.0, 2.0], [3.0, value]])
    assert message == f"Input `x` must hold numbers. Row 1 holds {words}."


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("int32", 1.5, "Input `x` must hold integers. Row 1 holds 1.5."),
        ("int32", 1.0, "Input `x` must hold integers. Row 1 holds 1.0."),
        ("int32", True, "Input `x` must hold integers. Row 1 holds true."),
        ("uint64", 1.8446744073709552e19, "Input `x` must hold integers. Row 1 holds 1.8446744073709552e+19."),
        ("bool", 0, "Input `x` must hold true or false. Row 1 holds 0."),
        ("bool", "true", "Input `x` must hold true or false. Row 1 holds 'true'."),
        ("string", 5, "Input `x` must hold strings. Row 1 holds 5."),
        ("string", None, "Input `x` must hold strings. Row 1 holds null."),
    ],
)
def test_nothing_is_coerced(dtype: str, value: Any, message: str) -> None:
    right = {"bool": True, "string": "a"}.get(dtype, 1)
    assert refusal(dtype, [[right, right], [right, value]]) == message


@pytest.mark.parametrize(
    ("dtype", "value", "bounds"),
    [
        ("int8", 128, "-128 to 127"),
        ("int8", -129, "-128 to 127"),
        ("uint8", -1, "0 to 255"),
        ("int64", 2**63, "-9223372036854775808 to 9223372036854775807"),
        ("uint64", -1, "0 to 18446744073709551615"),
    ],
)
def test_integer_out_of_range_is_refused(dtype: str, value: int, bounds: str) -> None:
    message = refusal(dtype, [[1], [value]])
    assert message == f"Input `x` must hold integers from {bounds}. Row 1 holds {value}."


@pytest.mark.parametrize(("dtype", "value"), [("float16", 70000), ("float32", 1e39), ("float32", -1e39)])
def test_number_too_large_for_the_float_type_is_refused(dtype: str, value: float) -> None:
    message = refusal(dtype, [[1.0], [value]])
    assert message == f"Input `x` must hold numbers that fit {dtype}. Row 1 holds {value!r}."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 2], [3]], "Row 0 has shape (2,), row 1 has shape (1,)."),
        ([[1, 2], 3], "Row 0 has shape (2,), row 1 has shape ()."),
        ([[[1, 2]], [[1], [2]]], "Row 0 has shape (1, 2), row 1 has shape (2, 1)."),
        ([[[1, 2], [3]], [[1, 2], [3]]], "Row 0 is ragged: its lists differ in length."),
        ([[[1], [2]], [[1], 2]], "Row 1 is ragged: its lists differ in length."),
        ([[], [1]], "Row 0 has shape (0,), row 1 has shape (1,)."),
    ],
)
def test_ragged_rows_are_named(rows: list[Any], message: str) -> None:
    assert refusal("float32", rows) == f"Input `x` must hold rows of one shape. {message}"


def test_object_among_lists_is_named_rather_than_called_ragged() -> None:
    assert refusal("float32", [[1, 2], {"x": [1, 2]}]) == "Input `x` must hold numbers. Row 1 holds an object."


@pytest.mark.parametrize("depth", [64, 65, 900])
def test_deep_nesting_is_refused(depth: int) -> None:
    assert refusal("float32", [nested(depth)]).startswith("Input `x` is nested too deeply")


def test_one_long_string_among_many_short_ones_is_refused_before_they_are_padded() -> None:
    message = refusal("string", ["x" * 1_000_000, *[""] * 1_000_000])
    assert message.startswith("Input `x` is too large: 1000001 strings, the longest of 1000000 characters.")


def test_one_long_string_among_many_numbers_takes_no_memory() -> None:
    assert "Row 0 holds 'xxx" in refusal("float32", ["x" * 1_000_000, *[1] * 1_000_000])


def test_string_that_numpy_would_cut_is_refused() -> None:
    assert refusal("string", ["a\0"]) == "Input `x` must hold strings that do not end in a NUL character."


@pytest.mark.parametrize(
    ("value", "words"), [([], "an empty list"), ([1], "a list"), ({}, "an object"), (None, "null"), (3, "3")]
)
def test_json_value_is_described_in_words(value: Any, words: str) -> None:
    assert describe(value) == words

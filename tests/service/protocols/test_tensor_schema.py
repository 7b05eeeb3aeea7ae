from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jsonschema_rs import is_valid

from models.manifest import TensorSpec
from service.protocols.tensor_schema import describe, leaf, value
from service.protocols.tensors import decode, encode


def spec(dtype: str, *shape: int | None, nullable: bool = False) -> TensorSpec:
    return TensorSpec.model_validate({"name": "x", "dtype": dtype, "shape": (None, *shape), "nullable": nullable})


@pytest.mark.parametrize(
    ("dtype", "inside", "outside"),
    [
        ("bool", [True, False], [0, 1, "true", None]),
        ("int8", [-128, 127], [-129, 128, 0.5, True]),
        ("int64", [-(2**63), 2**63 - 1], [-(2**63) - 1, 2**63]),
        ("uint64", [0, 2**64 - 1], [-1, 2**64]),
        ("float16", [0, 65504.0], [65536.0, "1"]),
        ("float32", [1, -3.4028235e38], [3.5e38, None]),
        ("float64", [1.7976931348623157e308], [True, "NaN"]),
        ("string", ["", "Łódź"], [1, None]),
    ],
)
def test_value_is_of_its_dtype_and_in_its_range(dtype: str, inside: list[Any], outside: list[Any]) -> None:
    schema = leaf(spec(dtype))
    assert [item for item in inside if not is_valid(schema, item)] == []
    assert [item for item in outside if is_valid(schema, item)] == []


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "string"])
def test_missing_value_is_null_where_there_may_be_one(dtype: str) -> None:
    assert not is_valid(leaf(spec(dtype)), None)
    assert is_valid(leaf(spec(dtype, nullable=True)), None)


def test_boolean_with_missing_values_is_a_boolean() -> None:
    schema = leaf(spec("int8", nullable=True))
    assert [item for item in (True, False, None, 1, 0) if is_valid(schema, item)] == [True, False, None]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64"])
def test_largest_number_of_a_dtype_is_taken_as_it_is_written(dtype: str) -> None:
    limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    rows = encode(spec(dtype), np.array([limits.min, limits.max], dtype))
    for row in rows:
        assert is_valid(leaf(spec(dtype)), row)
        assert decode(spec(dtype), [row]).tolist() == [row]


@pytest.mark.parametrize(
    ("row", "fits"),
    [([[1, 2]], True), ([], True), ([[1, 2], [3, 4]], True), ([[1]], False), ([1, 2], False), ([[[1, 2]]], False)],
)
def test_row_is_nested_as_the_shape_says(row: Any, fits: bool) -> None:
    assert is_valid(value(spec("int32", None, 2)), row) is fits


@pytest.mark.parametrize(("size", "least"), [(4096, 4096), (4097, None)])
def test_only_a_row_that_is_short_enough_to_be_made_up_has_a_least_length(size: int, least: int | None) -> None:
    schema = value(spec("float32", size, None))
    assert (schema.get("minItems"), schema["maxItems"]) == (least, size)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (spec("float32"), "float32, shape (rows,)"),
        (spec("int8", None, 3), "int8, shape (rows, any, 3)"),
        (spec("string", nullable=True), "string or missing, shape (rows,)"),
    ],
)
def test_tensor_is_described_in_words(tensor: TensorSpec, words: str) -> None:
    assert describe(tensor) == words

"""Null in a request: taken where the model says so, refused elsewhere, and given back as it came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.manifest import DType, TensorSpec
from service.errors import InvalidRequest
from service.protocols.tensors import decode, encode


def spec(dtype: DType, *, nullable: bool = True, shape: tuple[int | None, ...] = (None,)) -> TensorSpec:
    return TensorSpec(name="x", dtype=dtype, shape=shape, nullable=nullable)


@pytest.mark.parametrize(
    ("dtype", "rows", "values"),
    [
        ("float32", [1.5, None], [1.5, np.nan]),
        ("float32", [None, None], [np.nan, np.nan]),
        ("string", ["a", None], ["a", ""]),
        ("int64", [7, None], [7, np.iinfo(np.int64).min]),
        ("int8", [True, False, None], [1, 0, -128]),
    ],
)
def test_null_becomes_the_missing_value_and_null_again(dtype: DType, rows: list[Any], values: list[Any]) -> None:
    found = decode(spec(dtype), rows)
    np.testing.assert_array_equal(found, np.array(values))
    assert found.dtype.kind == np.dtype(np.str_ if dtype == "string" else dtype).kind
    assert encode(spec(dtype), found) == rows


def test_null_may_be_deep_inside() -> None:
    found = decode(spec("float32", shape=(None, 2)), [[1, None], [3, 4]])
    np.testing.assert_array_equal(found, [[1, np.nan], [3, 4]])


@pytest.mark.parametrize("dtype", ["float32", "string", "int64", "bool"])
def test_null_is_refused_where_nothing_was_missing(dtype: DType) -> None:
    with pytest.raises(InvalidRequest, match=r"^Input `x` must hold .*Row 0 holds null"):
        decode(spec(dtype, nullable=False), [None])


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float32", "1", "must hold numbers or null. Row 0 holds '1'"),
        ("float32", True, "must hold numbers or null. Row 0 holds true"),
        ("float32", 1e39, "must hold numbers that fit float32"),
        ("string", 1, "must hold strings or null. Row 0 holds 1"),
        ("int64", 1.5, "must hold integers or null. Row 0 holds 1.5"),
        ("int8", 1, "must hold true, false or null. Row 0 holds 1"),
    ],
)
def test_nullable_input_stays_strict(dtype: DType, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        decode(spec(dtype), [value])

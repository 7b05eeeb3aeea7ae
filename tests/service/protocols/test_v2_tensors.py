from __future__ import annotations

import numpy as np
import pytest

from models.manifest import TensorSpec
from service.errors import InvalidRequest
from service.protocols.v2_request import InputTensor
from service.protocols.v2_tensors import from_bytes, from_json, to_bytes


def nullable(dtype: str) -> TensorSpec:
    return TensorSpec.model_validate({"name": "x", "dtype": dtype, "shape": (None,), "nullable": True})


def described(datatype: str, *shape: int, data: list[object] | None = None) -> InputTensor:
    return InputTensor("x", datatype, shape, data, 0)


@pytest.mark.parametrize(
    ("dtype", "datatype", "data", "expected"),
    [
        ("float32", "FP32", [1.5, None], [1.5, np.nan]),
        ("int8", "INT8", [1, 0, None], [1, 0, -128]),
        ("int64", "INT64", [7, None], [7, -(2**63)]),
        ("string", "BYTES", ["a", None], ["a", ""]),
    ],
)
def test_null_is_what_stands_for_a_missing_value(
    dtype: str, datatype: str, data: list[object], expected: list[object]
) -> None:
    values = from_json(nullable(dtype), described(datatype, len(data), data=data))
    np.testing.assert_array_equal(values, np.array(expected, nullable(dtype).numpy_dtype))


def test_aligned_numbers_are_a_view_of_the_body() -> None:
    body = bytearray(np.arange(4, dtype=np.float32).tobytes())
    spec = TensorSpec(name="x", dtype="float32", shape=(None,))
    values = from_bytes(spec, described("FP32", 4), memoryview(body))
    assert values.flags.aligned
    assert np.shares_memory(values, np.frombuffer(body, np.uint8))


def test_numbers_that_are_not_aligned_are_copied_to_where_they_are() -> None:
    body = memoryview(bytearray(b"\0" + np.arange(4, dtype=np.float32).tobytes()))[1:]
    spec = TensorSpec(name="x", dtype="float32", shape=(None,))
    values = from_bytes(spec, described("FP32", 4), body)
    assert (values.flags.aligned, values.tolist()) == (True, [0.0, 1.0, 2.0, 3.0])


def test_numbers_in_order_are_sent_without_a_copy() -> None:
    values = np.ones((2, 3), np.float32)
    assert np.shares_memory(np.frombuffer(to_bytes("float32", values), np.float32), values)


def test_numbers_in_another_order_are_sent_by_rows() -> None:
    values = np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3))
    assert bytes(to_bytes("int16", values)) == np.arange(6, dtype="<i2").tobytes()


def test_strings_that_are_not_utf8_are_refused() -> None:
    spec = TensorSpec(name="x", dtype="string", shape=(None,))
    with pytest.raises(InvalidRequest, match="must hold strings in UTF-8"):
        from_bytes(spec, described("BYTES", 1), memoryview(b"\1\0\0\0\xff"))

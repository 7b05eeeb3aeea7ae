"""Answers that are written together are those that each request would get alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.manifest import Signature, TensorSpec
from service.errors import NotInJson
from service.protocols.answers import AnswerEncoder


def encoder(dtype: str, *shape: int, outputs: tuple[str, ...] = ("y",)) -> AnswerEncoder:
    specs = tuple(
        TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (None, *shape)}) for name in outputs
    )
    return AnswerEncoder(Signature(inputs=specs, outputs=specs), "demo", 3, "fake")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint64", "bool"])
@given(st.data())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_each_body_is_that_of_its_row_alone(dtype: str, data: st.DataObject) -> None:
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 4)))
    values = data.draw(arrays(dtype, shape))
    if data.draw(st.booleans()):
        values = np.asfortranarray(values)
    writer = encoder(dtype, shape[1])
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, shape[0] - 1)))) - {shape[0]})
    ends = [0, *cuts, shape[0]]
    bodies = writer.encode_each({"y": values}, [end - start for start, end in pairwise(ends)])
    for body, (start, end) in zip(bodies, pairwise(ends), strict=True):
        if np.isfinite(values[start:end].astype(np.float64)).all():
            assert body == writer.encode({"y": values[start:end]}, labels=False)
        else:
            assert isinstance(body, NotInJson)


@pytest.mark.parametrize(
    ("writer", "outputs"),
    [
        (encoder("float32"), {"y": np.ones(2, np.float32)}),
        (encoder("float32", 1, 1), {"y": np.ones((2, 1, 1), np.float32)}),
        (encoder("float32", 0), {"y": np.ones((2, 0), np.float32)}),
        (encoder("string", 1), {"y": np.array([["],["], ["b"]])}),
        (encoder("float32", 1, outputs=("y", "z")), {name: np.ones((2, 1), np.float32) for name in ("y", "z")}),
    ],
)
def test_answers_of_other_forms_are_written_one_by_one(writer: AnswerEncoder, outputs: dict[str, Any]) -> None:
    rows = [{name: values[row : row + 1] for name, values in outputs.items()} for row in range(2)]
    assert writer.encode_each(outputs, [1, 1]) == [writer.encode(row, labels=False) for row in rows]
    assert writer.encode_each(outputs, [2]) == [writer.encode(outputs, labels=False)]


def test_error_of_an_answer_with_nan_stands_beside_other_answers() -> None:
    well, wrong = encoder("float32").encode_each({"y": np.array([1, np.nan], np.float32)}, [1, 1])
    assert well == encoder("float32").encode({"y": np.ones(1, np.float32)}, labels=False)
    assert isinstance(wrong, NotInJson)
    assert "NaN or Infinity in 1 of 1 rows" in str(wrong)

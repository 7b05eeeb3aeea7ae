"""The certificate: what it finds in callables that mix their rows, and in those that don't."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.checks import Certificate, certify

Tensors = dict[str, np.ndarray[Any, Any]]
ROWS = {"x": np.random.default_rng(0).normal(size=(5, 3)).astype("float32")}


def alone(call: Callable[[Any], Any]) -> Callable[[Tensors], Tensors]:
    """A callable on tensors by name from one on an array."""
    return lambda tensors: {"y": call(tensors["x"])}


def noisy() -> Callable[[Any], Any]:
    generator = np.random.default_rng(0)
    return lambda x: x + generator.normal(size=x.shape)


def only_twice(limit: int) -> Callable[[Any], Any]:
    def call(x: Any) -> Any:
        if len(x) > limit:
            raise MemoryError("too many rows")
        return x

    return call


def test_call_that_keeps_rows_apart_is_batch_safe() -> None:
    assert certify(alone(np.tanh), ROWS) == Certificate(batch_safe=True, deterministic=True, finite=True, rows=5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: x - x.mean(axis=0), "row 0 alone and in a batch of 5"),
        (lambda x: x + x[:1], "row 1 alone"),
        (lambda x: x + np.arange(len(x))[:, None], "row 1 alone"),
        (lambda x: x - 1e-9 * x.mean(axis=0), "rows of NaN"),
        (lambda x: x / max(1.0, np.abs(x).max() / 50), "rows a hundred times larger"),
        (lambda x: x * (0.0 if (x == 0).all(axis=1).any() else 1.0), "padding rows of zeros"),
        (lambda x: x.sum(axis=0), "axis 0 must be the rows"),
        (only_twice(5), "MemoryError: too many rows"),
    ],
)
def test_call_that_mixes_rows_is_not_batch_safe(call: Callable[[Any], Any], words: str) -> None:
    certificate = certify(alone(call), ROWS)
    assert not certificate.batch_safe
    assert certificate.reasons[0].startswith("batch_safe: ")
    assert words in certificate.reasons[0]


def test_random_call_is_neither_deterministic_nor_batch_safe() -> None:
    certificate = certify(alone(noisy()), ROWS)
    assert not certificate.deterministic
    assert not certificate.batch_safe
    assert certificate.reasons[0].startswith("deterministic: the same rows twice")


def test_infinite_answer_is_told() -> None:
    certificate = certify(alone(lambda x: np.where(x > 0, np.inf, x)), ROWS)
    assert not certificate.finite
    assert certificate.reasons == ("finite: y holds NaN or infinity",)


def test_last_bits_may_differ_with_the_batch_size() -> None:
    assert certify(alone(lambda x: x * np.float32(1 + 1e-7 * len(x))), ROWS).batch_safe


def test_one_row_proves_nothing() -> None:
    certificate = certify(alone(np.tanh), {"x": ROWS["x"][:1]})
    assert not certificate.batch_safe
    assert "one golden row is not enough" in certificate.reasons[0]


def test_text_and_whole_numbers_are_compared_exactly() -> None:
    rows = {"x": np.array(["a", "bb", "ccc"])}
    assert certify(lambda tensors: {"n": np.char.str_len(tensors["x"])}, rows).batch_safe


@pytest.mark.parametrize("rows", [{}, {"x": np.zeros((0, 2))}, {"x": np.zeros((2, 2)), "z": np.zeros((3, 2))}])
def test_rows_that_do_not_match_are_refused(rows: Tensors) -> None:
    with pytest.raises(ValueError, match="the same number of rows"):
        certify(alone(np.tanh), rows)

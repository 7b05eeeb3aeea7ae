from __future__ import annotations

import numpy as np
import pytest

from models.manifest import Signature, Tensors
from service.errors import InvalidRequest, TooManyValues
from service.inference import check_inputs, check_size
from service.limits import NO_LIMITS, RequestLimits
from tests.service.fakes import spec

IMAGES = Signature(inputs=(spec("x", "float32", None, 2),), outputs=(spec("y", "float32"),))
PLACES = Signature(inputs=(spec("a", "int32"), spec("city", "string")), outputs=(spec("y", "float32"),))


def floats(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        (IMAGES, {"x": floats(1, 1, 2)}),
        (IMAGES, {"x": floats(3, 7, 2)}),
        (IMAGES, {"x": floats(3, 0, 2)}),
        (PLACES, {"city": np.array(["Oslo"]), "a": np.array([1], np.int32)}),
    ],
)
def test_inputs_as_the_signature_says_pass(signature: Signature, inputs: Tensors) -> None:
    check_inputs(signature, inputs)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (IMAGES, {}, "The inputs must be `x`. Received: none."),
        (IMAGES, {"x": floats(1), "b": floats(1)}, "The inputs must be `x`. Received: `b`, `x`."),
        (PLACES, {"a": np.zeros(1, np.int32)}, "The inputs must be `a`, `city`. Received: `a`."),
        (IMAGES, {"x": np.zeros((1, 1, 2))}, "Input `x` must be float32. Received: float64."),
        (IMAGES, {"x": np.array([[["a", "b"]]])}, "Input `x` must be float32. Received: string."),
        (IMAGES, {"x": floats(1, 1, 3)}, "Input `x` must have shape (rows, any, 2). Received: shape (1, 1, 3)."),
        (IMAGES, {"x": floats(4)}, "Input `x` must have shape (rows, any, 2). Received: shape (4,)."),
        (IMAGES, {"x": floats()}, "Input `x` must have shape (rows, any, 2). Received: shape ()."),
        (IMAGES, {"x": floats(0, 1, 2)}, "Input `x` must have at least one row. Received: none."),
        (
            PLACES,
            {"a": np.zeros((1, 1), np.int32), "city": np.array(["Oslo"])},
            "Input `a` must have shape (rows,). Received: shape (1, 1).",
        ),
        (
            PLACES,
            {"a": np.zeros(3, np.int32), "city": np.array(["Oslo"])},
            "All inputs must have the same number of rows. Received: [1, 3].",
        ),
    ],
)
def test_inputs_that_differ_from_the_signature_are_refused(signature: Signature, inputs: Tensors, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_inputs(signature, inputs)
    assert str(caught.value) == message


@pytest.mark.parametrize("limits", [NO_LIMITS, RequestLimits(max_rows=3, max_elements=9)])
def test_request_at_the_limits_passes(limits: RequestLimits) -> None:
    check_size({"x": floats(3, 2), "y": floats(3)}, limits)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            RequestLimits(max_rows=2, max_elements=9),
            "A request may have at most 2 rows. Received: 3. Send fewer rows at a time.",
        ),
        (
            RequestLimits(max_rows=3, max_elements=8),
            "A request may hold at most 8 values. Received: 9. Send fewer rows at a time.",
        ),
    ],
)
def test_request_beyond_a_limit_is_refused(limits: RequestLimits, message: str) -> None:
    with pytest.raises(TooManyValues) as caught:
        check_size({"x": floats(3, 2), "y": floats(3)}, limits)
    assert str(caught.value) == message

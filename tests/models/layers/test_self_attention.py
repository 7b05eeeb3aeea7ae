"""`SelfAttention`, against Keras's own attention with the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import KerasTensor

from models.layers import SelfAttention

ROWS = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)


def test_answers_are_those_of_keras_own_attention() -> None:
    keras.utils.set_random_seed(0)
    own, theirs = SelfAttention(num_heads=2), keras.layers.MultiHeadAttention(num_heads=2, key_dim=4)
    theirs(ROWS, ROWS)
    own(ROWS)
    weights = theirs.get_weights()  # kernel and bias of query, key, value, then of the projection
    own.set_weights([weight.reshape(8, 8) if weight.size == 64 else weight.reshape(8) for weight in weights])
    # The same products summed in another order: a few units in the last place of a float32.
    np.testing.assert_allclose(own(ROWS), theirs(ROWS, ROWS), rtol=0, atol=1e-5)


def test_order_of_the_tokens_does_not_matter() -> None:
    layer = SelfAttention(num_heads=2)
    shuffled = keras.ops.convert_to_numpy(layer(ROWS[:, ::-1]))
    np.testing.assert_allclose(shuffled[:, ::-1], layer(ROWS), rtol=0, atol=1e-6)


def test_half_precision_stays_half() -> None:
    layer = SelfAttention(num_heads=2, dtype="mixed_float16")
    assert (layer(ROWS).dtype, layer.query.kernel.dtype) == ("float16", "float32")


@pytest.mark.parametrize("num_heads", [0, -1, 2.0, True, None])
def test_number_of_heads_must_be_positive(num_heads: object) -> None:
    with pytest.raises(ValueError, match="`num_heads` must be a positive integer"):
        SelfAttention(num_heads)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(None, 8), (None, 5, 7), (None, 5, None)])
def test_features_must_divide_among_the_heads(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match="with features a multiple of num_heads=2"):
        SelfAttention(num_heads=2)(KerasTensor(shape))


def test_configuration_makes_the_same_layer() -> None:
    assert SelfAttention.from_config(SelfAttention(num_heads=4, name="a").get_config()).num_heads == 4

"""`PositionEmbedding`: a vector of its own for each position."""

from __future__ import annotations

import numpy as np
import pytest
from keras import KerasTensor

from models.layers import PositionEmbedding


def test_each_position_gets_its_vector() -> None:
    layer = PositionEmbedding()
    layer.build((None, 3, 2))
    layer.set_weights([np.arange(6).reshape(3, 2)])
    np.testing.assert_array_equal(layer(np.ones((2, 3, 2), np.float32))[1], [[1, 2], [3, 4], [5, 6]])


def test_half_precision_stays_half() -> None:
    assert PositionEmbedding(dtype="mixed_float16")(np.ones((1, 3, 2))).dtype == "float16"


@pytest.mark.parametrize("shape", [(None, 3), (None, None, 2), (None, 3, None)])
def test_shape_must_be_known(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"The input must have shape \(batch, tokens, features\), both known"):
        PositionEmbedding()(KerasTensor(shape))


def test_configuration_makes_the_same_layer() -> None:
    config = PositionEmbedding("zeros").get_config()
    assert PositionEmbedding.from_config(config).get_config() == config

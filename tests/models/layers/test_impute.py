"""`Impute`: no NaN comes out, and what was missing is told."""

from __future__ import annotations

import numpy as np
import pytest
from keras import KerasTensor

from models.layers import Impute

ROWS = np.array([[1, np.nan, 3], [np.nan, 5, np.nan]], dtype=np.float32)


def test_nan_becomes_zero() -> None:
    np.testing.assert_array_equal(Impute()(ROWS), [[1, 0, 3], [0, 5, 0]])


def test_indicators_come_after_the_features() -> None:
    np.testing.assert_array_equal(Impute([2, 0])(ROWS), [[1, 0, 3, 0, 0], [0, 5, 0, 1, 1]])


def test_shape_is_known_before_there_are_rows() -> None:
    assert Impute([0])(KerasTensor((None, 3))).shape == (None, 4)


@pytest.mark.parametrize("indicators", [[3], [-1]])
def test_indicator_of_no_feature_is_refused(indicators: list[int]) -> None:
    with pytest.raises(ValueError, match="`indicators` must name features of the input by index, from 0"):
        Impute(indicators)(KerasTensor((None, 3)))


def test_configuration_makes_the_same_layer() -> None:
    assert Impute.from_config(Impute([1]).get_config()).indicators == [1]

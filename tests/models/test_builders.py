"""The models: what they take, what they give, and that scaling is inside."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from models import layers
from models.builders import build_mlp
from models.loading import signature_of

MEAN = np.array([1.0, 2.0, 3.0], dtype=np.float32)
VARIANCE = np.array([4.0, 0.0, 1.0], dtype=np.float32)


@pytest.fixture(scope="module")
def mlp() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_mlp(name="toy", mean=MEAN, variance=VARIANCE, num_classes=4, hidden_units=(8, 5), dropout=0.5)


def test_signature_is_raw_features_to_probabilities(mlp: keras.Model) -> None:
    signature = signature_of(mlp)
    assert [(spec.name, spec.dtype, spec.shape) for spec in signature.inputs] == [("features", "float32", (None, 3))]
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [("probabilities", "float32", (None, 4))]


def test_each_row_of_probabilities_sums_to_one(mlp: keras.Model) -> None:
    rows = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    answers = keras.ops.convert_to_numpy(mlp(rows))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)  # float32 sums of four


def test_scaling_centres_and_divides_by_the_deviation(mlp: keras.Model) -> None:
    scaled = mlp.get_layer("scaling")(np.array([[3.0, 2.0, 5.0]], dtype=np.float32))
    np.testing.assert_allclose(scaled, [[1.0, 0.0, 2.0]], rtol=1e-6)  # one float32 division


def test_constant_feature_gives_finite_answers(mlp: keras.Model) -> None:
    assert np.isfinite(mlp(np.array([[0.0, 9.0, 0.0]], dtype=np.float32))).all()


def test_blocks_are_made_of_our_layers(mlp: keras.Model) -> None:
    assert [layer.units for layer in mlp.layers if isinstance(layer, layers.Dense)] == [8, 5, 4]
    assert sum(isinstance(layer, layers.LayerNorm) for layer in mlp.layers) == 2


def test_dropout_is_silent_at_inference(mlp: keras.Model) -> None:
    row = np.ones((1, 3), dtype=np.float32)
    np.testing.assert_array_equal(mlp(row, training=False), mlp(row, training=False))


def test_same_seed_gives_the_same_weights() -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        models.append(build_mlp(name="m", mean=MEAN, variance=VARIANCE, num_classes=2, hidden_units=(4,), dropout=0))
    for first, second in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)

"""The models: what they take, what they give, and that they are made of our layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from models import layers
from models.builders import build_encoder, build_mlp
from models.loading import signature_of
from models.problem import Feature, Problem

VECTOR = Feature("features", "number", shape=(64,), mean=np.zeros(64), variance=np.ones(64))
DIGITS = Problem("toy", (VECTOR,), labels=tuple("abcd"))
ODD = Problem(
    "odd", tuple(Feature(name, "number") for name in ("dense_1", "scaling", "probabilities")), labels=("a", "b")
)
BUILDERS = pytest.mark.parametrize("builder", [build_mlp, build_encoder])
Build = Callable[..., keras.Model]


def rows(count: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 64)).astype(np.float32)


@BUILDERS
def test_signature_is_raw_features_to_probabilities(builder: Build) -> None:
    signature = signature_of(builder(DIGITS, hidden_units=(8,)))
    assert [(spec.name, spec.dtype, spec.shape) for spec in signature.inputs] == [("features", "float32", (None, 64))]
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [("probabilities", "float32", (None, 4))]


@BUILDERS
def test_regression_gives_a_number_a_row(builder: Build) -> None:
    signature = signature_of(builder(Problem("toy", (VECTOR,)), hidden_units=(8,)))
    assert [(s.name, s.dtype, s.shape) for s in signature.outputs] == [("prediction", "float32", (None,))]


@BUILDERS
def test_each_row_of_probabilities_sums_to_one(builder: Build) -> None:
    answers = keras.ops.convert_to_numpy(builder(DIGITS, hidden_units=(8, 5))(rows()))
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)  # float32 sums of four


@BUILDERS
def test_dropout_is_silent_at_inference(builder: Build) -> None:
    model = builder(DIGITS, hidden_units=(8,), dropout=0.5)
    np.testing.assert_array_equal(model(rows(), training=False), model(rows(), training=False))


@BUILDERS
def test_same_seed_gives_the_same_weights(builder: Build) -> None:
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        models.append(builder(DIGITS, hidden_units=(4,)))
    for first, second in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


@BUILDERS
def test_column_may_be_called_as_a_layer(builder: Build) -> None:
    model = builder(ODD, hidden_units=(4,))
    assert [tensor.name for tensor in model.inputs] == ["dense_1", "scaling", "probabilities"]
    assert model.output_names == ["probabilities_"]


def test_mlp_is_made_of_our_layers() -> None:
    model = build_mlp(DIGITS, hidden_units=(8, 5))
    assert [layer.units for layer in model.layers if isinstance(layer, layers.Dense)] == [8, 5, 4]
    assert sum(isinstance(layer, layers.LayerNorm) for layer in model.layers) == 2


def test_encoder_normalises_and_projects_with_our_layers_alone() -> None:
    found = [type(layer) for layer in build_encoder(DIGITS)._flatten_layers()]
    assert {layers.Dense, layers.LayerNorm, layers.SelfAttention} <= set(found)
    assert not {keras.layers.Dense, keras.layers.LayerNormalization, keras.layers.EinsumDense} & set(found)


def test_encoder_reads_64_features_as_8_tokens_of_8() -> None:
    assert build_encoder(DIGITS).get_layer("token_projection").input.shape == (None, 8, 8)


@pytest.mark.parametrize(("width", "tokens"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (30, (5, 6)), (13, (4, 4))])
def test_encoder_cuts_any_number_of_features(width: int, tokens: tuple[int, int]) -> None:
    options: dict[str, Any] = {"mean": np.zeros(width), "variance": np.ones(width)}
    problem = Problem("toy", (Feature("x", "number", shape=(width,), **options),), labels=("a", "b"))
    assert build_encoder(problem).get_layer("token_projection").input.shape == (None, *tokens)


@BUILDERS
def test_every_layer_has_a_name_that_no_column_can_have(builder: Build) -> None:
    flag, date = Feature("flag", "boolean", "bool"), Feature("date", "date", "string")
    first = builder(Problem("toy", (VECTOR, Feature("x", "number"), flag, date)), hidden_units=(4,))
    columns = tuple(Feature(layer.name, "number") for layer in first.layers if layer.name not in ("flag", "date"))
    again = builder(Problem("toy", (*columns, flag, date)), hidden_units=(4,))
    assert len({layer.name for layer in again.layers}) == len(again.layers)

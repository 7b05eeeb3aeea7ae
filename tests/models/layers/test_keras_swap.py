"""A model of Keras's layers, moved to ours by its configuration and its weights, answers and learns as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.layers import Dense, LayerNorm

OURS = {"Dense": Dense, "LayerNormalization": LayerNorm}
# A few units in the last place of numbers near 1; the inputs are float32, and so is what is computed from them.
TOLERANCE = {"float32": 1e-5, "float64": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 8e-2}
INPUTS = np.random.default_rng(0).normal(size=(6, 5, 4)).astype("float32")


def keras_model(policy: str = "float32") -> keras.Model:
    inputs = keras.Input((5, 4))
    x = keras.layers.Dense(4, activation="relu", dtype=policy)(inputs)
    x = keras.layers.LayerNormalization(dtype=policy)(x)
    x = keras.layers.Add(dtype=policy)([x, keras.layers.LayerNormalization(axis=(-1, 1), dtype=policy)(inputs)])
    model = keras.Model(inputs, keras.layers.Dense(3, dtype=policy)(x))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(scale=0.5, size=weight.shape) for weight in model.weights])
    return model


def swapped(config: Any) -> Any:
    """The configuration with Keras's two class names replaced by ours, nothing else."""
    if isinstance(config, list):
        return [swapped(item) for item in config]
    if not isinstance(config, dict):
        return config
    ours = OURS.get(config.get("class_name"))
    names = {"class_name": ours.__name__, "registered_name": f"layerserve>{ours.__name__}"} if ours else {}
    return {key: swapped(value) for key, value in config.items()} | names


def our_model(theirs: keras.Model) -> keras.Model:
    model = keras.models.model_from_json(json.dumps(swapped(json.loads(theirs.to_json()))))
    assert [type(layer) for layer in model.layers if type(layer) in OURS.values()] == [
        Dense,
        LayerNorm,
        LayerNorm,
        Dense,
    ]
    return model


@pytest.mark.parametrize("policy", TOLERANCE)
def test_model_with_swapped_class_names_answers_as_before(policy: str) -> None:
    theirs = keras_model(policy)
    ours = our_model(theirs)
    ours.set_weights(theirs.get_weights())

    np.testing.assert_allclose(ours(INPUTS), theirs(INPUTS), rtol=0, atol=TOLERANCE[policy])


@pytest.mark.parametrize("policy", TOLERANCE)
def test_model_with_swapped_class_names_learns_as_before(policy: str) -> None:
    theirs = keras_model(policy)
    ours = our_model(theirs)
    ours.set_weights(theirs.get_weights())
    for model in (theirs, ours):
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(INPUTS, INPUTS[..., :3], batch_size=3, epochs=2, shuffle=False, verbose=0)

    for got, expected in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE[policy])


def test_model_cloned_layer_by_layer_answers_as_before() -> None:
    theirs = keras_model()
    ours = keras.models.clone_model(
        theirs, clone_function=lambda layer: OURS.get(type(layer).__name__, type(layer)).from_config(layer.get_config())
    )
    ours.set_weights(theirs.get_weights())

    np.testing.assert_allclose(ours(INPUTS), theirs(INPUTS), rtol=0, atol=TOLERANCE["float32"])


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")
def test_weights_file_loads_once_its_groups_bear_our_class_name(tmp_path: Path) -> None:
    theirs = keras_model()
    ours = our_model(theirs)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    with pytest.raises(ValueError, match=r"2 objects could not be loaded.*LayerNorm"):
        ours.load_weights(tmp_path / "theirs.weights.h5")

    editor = keras.saving.KerasFileEditor(str(tmp_path / "theirs.weights.h5"))
    editor.rename_object("layer_normalization", "layer_norm")
    editor.rename_object("layer_normalization_1", "layer_norm_1")
    editor.save(str(tmp_path / "ours.weights.h5"))
    ours.load_weights(tmp_path / "ours.weights.h5")

    np.testing.assert_allclose(ours(INPUTS), theirs(INPUTS), rtol=0, atol=TOLERANCE["float32"])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_legacy_file_loads_by_position(tmp_path: Path) -> None:
    theirs = keras_model()
    ours = our_model(theirs)
    theirs.save(tmp_path / "theirs.h5")
    ours.load_weights(tmp_path / "theirs.h5")

    np.testing.assert_allclose(ours(INPUTS), theirs(INPUTS), rtol=0, atol=TOLERANCE["float32"])

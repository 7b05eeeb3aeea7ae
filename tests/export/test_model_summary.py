"""The layers of a live model, as its report lists them."""

from __future__ import annotations

import keras

from export.model_summary import layers_of
from models import layers


def test_layers_have_shapes_and_parameters() -> None:
    inputs = keras.Input((4,), name="x")
    found = layers_of(keras.Model(inputs, layers.Dense(3, name="y")(inputs)))
    assert [(item.name, item.kind, item.output, item.parameters, item.is_custom) for item in found] == [
        ("x", "InputLayer", "(*, 4)", 0, False),
        ("y", "Dense", "(*, 3)", 15, True),
    ]


def test_layers_of_a_model_inside_are_in_their_place() -> None:
    inputs = keras.Input((4,), name="x")
    inner = keras.Sequential([keras.layers.Dense(2, name="first"), keras.layers.Dense(1, name="last")], name="inner")
    found = layers_of(keras.Model(inputs, inner(inputs)))
    assert [(item.name, item.output) for item in found if item.kind == "Dense"] == [
        ("inner/first", "(*, 2)"),
        ("inner/last", "(*, 1)"),
    ]


def test_layer_that_is_called_twice_is_listed_once_and_several_outputs_are_all_told() -> None:
    inputs = keras.Input((None, 4), name="x")
    shared = keras.layers.LSTM(2, return_state=True, name="shared")
    outputs = keras.ops.concatenate([*shared(inputs), *shared(inputs)])
    (found,) = (item for item in layers_of(keras.Model(inputs, outputs)) if item.name == "shared")
    assert found.output == "(*, 2), (*, 2), (*, 2)"

"""What each layer gives, and the first one that differs."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from models.activations import activations_of, first_difference
from models.loading import run_with_arrays, signature_of, trace

ROWS = {"x": np.array([[1, 2], [-3, 4]], dtype=np.float32)}


def model() -> keras.Model:
    inputs = keras.Input((2,), name="x")
    twice = keras.layers.Rescaling(2.0, name="twice")
    inner = keras.Sequential([keras.layers.ReLU(name="relu")], name="inner")
    return keras.Model(inputs, keras.layers.Add(name="sum")([twice(inner(twice(inputs))), inputs]))


def test_every_layer_is_noted_in_the_order_of_the_calls() -> None:
    found = run_with_arrays(activations_of(model()), signature_of(model()))(ROWS)
    assert list(found) == ["00000 twice", "00001 inner/relu", "00002 twice (call 2)", "00003 sum"]
    assert found["00001 inner/relu"].tolist() == [[2, 4], [0, 8]]
    assert found["00002 twice (call 2)"].tolist() == [[4, 8], [0, 16]]


def test_traced_activations_are_the_eager_ones() -> None:
    built = model()
    eagerly = run_with_arrays(activations_of(built), signature_of(built))(ROWS)
    traced = trace(activations_of(built), signature_of(built))(ROWS)
    assert {name: value.tolist() for name, value in traced.items()} == {
        name: value.tolist() for name, value in eagerly.items()
    }


def test_model_is_untouched_afterwards() -> None:
    built = model()
    call = activations_of(built)
    call({"x": tf.constant(ROWS["x"])})
    assert [name for layer in built.layers for name in vars(layer) if name == "call"] == []
    assert len(call({"x": tf.constant(ROWS["x"])})) == 4


def test_values_inside_a_loop_are_not_noted() -> None:
    inputs = keras.Input((3, 2), name="x")
    cells = keras.layers.RNN(keras.layers.SimpleRNNCell(2), name="rnn")
    built = keras.Model(inputs, cells(inputs))
    rows = {"x": np.ones((2, 3, 2), dtype=np.float32)}
    assert list(trace(activations_of(built), signature_of(built))(rows)) == ["00000 rnn"]


def test_first_difference_is_the_first_in_order_of_the_calls() -> None:
    expected = {"00000 a": np.zeros((2, 1)), "00001 b": np.zeros((2, 1)), "00002 c": np.zeros((2, 1))}
    actual = {"00000 a": np.zeros((2, 1)), "00001 b": np.array([[0.0], [0.5]]), "00002 c": np.ones((2, 1))}
    told = first_difference(expected, actual)
    assert told == "`b` (1 of 2 golden rows differ by more than 1e-05, at most by 0.5)"
    assert first_difference(expected, expected) is None


def test_layers_are_compared_by_name_where_one_model_has_more() -> None:
    expected = {"00000 a": np.zeros((2, 1)), "00001 c": np.zeros((2, 1))}
    actual = {"00000 a": np.zeros((2, 1)), "00001 b": np.ones((2, 1)), "00002 c": np.ones((2, 1))}
    assert (first_difference(expected, actual) or "").startswith("`c` ")


def test_nan_and_infinities_of_both_are_no_difference() -> None:
    odd = np.array([[np.nan], [np.inf], [-np.inf], [0.0]], np.float32)
    expected = {"00000 dates": odd, "00001 c": np.zeros((4, 1), np.float32)}
    assert first_difference(expected, expected) is None
    actual = {"00000 dates": odd, "00001 c": np.full((4, 1), 0.5, np.float32)}
    assert (first_difference(expected, actual) or "").startswith("`c` (4 of 4 golden rows differ ")


def test_nan_or_infinity_of_only_one_is_a_difference() -> None:
    odd = np.array([[np.nan], [np.inf], [-np.inf], [0.0]], np.float32)
    for other in (odd[::-1], -odd, np.zeros_like(odd)):
        assert (first_difference({"00000 dates": odd}, {"00000 dates": other}) or "").startswith("`dates` (")

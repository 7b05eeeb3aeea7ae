"""What the tests of our layers share: a layer's answer, to hold against that of Keras's own class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf


@dataclass(frozen=True)
class Answer:
    """An output, its dtype, the gradients of the input and of each weight, the penalties; numbers in float64."""

    outputs: np.ndarray
    dtype: str
    gradients: list[np.ndarray]
    losses: list[float]


def _numpy(tensor: Any) -> np.ndarray:
    return np.asarray(tf.cast(tf.convert_to_tensor(tensor), "float64"))


def _answer(layer: keras.Layer, inputs: Any) -> Answer:
    inputs = tf.convert_to_tensor(inputs)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        # Weighing each number differently: the plain sum of normalized numbers has no gradient.
        weights = np.random.default_rng(1).normal(size=outputs.shape)
        loss = tf.reduce_sum(tf.cast(outputs, "float64") * weights)
    gradients = tape.gradient(loss, [inputs, *(weight.value for weight in layer.trainable_weights)])
    return Answer(
        outputs=_numpy(outputs),
        dtype=outputs.dtype.name,
        gradients=[_numpy(gradient) for gradient in gradients],
        losses=[float(loss) for loss in layer.losses],
    )


@pytest.fixture
def answer() -> Callable[[keras.Layer, Any], Answer]:
    return _answer


@pytest.fixture
def twins() -> Callable[..., tuple[keras.Layer, keras.Layer]]:
    """Builds Keras's layer and ours for one input shape, with the same random weights."""

    def build(theirs: type, ours: type, input_shape: tuple[int, ...], **arguments: Any) -> tuple[Any, Any]:
        pair = theirs(**arguments), ours(**arguments)
        for layer in pair:
            layer.build(input_shape)
        rng = np.random.default_rng(2)
        weights = [rng.normal(size=weight.shape) for weight in pair[0].weights]
        for layer in pair:
            layer.set_weights(weights)
        return pair

    return build

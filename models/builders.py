"""Models, each a plain function that gives a Keras model. Scaling is a layer: clients send raw features."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from models.layers import Dense, LayerNorm


def build_mlp(
    *,
    name: str,
    mean: np.ndarray,
    variance: np.ndarray,
    num_classes: int,
    hidden_units: Sequence[int],
    dropout: float,
) -> keras.Model:
    """A classifier: scaling, then blocks of Dense, LayerNorm, ReLU and dropout, then class probabilities.

    Args:
        name: The model's name.
        mean, variance: Of each raw feature over the training rows; both of shape `(features,)`. A constant
            feature, whose variance is 0, is only centred.
        num_classes: Size of the output.
        hidden_units: Units of each block.
        dropout: Share of activations dropped in training, in [0, 1).

    Input: `features`, float32 of shape `(batch, features)`.
    Output: `probabilities`, float32 of shape `(batch, num_classes)`, each row sums to 1.
    """
    inputs = keras.Input((len(mean),), name="features")
    spread = np.where(variance > 0, variance, 1.0)
    x = keras.layers.Normalization(mean=mean, variance=spread, name="scaling")(inputs)
    for block, units in enumerate(hidden_units, start=1):
        x = Dense(units, name=f"dense_{block}")(x)
        x = LayerNorm(name=f"layer_norm_{block}")(x)
        x = keras.layers.Activation("relu", name=f"relu_{block}")(x)
        x = keras.layers.Dropout(dropout, name=f"dropout_{block}")(x)
    outputs = Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model(inputs, outputs, name=name)

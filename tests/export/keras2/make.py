"""Made the files beside it, with Keras 2 (the package `tf_keras`): `python make.py`, in this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras


class LayerNorm(keras.layers.Layer):
    """A user's own, which nobody registered."""

    def __init__(self, axis=-1, epsilon=1e-3, **options):
        super().__init__(**options)
        self.axis = axis
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=(input_shape[-1],), initializer="random_normal")
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs):
        mean, variance = tf.nn.moments(inputs, [self.axis], keepdims=True)
        return self.gamma * (inputs - mean) / tf.sqrt(variance + self.epsilon) + self.beta

    def get_config(self):
        return {**super().get_config(), "axis": self.axis, "epsilon": self.epsilon}


@keras.utils.register_keras_serializable("gates")
class Gate(keras.layers.Layer):
    """A user's own, registered in a package."""

    def build(self, input_shape):
        self.logit = self.add_weight(name="logit", shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs):
        return inputs * tf.sigmoid(self.logit)


keras.utils.set_random_seed(0)
image = keras.Input((6, 6, 2), name="image")
words = keras.Input((5,), dtype="int32", name="words")
x = keras.layers.GlobalAveragePooling2D()(keras.layers.DepthwiseConv2D(3)(image))
y = keras.layers.LSTM(3)(keras.layers.Embedding(7, 4)(words))
x = keras.layers.Dense(4, activation="relu")(keras.layers.Concatenate()([x, y]))
x = Gate(name="gate")(LayerNorm(name="norm")(x))
model = keras.Model([image, words], keras.layers.Dense(3, activation="softmax", name="class")(x), name="old")
model.save("model.h5", include_optimizer=False)
Path("model.json").write_text(model.to_json(indent=1))
model.save_weights("weights.h5")
random = np.random.default_rng(0)
rows = {
    "image": random.random((4, 6, 6, 2)).astype("float32"),
    "words": random.integers(7, size=(4, 5)).astype("int32"),
}
np.savez("rows.npz", **rows)
np.savez("answers.npz", model.predict(rows))

sequential = keras.Sequential([keras.layers.Dense(3, input_shape=(4,), name="first"), LayerNorm(name="norm")])
sequential.save("sequential.h5")

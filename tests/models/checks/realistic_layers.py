"""Custom layers as people write them, each of which keeps the contract."""

from __future__ import annotations

from typing import Any

import keras
from keras import InputSpec, ops

register = keras.saving.register_keras_serializable(package="realistic")


def positive(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return value


def _fraction(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError(f"`{name}` must be a number from 0 to below 1. Received: {name}={value!r}")
    return float(value)


@register
class AttentionBlock(keras.Layer):
    """A transformer block: attention and a feed-forward part, each normalized before and added after."""

    def __init__(self, num_heads: int, hidden_units: int, dropout: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_heads = positive("num_heads", num_heads)
        self.hidden_units = positive("hidden_units", hidden_units)
        self.dropout = _fraction("dropout", dropout)
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        width, policy = shape[-1], self.dtype_policy
        self.first_norm = keras.layers.LayerNormalization(dtype=policy)
        self.second_norm = keras.layers.LayerNormalization(dtype=policy)
        self.attention = keras.layers.MultiHeadAttention(self.num_heads, width, dropout=self.dropout, dtype=policy)
        self.widen = keras.layers.Dense(self.hidden_units, activation="gelu", dtype=policy)
        self.narrow = keras.layers.Dense(width, dtype=policy)
        self.attention.build(shape, shape)
        for child in (self.first_norm, self.second_norm, self.widen):
            child.build(shape)
        self.narrow.build((*shape[:-1], self.hidden_units))
        self.input_spec = InputSpec(ndim=3, axes={-1: width})

    def call(self, x: Any, mask: Any = None) -> Any:
        seen = None if mask is None else mask[:, None, :]
        normed = self.first_norm(x)
        x = x + self.attention(normed, normed, attention_mask=seen)
        return x + self.narrow(self.widen(self.second_norm(x)))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        config = {"num_heads": self.num_heads, "hidden_units": self.hidden_units, "dropout": self.dropout}
        return {**super().get_config(), **config}


@register
class FactorizationMachine(keras.Layer):
    """Rendle's factorization machine: a linear part and all pairwise products, in linear time."""

    def __init__(self, factors: int = 4, factor_regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factors = positive("factors", factors)
        self.factor_regularizer = keras.regularizers.get(factor_regularizer)

    def build(self, shape: Any) -> None:
        self.linear = self.add_weight(name="linear", shape=(shape[-1], 1))
        self.latent = self.add_weight(
            name="latent", shape=(shape[-1], self.factors), regularizer=self.factor_regularizer
        )
        self.input_spec = InputSpec(ndim=2, axes={-1: shape[-1]})

    def call(self, x: Any) -> Any:
        square_of_sum = ops.square(ops.matmul(x, self.latent))
        sum_of_squares = ops.matmul(ops.square(x), ops.square(self.latent))
        return ops.matmul(x, self.linear) + 0.5 * ops.sum(square_of_sum - sum_of_squares, axis=-1, keepdims=True)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        regularizer = keras.regularizers.serialize(self.factor_regularizer)
        return {**super().get_config(), "factors": self.factors, "factor_regularizer": regularizer}


@register
class SpectralDense(keras.Layer):
    """A dense layer divided by an estimate of its largest singular value, improved while training."""

    def __init__(self, units: int, power_iterations: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive("units", units)
        self.power_iterations = positive("power_iterations", power_iterations)

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.units))
        self.vector = self.add_weight(
            name="vector", shape=(1, self.units), initializer="random_normal", trainable=False
        )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: shape[-1]})

    def call(self, x: Any, training: bool | None = None) -> Any:
        u = ops.cast(self.vector, self.compute_dtype)
        if training:
            for _ in range(self.power_iterations):
                u = _unit(ops.matmul(_unit(ops.matmul(u, ops.transpose(self.kernel))), self.kernel))
            self.vector.assign(ops.cast(ops.stop_gradient(u), self.vector.dtype))
        left = _unit(ops.matmul(u, ops.transpose(self.kernel)))
        sigma = ops.matmul(ops.matmul(left, self.kernel), ops.transpose(_unit(u)))
        return ops.matmul(x, self.kernel / (sigma + 1e-3))

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "power_iterations": self.power_iterations}


def _unit(vector: Any) -> Any:
    return vector / (ops.sqrt(ops.sum(ops.square(vector))) + 1e-3)


@register
class MaskedMeanPooling(keras.Layer):
    """The mean of the steps that the mask keeps."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        if mask is None:
            return ops.mean(x, axis=1)
        kept = ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * kept, axis=1) / ops.maximum(ops.sum(kept, axis=1), 1)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        return None

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], *shape[2:])


@register
class Standardize(keras.Layer):
    """Standardizes by moving statistics, which are weights."""

    def __init__(self, momentum: float = 0.9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.momentum = _fraction("momentum", momentum)

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(name="mean", shape=(shape[-1],), initializer="zeros", trainable=False)
        self.variance = self.add_weight(name="variance", shape=(shape[-1],), initializer="ones", trainable=False)
        self.input_spec = InputSpec(min_ndim=2, axes={-1: shape[-1]})

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            axes = list(range(len(x.shape) - 1))
            mean, variance = ops.moments(ops.cast(x, self.mean.dtype), axes=axes)
            self.mean.assign(self.momentum * self.mean + (1 - self.momentum) * mean)
            self.variance.assign(self.momentum * self.variance + (1 - self.momentum) * variance)
        mean, variance = ops.cast(self.mean, x.dtype), ops.cast(self.variance, x.dtype)
        return (x - mean) * ops.rsqrt(variance + 1e-3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum": self.momentum}


@register
class Residual(keras.Layer):
    """Adds what another layer computes to its input."""

    def __init__(self, layer: Any, scale: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(scale, int | float):
            raise TypeError(f"`scale` must be a number. Received: scale={scale!r}")
        self.layer = layer
        self.scale = scale

    def build(self, shape: Any) -> None:
        # A layer revived from its config comes built.
        if not self.layer.built:
            self.layer.build(shape)

    def call(self, x: Any) -> Any:
        return x + self.scale * self.layer(x)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "scale": self.scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


@register
class GatedFusion(keras.Layer):
    """Mixes two inputs by a learned gate."""

    def build(self, first_shape: Any, second_shape: Any) -> None:
        self.gate = keras.layers.Dense(first_shape[-1], activation="sigmoid", dtype=self.dtype_policy)
        self.gate.build((*first_shape[:-1], first_shape[-1] + second_shape[-1]))

    def call(self, first: Any, second: Any) -> Any:
        gate = self.gate(ops.concatenate([first, second], axis=-1))
        return gate * first + (1 - gate) * second


@register
class WeightedSum(keras.Layer):
    """Sums a list of inputs with one learned weight each."""

    def build(self, shapes: Any) -> None:
        self.shares = self.add_weight(name="shares", shape=(len(shapes),), initializer="ones")

    def call(self, inputs: Any) -> Any:
        return sum(self.shares[index] * value for index, value in enumerate(inputs))

    def compute_output_shape(self, shapes: Any) -> Any:
        return shapes[0]


@register
class SeededDropout(keras.Layer):
    """Drops values while training, from a seed generator of its own."""

    def __init__(self, rate: float = 0.3, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = _fraction("rate", rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return keras.random.dropout(x, self.rate, seed=self.seed_generator) if training else x

    def compute_output_shape(self, shape: Any) -> Any:
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}

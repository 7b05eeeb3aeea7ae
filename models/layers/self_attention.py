"""The layer in which tokens look at each other."""

from __future__ import annotations

from typing import Any

from keras import Layer, ops

from models.layers.dense import Dense
from models.registry import register_layer


@register_layer
class SelfAttention(Layer):
    """Lets every token take from all tokens what it attends to (Vaswani et al., 2017, arXiv:1706.03762).

    softmax(q @ k^T / sqrt(features / num_heads)) @ v for each head, between projections by our `Dense`.

    Args:
        num_heads: Heads that attend side by side; divides the features.
        **kwargs: `name`, `dtype`, `trainable` and `autocast`, as for every layer.

    Input and output shape: `(batch, tokens, features)`; features must be known at build.
    Weights: kernel and bias of `query`, `key`, `value` and `projection`, kernels of shape `(features, features)`.
    Raises: ValueError: the input is not of that shape, or its features do not divide among the heads.
    """

    def __init__(self, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_heads, int) or isinstance(num_heads, bool) or num_heads < 1:
            raise ValueError(f"`num_heads` must be a positive integer. Received: num_heads={num_heads!r}")
        self.num_heads = num_heads

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = input_shape[-1]
        if len(input_shape) != 3 or features is None or features % self.num_heads:
            raise ValueError(
                f"The input must have shape (batch, tokens, features), with features a multiple of "
                f"num_heads={self.num_heads}. Received: input_shape={input_shape}"
            )
        self.query, self.key, self.value, self.projection = (
            Dense(features, dtype=self.dtype_policy, name=name) for name in ("query", "key", "value", "projection")
        )
        for layer in (self.query, self.key, self.value, self.projection):
            layer.build(input_shape)

    def call(self, inputs: Any) -> Any:
        query, key, value = (self._split(layer(inputs)) for layer in (self.query, self.key, self.value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) * (query.shape[-1] ** -0.5)
        mixed = ops.transpose(ops.matmul(ops.softmax(scores, axis=-1), value), (0, 2, 1, 3))
        return self.projection(ops.reshape(mixed, ops.shape(inputs)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}

    def _split(self, x: Any) -> Any:
        """From `(batch, tokens, features)` to `(batch, heads, tokens, features / heads)`."""
        batch, tokens, features = ops.shape(x)
        return ops.transpose(ops.reshape(x, (batch, tokens, self.num_heads, features // self.num_heads)), (0, 2, 1, 3))

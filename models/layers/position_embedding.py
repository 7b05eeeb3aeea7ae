"""The layer that tells an encoder which token is which."""

from __future__ import annotations

from typing import Any

from keras import Layer, initializers, ops

from models.registry import register_layer


@register_layer
class PositionEmbedding(Layer):
    """Adds a learned vector to each token, another for each position (Gehring et al., 2017, arXiv:1705.03122).

    Args:
        embeddings_initializer: How the vectors start.
        **kwargs: `name`, `dtype`, `trainable` and `autocast`, as for every layer.

    Input and output shape: `(batch, tokens, features)`; tokens and features must be known at build.
    Weights: `embeddings` of shape `(tokens, features)`.
    Raises: ValueError: the input is not of that shape.
    """

    def __init__(self, embeddings_initializer: Any = "uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embeddings_initializer = initializers.get(embeddings_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 3 or None in input_shape[1:]:
            raise ValueError(
                f"The input must have shape (batch, tokens, features), both known. Received: input_shape={input_shape}"
            )
        self.embeddings = self.add_weight(
            name="embeddings", shape=tuple(input_shape[1:]), initializer=self.embeddings_initializer
        )

    def call(self, inputs: Any) -> Any:
        return inputs + ops.cast(self.embeddings, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        initializer = initializers.serialize(self.embeddings_initializer)
        return {**super().get_config(), "embeddings_initializer": initializer}

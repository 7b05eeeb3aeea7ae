"""The layer that fills gaps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import Layer, ops

from models.registry import register_layer


@register_layer
class Impute(Layer):
    """Replaces NaN by 0, the mean of scaled features, and appends for some features whether they were missing.

    Args:
        indicators: The features that get an indicator, by their index; none by default.
        **kwargs: `name`, `dtype`, `trainable` and `autocast`, as for every layer.

    Input shape: `(batch, features)`.
    Output shape: `(batch, features + len(indicators))`; an indicator is 1 where the value was missing, else 0.
    Raises: ValueError: an index is out of range.
    """

    def __init__(self, indicators: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.indicators = [int(index) for index in indicators]

    def call(self, inputs: Any) -> Any:
        missing = ops.isnan(inputs)
        filled = ops.where(missing, ops.zeros_like(inputs), inputs)
        if not self.indicators:
            return filled
        flags = ops.take(ops.cast(missing, inputs.dtype), self.indicators, axis=-1)
        return ops.concatenate([filled, flags], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        features = input_shape[-1]
        if features is None or any(not 0 <= index < features for index in self.indicators):
            raise ValueError(
                "`indicators` must name features of the input by index, from 0. "
                f"Received: indicators={self.indicators}, input_shape={input_shape}"
            )
        return (*input_shape[:-1], features + len(self.indicators))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "indicators": self.indicators}

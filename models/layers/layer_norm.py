"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import Layer, constraints, initializers, ops, regularizers
from keras.backend import result_type

from models.registry import register_layer


@register_layer
class LayerNorm(Layer):
    """Normalizes each example over `axis`, then scales and shifts (Ba et al., 2016, arXiv:1607.06450).

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, statistics in float32 at least.

    Takes what `keras.layers.LayerNormalization` takes, holds the same weights in the same order and gives the
    same numbers, so a model's weights load into either. (Its deprecated `rms_scaling` is left out: use
    `keras.layers.RMSNormalization`.)

    Args:
        axis: Axis or axes to normalize over; negative counts from the end.
        epsilon: Added to the variance, > 0.
        center: Whether to add the learned shift `beta`, which starts at zero.
        scale: Whether to multiply by the learned scale `gamma`, which starts at one.
        beta_initializer, gamma_initializer: How the weights start.
        beta_regularizer, gamma_regularizer: Penalties on the weights.
        beta_constraint, gamma_constraint: Applied to the weights after each update.

    Input and output shape: `(batch, ..., features)`; the normalized axes must be known at build. The output has
    the policy's compute dtype. `gamma` and `beta` have the shape of the normalized axes, in their order in the
    input. Masks pass through.

    Raises:
        TypeError: `axis` is neither an integer nor a list or tuple of them.
        ValueError: `epsilon` is not positive; an axis repeats, is out of range, or is the batch axis.
    """

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.pop("rms_scaling", False):
            raise ValueError(
                "`rms_scaling` is not supported by LayerNorm. Received: rms_scaling=True. "
                "Use keras.layers.RMSNormalization."
            )
        if not epsilon > 0:
            raise ValueError(f"`epsilon` must be a positive number. Received: epsilon={epsilon!r}")
        super().__init__(**kwargs)
        self.axis = _standardize_axis(axis)
        self.epsilon = epsilon
        self.center = center
        self.scale = scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)
        self.beta_constraint = constraints.get(beta_constraint)
        self.gamma_constraint = constraints.get(gamma_constraint)
        self.supports_masking = True
        # Inputs and weights keep their precision; the sum of squares of a float16 input would overflow.
        self.autocast = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        axes = self._positive_axes(len(input_shape))
        shape = tuple(input_shape[axis] for axis in axes)
        if None in shape:
            raise ValueError(
                f"The normalized axes must be known to build `{self.name}`. "
                f"Received: axis={self.axis}, input_shape={input_shape}"
            )
        self.gamma = None
        if self.scale:
            self.gamma = self.add_weight(
                name="gamma",
                shape=shape,
                initializer=self.gamma_initializer,
                regularizer=self.gamma_regularizer,
                constraint=self.gamma_constraint,
                autocast=False,
            )
        self.beta = None
        if self.center:
            self.beta = self.add_weight(
                name="beta",
                shape=shape,
                initializer=self.beta_initializer,
                regularizer=self.beta_regularizer,
                constraint=self.beta_constraint,
                autocast=False,
            )

    def call(self, inputs: Any) -> Any:
        axes = self._positive_axes(len(inputs.shape))
        x = ops.cast(inputs, result_type(inputs.dtype, "float32"))
        mean, variance = ops.moments(x, axes=axes, keepdims=True)
        outputs = (x - mean) * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            outputs = outputs * _broadcast(self.gamma, x, axes)
        if self.beta is not None:
            outputs = outputs + _broadcast(self.beta, x, axes)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        self._positive_axes(len(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            "beta_initializer": initializers.serialize(self.beta_initializer),
            "gamma_initializer": initializers.serialize(self.gamma_initializer),
            "beta_regularizer": regularizers.serialize(self.beta_regularizer),
            "gamma_regularizer": regularizers.serialize(self.gamma_regularizer),
            "beta_constraint": constraints.serialize(self.beta_constraint),
            "gamma_constraint": constraints.serialize(self.gamma_constraint),
        }

    def _positive_axes(self, ndim: int) -> list[int]:
        """The normalized axes counted from the start, ascending."""
        given = [self.axis] if isinstance(self.axis, int) else self.axis
        axes = sorted(axis + ndim if axis < 0 else axis for axis in given)
        if not axes or axes[0] < 1 or axes[-1] >= ndim or len(set(axes)) < len(axes):
            raise ValueError(
                "`axis` must name different axes of the input, without the batch axis 0. "
                f"Received: axis={self.axis}, an input of rank {ndim}"
            )
        return axes


def _standardize_axis(axis: Any) -> int | list[int]:
    axes = list(axis) if isinstance(axis, list | tuple) else [axis]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in axes):
        raise TypeError(f"`axis` must be an integer, or a list or tuple of integers. Received: axis={axis!r}")
    return axes if isinstance(axis, list | tuple) else axes[0]


def _broadcast(weight: Any, x: Any, axes: list[int]) -> Any:
    shape = [weight.shape[axes.index(axis)] if axis in axes else 1 for axis in range(len(x.shape))]
    return ops.reshape(ops.cast(weight, x.dtype), shape)

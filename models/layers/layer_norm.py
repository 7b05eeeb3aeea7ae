"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import InputSpec, Layer, constraints, initializers, ops, regularizers
from keras.backend import is_float_dtype, result_type

from models.registry import register_layer


@register_layer
class LayerNorm(Layer):
    """Normalizes each example over `axis`, then scales and shifts (Ba et al., 2016, arXiv:1607.06450).

    y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, statistics in float32 at least.

    Takes what `keras.layers.LayerNormalization` of Keras 3.15.1 takes, holds the same weights in the same order
    and gives the same numbers, so a model's weights load into either. What differs, on purpose:

    - `axis` stays as it was given; Keras replaces it by a sorted list at build.
    - The batch axis is refused, also as the only axis of a vector: rows would depend on each other.
    - An integer or boolean input gives floats; Keras 3.15.1 cuts them to whole numbers (keras-team/keras#23708).
    - An input whose normalized axes have other sizes than the weights raises a `ValueError` on every backend.
    - `rms_scaling=True`, deprecated in Keras, is left out: use `keras.layers.RMSNormalization`.

    Args:
        axis: Axis or axes to normalize over; negative counts from the end.
        epsilon: Added to the variance, > 0.
        center: Whether to add the learned shift `beta`, which starts at zero.
        scale: Whether to multiply by the learned scale `gamma`, which starts at one.
        beta_initializer, gamma_initializer: How the weights start.
        beta_regularizer, gamma_regularizer: Penalties on the weights.
        beta_constraint, gamma_constraint: Applied to the weights after each update.
        **kwargs: `name`, `dtype`, `trainable` and `activity_regularizer`, as for every layer.

    Input and output shape: `(batch, ..., features)`, any rank from 2; the normalized axes must be known at build.
    Masks pass through.

    Weights: `gamma`, then `beta`, in the policy's variable dtype. Their shape is that of the normalized axes,
    negative axes first and each sort ascending, as Keras 3.15.1 lays them out: `(5, 7)` for `axis=(1, 2)` or
    `(-2, -1)` and an input of shape `(3, 5, 7)`, but `(7, 5)` for `axis=(-1, 1)`. In either shape they are read row
    by row, in the order of the input's axes.

    Output dtype: The policy's compute dtype. A float16 or bfloat16 input is computed in float32 and rounded to its
    own precision before it takes that dtype, as in Keras.

    Raises:
        TypeError: `axis` is neither an integer nor a list or tuple of them.
        ValueError: `epsilon` is not positive; `rms_scaling` is set; at build, an axis repeats, is out of range, is
            the batch axis or has an unknown size; at a call, a normalized axis has not the size seen at build.
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
                "`rms_scaling` must be False. Received: rms_scaling=True. Use keras.layers.RMSNormalization."
            )
        if not isinstance(epsilon, int | float) or not epsilon > 0:
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
        if self.weights:
            self.input_spec = InputSpec(
                min_ndim=max(axis + 1 if axis >= 0 else 1 - axis for axis in self._axes()),
                axes={axis: input_shape[axis] for axis in self._axes()},
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
        if is_float_dtype(inputs.dtype):
            outputs = ops.cast(outputs, inputs.dtype)
        return ops.cast(outputs, self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        self._positive_axes(len(input_shape))
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "axis": self.axis if isinstance(self.axis, int) else list(self.axis),
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

    def _axes(self) -> list[int]:
        return [self.axis] if isinstance(self.axis, int) else list(self.axis)

    def _positive_axes(self, ndim: int) -> list[int]:
        """The normalized axes counted from the start, in the order of the weights' axes."""
        axes = [axis + ndim if axis < 0 else axis for axis in sorted(self._axes())]
        if not axes or min(axes) < 1 or max(axes) >= ndim or len(set(axes)) < len(axes):
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
    sizes = dict(zip(axes, weight.shape, strict=True))
    return ops.reshape(ops.cast(weight, x.dtype), [sizes.get(axis, 1) for axis in range(len(x.shape))])

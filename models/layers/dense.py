"""The fully connected layer."""

from __future__ import annotations

from typing import Any

from keras import InputSpec, Layer, activations, constraints, initializers, ops, regularizers

from models.registry import register_layer

_LEFT_OUT = {
    "lora_rank": "Keras saves LoRA merged into the kernel: leave the argument out.",
    "lora_alpha": "Keras saves LoRA merged into the kernel: leave the argument out.",
    "quantization_config": "Use the model as it was before quantization.",
}


@register_layer
class Dense(Layer):
    """Multiplies by a learned matrix, adds a bias, applies an activation: `y = activation(x @ kernel + bias)`.

    Takes what `keras.layers.Dense` of Keras 3.15.1 takes, holds the same weights in the same order and gives the
    same numbers, so a model's weights load into either. Left out are LoRA and quantised kernels: `lora_rank`,
    `lora_alpha`, `quantization_config`, quantised dtype policies, `enable_lora()` and `quantize()`.

    Args:
        units: Size of the last axis of the output, a positive integer.
        activation: Name or callable; None is linear.
        use_bias: Whether to add a learned bias.
        kernel_initializer, bias_initializer: How the weights start.
        kernel_regularizer, bias_regularizer: Penalties on the weights.
        activity_regularizer: Penalty on the output.
        kernel_constraint, bias_constraint: Applied to the weights after each update.
        **kwargs: `name`, `dtype`, `trainable` and `autocast`, as for every layer.

    Input shape: `(batch, ..., features)`, any rank from 2; `features` must be known at build. A sparse matrix is
    multiplied as it is, and the gradient of the kernel is then sparse too.
    Output shape: `(batch, ..., units)`, dense, in the policy's compute dtype. Masks pass through.
    Weights: `kernel` of shape `(features, units)`, then `bias` of shape `(units,)`, in the policy's variable dtype.

    Raises:
        ValueError: `units` is not a positive integer (a boolean is none); LoRA or quantization is asked for; the
            last axis of the input is unknown at build; at a call, the input has rank 1 or another last axis.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(units, int) or isinstance(units, bool) or units <= 0:
            raise ValueError(f"`units` must be a positive integer. Received: units={units!r}")
        _refuse_left_out(kwargs)
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if self.quantization_mode is not None:
            raise ValueError(f"`dtype` must not be a quantized policy. Received: dtype={self.dtype_policy.name!r}")
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.supports_masking = True
        self.input_spec = InputSpec(min_ndim=2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = input_shape[-1]
        if features is None:
            raise ValueError(
                f"The last axis of the input must be known to build `{self.name}`. Received: input_shape={input_shape}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(features, self.units),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = InputSpec(min_ndim=2, axes={-1: features})

    def call(self, inputs: Any) -> Any:
        outputs = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        if self.activation is not None:
            outputs = self.activation(outputs)
        return outputs

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": constraints.serialize(self.kernel_constraint),
            "bias_constraint": constraints.serialize(self.bias_constraint),
        }


def _refuse_left_out(kwargs: dict[str, Any]) -> None:
    """Drops the unset LoRA and quantisation entries of a Keras Dense's config; refuses set ones."""
    for name, way_out in _LEFT_OUT.items():
        value = kwargs.pop(name, None)
        if value is not None:
            raise ValueError(f"`{name}` must be None. Received: {name}={value!r}. {way_out}")

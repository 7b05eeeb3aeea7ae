"""Rules on numbers: rows, masks, gradients and precision."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.checks.arguments import arguments
from models.checks.certificate import certify
from models.checks.compare import LAST_BITS, difference
from models.checks.subject import Subject
from models.checks.tensors import as_array, dtype_of
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import told
from models.manifest import Tensors

_HALF_POLICIES = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def check_rows_are_independent(subject: Subject) -> None:
    """A row whose answer depends on its neighbours, its place or padding is answered wrongly once a server batches.

    Mend: Reduce over every axis but 0; use batch statistics only when `training` is true.
    """
    layer = subject.built.value()

    def call(rows: Tensors) -> Tensors:
        arrays = subject.run(layer, [rows[name] for name in subject.example.names])
        return {f"output_{index}": array for index, array in enumerate(arrays)}

    certificate = certify(call, dict(zip(subject.example.names, subject.example.arrays, strict=True)))
    if not certificate.deterministic:
        raise NotApplicableError("the same rows get two answers: see check_deterministic_at_inference")
    if not certificate.batch_safe:
        evidence = next(reason for reason in certificate.reasons if reason.startswith("batch_safe"))
        raise BrokenRuleError(f"rows depend on each other: {evidence.removeprefix('batch_safe: ')}")


def check_answers_are_finite(subject: Subject) -> None:
    """NaN or infinity in an answer is no answer, and breaks the JSON it is sent in.

    Mend: Guard divisions, roots and logarithms with an epsilon; if the inputs are outside the layer's range, pass
    others with `inputs=`.
    """
    for training in (False, True):
        for index, array in enumerate(subject.run(subject.built.value(), training=training)):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                number = int(np.sum(~np.isfinite(array)))
                raise BrokenRuleError(f"output {index} holds {number} numbers that are NaN or infinite")


def check_mask_is_kept_or_used(subject: Subject) -> None:
    """A mask that gets lost lets padding count as data in every layer after this one.

    Mend: Set `self.supports_masking = True` in `__init__` if steps stay steps; take `mask=None` in `call` if they are
    mixed; write `compute_mask` if the steps change.
    """
    if not subject.mask:
        raise NotApplicableError("mask=True was not asked for")
    if len(subject.example.shapes[0]) < 2 or subject.example.dtypes[0] not in {"float32", "float64", "float16"}:
        raise NotApplicableError("a mask needs steps of floating-point features: shape (steps, features)")
    layer = subject.built.value()
    output, mask = _call_masked(subject, layer, filler=0.0)
    other, _ = _call_masked(subject, layer, filler=50.0)
    if mask is None:
        evidence = difference([output], [other], LAST_BITS)
        if evidence:
            raise BrokenRuleError(f"the mask is lost, and the masked steps change the answer: {evidence}")
        return
    if mask.shape != output.shape[: mask.ndim]:
        raise BrokenRuleError(f"the mask has shape {mask.shape}, and the output it belongs to {output.shape}")
    evidence = difference([output[mask]], [other[mask]], LAST_BITS)
    if evidence:
        raise BrokenRuleError(f"the masked steps change the answer of the others: {evidence}")


def _call_masked(subject: Subject, layer: Any, filler: float) -> tuple[Any, Any]:
    """The first output and its mask, with the last step of each row masked and filled with a number."""
    arrays = [array.copy() for array in subject.example.arrays]
    arrays[0][:, -1] = filler
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    mask = np.ones(arrays[0].shape[:2], bool)
    mask[:, -1] = False
    # Masking marks the steps that are all its mask_value, and carries the mask to the next layer as any model does.
    tensors[0] = keras.layers.Masking(mask_value=filler)(tensors[0])
    if filler:
        marked = tensors[0]
        tensors[0] = keras.ops.convert_to_tensor(arrays[0])
        tensors[0]._keras_mask = marked._keras_mask  # Keras has no public way to mask other numbers
    output = keras.tree.flatten(subject.apply(layer, tensors, training=False))[0]
    carried = getattr(output, "_keras_mask", None)
    return as_array(output), None if carried is None else as_array(carried).astype(bool)


def check_gradients_reach_every_weight(subject: Subject) -> None:
    """A trainable weight without a gradient never learns, and the optimizer warns or fails; NaN spoils every weight.

    Mend: Use each trainable weight in `call` through `keras.ops`, make the others `trainable=False`, and guard roots
    and divisions at zero.
    """
    layer = subject.built.value()
    if not layer.trainable_weights:
        raise NotApplicableError("the layer has no trainable weights")
    for weight, gradient in zip(layer.trainable_weights, _gradients(subject, layer), strict=True):
        if gradient is None:
            raise BrokenRuleError(f"`{weight.path}` gets no gradient from the output")
        if not np.isfinite(gradient).all():
            raise BrokenRuleError(f"the gradient of `{weight.path}` is not finite")


def _gradients(subject: Subject, layer: Any) -> list[Any]:
    """The gradient of every trainable weight; None where the output does not depend on it."""
    if keras.backend.backend() != "tensorflow":
        raise NotApplicableError("gradients are checked on the TensorFlow backend")
    import tensorflow as tf  # noqa: PLC0415 -- only on this backend

    with tf.GradientTape() as tape:
        outputs = keras.tree.flatten(subject.call(layer, training=True))
        floats = [out for out in outputs if out is not None and "float" in dtype_of(out)]
        loss = sum(keras.ops.mean(keras.ops.square(keras.ops.cast(out, "float32") - 0.5)) for out in floats)
        loss = keras.ops.convert_to_tensor(loss) + sum(layer.losses)
    if not floats:
        raise NotApplicableError("no output is a floating-point number")
    found = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    return [None if gradient is None else as_array(tf.convert_to_tensor(gradient)) for gradient in found]


def check_mixed_precision(subject: Subject) -> None:
    """A layer that ignores its dtype policy slows mixed-precision training down, overflows, or breaks the next layer.

    Mend: Hand `dtype=self.dtype_policy` to sub-layers, cast constants to `self.compute_dtype`, and keep epsilons above
    1e-7.
    """
    layer = subject.built.value()
    if isinstance(layer, keras.Model):
        raise NotApplicableError("a model takes its precision from its layers")
    floats = [dtype_of(leaf) for leaf in keras.tree.flatten(subject.call(layer)) if leaf is not None]
    if not any(kind == "float32" for kind in floats):
        raise NotApplicableError("no output follows the precision of the policy")
    for policy, expected in _HALF_POLICIES.items():
        made = _under(subject, policy)
        # A layer made with a dtype of its own does not follow the default policy, and need not.
        if made.dtype_policy.name == policy:
            _refuse_wrong_precision(subject, made, f"under {policy}", expected)
    given = arguments(layer)
    if not any(isinstance(leaf, keras.Layer) for leaf in keras.tree.flatten(given)):
        made = subject.cls(**given, dtype="mixed_float16")
        _refuse_wrong_precision(subject, made, 'made with dtype="mixed_float16",', "float16")


def _under(subject: Subject, policy: str) -> Any:
    """A layer made while the policy is the default, so that those it makes follow it too."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return subject.fresh()
    finally:
        keras.config.set_dtype_policy(before)


def _refuse_wrong_precision(subject: Subject, layer: Any, when: str, expected: str) -> None:
    before = [dtype_of(leaf) for leaf in keras.tree.flatten(subject.call(subject.built.value())) if leaf is not None]
    try:
        outputs = [leaf for leaf in keras.tree.flatten(subject.call(layer)) if leaf is not None]
    except Exception as error:
        raise BrokenRuleError(f"{when} it raises {told(error)}") from error
    for output in (output for output, was in zip(outputs, before, strict=True) if was == "float32"):
        if dtype_of(output) != expected:
            raise BrokenRuleError(f"{when} an output is {dtype_of(output)}, not {expected}")
        if not np.isfinite(as_array(output).astype("float32")).all():
            raise BrokenRuleError(f"{when} an output holds NaN or infinity")
    for weight in layer.weights:
        if dtype_of(weight) in {"float16", "bfloat16"}:
            raise BrokenRuleError(f"{when} the weight `{weight.path}` is {dtype_of(weight)}, not float32")


def check_no_float64(subject: Subject) -> None:
    """float64, NumPy's default, doubles memory and time, and the next float32 layer or the exported model refuses it.

    Mend: Cast NumPy constants: `ops.cast(constant, self.compute_dtype)`; make weights without a `dtype` of their own.
    """
    subject.built.value()
    layer = subject.fresh()
    doubled = [array.astype("float64") if array.dtype.kind == "f" else array for array in subject.example.arrays]
    try:
        outputs = subject.call(layer, doubled)
    except Exception as error:
        raise BrokenRuleError(f"float64 inputs raise {told(error)}") from error
    for output in keras.tree.flatten(outputs):
        if output is not None and dtype_of(output) == "float64":
            raise BrokenRuleError("an output is float64 under the float32 policy")
    for weight in layer.weights:
        if dtype_of(weight) == "float64":
            raise BrokenRuleError(f"the weight `{weight.path}` is float64 under the float32 policy")


RULES = (
    check_rows_are_independent,
    check_answers_are_finite,
    check_mask_is_kept_or_used,
    check_gradients_reach_every_weight,
    check_mixed_precision,
    check_no_float64,
)

"""Rules on what `call` computes: shapes and dtypes as announced, the same in every way of running it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from models.checks.compare import EXACT, LAST_BITS, OTHER_COMPILER, difference
from models.checks.running import compiled, jitted, saved_model
from models.checks.state import values_of
from models.checks.subject import Subject
from models.checks.tensors import dtype_of
from models.checks.verdict import BrokenRuleError, NotApplicableError
from models.checks.wording import told


def check_can_be_called(subject: Subject) -> None:
    """A layer that can't be made, built and called on the example inputs can't be checked, nor used.

    Mend: Read the error; if the inputs are wrong, pass others with `dtype=` or `inputs=`.
    """
    error = subject.made.failure() or subject.outputs.failure()
    if error is None:
        return
    cause = subject.built.failure() or error
    raise BrokenRuleError(f"{told(cause)}")


def check_works_in_a_functional_model(subject: Subject) -> None:
    """A layer that can't be called on `keras.Input` can't be part of a saved model, nor be served.

    Mend: Use `keras.ops` in `call`, avoid Python `if` and NumPy on tensors, or write `compute_output_shape`.
    """
    subject.built.value()
    error = subject.model.failure()
    if error is not None:
        raise BrokenRuleError(f"calling it on keras.Input raised {told(error)}")


def check_output_shape_is_as_announced(subject: Subject) -> None:
    """A wrong `compute_output_shape` builds the next layer for another width; the error surfaces there, or in service.

    Mend: Correct `compute_output_shape`, or leave it out: Keras then finds the shape by itself.
    """
    for rows, announced, real in _announced(subject):
        if len(announced) != len(real):
            raise BrokenRuleError(f"{len(announced)} outputs are announced and {len(real)} come")
        for spec, array in zip(announced, real, strict=True):
            fits = len(spec.shape) == array.ndim and all(
                size is None or size == length for size, length in zip(spec.shape, array.shape, strict=True)
            )
            if not fits:
                raise BrokenRuleError(f"announced is shape {tuple(spec.shape)}, and {rows} rows give {array.shape}")
    _refuse_wrong_method(subject)


def _announced(subject: Subject) -> list[tuple[int, list[Any], list[Any]]]:
    _, model = subject.model.value()
    specs = [leaf for leaf in keras.tree.flatten(model.outputs) if leaf is not None]
    return [(subject.example.num_rows, specs, subject.outputs.value())]


def _refuse_wrong_method(subject: Subject) -> None:
    """`compute_output_shape` itself, asked with the real shape, must say what the call gives."""
    layer = subject.built.value()
    if type(layer).compute_output_shape is keras.layers.Layer.compute_output_shape or subject.example.kind != "single":
        return
    real = [array.shape for array in subject.outputs.value()]
    given = tuple(subject.example.arrays[0].shape)
    said = layer.compute_output_shape(given)
    if len(real) == 1 and isinstance(said, tuple | list) and all(isinstance(n, int | None) for n in said):
        fits = len(said) == len(real[0]) and all(a is None or a == b for a, b in zip(said, real[0], strict=True))
        if not fits:
            raise BrokenRuleError(f"compute_output_shape({given}) says {tuple(said)}, and the call gives {real[0]}")


def check_output_dtype_is_as_announced(subject: Subject) -> None:
    """An output in another dtype than announced breaks the next layer, the exported signature, or the client.

    Mend: Cast the result in `call` to `self.compute_dtype`, or write `compute_output_spec` with the dtype it has.
    """
    _, model = subject.model.value()
    specs = [dtype_of(leaf) for leaf in keras.tree.flatten(model.outputs) if leaf is not None]
    tensors = [leaf for leaf in keras.tree.flatten(subject.call(subject.built.value())) if leaf is not None]
    real = [dtype_of(tensor) for tensor in tensors]
    if specs != real:
        raise BrokenRuleError(f"announced is {', '.join(specs)}, and the call gives {', '.join(real)}")


def check_any_number_of_rows(subject: Subject) -> None:
    """A layer fixed to one batch size fails on the server, which answers one row as well as many.

    Mend: Take the batch size from `ops.shape(x)[0]` inside `call`, or write -1 in `ops.reshape`; never `x.shape[0]`.
    """
    layer, model = subject.model.value()
    traced = compiled(subject, layer)
    for rows in (1, 3):
        arrays = subject.example.rows(slice(0, rows))
        evidence = difference(subject.run(layer, arrays), traced(arrays), OTHER_COMPILER)
        if evidence:
            raise BrokenRuleError(f"traced for any batch size and called with {rows} rows, it differs: {evidence}")
    for spec in keras.tree.flatten(model.outputs):
        if spec is not None and len(spec.shape) and spec.shape[0] not in {None}:
            raise BrokenRuleError(f"the announced output shape {tuple(spec.shape)} fixes the batch size")


def check_traced_like_eager(subject: Subject) -> None:
    """A layer that runs Python or NumPy in `call` gives one answer in a notebook and another in `fit` and in service.

    Mend: Compute with `keras.ops` only; no NumPy, no `.numpy()`, no Python state or random numbers in `call`.
    """
    layer, _ = subject.model.value()
    traced = compiled(subject, layer)
    for arrays in (subject.example.arrays, _other_values(subject)):
        evidence = difference(subject.run(layer, arrays), traced(arrays), OTHER_COMPILER)
        if evidence:
            raise BrokenRuleError(f"the traced layer gives other answers than the eager one: {evidence}")


def _other_values(subject: Subject) -> list[Any]:
    """The example rows shifted by one, and smaller where they are numbers: what was traced must not be remembered."""
    shifted = [np.roll(array, 1, axis=0) for array in subject.example.arrays]
    return [array * np.asarray(0.5, array.dtype) if array.dtype.kind == "f" else array for array in shifted]


def check_jit_compiled_like_eager(subject: Subject) -> None:
    """A layer that XLA can't compile stops `jit_compile=True`, Keras's default on accelerators.

    Mend: Keep shapes static but for the batch, or set `self.supports_jit = False` in `__init__`.
    """
    layer, _ = subject.model.value()
    if not getattr(layer, "supports_jit", True):
        raise NotApplicableError("the layer says that it does not support jit compilation")
    if any(kind == "string" for kind in subject.example.dtypes):
        raise NotApplicableError("text can't be jit-compiled")
    evidence = difference(subject.run(layer), jitted(subject, layer)(subject.example.arrays), OTHER_COMPILER)
    if evidence:
        raise BrokenRuleError(f"the jit-compiled layer gives other answers than the eager one: {evidence}")


def check_saved_model_answers_alike(subject: Subject) -> None:
    """A layer that an exported SavedModel answers differently, or not at all, can't be served without its Python code.

    Mend: Keep tables and other resources in attributes that Keras tracks, and use no `tf.py_function` in `call`.
    """
    layer, model = subject.model.value()
    evidence = difference(subject.run(layer), saved_model(subject, model)(subject.example.arrays), OTHER_COMPILER)
    if evidence:
        raise BrokenRuleError(f"the SavedModel gives other answers than the layer: {evidence}")


def check_deterministic_at_inference(subject: Subject) -> None:
    """A layer that answers the same rows differently can't be verified after export, and puzzles every client.

    Mend: Draw random numbers only when `training` is true, and let `training` default to False or None.
    """
    layer = subject.built.value()
    first = subject.run(layer)
    evidence = difference(first, subject.run(layer), LAST_BITS)
    if evidence:
        raise BrokenRuleError(f"the same rows get two answers at inference: {evidence}")
    evidence = difference(first, subject.run(layer, training=None), LAST_BITS)
    if evidence:
        raise BrokenRuleError(f"called without `training`, it answers otherwise than with training=False: {evidence}")


def check_inference_changes_no_state(subject: Subject) -> None:
    """State that moves with each request makes answers depend on the traffic, and races between threads.

    Mend: Assign to weights only when `training` is true.
    """
    layer = subject.built.value()
    before = values_of(layer)
    subject.call(layer)
    evidence = difference(before, values_of(layer), EXACT)
    if evidence:
        names = [variable.path for variable in layer.variables]
        raise BrokenRuleError(f"a call with training=False changes the state: {evidence} (of {names})")


def check_training_flag_is_taken(subject: Subject) -> None:
    """A layer that needs `training`, or refuses it, fails wherever a model is called without or with it.

    Mend: Write `def call(self, inputs, training=None)` where the layer trains differently, else leave it out.
    """
    layer = subject.built.value()
    for training in (True, False, None):
        try:
            subject.call(layer, training=training)
        except Exception as error:
            how = "without `training`" if training is None else f"with training={training}"
            raise BrokenRuleError(f"called {how}, it raises {told(error)}") from error


RULES = (
    check_can_be_called,
    check_works_in_a_functional_model,
    check_output_shape_is_as_announced,
    check_output_dtype_is_as_announced,
    check_any_number_of_rows,
    check_traced_like_eager,
    check_jit_compiled_like_eager,
    check_saved_model_answers_alike,
    check_deterministic_at_inference,
    check_inference_changes_no_state,
    check_training_flag_is_taken,
)

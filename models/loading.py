"""From a file to a model that answers: the one way in which a saved model is loaded and called.

The export's proof and the service's Keras runtime both go through here, so what was proved is what is served.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import tensorflow as tf

from models import layers as _registers_our_layers  # noqa: F401
from models import registry
from models.keras_file import KerasFileError, ObjectReference, custom_objects_in
from models.manifest import DType, LayerRecord, Signature, Tensors, TensorSpec
from models.sources import change_of, record_of

_KERAS_FUNCTIONS = (keras.activations, keras.losses, keras.metrics)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_REASON = 500


class ModelLoadError(ValueError):
    """A saved model cannot be loaded here. The message says which object or step, and the way out."""


def load_model(path: Path) -> keras.Model:
    """Loads a `.keras` file through the registered layers, uncompiled and in safe mode.

    Raises:
        ModelLoadError: a custom object is unknown here, or Keras refuses the file.
    """
    try:
        references = _references(path)
    except KerasFileError as error:
        raise ModelLoadError(str(error)) from error
    known = registry.custom_objects()
    missing = [reference for reference in references if _resolve(reference) is None]
    if missing:
        raise ModelLoadError(_missing_message(path, missing))
    try:
        return keras.saving.load_model(path, custom_objects=known, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises a dozen kinds for a bad file
        raise ModelLoadError(f"Keras cannot load `{path.name}`: {type(error).__name__}: {reason(error)}") from error


def layer_records(path: Path) -> dict[str, LayerRecord]:
    """Each custom object that the `.keras` file needs: where it comes from here, and a hash of its source."""
    return {
        reference.registered_name: record_of(found)
        for reference in _references(path)
        if (found := _resolve(reference)) is not None
    }


def changed_layers(recorded: dict[str, LayerRecord]) -> dict[str, str]:
    """The registered names whose source here is not the one that was recorded, each with what of it differs."""
    return {
        name: change
        for name, record in recorded.items()
        if (found := registry.find(name)) is not None and (change := change_of(record, record_of(found))) is not None
    }


def signature_of(model: keras.Model, labels: tuple[str, ...] | None = None) -> Signature:
    """The names, dtypes and shapes of a built model's inputs and outputs.

    Raises:
        ValueError: the model has no symbolic inputs, a fixed batch size, a dtype that NumPy lacks, or a name twice.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"`{model.name}` has no symbolic inputs: only functional models can be exported, and Sequential ones "
            "that begin with keras.Input."
        )
    inputs = tuple(_spec(name, tensor) for name, tensor in _named_inputs(model).items())
    outputs = tuple(_spec(name, tensor) for name, tensor in _named_outputs(model).items())
    return Signature(inputs=inputs, outputs=outputs, labels=labels)


def inference(model: keras.Model) -> Callable[[Any], Any]:
    """The model at inference as a function from tensors to tensors, both by name; it can be traced."""
    tensors = _named_inputs(model)
    named = keras.Model({tensor.name: tensor for tensor in tensors.values()}, _named_outputs(model))
    return lambda inputs: named({tensor.name: inputs[name] for name, tensor in tensors.items()}, training=False)


def eager(model: keras.Model, signature: Signature) -> Callable[[Tensors], Tensors]:
    """The model at inference as Keras runs it call by call: the reference that everything else is compared with."""
    return run_with_arrays(inference(model), signature)


def traced(model: keras.Model, signature: Signature) -> Callable[[Tensors], Tensors]:
    """The model at inference as one traced TensorFlow function with a free batch size, ready to run.

    Returns:
        A function from all inputs to all outputs by name; any number of threads may call it.
    """
    return trace(inference(model), signature)


def trace(call: Callable[[Any], Any], signature: Signature) -> Callable[[Tensors], Tensors]:
    """A function of named tensors traced once, to be called with arrays."""
    specs = {spec.name: tf.TensorSpec(spec.shape, spec.dtype) for spec in signature.inputs}
    function = tf.function(call, input_signature=[specs], autograph=False)
    return run_with_arrays(function.get_concrete_function(), signature)


def reason(error: Exception) -> str:
    """What an error of Keras says, in one line: without colours and without the arguments of the failed call."""
    text = _COLOUR.sub("", str(error)).split("Arguments received by")[0]
    return textwrap.shorten(text, _MAX_REASON, placeholder=" ...") or "no message"


def run_with_arrays(call: Callable[[Any], Any], signature: Signature) -> Callable[[Tensors], Tensors]:
    """Lets a function of named TensorFlow tensors be called with NumPy arrays."""

    def run(inputs: Tensors) -> Tensors:
        tensors = {spec.name: tf.constant(inputs[spec.name], spec.dtype) for spec in signature.inputs}
        return {name: _to_numpy(value) for name, value in call(tensors).items()}

    return run


def _references(path: Path) -> list[ObjectReference]:
    """The custom objects that the file needs, without the functions that are Keras's own."""
    return [
        reference
        for reference in custom_objects_in(path)
        if not (reference.class_name == "function" and _is_keras_function(reference.registered_name))
    ]


def _is_keras_function(name: str) -> bool:
    return any(inspect.isfunction(getattr(module, name, None)) for module in _KERAS_FUNCTIONS)


def _resolve(reference: ObjectReference) -> Any:
    return registry.find(reference.registered_name)


def _missing_message(path: Path, missing: list[ObjectReference]) -> str:
    names = ", ".join(
        f"`{reference.registered_name}`" + (f" (defined in {reference.module})" if reference.module else "")
        for reference in missing
    )
    modules = ",".join(dict.fromkeys(reference.module or "your.module" for reference in missing))
    return (
        f"`{path.name}` needs custom objects that are not known here: {names}. "
        f"Name the module that defines them: --layers {modules}, or LAYERSERVE_LAYERS={modules}."
    )


def _named_inputs(model: keras.Model) -> dict[str, Any]:
    # An input that nobody named has a tensor `keras_tensor_7` in this process, but its layer's name is saved.
    return _by_name([tensor._keras_history.operation.name for tensor in model.inputs], model.inputs, "inputs")


def _named_outputs(model: keras.Model) -> dict[str, Any]:
    if isinstance(model, keras.Sequential):
        return {model.layers[-1].name: model.outputs[0]}
    names = list(model.output) if isinstance(model.output, dict) else list(model.output_names)
    tensors = [model.output[name] for name in names] if isinstance(model.output, dict) else model.outputs
    return _by_name(names, tensors, "outputs")


def _by_name(names: list[str], tensors: list[Any], what: str) -> dict[str, Any]:
    if len(set(names)) < len(names):
        raise ValueError(f"The {what} of a model must have different names. Received: {', '.join(names)}")
    return dict(zip(names, tensors, strict=True))


def _spec(name: str, tensor: Any) -> TensorSpec:
    if not tensor.shape or tensor.shape[0] is not None:
        raise ValueError(
            f"`{name}` must have a free batch size as axis 0. Received: shape={tuple(tensor.shape)}. "
            "Build the model from keras.Input(shape), whose shape leaves the batch out, and load the weights into it."
        )
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype not in get_args(DType):
        raise ValueError(f"`{name}` must have a dtype that NumPy has: cast it in the model. Received: dtype={dtype}")
    is_optional = bool(getattr(tensor._keras_history.operation, "optional", False))
    return TensorSpec(name=name, dtype=dtype, shape=tuple(tensor.shape), nullable=is_optional)


def _to_numpy(tensor: tf.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.numpy()
    return np.char.decode(array.astype(np.bytes_), "utf-8") if array.dtype == np.object_ else array

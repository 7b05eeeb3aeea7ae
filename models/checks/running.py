"""Other ways of running a layer than eagerly: traced, jit-compiled, exported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from models.checks.example import Arrays
from models.checks.subject import Subject
from models.checks.tensors import Array, flat_arrays
from models.checks.verdict import NotApplicableError

Run = Callable[[Arrays], list[Array]]


def compiled(subject: Subject, layer: Any) -> Run:
    """The layer traced once, with an open batch axis where the backend has one.

    Raises:
        NotApplicableError: the backend traces nothing.
    """
    if keras.backend.backend() == "tensorflow":
        return _tensorflow(subject, layer, jit=False)
    return jitted(subject, layer)


def jitted(subject: Subject, layer: Any) -> Run:
    """The layer compiled by XLA.

    Raises:
        NotApplicableError: the backend has no such compiler.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _tensorflow(subject, layer, jit=True)
    if backend == "jax":
        return _jax(subject, layer)
    raise NotApplicableError(f"the {backend} backend has no XLA compiler")


def saved_model(subject: Subject, model: Any) -> Run:
    """The model exported as a SavedModel and loaded without Keras.

    Raises:
        NotApplicableError: the backend exports no SavedModel here.
    """
    if keras.backend.backend() != "tensorflow":
        raise NotApplicableError("SavedModel is checked on the TensorFlow backend")
    import tensorflow as tf  # noqa: PLC0415 -- only on this backend

    with tempfile.TemporaryDirectory(prefix="layerserve-check-") as name:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve", lambda *tensors: model(list(tensors), training=False), input_signature=_signature(subject)
        )
        archive.write_out(Path(name) / "saved", verbose=False)
        loaded = tf.saved_model.load(Path(name) / "saved")
    return lambda arrays: flat_arrays(loaded.serve(*[tf.convert_to_tensor(array) for array in arrays]))


def _signature(subject: Subject) -> list[Any]:
    shapes, dtypes = subject.example.shapes, subject.example.dtypes
    return [keras.InputSpec(shape=(None, *shape), dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def _tensorflow(subject: Subject, layer: Any, jit: bool) -> Run:
    import tensorflow as tf  # noqa: PLC0415 -- only on this backend

    shapes, dtypes = subject.example.shapes, subject.example.dtypes
    signature = [tf.TensorSpec((None, *shape), dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]

    @tf.function(input_signature=signature, jit_compile=jit)  # type: ignore[untyped-decorator]  # TensorFlow is untyped
    def traced(*tensors: Any) -> Any:
        return subject.apply(layer, list(tensors), training=False)

    return lambda arrays: flat_arrays(traced(*[tf.convert_to_tensor(array) for array in arrays]))


def _jax(subject: Subject, layer: Any) -> Run:
    import jax  # noqa: PLC0415 -- only on this backend

    @jax.jit  # type: ignore[untyped-decorator]  # JAX is optional
    def traced(trainable: Any, others: Any, tensors: list[Any]) -> Any:
        mapping = list(
            zip([*layer.trainable_variables, *layer.non_trainable_variables], [*trainable, *others], strict=True)
        )
        with keras.StatelessScope(state_mapping=mapping):
            return subject.apply(layer, tensors, training=False)

    def run(arrays: Arrays) -> list[Array]:
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        trainable = [variable.value for variable in layer.trainable_variables]
        others = [variable.value for variable in layer.non_trainable_variables]
        return flat_arrays(traced(trainable, others, tensors))

    return run

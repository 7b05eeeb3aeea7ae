"""The one path that every export takes: save, golden answers, proof in a fresh process, manifest, report, publish."""

from __future__ import annotations

import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from export.conversion import Made, format_record, make_formats
from export.formats import FORMATS, chosen
from export.model_summary import layers_of
from export.reload import Description, describe
from export.report import prepare
from export.report_data import Evaluation, ReportData, write_data
from export.verify import Proof, ProofError, prove, prove_loads
from models.activations import activations_of
from models.artifact import Artifact, file_paths, file_record
from models.checks import certify
from models.golden import Golden, write_golden
from models.loading import eager, reason, run_with_arrays, traced
from models.manifest import (
    Change,
    Manifest,
    OriginRecord,
    Signature,
    Tensors,
    TensorSpec,
    TrainingRecord,
    VariableRecord,
    dtype_name,
)
from models.store import ArtifactStore


@dataclass(frozen=True)
class Candidate:
    """A live model that wants to be published.

    Attributes:
        name: To publish it under.
        model: Functional or Sequential, with a free batch size.
        golden_inputs: A few rows by input name, whose answers will prove the model wherever it is loaded.
        labels: The classes of a classifier, in the order of its probabilities.
        training: How it was trained, where that is known.
        origin: The files it came in, where it was trained elsewhere.
        parent: The version whose weights it has, in a re-export.
        accepted: What a re-export was allowed to change.
        golden_source: Whether somebody gave the golden rows, or they were drawn from the signature.
        evaluation: What it does on held-out rows, for the report.
    """

    name: str
    model: keras.Model
    golden_inputs: Tensors
    labels: tuple[str, ...] | None = None
    training: TrainingRecord | None = None
    origin: OriginRecord | None = None
    parent: int | None = None
    accepted: tuple[Change, ...] = ()
    golden_source: Literal["given", "drawn"] = "given"
    evaluation: Evaluation | None = None


def publish(
    store: ArtifactStore, candidate: Candidate, *, layers: tuple[str, ...] = (), formats: tuple[str, ...] = ()
) -> Artifact:
    """Publishes the next version of `candidate.name`, or nothing.

    Args:
        store: Where to.
        candidate: What.
        layers: Modules, beside `models.layers`, that define the model's custom layers.
        formats: Beside `keras`; none means the usual ones whose packages are installed. One that cannot be written, or
            does not answer as the model does, is left out, and the manifest says why.

    Raises:
        ValueError: the golden rows are not the model's inputs, the labels not its output's, or it cannot be exported.
        ProofError: the saved model is not the live one; the message says what differs.
        OSError: the disk is full or read-only.
    """
    with store.stage(candidate.name) as staging:
        description = describe(candidate.model, candidate.labels)
        _check_labels(description.signature)
        golden = _golden(candidate, description.signature)
        _save(candidate.model, staging / FORMATS["keras"].path)
        write_golden(staging, golden)
        proof, made = _prove_and_make(candidate, description, golden, staging, layers, formats)
        data = ReportData(layers=layers_of(candidate.model), evaluation=candidate.evaluation)
        write_data(staging, data)
        manifest = Manifest(
            name=candidate.name,
            version=1,
            created_at=datetime.now(UTC).replace(microsecond=0),
            signature=description.signature,
            formats={"keras": format_record("keras", proof.comparison), **made.records},
            left_out=made.left_out,
            files={name: file_record(file) for name, file in file_paths(staging).items()},
            training=candidate.training,
            origin=candidate.origin,
            parent=candidate.parent,
            accepted=candidate.accepted,
            golden_source=candidate.golden_source,
            layers=proof.layers,
            variables=_variables(candidate.model),
            environment=_environment(),
            certificate=certify(traced(candidate.model, description.signature), golden.inputs),
        )
        return store.publish(staging, manifest, prepare(staging, manifest, data))


def rehearse(model: keras.Model, inputs: Tensors, *, layers: tuple[str, ...]) -> None:
    """Saves a model that is yet to be trained, and loads it in a fresh process as its proof will.

    Args:
        model: As it was built.
        inputs: Rows to ask there, by input name.
        layers: As for `publish`.

    Raises:
        ProofError: it cannot be saved, loaded or run; the trained model could not either.
    """
    with tempfile.TemporaryDirectory(prefix="layerserve-rehearsal-") as folder:
        path = Path(folder) / FORMATS["keras"].path
        try:
            model.save(path)
        except Exception as error:  # the configuration comes from layers that are anybody's code
            raise ProofError(f"The model cannot be saved: {type(error).__name__}: {reason(error)}") from error
        prove_loads(path, inputs, layers=layers)


def _prove_and_make(
    candidate: Candidate,
    description: Description,
    golden: Golden,
    staging: Path,
    layers: tuple[str, ...],
    formats: tuple[str, ...],
) -> tuple[Proof, Made]:
    """Proves the `.keras` file, which is waiting for a fresh process, while the other formats are made."""
    is_made = Event()

    def live_layers() -> Tensors:
        is_made.wait()  # until then, the live model may be without its lookups
        return _activations(candidate.model, description.signature, golden)

    path = staging / FORMATS["keras"].path
    others = tuple(name for name in chosen(formats) if name != "keras")
    with ThreadPoolExecutor(1) as pool:
        proof = pool.submit(prove, path, golden, layers=layers, expected=description, live_layers=live_layers)
        try:
            made = make_formats(candidate.model, description.signature, golden, staging, others)
        finally:
            is_made.set()
        return proof.result(), made


def _save(model: keras.Model, path: Path) -> None:
    """Saves a model without its optimizer, whose state would triple the file; the model stays as it was."""
    if not model.compiled:
        model.save(path)
        return
    optimizer = model.optimizer
    model.compiled, model.optimizer = False, None
    try:
        model.save(path)
    finally:
        model.compiled, model.optimizer = True, optimizer


def _check_labels(signature: Signature) -> None:
    if signature.labels is None:
        return
    outputs, count = signature.outputs, len(signature.labels)
    if len(outputs) > 1:
        names = ", ".join(spec.name for spec in outputs)
        raise ValueError(f"Labels name the classes of a model's only output. Received: {count} labels, outputs {names}")
    if outputs[0].shape[-1] != count:
        raise ValueError(
            f"There must be a label for each of the values of `{outputs[0].name}`, of shape "
            f"{outputs[0].shape}. Received: {count} labels"
        )


def _golden(candidate: Candidate, signature: Signature) -> Golden:
    inputs = candidate.golden_inputs
    names = [spec.name for spec in signature.inputs]
    if sorted(inputs) != sorted(names):
        raise ValueError(f"Golden rows must be given for {', '.join(names)}. Received: {', '.join(inputs) or 'none'}")
    rows = {len(values) for values in inputs.values()}
    if len(rows) > 1 or 0 in rows:
        raise ValueError(f"Golden inputs must have the same number of rows, 1 at least. Received: {sorted(rows)}")
    inputs = {spec.name: _as_promised(spec, inputs[spec.name]) for spec in signature.inputs}
    outputs = eager(candidate.model, signature)(inputs)
    for spec in signature.outputs:
        _check_output(spec, outputs[spec.name], max(rows))
    return Golden(inputs, outputs)


def _as_promised(spec: TensorSpec, values: np.ndarray) -> np.ndarray:
    """Golden rows in the input's dtype, where that loses no more than precision."""
    dtype = spec.numpy_dtype
    is_text = values.dtype.kind == "U"
    if is_text != (dtype.kind == "U") or not (is_text or np.can_cast(values.dtype, dtype, casting="same_kind")):
        raise ValueError(f"Golden rows of `{spec.name}` must be {spec.dtype}. Received: {values.dtype}")
    if not _has_shape(values, spec.shape):
        shape = ", ".join("any" if size is None else str(size) for size in ("batch", *spec.shape[1:]))
        raise ValueError(f"Golden rows of `{spec.name}` must have shape ({shape}). Received: {values.shape}")
    return values if is_text else values.astype(dtype)


def _check_output(spec: TensorSpec, values: np.ndarray, rows: int) -> None:
    promised = (rows, *spec.shape[1:])
    dtype = dtype_name(values)
    if not _has_shape(values, promised) or dtype != spec.dtype:
        raise ProofError(
            f"Output `{spec.name}` is {dtype}{values.shape} for {rows} golden rows, but the model promises "
            f"{spec.dtype}{promised}. See the layer's compute_output_shape."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ProofError(f"The model answers golden rows with NaN or Infinity in `{spec.name}`.")


def _has_shape(values: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    """Whether the sizes are these; None is any size."""
    return values.ndim == len(shape) and all(
        size in (None, found) for size, found in zip(shape, values.shape, strict=True)
    )


def _activations(model: keras.Model, signature: Signature, golden: Golden) -> Tensors:
    return run_with_arrays(activations_of(model), signature)(golden.inputs)


def _variables(model: keras.Model) -> tuple[VariableRecord, ...]:
    return tuple(
        VariableRecord(name=variable.path, shape=tuple(variable.shape), dtype=str(variable.dtype))
        for variable in model.weights
    )


def _environment() -> dict[str, str]:
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}
    return {"python": platform.python_version(), "machine": platform.machine(), **versions}

"""The requests that `benchmarks.serving` measures, made of a version's golden rows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import load
from models.artifact import Artifact
from models.golden import read_golden
from models.manifest import Tensors
from models.store import ArtifactStore
from service.runtimes.trial import rows_of

MANY = 32
WIDE = "wide"
DECIMALS = 3
WIDE_FEATURES, WIDE_UNITS, WIDE_CLASSES = 784, "512,512", 10


@dataclass(frozen=True)
class Asked:
    """A request, and by how many connections it is sent.

    Attributes:
        model: `digits`, or `wide`, which only the service has.
        is_for_all: Whether every server takes it; else only the service does.
    """

    name: str
    model: str
    rows: int
    connections: int
    path: str
    headers: tuple[str, ...]
    body: bytes
    is_for_all: bool = False


def requests(digits: Artifact, wide: Artifact) -> list[Asked]:
    """All of them, in the order of the table."""
    one, many, wide_many = some_rows(digits, 1), some_rows(digits, MANY), some_rows(wide, MANY)
    asked = [
        Asked("digits, 1 row, JSON", "digits", 1, connections, "/predict", (load.JSON,), _json(one), is_for_all=True)
        for connections in (1, 16, 64)
    ]
    asked += _json_of_others("digits", one)
    asked.append(
        Asked(f"digits, {MANY} rows, JSON", "digits", MANY, 16, "/predict", (load.JSON,), _json(many), is_for_all=True)
    )
    asked.append(_binary("digits", many))
    asked.append(_npy("digits", many))
    asked += [
        Asked(f"{WIDE}, {MANY} rows, JSON{form}", WIDE, MANY, 16, "/predict", (load.JSON,), _json(wide_many, decimals))
        for form, decimals in (("", DECIMALS), (" in full", None))
    ]
    asked.append(_binary(WIDE, wide_many))
    asked.append(_npy(WIDE, wide_many))
    return asked


def some_rows(artifact: Artifact, rows: int) -> Tensors:
    """Golden rows; they begin anew where there are fewer."""
    return rows_of(read_golden(artifact).inputs, rows)


def publish_wide(store: ArtifactStore, folder: Path) -> Artifact:
    """Trains a 784-512-512-10 classifier on random numbers: what it costs does not depend on what it has learned."""
    random = np.random.default_rng(0)
    features = random.random((2000, WIDE_FEATURES), np.float32)
    np.savez(folder / "wide.npz", features=features, target=random.integers(0, WIDE_CLASSES, 2000))
    command = [sys.executable, "-m", "export", "train", "--artifacts", str(store.root), "--name", WIDE]
    command += ["--data", str(folder / "wide.npz"), "--target", "target", "--task", "classification"]
    command += ["--hidden-units", WIDE_UNITS, "--epochs", "1", "--formats", "onnx,litert"]
    with tempfile.TemporaryFile() as log:
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
            log.seek(0)
            raise SystemExit(f"The wide model could not be published:\n{log.read().decode()}")
    return store.resolve(WIDE)


def _json(inputs: Tensors, decimals: int | None = None) -> bytes:
    """What a client sends that rounds its numbers; else all the digits that Python writes of a float32."""
    (rows,) = inputs.values()
    if decimals is not None:
        rows = rows.astype(float).round(decimals)
    return json.dumps({"instances": rows.tolist()}, separators=(",", ":")).encode()


def _json_of_others(model: str, inputs: Tensors) -> list[Asked]:
    """What clients of the Open Inference Protocol and of TensorFlow Serving send by 64 connections."""
    ((name, rows),) = inputs.items()
    tensor = {"name": name, "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    bodies = {
        ("v2 JSON", f"/v2/models/{model}/infer"): json.dumps({"inputs": [tensor]}).encode(),
        ("TensorFlow Serving's JSON", f"/v1/models/{model}:predict"): _json(inputs),
    }
    return [
        Asked(f"{model}, {len(rows)} row, {form}", model, len(rows), 64, path, (load.JSON,), body)
        for (form, path), body in bodies.items()
    ]


def _binary(model: str, inputs: Tensors) -> Asked:
    """The Open Inference Protocol's, with binary tensors both ways."""
    ((name, rows),) = inputs.items()
    tensor = {"name": name, "datatype": "FP32", "shape": rows.shape, "parameters": {"binary_data_size": rows.nbytes}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = ("Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(text)}")
    body = text + rows.astype("<f4").tobytes()
    return Asked(f"{model}, {MANY} rows, v2 binary", model, MANY, 16, f"/v2/models/{model}/infer", headers, body)


def _npy(model: str, inputs: Tensors) -> Asked:
    (rows,) = inputs.values()
    file = io.BytesIO()
    np.save(file, rows)
    headers = ("Content-Type: application/x-npy", "Accept: application/x-npy")
    return Asked(f"{model}, {MANY} rows, .npy", model, MANY, 16, "/predict", headers, file.getvalue())

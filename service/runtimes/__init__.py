"""Runtimes: what runs a model. Each is one file, imported when it is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Protocol

from models.artifact import Artifact
from models.manifest import Tensors

AUTO = "auto"
"""In place of a runtime's name: the fastest that agrees, as `service.runtimes.selection` finds it."""


class Runtime(Protocol):
    """A loaded model. Any number of threads may call `run` at once."""

    name: str

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows that have passed the signature check: inputs by name in, outputs by name out.

        The answers are the caller's own: nothing that runs later changes them.
        """

    def close(self) -> None:
        """Lets go of the model. Nothing is run afterwards."""


@dataclass(frozen=True)
class LoadOptions:
    """How a runtime is to load a version.

    Attributes:
        layers: Modules that define custom layers, as the operator named them.
        threads: For the inside of one call. TensorFlow has its own pool for all calls, and pays no heed.
    """

    layers: tuple[str, ...] = ()
    threads: int = 1


@dataclass(frozen=True)
class RuntimeKind:
    """What a runtime needs.

    Attributes:
        format: Of the version, that it loads.
        module: Of ours, that is imported when the runtime is first asked for.
        package: That must be installed.
        extra: Of ours, that installs the package.
        loads_tensorflow: It takes seconds and half a gigabyte, whatever the model.
        tolerance: For the golden answers, where it computes less exactly than the format was proved to.
    """

    format: str
    module: str
    package: str
    extra: str
    loads_tensorflow: bool = False
    tolerance: float | None = None
    loader: str = "load"


RUNTIMES: dict[str, RuntimeKind] = {
    "litert": RuntimeKind("litert", "service.runtimes.litert", "ai_edge_litert", "slim"),
    "onnx": RuntimeKind("onnx", "service.runtimes.onnx", "onnxruntime", "slim"),
    "openvino": RuntimeKind("openvino", "service.runtimes.openvino", "openvino", "openvino"),
    "openvino-bf16": RuntimeKind(
        "openvino", "service.runtimes.openvino", "openvino", "openvino", tolerance=0.02, loader="load_bfloat16"
    ),
    "keras": RuntimeKind("keras", "service.runtimes.keras", "keras", "keras", loads_tensorflow=True),
    "saved_model": RuntimeKind(
        "saved_model", "service.runtimes.saved_model", "tensorflow", "keras", loads_tensorflow=True
    ),
}


class RuntimeUnavailableError(ValueError):
    """A runtime cannot be used for a version here. The message says why, and the way out."""


def load(name: str, artifact: Artifact, layers: tuple[str, ...] = (), threads: int = 1) -> Runtime:
    """Loads a version whose files have been verified.

    Args:
        name: Of the runtime.
        artifact: The version.
        layers: Modules that define custom layers, as the operator named them.
        threads: For the inside of one call; see `LoadOptions`.

    Raises:
        ValueError: the model cannot be loaded; the message says why and is fit for the operator's eyes.
        Exception: whatever the runtime's library raises for a file that it does not like.
    """
    reason = why_unavailable(name, artifact)
    if reason:
        raise RuntimeUnavailableError(reason)
    kind = RUNTIMES[name]
    runtime: Runtime = getattr(importlib.import_module(kind.module), kind.loader)(
        artifact, LoadOptions(layers, threads)
    )
    return runtime


def why_unavailable(name: str, artifact: Artifact) -> str:
    """Why a runtime cannot be used for a version here; empty where it can. Imports nothing."""
    kind, manifest = RUNTIMES[name], artifact.manifest
    if kind.format not in manifest.formats:
        left_out = manifest.left_out.get(kind.format)
        why = f", which was left out: {left_out.rstrip('.')}" if left_out else ""
        return f"The version has no format `{kind.format}`{why}. It has: {', '.join(manifest.formats)}."
    if importlib.util.find_spec(kind.package) is None:
        return f"The package {kind.package} is not installed: pip install 'layerserve[{kind.extra}]'."
    return ""

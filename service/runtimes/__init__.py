"""Runtimes: what runs a model. Each is one file, imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import Protocol

from models.artifact import Artifact
from models.manifest import Tensors

_MODULES = {"keras": "service.runtimes.keras"}


class Runtime(Protocol):
    """A loaded model. Any number of threads may call `run` at once."""

    name: str

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows that have passed the signature check: inputs by name in, outputs by name out."""

    def close(self) -> None:
        """Lets go of the model. Nothing is run afterwards."""


def load(name: str, artifact: Artifact, layers: tuple[str, ...]) -> Runtime:
    """Loads a version whose files have been verified.

    Args:
        name: Of the runtime.
        artifact: The version.
        layers: Modules that define custom layers, as the operator named them.

    Raises:
        ValueError: the model cannot be loaded; the message says why and is fit for the operator's eyes.
    """
    module = importlib.import_module(_MODULES[name])
    runtime: Runtime = module.load(artifact, layers)
    return runtime

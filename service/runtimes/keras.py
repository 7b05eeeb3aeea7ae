"""The reference runtime: the saved Keras model, loaded through the registered layers and traced once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from models.artifact import Artifact, ArtifactError
from models.manifest import Tensors
from models.quiet import quiet_import
from service.memory import collect, overlook_what_is_loaded
from service.runtimes import LoadOptions

with quiet_import():
    from models import registry
    from models.loading import changed_layers, load_model, signature_of, traced
overlook_what_is_loaded()

_log = logging.getLogger(__name__)


class KerasRuntime:
    """A traced function of the model, with a free batch size."""

    name = "keras"

    def __init__(self, function: Callable[[Tensors], Tensors]) -> None:
        self._function: Callable[[Tensors], Tensors] | None = function

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows; see `Runtime.run`."""
        if self._function is None:
            raise RuntimeError("The runtime is closed.")
        return self._function(inputs)

    def close(self) -> None:
        """Drops the function and with it the model."""
        self._function = None
        collect()


def load(artifact: Artifact, options: LoadOptions) -> KerasRuntime:
    """Loads `model.keras` uncompiled and in safe mode; see `service.runtimes.load`."""
    registry.load_plugins(options.layers)
    manifest = artifact.manifest
    for name, change in changed_layers(manifest.layers).items():
        _log.warning(
            "%s@%d was made with another source of %s (%s); its golden answers decide whether it is served.",
            manifest.name, manifest.version, name, change,
        )  # fmt: skip
    model = load_model(artifact.format_path("keras"))
    signature = signature_of(model, manifest.signature.labels)
    if signature != manifest.signature:
        raise ArtifactError(f"The model's signature is {signature}, the manifest says {manifest.signature}.")
    return KerasRuntime(traced(model, signature))

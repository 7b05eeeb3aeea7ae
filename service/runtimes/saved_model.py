"""The SavedModel, by TensorFlow's own loader: no Keras and none of the layers' code is needed."""

from __future__ import annotations

from collections.abc import Callable

from models.artifact import Artifact
from models.manifest import Tensors
from models.quiet import quiet_import
from service.memory import collect, overlook_what_is_loaded
from service.runtimes import LoadOptions
from service.runtimes.text import readable

with quiet_import():
    import tensorflow as tf
overlook_what_is_loaded()

_SIGNATURE = "serving_default"


class SavedModelRuntime:
    """The signature's function, with a free batch size."""

    name = "saved_model"

    def __init__(self, function: Callable[..., dict[str, tf.Tensor]]) -> None:
        self._function: Callable[..., dict[str, tf.Tensor]] | None = function

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows; see `Runtime.run`."""
        if self._function is None:
            raise RuntimeError("The runtime is closed.")
        # TensorFlow itself finds the argument for a name that no keyword could have, such as `sepal length (cm)`.
        answers = self._function(**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: readable(value.numpy()) for name, value in answers.items()}

    def close(self) -> None:
        """Drops the function and with it the model."""
        self._function = None
        collect()


def load(artifact: Artifact, _options: LoadOptions) -> SavedModelRuntime:
    """Loads `saved_model.pb` with its variables; see `service.runtimes.load`."""
    loaded = tf.saved_model.load(str(artifact.format_path("saved_model").parent))
    return SavedModelRuntime(loaded.signatures[_SIGNATURE])

"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime

from models.artifact import Artifact
from models.manifest import Tensors
from service.runtimes import LoadOptions
from service.runtimes.text import readable


class OnnxRuntime:
    """An inference session, which any number of threads may run at once."""

    name = "onnx"

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._outputs = [output.name for output in session.get_outputs()]
        self._gives_text = any(output.type == "tensor(string)" for output in session.get_outputs())

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows; see `Runtime.run`."""
        if self._session is None:
            raise RuntimeError("The runtime is closed.")
        # Binding inputs and outputs to the session was measured, too: slower from Python than this plain call.
        answers = dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
        if self._gives_text:
            return {name: readable(np.asarray(values)) for name, values in answers.items()}
        return answers

    def close(self) -> None:
        """Drops the session."""
        self._session = None


def load(artifact: Artifact, options: LoadOptions) -> OnnxRuntime:
    """Loads `model.onnx`; see `service.runtimes.load`."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # it raises what it would write to stderr, in its own form
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A thread that spins for work takes the core that the event loop needs.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = artifact.format_path("onnx")
    return OnnxRuntime(onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"]))

"""OpenVINO on the CPU, in float32 or, where asked, in bfloat16, which new processors multiply several times faster."""

from __future__ import annotations

import numpy as np
import openvino

from models.artifact import Artifact
from models.manifest import Tensors
from service.runtimes import LoadOptions
from service.runtimes.cores import available_cores
from service.runtimes.pool import Pool
from service.runtimes.text import readable

# The library sets itself up at its first tensor, and hangs for good where two threads make that at once.
openvino.Tensor(np.zeros(1, np.float32))


class OpenVINORuntime:
    """A compiled model and a few requests, each lent to one call at a time."""

    def __init__(self, name: str, requests: Pool[openvino.InferRequest]) -> None:
        self.name = name
        self._requests: Pool[openvino.InferRequest] | None = requests

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows; see `Runtime.run`."""
        if self._requests is None:
            raise RuntimeError("The runtime is closed.")
        pool = self._requests
        request = pool.take()
        try:
            # The inputs need not be copied, for the call ends before its caller may change them; the outputs must.
            answers = request.infer(inputs, share_inputs=True, share_outputs=False)
            return {output.any_name: readable(np.asarray(values)) for output, values in answers.items()}
        finally:
            pool.give(request)

    def close(self) -> None:
        """Drops the requests and with them the model."""
        self._requests = None


def load(artifact: Artifact, options: LoadOptions) -> OpenVINORuntime:
    """Loads `model.xml`, to compute in float32 as the format was proved; see `service.runtimes.load`."""
    return _load("openvino", artifact, options, "f32")


def load_bfloat16(artifact: Artifact, options: LoadOptions) -> OpenVINORuntime:
    """Loads `model.xml`, to compute in bfloat16; see `service.runtimes.load`."""
    return _load("openvino-bf16", artifact, options, "bf16")


def _load(name: str, artifact: Artifact, options: LoadOptions, precision: str) -> OpenVINORuntime:
    core, cores = openvino.Core(), available_cores()
    streams = max(1, cores // options.threads)  # a stream runs one call, with its share of the threads
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": streams,
    }
    model = core.compile_model(core.read_model(artifact.format_path("openvino")), "CPU", settings)
    return OpenVINORuntime(name, Pool(model.create_infer_request, streams))

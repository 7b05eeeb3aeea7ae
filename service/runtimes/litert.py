"""LiteRT: the fastest runtime for small models, for its calls cost next to nothing beside the arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from models.artifact import Artifact
from models.manifest import Tensors
from service.runtimes import LoadOptions
from service.runtimes.cores import available_cores
from service.runtimes.pool import Pool
from service.runtimes.text import readable

_SIGNATURE = "serving_default"
_MOST_BYTES = 2**30
"""For all interpreters of a model. Each packs the weights anew: one of a 70 MB file took 128 MB."""


class LiteRTRuntime:
    """A few interpreters, each lent to one call at a time: an interpreter has a single set of tensors."""

    name = "litert"

    def __init__(self, interpreters: Pool[_Interpreter]) -> None:
        self._interpreters: Pool[_Interpreter] | None = interpreters

    def run(self, inputs: Tensors) -> Tensors:
        """Answers rows; see `Runtime.run`."""
        if self._interpreters is None:
            raise RuntimeError("The runtime is closed.")
        pool = self._interpreters
        interpreter = pool.take()
        try:
            return interpreter.run(inputs)
        finally:
            pool.give(interpreter)

    def close(self) -> None:
        """Drops the interpreters."""
        self._interpreters = None


class _Interpreter:
    """One interpreter, which remembers the shapes that its memory is laid out for."""

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = Interpreter(str(path), num_threads=threads)
        signature = self._interpreter.get_signature_runner(_SIGNATURE)
        self._inputs = [(name, details["index"]) for name, details in signature.get_input_details().items()]
        outputs = signature.get_output_details().items()
        self._outputs = [(name, details["index"]) for name, details in outputs]
        self._texts = [name for name, details in outputs if np.dtype(details["dtype"]).kind == "S"]
        self._shapes: list[tuple[int, ...]] = []

    def run(self, inputs: Tensors) -> Tensors:
        shapes = [inputs[name].shape for name, _ in self._inputs]
        if shapes != self._shapes:
            self._lay_out(shapes)
        interpreter = self._interpreter
        for name, index in self._inputs:
            interpreter.set_tensor(index, inputs[name])
        try:
            interpreter.invoke()
        except BaseException:
            self._shapes = []  # a failed call may leave anything in the memory
            raise
        answers = {name: interpreter.get_tensor(index) for name, index in self._outputs}
        for name in self._texts:
            answers[name] = readable(answers[name])
        return answers

    def _lay_out(self, shapes: list[tuple[int, ...]]) -> None:
        """Takes some 4 microseconds, so one interpreter serves every batch size: no padding, no memory for each."""
        self._shapes = []
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


def load(artifact: Artifact, options: LoadOptions) -> LiteRTRuntime:
    """Loads `model.tflite`; see `service.runtimes.load`."""
    path = artifact.format_path("litert")
    by_memory = _MOST_BYTES // (2 * path.stat().st_size)
    most = max(1, min(available_cores() // options.threads, by_memory))
    return LiteRTRuntime(Pool(lambda: _Interpreter(path, options.threads), most))

"""Binary requests of the Open Inference Protocol that are alike to the letter of their JSON, answered together.

A client's requests differ in nothing but their tensors, so what their JSON says is worked out once. Whatever is not
plainly so, strings, other datatypes, ids, compression, is left to `service.protocols.v2`, with the same answer.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from models.manifest import Tensors, TensorSpec
from service.engine import Engine
from service.errors import InvalidRequest, NotSupported
from service.inference import InferenceResponse
from service.metadata import ModelMetadata
from service.metrics import Metrics
from service.protocols.datatypes import OF_DTYPE
from service.protocols.predict import Target
from service.protocols.together import Bodies, Together, answer_together
from service.protocols.v2_infer import check_outputs, choose_outputs, encode_outputs
from service.protocols.v2_request import InferMessage, InputTensor, OutputChoice, parse_message, read_json
from service.protocols.v2_tensors import to_bytes
from service.statistics import Statistics

PROTOCOL = "v2"
_MOST_PLANS = 256
_LONGEST_URL = 300
_URL = re.compile(r"/v2/models/([\w.-]+)(?:/versions/([1-9]\d{0,8}))?/infer", re.ASCII)


def parse_url(url: bytes) -> Target | None:
    """The version that it asks for, if it is that of an inference."""
    return _parse_url(url) if len(url) <= _LONGEST_URL else None


@lru_cache(maxsize=1024)  # which keeps its keys: only short ones
def _parse_url(url: bytes) -> Target | None:
    found = _URL.fullmatch(url.decode("latin-1"))
    return Target(found[1], found[2]) if found else None


class _Place(NamedTuple):
    """Where an input lies behind the JSON, and the dtype and shape of it in one request."""

    name: str
    start: int
    stop: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class TensorPlan:
    """What one version needs for all requests with the same JSON."""

    def __init__(
        self,
        engine: Engine,
        metadata: ModelMetadata,
        places: list[_Place],
        choices: list[OutputChoice],
        metrics: Metrics,
        statistics: Statistics,
    ) -> None:
        self._engine = engine
        self._model = metadata.model
        self._places = places
        self._choices = choices
        self._signature = metadata.signature
        self._head = {"model_name": metadata.name, "model_version": str(metadata.version)}
        dtypes = {spec.name: spec.dtype for spec in metadata.signature.outputs}
        self._dtypes = {choice.name: dtypes[choice.name] for choice in choices}
        self._sizes: tuple[tuple[int, ...], ...] | None = None
        self._json = b""
        self._rows = places[0].shape[0]
        self._length = places[-1].stop
        self._statistics = statistics.of(metadata.name, metadata.version)
        self.name, self.version = metadata.name, metadata.version
        self.counts = metrics.requests(metadata.name, metadata.version, PROTOCOL)

    def answer_together(self, bodies: Bodies, received: float) -> Together | None:
        """Answers the bytes behind the JSON of several requests; see `service.protocols.together`."""
        answers = answer_together(
            self._engine,
            self._model,
            bodies,
            received,
            decode=self._decode,
            encode=self._encode,
            media_type=b"application/octet-stream",
        )
        if answers is not None:
            self._statistics.decoded.add(answers.decode_seconds, len(bodies))
            self._statistics.encoded.add(answers.encode_seconds, len(bodies))
        return answers

    def _decode(self, bodies: Bodies) -> tuple[Tensors, list[int]] | None:
        if set(map(len, bodies)) != {self._length}:
            return None
        inputs = {}
        for name, start, stop, dtype, shape in self._places:
            parts = [body[start:stop] for body in bodies]
            data = parts[0] if len(parts) == 1 else b"".join(parts)
            values = np.frombuffer(data, dtype).reshape(len(bodies) * shape[0], *shape[1:])
            inputs[name] = values if values.flags.aligned else values.copy()  # as `v2_tensors.from_bytes` does
        return inputs, [self._rows] * len(bodies)

    def _encode(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes]]:
        """The header that says how long the JSON is, and the bodies; all have the same JSON."""
        sizes = tuple([outputs[name].shape[1:] for name in self._dtypes])
        if sizes != self._sizes:
            self._json, self._sizes = self._describe(outputs), sizes
        json = self._json
        columns = []
        for name, dtype in self._dtypes.items():
            data = bytes(to_bytes(dtype, outputs[name]))
            size = len(data) // len(counts)
            columns.append([data[index * size : (index + 1) * size] for index in range(len(counts))])
        bodies = [b"".join((json, *parts)) for parts in zip(*columns, strict=True)]
        return b"inference-header-content-length: %d\r\n" % len(json), bodies

    def _describe(self, outputs: Tensors) -> bytes:
        """What all answers with outputs of these sizes have as JSON."""
        first = {name: values[: self._rows] for name, values in outputs.items()}
        response = InferenceResponse(first, self._signature, self.name, self.version, "")
        json, _ = encode_outputs(self._head, choose_outputs(response, self._choices))
        return json


class TensorPlans:
    """The plans of the engine's versions, by what is asked and its JSON."""

    def __init__(self, engine: Engine, metrics: Metrics, statistics: Statistics) -> None:
        self._engine = engine
        self._metrics, self._statistics = metrics, statistics
        self._plans: dict[tuple[Target, bytes], TensorPlan | None] = {}
        self._generation = -1

    def plan(self, target: Target, json: bytes) -> TensorPlan | None:
        """The plan for requests with this JSON; None where they cannot be answered together.

        Raises:
            ServiceError: there is no such version, or it is not ready.
        """
        generation = self._engine.generation
        if generation != self._generation or len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
            self._generation = generation
        key = (target, json)
        if key not in self._plans:
            metadata = self._engine.metadata(target.name, int(target.version) if target.version else None)
            self._plans[key] = self._make(metadata, json)
        return self._plans[key]

    def _make(self, metadata: ModelMetadata, json: bytes) -> TensorPlan | None:
        try:
            message = parse_message(read_json(json))
            choices = check_outputs(metadata.signature, message)
        except (InvalidRequest, NotSupported):
            return None
        if message.id is not None or message.timeout is not None or not all(_is_plain(choice) for choice in choices):
            return None
        places = _places(metadata.signature.inputs, message)
        shapes = [len(spec.shape) for spec in metadata.signature.outputs]
        has_strings = any(spec.dtype == "string" for spec in metadata.signature.outputs)
        if not places or has_strings or not all(shapes):
            return None
        return TensorPlan(self._engine, metadata, places, choices, self._metrics, self._statistics)


def _is_plain(choice: OutputChoice) -> bool:
    return choice.is_binary and not choice.classes


def _places(specs: tuple[TensorSpec, ...], message: InferMessage) -> list[_Place]:
    """Where the inputs lie; empty unless all are numbers in their own datatype, and of the signature's shape."""
    wanted = {spec.name: spec for spec in specs}
    if wanted.keys() != {tensor.name for tensor in message.inputs}:
        return []
    if not all(_fits(wanted[tensor.name], tensor) for tensor in message.inputs):
        return []
    if len({tensor.shape[0] for tensor in message.inputs}) > 1:
        return []
    ends = list(accumulate([tensor.size for tensor in message.inputs], initial=0))
    return [
        _Place(tensor.name, start, start + tensor.size, wanted[tensor.name].numpy_dtype, tensor.shape)
        for tensor, start in zip(message.inputs, ends, strict=False)
    ]


def _fits(spec: TensorSpec, tensor: InputTensor) -> bool:
    datatype = OF_DTYPE[spec.dtype]
    if datatype.wire is None or datatype.wire.kind == "b" or not datatype.wire.isnative:
        return False
    rows, *sizes = tensor.shape or (0,)
    return (
        tensor.data is None
        and tensor.datatype == datatype.v2
        and rows > 0
        and len(tensor.shape) == len(spec.shape)
        and all(size in {None, got} for size, got in zip(spec.shape[1:], sizes, strict=True))
        and tensor.size == math.prod(tensor.shape) * datatype.wire.itemsize > 0
    )

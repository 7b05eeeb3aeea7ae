"""Requests of the Open Inference Protocol whose tensors are bytes behind the JSON, answered together."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from models.manifest import Tensors, TensorSpec
from service.errors import NotInJson
from service.metadata import ModelMetadata
from service.protocols.datatypes import OF_DTYPE
from service.protocols.predict import Target
from service.protocols.tensors import dump
from service.protocols.together import Bodies
from service.protocols.v2_request import InferMessage
from service.protocols.v2_tensors import to_bytes
from service.protocols.v2_together import PROTOCOL, V2Plan, fits, parse_url, plain_message
from service.protocols.ways import Serving, Way

LONGEST_JSON = 16 * 2**10
"""Each is kept while its version serves."""


def target_of(url: bytes, has_tensors: bool) -> Target | None:
    """The version that is asked for tensors."""
    return parse_url(url) if has_tensors else None


def split(raw: bytes, begin: int, json_length: int) -> tuple[bytes, memoryview] | None:
    """The JSON, and the bytes of the tensors."""
    end = begin + json_length
    if not begin < end < len(raw) or json_length > LONGEST_JSON:
        return None
    return raw[begin:end], memoryview(raw)[end:]


def make_plan(serving: Serving, metadata: ModelMetadata, json: bytes, packs: bool) -> BinaryPlan | None:
    """The plan for requests with this JSON; None where each must be looked at."""
    found = plain_message(metadata, json, is_binary=True)
    places = _places(metadata.signature.inputs, found[0]) if found else []
    if found is None or not places:
        return None
    plan = BinaryPlan(serving, metadata, *found, places)
    return None if packs and not plan.is_surely_short() else plan


WAY = Way(PROTOCOL, target_of, split, make_plan, packs=True)


class _Place(NamedTuple):
    """Where an input lies behind the JSON, and the dtype and shape of it in one request."""

    name: str
    start: int
    stop: int
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]


class BinaryPlan(V2Plan[bytes]):
    """For requests with the same JSON, which describes tensors of numbers and asks for bytes."""

    media_type = b"application/octet-stream"

    def __init__(
        self,
        serving: Serving,
        metadata: ModelMetadata,
        message: InferMessage,
        names: list[str],
        places: list[_Place],
    ) -> None:
        super().__init__(serving, metadata, message, names)
        self._places = places
        self._length = places[-1].stop

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

    def _encode(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes | NotInJson]]:
        """The header that says how long the JSON is, and the bodies; all have the same JSON."""
        json = self._written(outputs)
        columns = []
        for name in self._names:
            data = bytes(to_bytes(self._specs[name].dtype, outputs[name]))
            size = len(data) // len(counts)
            columns.append([data[index * size : (index + 1) * size] for index in range(len(counts))])
        bodies: list[bytes | NotInJson] = [b"".join((json, *parts)) for parts in zip(*columns, strict=True)]
        return b"inference-header-content-length: %d\r\n" % len(json), bodies

    def _most_bytes(self, sizes: list[tuple[int, ...]]) -> int:
        return len(self._write(sizes)) + sum(map(self._bytes_of, self._names, sizes))

    def _write(self, sizes: list[tuple[int, ...]]) -> bytes:
        """The JSON of an answer whose outputs have rows of these sizes."""
        described = self._describe(sizes)
        for content, name, shape in zip(described, self._names, sizes, strict=True):
            content["parameters"] = {"binary_data_size": self._bytes_of(name, shape)}
        return dump({**self._head, "outputs": described})

    def _bytes_of(self, name: str, shape: tuple[int, ...]) -> int:
        wire = OF_DTYPE[self._specs[name].dtype].wire
        assert wire is not None  # noqa: S101 - `plain_message` lets no strings pass
        return self._rows * math.prod(shape) * wire.itemsize


def _places(specs: tuple[TensorSpec, ...], message: InferMessage) -> list[_Place]:
    """Where the inputs lie; empty unless all are bytes, and as the signature says."""
    wanted = {spec.name: spec for spec in specs}
    tensors = message.inputs
    if wanted.keys() != {tensor.name for tensor in tensors} or len({tensor.shape[:1] for tensor in tensors}) > 1:
        return []
    dtypes = [wanted[tensor.name].numpy_dtype for tensor in tensors]
    for tensor, dtype in zip(tensors, dtypes, strict=True):
        if not fits(wanted[tensor.name], tensor) or tensor.data is not None:
            return []
        if tensor.size != tensor.num_values * dtype.itemsize:
            return []
    ends = list(accumulate([tensor.size for tensor in tensors], initial=0))
    return [
        _Place(tensor.name, start, start + tensor.size, dtype, tensor.shape)
        for tensor, dtype, start in zip(tensors, dtypes, ends, strict=False)
    ]

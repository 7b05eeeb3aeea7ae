"""Requests of the Open Inference Protocol that are alike to the letter but for their values, answered together.

What such requests say of their tensors is worked out once. Whatever is not plainly so, strings, other datatypes, ids,
is left to `service.protocols.v2`, with the same answer. Where the values lie is for `v2_binary` and `v2_texts`.
"""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

from models.manifest import Tensors, TensorSpec
from service.errors import InvalidRequest, NotInJson, NotSupported
from service.metadata import ModelMetadata
from service.protocols.datatypes import OF_DTYPE
from service.protocols.predict import Target
from service.protocols.together import Bodies, Together, answer_together
from service.protocols.v2_body import LEAST_BYTES
from service.protocols.v2_infer import check_outputs
from service.protocols.v2_request import InferMessage, InputTensor, parse_message, read_json
from service.protocols.ways import Serving

PROTOCOL = "v2"
_URL = re.compile(r"/v2/models/([\w.-]+)(?:/versions/([1-9]\d{0,8}))?/infer", re.ASCII)


def parse_url(url: bytes) -> Target | None:
    """The version that it asks for, if it is that of an inference."""
    found = _URL.fullmatch(url.decode("latin-1"))
    return Target(found[1], found[2]) if found else None


Written = TypeVar("Written")


class V2Plan(Generic[Written]):
    """What one version needs for all requests that are alike. Subclasses know where the values lie.

    Args:
        serving: Of the service.
        metadata: Of the version.
        message: What the requests say.
        names: The outputs that are asked for.
    """

    media_type: bytes

    def __init__(self, serving: Serving, metadata: ModelMetadata, message: InferMessage, names: list[str]) -> None:
        self._engine = serving.engine
        self._model = metadata.model
        self._head = {"model_name": metadata.name, "model_version": str(metadata.version)}
        self._specs = {spec.name: spec for spec in metadata.signature.outputs}
        self._names = names
        self._rows = message.inputs[0].shape[0]
        self._latest: tuple[list[tuple[int, ...]], Written] | None = None
        self._statistics = serving.statistics.of(metadata.name, metadata.version)
        self.name, self.version = metadata.name, metadata.version
        self.counts = serving.metrics.requests(metadata.name, metadata.version, PROTOCOL)

    def answer_together(self, bodies: Bodies, received: float) -> Together | None:
        """Answers the values of several requests; see `service.protocols.together`."""
        answers = answer_together(
            self._engine,
            self._model,
            bodies,
            received,
            decode=self._decode,
            encode=self._encode,
            media_type=self.media_type,
        )
        if answers is not None:
            failed = sum([type(body) is NotInJson for body in answers.bodies])
            self._statistics.failed.add(answers.ended - received, failed)
            self._statistics.decoded.add(answers.decode_seconds, len(bodies) - failed)
            self._statistics.encoded.add(answers.encode_seconds, len(bodies) - failed)
        return answers

    def is_surely_short(self) -> bool:
        """Whether no answer can be so long that it would be compressed."""
        sizes = [self._specs[name].shape[1:] for name in self._names]
        if any(size is None for shape in sizes for size in shape):
            return False
        return self._most_bytes([tuple(map(int, shape)) for shape in sizes]) < LEAST_BYTES  # type: ignore[arg-type]

    def _decode(self, bodies: Bodies) -> tuple[Tensors, list[int]] | None:
        raise NotImplementedError

    def _encode(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes | NotInJson]]:
        raise NotImplementedError

    def _written(self, outputs: Tensors) -> Written:
        """What answers with these outputs have beside the values; written anew where rows have other sizes."""
        sizes = [outputs[name].shape[1:] for name in self._names]
        if self._latest is None or self._latest[0] != sizes:
            self._latest = sizes, self._write(sizes)
        return self._latest[1]

    def _write(self, sizes: list[tuple[int, ...]]) -> Written:
        """What answers whose outputs have rows of these sizes have beside the values."""
        raise NotImplementedError

    def _most_bytes(self, sizes: list[tuple[int, ...]]) -> int:
        """Of an answer whose outputs have rows of these sizes."""
        raise NotImplementedError

    def _describe(self, sizes: list[tuple[int, ...]]) -> list[dict[str, Any]]:
        """What an answer says of its outputs, whose rows have these sizes, before their values."""
        return [
            {"name": name, "datatype": OF_DTYPE[self._specs[name].dtype].v2, "shape": [self._rows, *shape]}
            for name, shape in zip(self._names, sizes, strict=True)
        ]


def plain_message(metadata: ModelMetadata, json: bytes, *, is_binary: bool) -> tuple[InferMessage, list[str]] | None:
    """What the JSON of requests says, and the outputs it asks for; None unless it asks for nothing special.

    Special is what could change from one request to the next, strings, classes, and another form of outputs.
    """
    try:
        message = parse_message(read_json(json))
        choices = check_outputs(metadata.signature, message)
    except (InvalidRequest, NotSupported):
        return None
    if message.id is not None or message.timeout is not None:
        return None
    if not all(choice.is_binary is is_binary and not choice.classes for choice in choices):
        return None
    if any(spec.dtype == "string" or not spec.shape for spec in metadata.signature.outputs):
        return None
    return message, [choice.name for choice in choices]


def fits(spec: TensorSpec, tensor: InputTensor) -> bool:
    """Whether a tensor holds numbers of the input's own datatype, at least one, in its shape."""
    datatype = OF_DTYPE[spec.dtype]
    if datatype.wire is None or datatype.wire.kind == "b" or not datatype.wire.isnative:
        return False
    return (
        tensor.datatype == datatype.v2
        and tensor.num_values > 0
        and len(tensor.shape) == len(spec.shape)
        and all(size in {None, got} for size, got in zip(spec.shape[1:], tensor.shape[1:], strict=True))
    )

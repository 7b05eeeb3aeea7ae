"""Requests of the Open Inference Protocol whose one tensor is in the JSON, answered together.

What a request has for itself is between the brackets of its `data`; the rest is its frame, which a client's requests
have in common.
"""

from __future__ import annotations

import re

import numpy as np
import orjson

from models.manifest import Tensors, TensorSpec
from service.errors import NotInJson
from service.metadata import ModelMetadata
from service.protocols.json_rows import NumbersDecoder
from service.protocols.predict import Target
from service.protocols.tensors import dump
from service.protocols.together import Bodies
from service.protocols.v2_request import InferMessage, InputTensor
from service.protocols.v2_tensors import to_json
from service.protocols.v2_together import PROTOCOL, V2Plan, fits, parse_url, plain_message
from service.protocols.ways import Serving, Way

_DATA = re.compile(rb'"data"[ \t\r\n]*:[ \t\r\n]*\[')
_LONGEST_FRAME = 2048
_NO_VALUES = b'"data":[]'
_LONGEST_NUMBER = 25  # with its comma
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def target_of(url: bytes, has_tensors: bool) -> Target | None:
    """The version that is asked in JSON alone."""
    return None if has_tensors else parse_url(url)


def split(raw: bytes, begin: int, _: int) -> tuple[bytes, bytes] | None:
    """The frame, and what is within the brackets of the only `data`.

    Numbers are a list, or a list of lists; anything else makes a frame that is no JSON. A frame with an id would be
    another for each request. One with an escape might spell a key in another way.
    """
    found = _DATA.search(raw, begin)
    if found is None:
        return None
    first = found.end()
    end = raw.rfind(b"]]", first) + 1 if raw.startswith(b"[", first) else raw.find(b"]", first)
    if end < first or len(raw) - begin - (end - first) > _LONGEST_FRAME:
        return None
    frame = raw[begin:first] + raw[end:]
    if frame.count(b'"data"') > 1 or b'"id"' in frame or b"\\" in frame:
        return None
    return frame, raw[first:end]


def make_plan(serving: Serving, metadata: ModelMetadata, frame: bytes, packs: bool) -> TextPlan | None:
    """The plan for requests with this frame; None where each must be looked at."""
    found = plain_message(metadata, frame, is_binary=False)
    spec, *others = metadata.signature.inputs
    if found is None or others or len(found[0].inputs) > 1:
        return None
    (tensor,) = found[0].inputs
    if spec.nullable or tensor.name != spec.name or tensor.data != [] or not fits(spec, tensor):
        return None
    plan = TextPlan(serving, metadata, *found, spec, tensor)
    return None if packs and not plan.is_surely_short() else plan


WAY = Way(PROTOCOL, target_of, split, make_plan, packs=True)


class TextPlan(V2Plan[list[bytes]]):
    """For requests with the same frame, which describes one tensor of numbers and asks for outputs in JSON."""

    media_type = b"application/json"

    def __init__(
        self,
        serving: Serving,
        metadata: ModelMetadata,
        message: InferMessage,
        names: list[str],
        spec: TensorSpec,
        tensor: InputTensor,
    ) -> None:
        super().__init__(serving, metadata, message, names)
        self._parser = serving.parser
        self._numbers = NumbersDecoder(spec)
        self._shape = tensor.shape
        self._length = tensor.num_values

    def _decode(self, bodies: Bodies) -> tuple[Tensors, list[int]] | None:
        """Values come flat, or nested as the shape says, which is read here for rows of one size alone."""
        if bodies[0].startswith(b"["):
            if len(self._shape) != 2 or not all(body.startswith(b"[") and body.endswith(b"]") for body in bodies):
                return None
            lists, width = self._shape
            found = self._numbers.decode_rows([body[1:-1] for body in bodies], width, self._parser)
        else:
            lists = 1
            found = self._numbers.decode_rows(bodies, self._length, self._parser)
        if found is None or set(found[1]) != {lists}:
            return None
        values = found[0].reshape(len(bodies) * self._rows, *self._shape[1:])
        return {self._numbers.name: values}, [self._rows] * len(bodies)

    def _encode(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes | NotInJson]]:
        begin, *others = self._written(outputs)
        columns = [_texts(outputs[name], len(counts)) for name in self._names]
        bodies: list[bytes] = []
        for texts in zip(*columns, strict=True):
            parts = [begin]
            for text, behind in zip(texts, others, strict=True):
                parts += (b'"data":[', text, b"]", behind)
            bodies.append(b"".join(parts))
        # orjson writes NaN as null, as the protocol has it, and so it does an infinity, which is an error.
        return b"", [
            self._checked(body, index, outputs) if b"null" in body else body for index, body in enumerate(bodies)
        ]

    def _checked(self, body: bytes, index: int, outputs: Tensors) -> bytes | NotInJson:
        """The answer to one of the requests, or the error where an output of its rows holds an infinity."""
        rows = slice(index * self._rows, (index + 1) * self._rows)
        try:
            for name in self._names:
                to_json(name, self._specs[name].dtype, outputs[name][rows])
        except NotInJson as error:
            return error
        return body

    def _most_bytes(self, sizes: list[tuple[int, ...]]) -> int:
        values = sum(self._rows * int(np.prod(shape)) for shape in sizes)
        return sum(map(len, self._write(sizes))) + len(sizes) * len(_NO_VALUES) + values * _LONGEST_NUMBER

    def _write(self, sizes: list[tuple[int, ...]]) -> list[bytes]:
        """What an answer has around the data of its outputs, whose rows have these sizes."""
        described = [{**content, "data": []} for content in self._describe(sizes)]
        return dump({**self._head, "outputs": described}).split(_NO_VALUES)


def _texts(values: np.ndarray, number: int) -> list[bytes]:
    """The values of each of so many answers, flat."""
    flat = np.ascontiguousarray(values).reshape(number, -1)
    return orjson.dumps(flat, None, _NUMPY)[2:-2].split(b"],[")

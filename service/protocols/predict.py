"""What `POST .../predict` does with a body, whichever door it came through: the FastAPI route or the fast lane."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakKeyDictionary

from models.manifest import Tensors
from service.engine import Done, Engine
from service.errors import InvalidRequest, NotFound, NotInJson, ServiceError
from service.inference import InferenceRequest, InferenceResponse
from service.metadata import ModelMetadata
from service.metrics import Metrics, RequestMetrics
from service.protocols.answers import LABELLED, AnswerEncoder, answer_tensors, check_labels, example_request
from service.protocols.bodies import BodyKind
from service.protocols.json_rows import LONGEST_EXAMPLE, RowsDecoder
from service.protocols.tensors import describe, dump
from service.protocols.together import Bodies, Together, answer_together
from service.tickets import Ticket

PROTOCOL = "native"
JSON = "application/json"
_MEDIA_TYPE = JSON.encode()
TIMEOUT_HEADER = "X-Request-Timeout-Ms"
_LONGEST_TIMEOUT_MS = 10**9
_LONGEST_URL = 300
_URL = re.compile(r"(?:/models/([\w.-]+)(?:/versions/(\d+)|/labels/([\w.-]+))?)?/predict(\?labels=true)?", re.ASCII)


class Target(NamedTuple):
    """The version that a path asks for: by its number, by its label, or the one that serves."""

    name: str | None = None
    version: str | None = None
    label: str | None = None


class Url(NamedTuple):
    """What a URL asks for: answers of which version, and whether with labels."""

    target: Target
    labels: bool


def parse_url(url: bytes) -> Url | None:
    """What it asks for, if it is that of a plain prediction."""
    return _parse_url(url) if len(url) <= _LONGEST_URL else None


@lru_cache(maxsize=1024)  # which keeps its keys: only short ones
def _parse_url(url: bytes) -> Url | None:
    found = _URL.fullmatch(url.decode("latin-1"))
    return Url(Target(found[1], found[2], found[3]), found[4] is not None) if found else None


class PredictPlan:
    """What one version needs at each request, made ready once."""

    def __init__(self, engine: Engine, metadata: ModelMetadata, metrics: Metrics) -> None:
        self._engine = engine
        self._model = metadata.model  # not `metadata` itself, which a plan would keep alive, and so itself
        self.name = metadata.name
        self.version = metadata.version
        self.counts = metrics.requests(metadata.name, metadata.version, PROTOCOL)
        self._metrics = metrics
        self._signature = metadata.signature
        self._decoder = RowsDecoder(metadata.signature)
        self._hint = _hint(metadata)
        self.encoder = AnswerEncoder(metadata.signature, metadata.name, metadata.version, metadata.runtime)

    @property
    def most_bytes(self) -> int:
        """Of a body in JSON that may be decoded on the event loop."""
        return self._decoder.most_bytes

    def is_quick(self, body: bytes) -> bool:
        """Whether `decode` may be called on the event loop with a body."""
        return self._decoder.is_quick(body)

    def check_labels(self) -> None:
        """Refuses a request for labels of a model that has none.

        Raises:
            InvalidRequest: it has none.
        """
        check_labels(self.name, self._signature)

    def check_answer(self, kind: BodyKind | None, *, labels: bool) -> None:
        """Refuses a request whose answer cannot have the form that is asked for; None is JSON.

        Raises:
            InvalidRequest: it cannot, or there are no labels.
            UnsupportedMedia: the library for the form is missing.
        """
        if labels:
            self.check_labels()
        if kind:
            kind.check(LABELLED if labels else self._signature.outputs)

    def decode(self, body: bytes) -> Tensors:
        """The tensors of a body; see `RowsDecoder` for the threads that may call this.

        Raises:
            InvalidRequest: the body is not what the model takes. The message shows a request that is.
        """
        try:
            return self._decoder.decode(body)
        except InvalidRequest as error:
            raise self._explained(error) from error

    def decode_kind(self, kind: BodyKind, limit: int, body: bytes) -> Tensors:
        """The tensors of a body of another kind than JSON, of which at most `limit` bytes are unpacked.

        Raises:
            InvalidRequest: as `decode`.
            UnsupportedMedia: the library for it is missing.
        """
        try:
            kind.check(self._signature.inputs)
            return kind.decode(body, self._signature, limit)
        except InvalidRequest as error:
            raise self._explained(error) from error

    def _explained(self, error: InvalidRequest) -> InvalidRequest:
        """The error, with a request that works."""
        return InvalidRequest(f"{error} {self._hint}")

    def submit(self, inputs: Tensors, target: Target, timeout: float | None, done: Done) -> Ticket[InferenceResponse]:
        """Queues a request; see `Engine.submit_to`, whose `InvalidRequest` comes with a request that works."""
        try:
            return self._engine.submit_to(self._model, self._request(inputs, target, timeout), done)
        except InvalidRequest as error:
            raise self._explained(error) from error

    async def infer(self, inputs: Tensors, target: Target, timeout: float | None) -> InferenceResponse:
        """Answers a request; see `Engine.infer`, whose `InvalidRequest` comes with a request that works."""
        try:
            return await self._engine.infer(self._request(inputs, target, timeout))
        except InvalidRequest as error:
            raise self._explained(error) from error

    def _request(self, inputs: Tensors, target: Target, timeout: float | None) -> InferenceRequest:
        """What the engine is asked: of this very version where the caller named one."""
        version = self.version if target.version else None
        return InferenceRequest(inputs, self.name, version, timeout, target.label)

    def answer_together(self, bodies: Bodies, received: float) -> Together | None:
        """Answers small bodies; see `service.protocols.together`."""
        return answer_together(
            self._engine,
            self._model,
            bodies,
            received,
            decode=self._decoder.decode_together,
            encode=self._encode_together,
            media_type=_MEDIA_TYPE,
        )

    def _encode_together(self, outputs: Tensors, counts: list[int]) -> tuple[bytes, list[bytes | NotInJson]]:
        return self.encoder.head, self.encoder.encode_each(outputs, counts)

    def encoder_for(self, response: InferenceResponse) -> AnswerEncoder:
        """The encoder of the version that answered, which may have replaced this one meanwhile."""
        if response.version == self.version and response.signature is self._signature:
            return self.encoder
        return AnswerEncoder.of(response)

    def encode(self, response: InferenceResponse, kind: BodyKind | None, *, labels: bool) -> tuple[bytes, bytes]:
        """The lines of HTTP that say who answered, and the body; see `AnswerEncoder`. None is JSON."""
        encoder = self.encoder_for(response)
        if kind:
            return encoder.head, kind.encode(answer_tensors(response, labels=labels))
        return encoder.head, encoder.encode(response.outputs, labels=labels)

    def counts_for(self, response: InferenceResponse) -> RequestMetrics:
        """Where requests to the version that answered are counted, if that is not this plan's."""
        return self._metrics.requests(response.model, response.version, PROTOCOL)


class Predictor:
    """The engine's models with their plans. A plan is dropped with its version."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._plans: WeakKeyDictionary[ModelMetadata, PredictPlan] = WeakKeyDictionary()
        self._found: dict[Target, PredictPlan] = {}
        self._generation = -1

    def plan(self, target: Target) -> PredictPlan:
        """The plan of the version that answers a request.

        Raises:
            NotFound, NotReady: as `Engine.metadata`; a version that is no number is not found either.
        """
        generation = self._engine.generation
        if generation != self._generation:
            self._found.clear()
            self._generation = generation
        plan = self._found.get(target)
        if plan is None:
            plan = self._found[target] = self._find(target)
        return plan

    def most_bytes(self, target: Target, most: int) -> int:
        """Of a body that may be decoded on the event loop, at most `most`."""
        try:
            return min(most, self.plan(target).most_bytes)
        except ServiceError:  # which the application will tell
            return 0

    def _find(self, target: Target) -> PredictPlan:
        name, version, label = target
        metadata = self._engine.metadata(name, None if version is None else self._number(name, version), label)
        plan = self._plans.get(metadata)
        if plan is None:
            plan = self._plans[metadata] = PredictPlan(self._engine, metadata, self._metrics)
        return plan

    def _number(self, name: str | None, version: str) -> int:
        if version.isascii() and version.isdecimal() and len(version) < 10 and int(version) > 0:
            return int(version)
        raise NotFound(f"A version is a number. Received: {version}. Served: {self._engine.metadata(name).version}.")


def timeout_seconds(header: str | None) -> float | None:
    """What the header `X-Request-Timeout-Ms` asks for; None where it is not there.

    Raises:
        InvalidRequest: it is no number that it may be.
    """
    if header is None:
        return None
    if header.isascii() and header.isdecimal() and len(header) < 11 and 1 <= int(header) <= _LONGEST_TIMEOUT_MS:
        return int(header) / 1e3
    raise InvalidRequest(
        f"`{TIMEOUT_HEADER}` must be a whole number of milliseconds from 1 to {_LONGEST_TIMEOUT_MS}. "
        f"Received: {describe(header)}."
    )


def _hint(metadata: ModelMetadata) -> str:
    request = dump(example_request(metadata)).decode()
    if len(request) <= LONGEST_EXAMPLE:
        return f"A request that works: {request}"
    return f"GET /models/{metadata.name} shows a request that works."

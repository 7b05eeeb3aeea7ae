"""A request in the fast lane, from its head to its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple, Protocol

from models.manifest import Tensors
from service.errors import UNFORESEEN, ServiceError, error_body, log_error
from service.exchange import CLIENT_LEFT, Exchange
from service.inference import InferenceResponse, row_count
from service.lane_heads import Head
from service.logs import request_id
from service.observer import Observing
from service.protocols.predict import PROTOCOL, PredictPlan
from service.protocols.ways import Plan
from service.tickets import Ticket

_MOST_AT_ONCE = 64
_MOST_BYTES = 2**20
_LITTLE_BYTES = 2**12  # which are not worth adding up
_log = logging.getLogger("uvicorn.error")  # where its own connections write that the application failed


class Lane(Protocol):
    """The connection that a request came over."""

    def run(self, request: Request) -> None:
        """Queues the rows of a request that has arrived."""

    def take_result(self, request: Request, result: InferenceResponse | BaseException) -> None:
        """Is told of what the engine answered."""

    def take(self, request: Request, answer: Answer) -> None:
        """Is told of what is to be written."""

    def refuse(self, request: Request, error: Exception) -> None:
        """Is told of what is wrong."""


class Answer(NamedTuple):
    """What is written: `head` is the lines that the answer has beside those of every answer."""

    status: int
    head: bytes
    body: bytes
    media_type: bytes = b"application/json"


class Request:
    """A request in the lane. uvicorn's code takes it for one of its own cycles, of which it has the attributes.

    Of another protocol's request `raw` is all that came, `common` what it has in common with others that are alike, and
    `body` the rest.
    """

    message_event = asyncio.Event()  # uvicorn sets it when the client leaves; nobody waits for it here
    has_arrived = False
    has_started = False
    has_left = False
    disconnected = False
    response_complete = False
    raw = common = b""
    body: bytes | bytearray | memoryview = b""
    plan: Plan | None = None
    ticket: Ticket[InferenceResponse] | None = None
    answer: Answer | None = None
    received = decoded = 0.0
    rows = 0
    error = ""

    def __init__(self, connection: Lane, head: Head, request_id: bytes) -> None:
        self.connection = connection
        self.head = head
        self.keep_alive = head.keep_alive
        self.request_id = request_id

    @property
    def path(self) -> str:
        """As the log has it."""
        return self.head.url.partition(b"?")[0].decode()

    def submit(self, inputs: Tensors, timeout: float | None) -> None:
        """Queues the rows; see `PredictPlan.submit`."""
        plan = self.plan
        assert isinstance(plan, PredictPlan)  # noqa: S101 - which has decoded them
        self.decoded = perf_counter()
        self.body, self.rows = b"", row_count(inputs)
        self.ticket = plan.submit(inputs, self.head.target, timeout, self.done)

    def submit_decoded(self, observing: Observing, timeout: float | None, decoding: asyncio.Future[Tensors]) -> None:
        """Does so with what a thread has decoded, unless the client has left meanwhile."""
        try:
            inputs = decoding.result()
            if not self.has_left:
                self.submit(inputs, timeout)
        except Exception as error:
            if not self.has_left:
                self.connection.take(self, self.failure(observing, error))

    def leave(self) -> None:
        """The client is gone: nobody is to answer."""
        self.has_left = True
        if self.ticket:
            self.ticket.cancel()

    def failure(self, observing: Observing, error: Exception) -> Answer:
        """Counts and logs an error, and gives the answer that tells of it."""
        self.count(observing, error.status if isinstance(error, ServiceError) else 500)
        with request_id(self.request_id.decode()):
            if not isinstance(error, ServiceError):
                _log.error("Exception in the fast lane\n", exc_info=error)
                return Answer(500, b"", error_body(UNFORESEEN))
            log_error("POST", self.path, error)
        self.error = str(error)
        head = b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in error.headers.items()])
        return Answer(error.status, head, error_body(self.error))

    def count(self, observing: Observing, status: int) -> None:
        """Counts an answer other than 200."""
        protocol = self.head.way.protocol if self.head.way else PROTOCOL
        counts = self.plan.counts if self.plan else observing.metrics.requests("", None, protocol)
        counts.failed(status)

    def end_unanswered(self, observing: Observing, find_plan: Callable[[Request], Plan | None]) -> None:
        """Counts and logs a request whose client has left."""
        if self.has_arrived and self.plan is None:  # it has waited for the turn
            with suppress(ServiceError):
                self.plan = find_plan(self)
        self.count(observing, CLIENT_LEFT)
        if observing.has_line(CLIENT_LEFT):
            self.log(observing, CLIENT_LEFT)

    def log(self, observing: Observing, status: int) -> None:
        """Writes its line in the access log."""
        seconds = perf_counter() - self.received if self.received else 0.0
        with request_id(self.request_id.decode()):
            observing.write_line("POST", self.path, status, self._exchange(), seconds)

    def _exchange(self) -> Exchange:
        exchange = Exchange(self.request_id.decode(), error=self.error)
        if self.plan:
            exchange.model, exchange.version = self.plan.name, self.plan.version
        exchange.rows = self.rows
        return exchange

    def done(self, result: InferenceResponse | BaseException) -> None:
        """Called by the engine, once, unless the ticket has been cancelled."""
        self.connection.take_result(self, result)


def has_room(lane: Collection[Request], head: Head) -> bool:
    """Whether one client may have a request with this head in the lane beside those that are unanswered."""
    is_little = head.length < _LITTLE_BYTES or sum([request.head.length for request in lane]) < _MOST_BYTES
    return not lane or (len(lane) < _MOST_AT_ONCE and is_little)

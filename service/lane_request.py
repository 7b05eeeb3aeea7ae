"""A request in the fast lane, from its head to its answer."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import NamedTuple, Protocol

from service.exchange import Exchange
from service.inference import InferenceResponse
from service.logs import request_id
from service.observer import Observing
from service.protocols.predict import PredictPlan, Target
from service.tickets import Ticket


class Lane(Protocol):
    """The connection that a request came over."""

    def take_answer(self, request: Request, result: InferenceResponse | BaseException) -> None:
        """Is told of the answer."""


class Head(NamedTuple):
    """What the head of a request for the lane says; `length` is that of the body."""

    url: bytes
    target: Target
    labels: bool
    timeout: str | None
    length: int
    keep_alive: bool


class Heads:
    """Heads that have been parsed before: a client sends the same one over and over, byte for byte."""

    _MOST, _LONGEST = 1024, 2048

    def __init__(self) -> None:
        self._heads: dict[bytes, Head] = {}
        self.get = self._heads.get

    def add(self, text: bytes, head: Head) -> None:
        """Keeps a head, from the first letter of `POST` to the empty line, if it may stand for all such text.

        A line that ends in a bare LF may be where the parser sees the end.
        """
        if len(text) > self._LONGEST or not text.startswith(b"POST ") or text.count(b"\n") != text.count(b"\r\n"):
            return
        if len(self._heads) >= self._MOST:
            self._heads.clear()
        self._heads[text] = head


class Answer(NamedTuple):
    """What is written: `head` is the lines that the answer has beside those of every answer."""

    status: int
    head: bytes
    body: bytes


class Request:
    """A request in the lane. uvicorn's code takes it for one of its own cycles, of which it has the attributes."""

    message_event = asyncio.Event()  # uvicorn sets it when the client leaves; nobody waits for it here
    has_arrived = False
    has_started = False
    is_last = False
    disconnected = False
    response_complete = False
    body: bytes | bytearray = b""
    plan: PredictPlan | None = None
    ticket: Ticket[InferenceResponse] | None = None
    answer: Answer | None = None
    received = decoded = 0.0
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

    def log(self, observing: Observing, status: int) -> None:
        """Writes its line in the access log."""
        seconds = perf_counter() - self.received
        with request_id(self.request_id.decode()):
            observing.write_line("POST", self.path, status, self._exchange(), seconds)

    def _exchange(self) -> Exchange:
        exchange = Exchange(self.request_id.decode(), error=self.error)
        if self.plan:
            exchange.model, exchange.version = self.plan.name, self.plan.version
        if self.ticket:
            exchange.rows = self.ticket.rows
        return exchange

    def done(self, result: InferenceResponse | BaseException) -> None:
        """Called by the engine, once, unless the ticket has been cancelled."""
        self.connection.take_answer(self, result)

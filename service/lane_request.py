"""A request in the fast lane, from its head to its answer."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from service.exchange import Exchange
from service.inference import InferenceResponse
from service.protocols.predict import PredictPlan, Target
from service.tickets import Ticket


class Lane(Protocol):
    """The connection that a request came over."""

    url: bytes

    def take_answer(self, request: Request, result: InferenceResponse | BaseException) -> None:
        """Is told of the answer."""


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

    def __init__(
        self, connection: Lane, target: Target, timeout: str | None, request_id: bytes, *, keep_alive: bool
    ) -> None:
        self.connection = connection
        self.url = connection.url
        self.target = target
        self.timeout = timeout
        self.request_id = request_id
        self.keep_alive = keep_alive

    @property
    def path(self) -> str:
        """As the log has it."""
        return self.url.partition(b"?")[0].decode()

    def exchange(self) -> Exchange:
        """What is known of it, for the access log."""
        exchange = Exchange(self.request_id.decode(), error=self.error)
        if self.plan:
            exchange.model, exchange.version = self.plan.name, self.plan.version
        if self.ticket:
            exchange.rows = self.ticket.rows
        return exchange

    def done(self, result: InferenceResponse | BaseException) -> None:
        """Called by the engine, once, unless the ticket has been cancelled."""
        self.connection.take_answer(self, result)

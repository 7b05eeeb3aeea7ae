"""One client's connection: uvicorn's own, with limits on how long a client may keep it waiting.

uvicorn closes a connection that has been idle after an answer, and no other: half a request, or a client that does not
read its answers, would hold a connection for ever. Nothing here costs a timer for each request: a connection counts its
steps, and the server looks at all of them once a second for those that make none.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import error_body, render
from service.observer import Observer

_log = logging.getLogger(__name__)
_ALWAYS_ANSWERED = {
    "/health/live",
    "/health/ready",
    "/metrics",
    "/v2/health/live",
    "/v2/health/ready",
    "/monitoring/prometheus/metrics",
}
_SURPLUS_SECONDS = 5.0
_LINGER_SECONDS = 1.0


CLOSE = (b"connection", b"close")
"""The header by which an answer tells its client to connect anew for the next request."""


@dataclass(frozen=True)
class ConnectionLimits:
    """What a client may take: `keep_alive_timeout` and `client_timeout` in seconds, `max_header_bytes` for its head.

    Connections beyond `max_connections` get 503, but for health and metrics: nobody shall restart a service for being
    popular.
    """

    keep_alive_timeout: float
    client_timeout: float
    max_header_bytes: int
    max_body_bytes: int
    max_connections: int


class Awaits(Enum):
    """What a connection is waiting for."""

    NEXT_REQUEST = "the next request"
    REST_OF_REQUEST = "the rest of a request"
    ANSWER = "an answer of ours"


class Connection(HttpToolsProtocol):
    """uvicorn's connection with `ConnectionLimits`. Made by uvicorn, which gives all but the limits.

    Attributes:
        is_closing_soon: Whether `app` refuses what comes next, since there are too many connections or the head is too
            long. Then nothing but `app` may answer.
    """

    def __init__(self, *, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self.limits = limits
        self.awaits = Awaits.NEXT_REQUEST
        self.steps = 0
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0
        self._is_in_head = False
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._is_lingering = False
        self.is_closing_soon = False
        self._is_split = False

    def is_ending(self) -> bool:
        """Whether nothing more is read as a request: it is being refused, or its last one has come."""
        return self.is_closing_soon or self._is_lingering or (self.cycle is not None and not self.cycle.keep_alive)

    def look_at(self, now: float) -> None:
        """Ends the connection if its client has kept it waiting too long. Called by the server once a second."""
        # What is unsent shows whether a client reads, however slowly.
        seen = (self.steps, self.transport.get_write_buffer_size())
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        elif now - self._seen_at >= self._patience() and not self.transport.is_closing():
            _log.debug("%s has kept us waiting for too long.", self.client)
            self.transport.abort()  # `close` would wait for it to read what is still to be sent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begins to read."""
        super().connection_made(transport)
        self.flow = _Flow(self)
        if len(self.connections) > self.limits.max_connections:
            self.is_closing_soon = True
            self.app = self._refuse_but_health

    def data_received(self, data: bytes) -> None:
        """Takes what has come in, and refuses a head that grows too long."""
        if self._is_lingering:
            return
        self._is_split = self._is_in_head
        self._chunk_bytes = len(data)
        super().data_received(data)
        if self._is_split and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes and not self.transport.is_closing():
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.begin_message()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head has arrived."""
        self.end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has arrived."""
        self.end_message()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer of the application has been written."""
        super().on_response_complete()
        self.end_answer()

    def pause_writing(self) -> None:
        """The client does not read its answers: takes no more requests from it."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client has read most of them."""
        super().resume_writing()
        self.flow.resume_reading()

    def begin_message(self) -> None:
        """Notes that a request has begun to arrive: all of it must be here in time."""
        self.awaits = Awaits.REST_OF_REQUEST
        self.steps += 1
        self._is_in_head = True
        self._is_split = False  # this one is not, whatever the chunk began with
        self._head_bytes = 0

    def end_head(self) -> None:
        """Notes that a head has arrived, and refuses one that is too long; most come whole, in too little to count."""
        self._is_in_head = False
        if self._is_split or self._chunk_bytes > self.limits.max_header_bytes:
            length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if length > self.limits.max_header_bytes:
                if self.cycle is None or self.cycle.response_complete:
                    self._refuse_head()
                    raise ValueError("The head is too long.")  # which ends the parsing
                self.is_closing_soon = True
                self.app = render(431, self._too_long(), {"connection": "close"})  # after the answers before it

    def end_message(self) -> None:
        """Notes that a request has arrived. Its answer may take as long as the engine allows."""
        has_been_answered = self.cycle is None or self.cycle.response_complete  # which may be before it has arrived
        self.awaits = Awaits.NEXT_REQUEST if has_been_answered else Awaits.ANSWER
        self.steps += 1

    def end_answer(self) -> None:
        """Notes that an answer has been written."""
        if self.awaits is Awaits.ANSWER and self.cycle.response_complete:
            self.awaits = Awaits.NEXT_REQUEST
        self.steps += 1

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, unless the connection has been refused already."""
        if not self._is_lingering:
            super().send_400_response(msg)

    def _patience(self) -> float:
        """How long nothing may happen."""
        if self.flow.write_paused or self.awaits is Awaits.REST_OF_REQUEST:
            return self.limits.client_timeout
        if self.awaits is Awaits.ANSWER:
            return math.inf
        return _SURPLUS_SECONDS if self.is_closing_soon else self.limits.keep_alive_timeout

    def _refuse_head(self) -> None:
        body = error_body(self._too_long())
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines.append(b"content-length: %d\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" % len(body))
        self.transport.write(b"".join([STATUS_LINE[431], *lines, body]))
        # Closing while more is coming in would reset the connection, and the client might never see the answer.
        self._is_lingering = True
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _too_long(self) -> str:
        return f"The head of a request may have at most {self.limits.max_header_bytes} bytes. Send fewer headers."

    async def _refuse_but_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _ALWAYS_ANSWERED:
            await self.config.loaded_app(scope, receive, send)
            return
        message = f"There are more than {self.limits.max_connections} connections. Try again, or ask another instance."
        answer: ASGIApp = render(503, message, {"connection": "close", "retry-after": "1"})
        if observing := self.app_state.get("observing"):
            answer = Observer(answer, observing)
        await answer(scope, receive, send)


class _Flow(FlowControl):
    """Reads no more while answers are unread or requests wait for their turn.

    uvicorn's reads on with each answer and each request that it starts, so a client that sends without waiting would
    fill the memory.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.transport)
        self._connection = connection

    def resume_reading(self) -> None:
        if not self.write_paused and not self._connection.pipeline:
            super().resume_reading()

"""One client's connection: uvicorn's own, with limits on how long a client may keep it waiting.

uvicorn closes a connection that has been idle after an answer, and no other: half a request, or a client that does not
read its answers, would hold a connection for ever. Nothing here costs a timer for each request. A connection knows when
its patience ends, and the server looks at all of them once a second.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ConnectionLimits:
    """What a client may take: `keep_alive_timeout` and `client_timeout` in seconds, `max_header_bytes` for its head."""

    keep_alive_timeout: float
    client_timeout: float
    max_header_bytes: int
    max_body_bytes: int


class Connection(HttpToolsProtocol):
    """uvicorn's connection with `ConnectionLimits`. Made by uvicorn, which gives all but the limits."""

    def __init__(self, *, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self.limits = limits
        self.deadline = math.inf
        self._is_in_head = False
        self.is_receiving = False
        self._head_bytes = 0
        self._chunk_bytes = 0
        self._unsent_bytes = 0

    def close_if_overdue(self, now: float) -> None:
        """Ends the connection if its client has kept it waiting too long. Called by the server once a second."""
        if self.flow.write_paused:
            unsent = self.transport.get_write_buffer_size()
            if unsent != self._unsent_bytes:  # it reads, however slowly
                self._unsent_bytes = unsent
                self.deadline = now + self.limits.client_timeout
        if now >= self.deadline and not self.transport.is_closing():
            _log.debug("%s was too slow.", self.client)
            # `close` would wait for the client to read what is still to be sent.
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begins to wait for the first request."""
        super().connection_made(transport)
        self.be_patient(self.limits.keep_alive_timeout)

    def data_received(self, data: bytes) -> None:
        """Takes what has come in, and refuses a head that grows too long."""
        was_in_head = self._is_in_head
        self._chunk_bytes = len(data)
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self.limits.max_header_bytes:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """The first byte of a request: all of it must be here in time."""
        self.begin_message()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head has arrived."""
        self.end_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has arrived; its answer may take as long as the engine allows."""
        self.end_message()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has been written. A client that does not read it may send nothing more."""
        super().on_response_complete()
        if self.flow.write_paused:
            self.flow.pause_reading()

    def pause_writing(self) -> None:
        """The client reads too slowly: takes no more requests from it, and waits for a while."""
        super().pause_writing()
        self.flow.pause_reading()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self.be_patient(self.limits.client_timeout)

    def resume_writing(self) -> None:
        """The client has read most of what there was."""
        super().resume_writing()
        self.deadline = math.inf
        if self.is_receiving:
            self.be_patient(self.limits.client_timeout)
        elif self.cycle is None or self.cycle.response_complete:
            self.be_patient(self.limits.keep_alive_timeout)
        if not self.pipeline:
            self.flow.resume_reading()

    def be_patient(self, seconds: float) -> None:
        """Waits no longer than that for what must come next."""
        self.deadline = self.loop.time() + seconds

    def begin_message(self) -> None:
        """Notes that a request has begun to arrive."""
        self._is_in_head = self.is_receiving = True
        self._head_bytes = 0
        self.be_patient(self.limits.client_timeout)

    def end_head(self) -> None:
        """Notes that a head has arrived, and refuses one that is too long; most are too short to be counted."""
        self._is_in_head = False
        if self._head_bytes + self._chunk_bytes > self.limits.max_header_bytes:
            length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if length > self.limits.max_header_bytes:
                self._refuse_head()
                raise ValueError("The head is too long.")  # which ends the parsing

    def end_message(self) -> None:
        """Notes that a request has arrived."""
        self.is_receiving = False
        self.deadline = math.inf

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, unless the connection has been refused already."""
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        message = f"The request's head may have at most {self.limits.max_header_bytes} bytes. Send fewer headers."
        body = orjson.dumps({"error": message})
        lines = [b"%b: %b\r\n" % header for header in self.server_state.default_headers]
        lines.append(b"content-length: %d\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" % len(body))
        self.transport.write(b"".join([STATUS_LINE[431], *lines, body]))
        self.transport.close()

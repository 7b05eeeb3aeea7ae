"""uvicorn's HTTP protocol with what it lacks: bounds on the head of a request and on the number of connections."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import render

_ALWAYS_ANSWERED = {"/health/live", "/health/ready", "/metrics"}
_LINGER_SECONDS = 1.0


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection.

    A head that ends beyond the limit is answered in its turn. One that does not end is answered as soon as more than
    the limit has come, so that nobody can fill the memory with it.

    Args:
        max_connections: Connections beyond it get 503, but for health and metrics, so that nobody restarts a service
            for being popular.
        max_header_bytes: Largest sum of path, header names and values.
        arguments: Those of uvicorn's class.
    """

    def __init__(self, *, max_connections: int, max_header_bytes: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._max_connections = max_connections
        self._max_header_bytes = max_header_bytes
        self._is_in_head = True
        self._head_bytes = 0
        self._is_lingering = False

    def connection_made(self, transport: Any) -> None:
        """Called once, first."""
        super().connection_made(transport)
        if len(self.connections) > self._max_connections:
            self.app = self._answer_if_it_must_be
            self.loop.call_later(self.timeout_keep_alive, transport.close)

    def data_received(self, data: bytes) -> None:
        """Called with whatever has come."""
        if self._is_lingering:
            return
        self._head_bytes = self._head_bytes + len(data) if self._is_in_head else 0
        super().data_received(data)
        if self._is_in_head and self._head_bytes > self._max_header_bytes and not self.transport.is_closing():
            self._refuse_endless_head()

    def on_message_begin(self) -> None:
        """Called by the parser at the first byte of a request."""
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser when the head has come."""
        self._is_in_head = False
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > self._max_header_bytes:
            self.app = render(431, self._too_large(), {"connection": "close"})
        super().on_headers_complete()

    async def _answer_if_it_must_be(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _ALWAYS_ANSWERED:
            await self.config.loaded_app(scope, receive, send)
            return
        message = f"There are more than {self._max_connections} connections. Try again, or ask another instance."
        await render(503, message, {"connection": "close", "retry-after": "1"})(scope, receive, send)

    def _refuse_endless_head(self) -> None:
        """Answers, and reads on for a moment: closing at once would reset the connection before the answer is read."""
        body = orjson.dumps({"error": self._too_large()})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[431] + head + body)
        self._is_lingering = True
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _too_large(self) -> str:
        return f"Path and headers may have at most {self._max_header_bytes} bytes together."

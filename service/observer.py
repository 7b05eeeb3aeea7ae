"""Around the whole application: gives each request its id, counts it, and writes its line in the access log."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.exchange import CLIENT_LEFT, Exchange, RequestIds
from service.logs import REQUEST_ID
from service.metrics import Metrics

_log = logging.getLogger("service.access")
_failures = logging.getLogger("uvicorn.error")  # where the server writes those that reach it


@dataclass(frozen=True)
class Observing:
    """What is needed to see a request through.

    Attributes:
        metrics: Where inferences are counted.
        request_ids: Where ids come from.
        access_log: Whether each request has its line. Without it those that were refused have theirs at level debug.
    """

    metrics: Metrics
    request_ids: RequestIds
    access_log: bool

    def has_line(self, status: int) -> bool:
        """Whether a request that was answered so has its line in the log."""
        return self.access_log or (status >= 400 and _log.isEnabledFor(logging.DEBUG))

    def write_line(self, method: str, path: str, status: int, exchange: Exchange, seconds: float) -> None:
        """Writes it: never a request's rows, and what a client chose only in quotes."""
        details: dict[str, Any] = {"status": status, "ms": round(seconds * 1e3, 3)}
        if exchange.model:
            details |= {"model": exchange.model, "version": exchange.version, "rows": exchange.rows}
        if exchange.error:
            details["error"] = exchange.error
        text = " ".join(
            f"{name}={value!r}" if name == "error" else f"{name}={value}" for name, value in details.items()
        )
        fields = {"method": method, "path": path, **details}
        level = logging.INFO if self.access_log else logging.DEBUG
        _log.log(level, "%s %r %s", method, path, text, extra={"fields": fields})

    def end(self, method: str, path: str, status: int, exchange: Exchange, began: float) -> None:
        """Counts a request that has been answered, and writes its line if it has one; it began by `perf_counter`."""
        _count(self.metrics, exchange, status)
        if self.has_line(status):
            self.write_line(method, path, status, exchange, perf_counter() - began)


class Observer:
    """Sees what the client sees, which a middleware inside of Starlette's error handling would not."""

    def __init__(self, app: ASGIApp, observing: Observing) -> None:
        self._app = app
        self._observing = observing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as `app` does, with an `X-Request-Id`."""
        if scope["type"] != "http":
            await self._app(scope, receive, _in_one_line(send))
            return
        began = perf_counter()
        request_id = self._observing.request_ids.choose(dict(scope["headers"]).get(b"x-request-id"))
        exchange = Exchange(request_id.decode())
        exchange.enter(scope)
        REQUEST_ID.set(exchange.request_id)  # never reset: uvicorn logs a failure in this task when we have returned
        status, is_answered = CLIENT_LEFT, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, is_answered
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)
            is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            if not is_answered:
                status = 500 if status == CLIENT_LEFT else status
                raise
            # Starlette raises it again for the server, which would close the connection under the next request.
            _failures.exception("Exception in ASGI application\n")
        finally:
            self._observing.end(scope["method"], scope["path"], status, exchange, began)


def _in_one_line(send: Send) -> Send:
    """Sends on, but of a port that is taken, or another fault of the system's at the start, no traceback."""

    async def send_on(message: Message) -> None:
        error = sys.exc_info()[1]  # Starlette sends this while it handles the error, with a traceback as the message
        if message["type"] == "lifespan.startup.failed" and isinstance(error, OSError):
            message = {**message, "message": str(error)}
        await send(message)

    return send_on


def _count(metrics: Metrics, exchange: Exchange, status: int) -> None:
    """Counts an inference that has been answered; any other request is none of the metrics'."""
    if not exchange.protocol:
        return
    requests = metrics.requests(exchange.model, exchange.version, exchange.protocol)
    if status == 200:
        requests.succeeded((perf_counter() - exchange.received, exchange.decode, exchange.encode))
        requests.digest_if_long()
    else:
        requests.failed(status)

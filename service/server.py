"""The process: uvicorn, with our answer to signals.

SIGTERM makes `/health/ready` say no, goes on accepting for `drain_delay`, then stops listening, lets what is in flight
finish, and ends with 0. SIGINT does the same without the delay. What still runs after `drain_timeout` is left behind,
and a second signal ends at once; both end with another code. SIGHUP looks at the artifacts folder now.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from service.engine import Engine
from service.settings import Settings

_log = logging.getLogger(__name__)
_BACKLOG = 2048
_GRACE_SECONDS = 2.0


class Server(uvicorn.Server):
    """uvicorn's server, which would close its listeners on SIGTERM at once and die by the signal it caught."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=settings.log_level,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
            server_header=False,
        )
        super().__init__(config)
        self._app = app
        self._drain_delay = settings.drain_delay
        self._drain_timeout = settings.drain_timeout
        self._exit_at: float | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles signals while the server runs. Overrides uvicorn's, which raises them again afterwards."""
        handlers = {
            signal.SIGTERM: self.handle_exit,
            signal.SIGINT: self.handle_exit,
            signal.SIGHUP: self._handle_reload,
        }
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Starts to drain; the second time, ends at once."""
        if self._exit_at is not None:
            _end_now(128 + sig, "A second signal: ending at once.")
        delay = self._drain_delay if sig == signal.SIGTERM else 0.0
        _log.info("%s: finishing what is in flight.", signal.Signals(sig).name)
        self._exit_at = time.monotonic() + delay
        engine = self._engine()
        if engine is not None:
            engine.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening and finishes what is in flight. A model that hangs is left behind after `drain_timeout`."""
        message = "Requests still run after the drain timeout: ending without them."
        watchdog = threading.Timer(self._drain_timeout + _GRACE_SECONDS, _end_now, (1, message))
        watchdog.daemon = True  # never cancelled: the interpreter's own exit would wait for the hanging thread, too
        watchdog.start()
        grpc = getattr(self._app.state, "grpc", None)
        stopping = asyncio.create_task(grpc.stop()) if grpc else None  # beside HTTP, in the same time
        await super().shutdown(sockets)
        if stopping:
            await stopping

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; says whether to stop listening."""
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _handle_reload(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        engine = self._engine()
        if engine is not None:
            engine.reload()

    def _engine(self) -> Engine | None:
        """The application's engine; None until it has started, when a signal may already come."""
        engine: Engine | None = getattr(self._app.state, "engine", None)
        return engine


def _end_now(code: int, reason: str) -> NoReturn:
    """Ends the process without waiting for any thread; nothing that it holds outlives it."""
    _log.error("%s", reason)
    os._exit(code)


def listen(settings: Settings) -> socket.socket:
    """Opens the listening socket.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if (error.errno or 0) < 0:  # getaddrinfo's own numbers
            message = f"`host` must be an address of this machine. Received: {settings.host}"
            raise OSError(message) from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            f"Cannot listen on {settings.host} port {settings.port}: {reason}. Choose another: --port 9000."
        ) from error

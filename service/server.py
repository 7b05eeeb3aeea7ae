"""The process: uvicorn, with our answer to signals.

SIGTERM makes `/health/ready` say no, goes on accepting for `drain_delay`, then stops listening, lets what is in flight
finish, and ends with 0. SIGINT does the same without the delay. A second signal ends at once. SIGHUP looks at the
artifacts folder now.
"""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.settings import Settings

_log = logging.getLogger(__name__)
_BACKLOG = 2048


class Server(uvicorn.Server):
    """uvicorn's server, which would close its listeners on SIGTERM at once and die by the signal it caught."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=settings.log_level,
            timeout_graceful_shutdown=round(settings.drain_timeout),
            server_header=False,
        )
        super().__init__(config)
        self._app = app
        self._drain_delay = settings.drain_delay
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
            self.should_exit = self.force_exit = True
            return
        delay = self._drain_delay if sig == signal.SIGTERM else 0.0
        _log.info("%s: finishing what is in flight.", signal.Signals(sig).name)
        self._exit_at = time.monotonic() + delay
        self._app.state.engine.drain()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; says whether to stop listening."""
        if self._exit_at is not None and time.monotonic() >= self._exit_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def _handle_reload(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's signature
        self._app.state.engine.reload()


def listen(settings: Settings) -> socket.socket:
    """Opens the listening socket.

    Raises:
        OSError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}. Choose another: --port 9000."
        ) from error

"""The process: uvicorn, with our answer to signals.

SIGTERM makes `/health/ready` say no and each answer close its connection, goes on accepting for `drain_delay`, then
stops listening, lets what is in flight finish, and ends with 0. SIGINT does the same without the delay. What still runs
after `drain_timeout` is left behind, and a second signal ends at once; both end with another code. SIGHUP looks at the
artifacts folder now.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI

from service.connection import CLOSE, Awaits, Connection, ConnectionLimits
from service.engine import Engine
from service.kept_lane import KeptLane
from service.settings import Settings
from service.tls import check_tls

_log = logging.getLogger(__name__)
_BACKLOG = 2048
_LEFT_BEHIND = "Requests still run after the drain timeout: ending without them."
_GRACE_SECONDS = 2.0
_LAST_SECONDS = 0.5
"""For those who are connected to send one more request, and be told by its answer to go elsewhere."""


class Server(uvicorn.Server):
    """uvicorn's server, which would close its listeners on SIGTERM at once and die by the signal it caught.

    A worker leaves a second signal to the process above it: whoever stops all processes at once, as systemd does, sends
    each worker two.
    """

    def __init__(
        self, app: FastAPI, settings: Settings, *, on_started: Callable[[], None] | None = None, is_worker: bool = False
    ) -> None:
        check_tls(settings)
        limits = ConnectionLimits(
            keep_alive_timeout=settings.keep_alive_timeout,
            client_timeout=settings.client_timeout,
            max_header_bytes=settings.max_header_bytes,
            max_body_bytes=settings.max_body_bytes,
            max_connections=settings.max_connections,
        )
        config = uvicorn.Config(
            app,
            http=partial(KeptLane if settings.fast_lane else Connection, limits=limits),  # type: ignore[arg-type] # it is only called
            ws="none",  # else, where a library for it is installed, a connection could leave our limits
            access_log=False,  # `service.observer` writes a better one
            timeout_keep_alive=math.ceil(settings.keep_alive_timeout),
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            log_config=None,
            log_level=settings.log_level,
            server_header=False,
        )
        super().__init__(config)
        self._app = app
        self._drain_delay = settings.drain_delay
        self._drain_timeout = settings.drain_timeout
        self._exit_at: float | None = None
        self._exit_signal = ""
        self._on_started = on_started
        self._is_worker = is_worker
        self.has_left = False
        """Whether requests were left behind that had arrived and were not answered."""

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
            if self._is_worker:
                return
            _end_now(128 + sig, "A second signal: ending at once.")
        delay = self._drain_delay if sig == signal.SIGTERM else 0.0
        self._exit_signal = signal.Signals(sig).name  # logged later: this may have interrupted a line of the log
        self._exit_at = time.monotonic() + delay
        engine = self._engine()
        if engine is not None:
            engine.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application and begins to accept."""
        await super().startup(sockets)
        if self.started and self._on_started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening and finishes what is in flight. A model that hangs is left behind after `drain_timeout`."""
        watchdog = threading.Timer(self._drain_timeout + _GRACE_SECONDS, _end_now, (1, _LEFT_BEHIND))
        watchdog.daemon = True  # never cancelled: the interpreter's own exit would wait for the hanging thread, too
        watchdog.start()
        grpc = getattr(self._app.state, "grpc", None)
        stopping = asyncio.create_task(grpc.stop()) if grpc else None  # beside HTTP, in the same time
        self._close_after_answers()
        await self._serve_the_last(sockets or [])
        await super().shutdown(sockets)
        if stopping:
            await stopping

    async def _serve_the_last(self, sockets: list[socket.socket]) -> None:
        """Stops listening, and serves those who had connected before that.

        The kernel resets the connections that a listener had not accepted when it is closed, also where another process
        listens on the port.
        """
        listeners = [listener.dup() for listener in sockets]
        for server in self.servers:
            server.close()  # so that nobody else accepts; the duplicates still listen
        loop, config = asyncio.get_running_loop(), self.config
        make = partial(
            config.http_protocol_class, config=config, server_state=self.server_state, app_state=self.lifespan.state
        )  # type: ignore[call-arg] # as uvicorn does
        connections = [connection for listener in listeners for connection in _take_all(listener)]
        accepted = [loop.connect_accepted_socket(make, connection, ssl=config.ssl) for connection in connections]
        greetings = asyncio.gather(*accepted, return_exceptions=True)  # over TLS, one may fail or never end
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_LAST_SECONDS, self._drain_timeout)):
                await greetings
                while self.server_state.connections:
                    await asyncio.sleep(0.01)

    async def _wait_tasks_to_complete(self) -> None:
        """Overrides uvicorn's, whose own time limit does not tell whether anybody was left without an answer."""
        try:
            async with asyncio.timeout(self._drain_timeout):
                await super()._wait_tasks_to_complete()
        except TimeoutError:
            connections = self.server_state.connections
            self.has_left = any(isinstance(each, Connection) and each.awaits is Awaits.ANSWER for each in connections)
            for task in self.server_state.tasks:
                task.cancel()
            if self.has_left:
                _log.error(_LEFT_BEHIND)

    def _close_after_answers(self) -> None:
        """Lets each answer tell its client to connect anew, which leads to another process where there is one."""
        headers = self.config.encoded_headers
        if CLOSE not in headers:
            headers.append(CLOSE)  # uvicorn makes the default headers of these, once a second
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; says whether to stop listening."""
        if self._exit_at is not None:
            if self._exit_signal:
                _log.info("%s: finishing what is in flight.", self._exit_signal)
                self._exit_signal = ""
            self._close_after_answers()
            self.should_exit |= time.monotonic() >= self._exit_at
        if counter % 10 == 0:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.look_at(now)
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
    """Opens the listening socket; with `reuse_port` it does not listen yet, so that no connection comes before.

    Raises:
        OSError: the address cannot be had.
    """
    with _told(settings.host, settings.port, "--port 9000"):
        if settings.reuse_port:
            return bind_shared(settings, settings.port)
        return _listen_alone(settings, settings.port)


def check_grpc_port(settings: Settings) -> None:
    """Makes sure that the port for gRPC can be had, since gRPC itself says so late and at length.

    Raises:
        OSError: it cannot.
    """
    if settings.grpc_port:
        with _told(settings.host, settings.grpc_port, "--grpc-port 9001"):
            take = bind_shared if settings.reuse_port else _listen_alone
            take(settings, settings.grpc_port).close()


def bind_shared(settings: Settings, port: int) -> socket.socket:
    """Takes a port that several processes share. The kernel gives each connection to one of those that listen on it.

    The socket does not listen yet, and gets no connection before it does.
    """
    shared = socket.socket(_family(settings))
    try:
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared.bind((settings.host, port))
        # Lets it bind beside connections that have just ended, but also a service that does not share beside it.
        shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        shared.close()
        raise
    return shared


def reserve(settings: Settings) -> socket.socket:
    """Takes the port of the settings for processes that will share it.

    Raises:
        OSError: the address cannot be had. Another service on it counts, even one that would share, unless
            `reuse_port` says that this is meant.
    """
    with listen(settings) as alone:
        port = alone.getsockname()[1]
    return bind_shared(settings, port)


def _listen_alone(settings: Settings, port: int) -> socket.socket:
    return socket.create_server((settings.host, port), family=_family(settings), backlog=_BACKLOG)


@contextmanager
def _told(host: str, port: int, way_out: str) -> Iterator[None]:
    """Says what could not be listened on, and what to do."""
    try:
        yield
    except OSError as error:
        if (error.errno or 0) < 0:  # getaddrinfo's own numbers
            raise OSError(f"`host` must be an address of this machine. Received: {host}") from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(f"Cannot listen on {host} port {port}: {reason}. Choose another: {way_out}.") from error


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET


def _take_all(listener: socket.socket) -> list[socket.socket]:
    """Closes a listener, and gives the connections that nobody had accepted yet."""
    connections = []
    listener.setblocking(False)
    with listener, suppress(OSError):  # that none is left, or that this process may open no more
        while True:
            connections.append(listener.accept()[0])
    return connections

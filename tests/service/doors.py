"""Servers in threads of the test's own process, so that a test can hold their runtimes and look inside."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any

import uvicorn

from models.store import ArtifactStore
from service.app import create_app
from service.engine import Engine
from service.protocols.predict import Predictor
from service.server import Server, listen
from service.settings import Settings
from tests.service.fakes import FakeRuntimes
from tests.service.waiting import wait_until


class Door:
    """A server on a free port; `asked` counts the requests that its application has seen."""

    def __init__(self, store: ArtifactStore, **settings: Any) -> None:
        self.settings = Settings(artifacts=store.root, port=0, reload_interval=0.05, **settings)
        self.runtimes = FakeRuntimes()
        self.asked = 0
        self._app = create_app(self.settings, load_runtime=self.runtimes.load)
        self.server = Server(self._app, self.settings)
        # Signals are the main thread's, and the watchdog over the shutdown would end the tests' process.
        self.server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
        self.server.shutdown = partial(uvicorn.Server.shutdown, self.server)  # type: ignore[method-assign]
        self.server.config.load()
        self._inner = self.server.config.loaded_app
        self.server.config.loaded_app = self._count
        listener = listen(self.settings)
        self.address: tuple[str, int] = listener.getsockname()
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        self.thread.start()

    @property
    def engine(self) -> Engine:
        engine: Engine = self._app.state.engine
        return engine

    def wait_ready(self) -> Door:
        wait_until(lambda: self.server.started and self.engine.unready_reason() is None)
        return self

    def stop(self) -> None:
        self.server.should_exit = True
        self.runtimes.may_load.set()
        for runtime in self.runtimes.loaded:
            runtime.release()
        self.thread.join(20)
        assert not self.thread.is_alive()

    @property
    def predictor(self) -> Predictor:
        predictor: Predictor = self._app.state.predictor
        return predictor

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self.engine._loop is not None
        return self.engine._loop

    def connect(self) -> Wire:
        return Wire(self.address)

    def in_loop(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Keeps the event loop from its next turn, which then finds all that has been sent meanwhile."""
        has_begun, may_go_on = threading.Event(), threading.Event()

        def hold_up() -> None:
            has_begun.set()
            may_go_on.wait(30)

        self._loop.call_soon_threadsafe(hold_up)
        assert has_begun.wait(30)
        yield
        may_go_on.set()

    async def _count(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += scope["type"] == "http"
        await self._inner(scope, receive, send)


@contextlib.contextmanager
def opened(store: ArtifactStore, **settings: Any) -> Iterator[Door]:
    door = Door(store, **settings)
    try:
        yield door.wait_ready()
    finally:
        door.stop()


@contextlib.contextmanager
def both_ways(store: ArtifactStore, models: int, **settings: Any) -> Iterator[tuple[Door, Door]]:
    """Two servers of the same models once all are loaded: one with the lane, one without."""
    with opened(store, **settings) as lane, opened(store, fast_lane=False, **settings) as application:
        for door in (lane, application):
            wait_until(lambda door=door: len(door.runtimes.loaded) == models)  # type: ignore[misc]
        yield lane, application


@contextlib.contextmanager
def warm(door: Door, request: bytes, number: int) -> Iterator[list[Wire]]:
    """Connections that have been answered, so that what a run costs is known; the runs so far are forgotten."""
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(door.connect()) for _ in range(number)]
        for wire in wires:
            wire.send(request).answer()
        door.runtimes.loaded[0].batch_sizes.clear()
        yield wires


class Wire:
    """One connection, whose answers are compared to the byte."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def encrypt(self, context: ssl.SSLContext) -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.file = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> Wire:
        self.socket.sendall(b"".join(parts))
        return self

    def answer(self, *, has_body: bool = True) -> bytes:
        """The next answer as it came, but for its date, and with one id for all that the server made."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            assert line, f"the connection ended after {head!r}"
            head += line
        head, dates = re.subn(rb"\r\ndate: [^\r]*GMT", b"", head)
        assert dates == 1 or head.startswith((b"HTTP/1.1 100", b"HTTP/1.1 431"))
        head = re.sub(rb"\r\nx-request-id: [0-9a-f]{12}-[0-9a-f]+\r\n", b"\r\nx-request-id: made\r\n", head)
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        return head + (self.file.read(int(length[1])) if length and has_body else b"")

    def is_at_end(self) -> bool:
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

"""An event loop and an executor that do nothing until a test says so, and a clock that a test sets."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class FakeLoop(asyncio.AbstractEventLoop):
    """Callbacks run in `turn`, timers when `advance` has passed their time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._soon: list[asyncio.Handle] = []
        self._timers: list[asyncio.TimerHandle] = []

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return self.now

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, callback, args, self, context)
        self._timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._timers.remove(handle)

    def turn(self) -> bool:
        """One turn: all that is there at its start. Says whether there was anything."""
        handles, self._soon = self._soon, []
        for handle in handles:
            if not handle.cancelled():
                handle._run()
        return bool(handles)

    def settle(self) -> None:
        """Turns until nothing is left to do but timers."""
        while self.turn():
            pass

    def advance(self, seconds: float) -> None:
        """Lets time pass, and rings the timers that are due."""
        self.now += seconds
        for handle in [timer for timer in self._timers if timer.when() <= self.now]:
            self._timers.remove(handle)
            handle._run()
        self.settle()


class FakeExecutor(Executor):
    """Keeps its work until `work`."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.waiting.append(lambda: fn(*args, **kwargs))
        return Future()

    def work(self, index: int = 0) -> None:
        """Does one of the waiting things, the oldest if not told otherwise."""
        self.waiting.pop(index)()

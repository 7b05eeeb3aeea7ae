"""A timer that keeps the earliest of the times it is set to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress


class Alarm:
    """Calls back once at the earliest of the times it was set to; in the next turn of the loop if that is past.

    A loop's own timer costs more than a small model's run; this one is set for each request and mostly has nothing to
    do. It may ring a little early, as event loops round.
    """

    __slots__ = ("_callback", "_handle", "_loop", "at")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.Handle | None = None
        self.at = math.inf
        """When it will ring."""

    def set(self, at: float, now: float) -> None:
        """Lets it ring at `at`, if it would not ring before."""
        if at >= self.at:
            return
        self.clear()
        self.at = at
        self._handle = self._loop.call_later(at - now, self._ring) if at > now else self._loop.call_soon(self._ring)

    def clear(self) -> None:
        """Lets it not ring."""
        if self._handle:
            self._handle.cancel()
        self._handle = None
        self.at = math.inf

    def silence(self) -> None:
        """As `clear`, from any thread: until it rings, the loop holds on to whatever it would call."""
        with suppress(RuntimeError):  # the loop has been closed, and its timers with it
            self._loop.call_soon_threadsafe(self.clear)

    def _ring(self) -> None:
        self._handle = None
        self.at = math.inf
        self._callback()

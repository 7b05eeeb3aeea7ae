"""Things that one thread at a time may use, lent to any number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Makes a thing when none is idle, up to `most`; whoever comes then waits for one to be given back.

    `most` is as many as the cores can run: more gain nothing, and each thing may hold all weights anew.
    """

    def __init__(self, make: Callable[[], T], most: int) -> None:
        self._make = make
        self._most = most
        self._made = 0
        self._lock = threading.Lock()
        self._idle: SimpleQueue[T] = SimpleQueue()
        self.give(self._another())  # so that what cannot be made fails now

    def take(self) -> T:
        """An idle thing, which the caller gives back."""
        try:
            return self._idle.get_nowait()
        except Empty:
            pass
        with self._lock:
            if self._made < self._most:
                return self._another()
        return self._idle.get()

    def give(self, thing: T) -> None:
        """Takes a thing back."""
        self._idle.put(thing)

    def _another(self) -> T:
        thing = self._make()
        self._made += 1
        return thing

"""Runs that would hold up the event loop: a few at a time, beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.manifest import Tensors
from service.tickets import Part, Run, attempt

_log = logging.getLogger(__name__)

T = TypeVar("T")

Ended = Callable[[list[Part[T]], Tensors | Exception, float, float], None]
"""Called on the event loop after a run: the batch, its outputs or error, when it was started, seconds it took."""


@dataclass(eq=False, slots=True)
class _Batch(Generic[T]):
    parts: list[Part[T]]
    begin: float


class Threads(Generic[T]):
    """Runs batches in an executor that is this object's alone. Its methods belong to the event loop."""

    __slots__ = ("_clock", "_ended", "_executor", "_loop", "_most", "_run", "_running", "are_busy")

    def __init__(
        self,
        run: Run,
        ended: Ended[T],
        *,
        most: int,
        executor: Executor,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._ended = ended
        self._most = most
        self._executor = executor
        self._loop = loop
        self._clock = clock
        self._running: set[_Batch[T]] = set()
        self.are_busy = False
        """Whether all of them are."""

    def __len__(self) -> int:
        return len(self._running)

    def seconds_stuck(self) -> float:
        """How long all of them have been busy with what they do."""
        return self._clock() - max(batch.begin for batch in self._running) if self.are_busy else 0.0

    def start(self, parts: list[Part[T]], now: float) -> None:
        """Runs a batch; must not be called while all are busy.

        Raises:
            RuntimeError: the system has no thread for it.
        """
        batch = _Batch(parts, now)
        self._executor.submit(self._work, batch)
        self._running.add(batch)
        self.are_busy = len(self._running) >= self._most

    def _work(self, batch: _Batch[T]) -> None:
        begin = self._clock()
        result = attempt(self._run, batch.parts)
        seconds = self._clock() - begin
        try:
            self._loop.call_soon_threadsafe(self._end, batch, result, seconds)
        except RuntimeError:
            _log.warning("A run ended after the event loop had; its answers are lost.")

    def _end(self, batch: _Batch[T], result: Tensors | Exception, seconds: float) -> None:
        if batch not in self._running:  # no thread was there for it when it was started
            return
        self._running.remove(batch)
        self.are_busy = False
        self._ended(batch.parts, result, batch.begin, seconds)

"""Joins the rows of many callers into batches, and answers each caller with its own.

A flush is called once a turn of the event loop and takes all that has arrived, so a lone request waits for nothing and
64 callers share one run. What is cheap runs right there; what is dear or unknown runs in a thread, and each thread that
becomes free takes the rows that have come meanwhile. Everything but the runs themselves belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from models.manifest import Tensors
from service.alarm import Alarm
from service.cost import LOOP_SECONDS, Cost
from service.errors import NotReady, QueueFull, ServiceError
from service.express import Express
from service.limits import Limits
from service.queueing import RowQueue
from service.refusals import Closed, queue_full, too_late
from service.threads import Threads
from service.tickets import OnBatch, Part, Run, Ticket, assemble, attempt, count_rows, count_values, form_of, split

_log = logging.getLogger(__name__)

T = TypeVar("T")

_TIMER_SECONDS = 5e-3


class Batcher(Generic[T]):
    """The queue of one version and the scheduling of its runs.

    If a run of several requests fails, each half of them is run again, and so on, so that only the guilty ones fail.

    Args:
        run: Answers rows, in any number of threads at once.
        answer: Makes of a request's outputs what its caller gets.
        joins: Whether rows of several callers may run together, and a long request in parts.
        ragged: Inputs whose rows may differ in shape from request to request, and those that hold texts.
        limits: Of the queue.
        executor: Runs what is dear; it must have `limits.threads` threads for this batcher alone.
        hold: Called when work arrives at an idle batcher; False means that the version is gone.
        release: Called when all work has ended, also in threads.
        on_batch: Called after each run that answered; it must not raise.
        loop: The event loop that all methods are called on; the running one if not given.
        clock: In seconds.
    """

    def __init__(
        self,
        run: Run,
        answer: Callable[[Tensors], T],
        *,
        joins: bool,
        ragged: tuple[str, ...],
        limits: Limits,
        executor: Executor,
        hold: Callable[[], bool],
        release: Callable[[], None],
        on_batch: OnBatch | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._answer = answer
        self._joins = joins
        self._ragged = ragged if joins else ()
        self._limits = limits
        self._delay = limits.max_queue_delay_ms / 1e3 if joins else 0.0
        self._executor = executor
        self._hold, self._release = hold, release
        self._on_batch = on_batch
        self._loop = loop or asyncio.get_running_loop()
        self._clock = clock
        self._cost = Cost()
        self._queue: RowQueue[T] = RowQueue(limits.max_queue_size)
        self._halves: deque[list[Part[T]]] = deque()
        self._open: dict[Ticket[T], None] = {}
        self._is_held = False
        self._threads = Threads(
            run, self._end_thread, most=limits.threads, executor=executor, loop=self._loop, clock=clock
        )
        self._express = Express(
            run, limits.max_batch_size, self._cost, hold=hold, release=release, on_batch=on_batch, clock=clock
        )
        self._cancel_one = self._cancel  # bound once, not for each ticket
        self._next_flush = Alarm(self._loop, self._flush)
        self._next_deadline = Alarm(self._loop, self._end_late_ones)
        self._failure = ""

    @property
    def queued_rows(self) -> int:
        """How many rows wait."""
        return self._queue.rows

    def problem(self) -> str:
        """Why this queue gets nothing done; empty where all is well."""
        seconds = self._threads.seconds_stuck()
        stuck = f"It has not answered for {seconds:.0f} s." if seconds > self._limits.request_timeout else ""
        return self._failure or stuck

    def close(self) -> None:
        """Lets the threads end, from any thread. Nothing is submitted afterwards, and nothing waits."""
        self._executor.shutdown(wait=False)
        self._next_deadline.silence()

    def submit(
        self, inputs: Tensors, done: Callable[[T | BaseException], None], timeout: float | None = None
    ) -> Ticket[T]:
        """Takes in rows that have passed the signature check.

        Args:
            inputs: Not to be changed until `done` has been called.
            done: Called once, on the event loop and never before this method has returned, with the answer or the
                error; never after the ticket was cancelled. It must not raise.
            timeout: Seconds from now, at most those of the limits, which are the default.

        Raises:
            QueueFull: too many rows wait.
            DeadlineExceeded: no time is left.
            NotReady: this queue has failed.
            Closed: the version is gone.
        """
        limits, queue, rows = self._limits, self._queue, len(next(iter(inputs.values())))
        if self._failure:
            raise NotReady(self._failure)
        if not queue.has_room(rows):
            raise self._full(inputs, rows)
        if timeout is None or timeout > limits.request_timeout:
            timeout = limits.request_timeout
        elif timeout <= 0:
            raise too_late(timeout)
        if not self._is_held:
            if not self._hold():
                raise Closed
            self._is_held = True
        now = self._clock()
        key = tuple([form_of(inputs[name]) for name in self._ragged]) if self._ragged else ()
        ticket = Ticket(inputs, rows, done, self._cancel_one, now, now + timeout, key)
        queue.add(ticket)
        self._open[ticket] = None
        if ticket.deadline < self._next_deadline.at:
            self._next_deadline.set(ticket.deadline, now)
        # Most of the time a flush is on its way already. While all threads are busy, the first to end sees to it.
        if self._next_flush.at > now and not self._threads.are_busy:
            self._next_flush.set(self._due_at(), now)
        return ticket

    def run_at_once(self, inputs: Tensors, counts: list[int], waited: float) -> Tensors | None:
        """Answers rows of several callers if `submit` would let them run in the next turn; see `Express.run`."""
        return self._express.run(inputs, counts, waited) if self.may_run_at_once() else None

    def may_run_at_once(self) -> bool:
        """Whether `run_at_once` answers any rows now; asked before they are decoded for it."""
        return self._joins and not (self._is_held or self._failure or self._delay)

    def _full(self, inputs: Tensors, rows: int) -> QueueFull:
        """Reckons with rows like these: to look at one that waits takes longer the more have gone before it."""
        waiting, most = self._queue.rows, self._limits.max_batch_size
        values = sum([each.size for each in inputs.values()]) * most // rows
        at_once = 1 if self._cost.is_cheap(values) else self._limits.threads
        seconds = self._cost.estimate(values) * waiting / most / at_once
        return queue_full(rows, waiting, self._limits.max_queue_size, seconds)

    def _flush(self) -> None:
        """Runs what waits, until a turn's time is used up or all threads are busy."""
        self._next_flush.clear()  # a thread that ended may have come before it
        try:
            now = begin = self._clock()
            while now - begin <= LOOP_SECONDS and not self._threads.are_busy:
                if not (self._halves or self._queue.rows) or self._due_at() > now:
                    break
                now = self._run_next(now)
        except Exception as error:
            self._fail(error)
        self._go_on(now)

    def _due_at(self) -> float:
        """When the next batch may run; it may at once unless it has been told to wait for more rows."""
        if not self._delay or self._halves or self._queue.rows >= self._limits.max_batch_size:
            return -math.inf
        return self._queue.first().arrived + self._delay

    def _go_on(self, now: float) -> None:
        """Sees to what still waits; lets go of the version where nobody waits and nothing runs."""
        if self._open:
            if (self._queue.rows or self._halves) and not self._threads.are_busy:
                self._next_flush.set(self._due_at(), now)
        elif self._is_held and not self._threads:
            self._halves.clear()
            self._is_held = False
            self._release()

    def _run_next(self, now: float) -> float:
        """Runs a batch here, or starts it in a thread; gives the time after it."""
        parts = [part for part in self._take() if self._is_in_time(part[0], now)]
        if not parts:
            return now
        # While a thread runs, a runtime may let others wait for it: not here.
        if not self._threads and self._cost.is_cheap(count_values(parts[0][0], count_rows(parts))):
            outputs = attempt(self._run, parts)
            self._end_batch(parts, outputs, now, self._clock() - now)
            return self._clock()
        try:
            self._threads.start(parts, now)
        except RuntimeError as error:
            self._end_batch(parts, error, now, 0.0)
        return now

    def _take(self) -> Iterable[Part[T]]:
        if self._halves:
            return self._halves.popleft()
        return self._queue.take(self._limits.max_batch_size) if self._joins else self._queue.take_one()

    def _is_in_time(self, ticket: Ticket[T], now: float) -> bool:
        if ticket.deadline <= now:
            self._end(ticket, too_late(ticket.deadline - ticket.arrived))
        return ticket.done is not None

    def _end_thread(self, parts: list[Part[T]], result: Tensors | Exception, begin: float, seconds: float) -> None:
        try:
            self._end_batch(parts, result, begin, seconds)
        except Exception as error:
            self._fail(error)
        self._flush()

    def _end_batch(self, parts: list[Part[T]], result: Tensors | Exception, begin: float, seconds: float) -> None:
        if isinstance(result, Exception):
            if len(parts) > 1:
                half = len(parts) // 2
                self._halves += [parts[:half], parts[half:]]
            else:
                self._end(parts[0][0], result)
            return
        rows, first = count_rows(parts), parts[0][0]
        self._cost.learn(count_values(first, rows), seconds)
        for (ticket, start, stop), outputs in zip(parts, split(result, parts), strict=True):
            if stop - start == ticket.rows:
                self._end(ticket, self._answer(outputs))
            else:
                self._end_part(ticket, start, outputs)
        if self._on_batch:
            self._on_batch(rows, begin - first.arrived, seconds, len(parts))

    def _end_part(self, ticket: Ticket[T], start: int, outputs: Tensors) -> None:
        try:
            whole = assemble(ticket, start, outputs)
        except (ValueError, MemoryError) as error:  # outputs of several shapes, or too many
            self._end(ticket, error)
        else:
            if whole is not None:
                self._end(ticket, self._answer(whole))

    def _end(self, ticket: Ticket[T], result: T | BaseException) -> None:
        """Calls back, unless the ticket has been answered, refused or cancelled already."""
        done = ticket.done
        if done is None:
            return
        ticket.done = None
        del self._open[ticket]
        if ticket.taken < ticket.rows:
            self._queue.discard(ticket)
        try:
            done(result)
        except Exception:
            _log.exception("A caller failed on its answer.")

    def _cancel(self, ticket: Ticket[T]) -> None:
        if ticket.done is not None:
            ticket.done = None
            del self._open[ticket]
            self._queue.discard(ticket)
            self._go_on(self._clock())

    def _end_late_ones(self) -> None:
        now = self._clock()
        for ticket in list(self._open):
            self._is_in_time(ticket, now)
        if self._open:
            next_at = min(ticket.deadline for ticket in self._open)
            self._next_deadline.set(max(next_at, now + _TIMER_SECONDS), now)
        self._go_on(now)

    def _fail(self, error: Exception) -> None:
        """Our own mistake: nothing is run any more, and all who wait are told."""
        _log.critical("A batch queue has failed; the service must be restarted.", exc_info=error)
        self._failure = "Its queue has failed; the log says why. Restart the service."
        for ticket in list(self._open):
            self._end(ticket, ServiceError("The service failed on this request. Its log says why."))

"""An open-loop load generator: sends so many requests a second, whatever comes of those before.

Each connection has one request at a time, as that of a client that waits for its answer; so a refusal is not held back
behind the answers that were asked for before it. Latency is counted from when a request was due, not from when the
generator got to it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_TICK_SECONDS = 1e-3
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)")


@dataclass
class Offered:
    """What came of the requests that were due after the warm-up.

    Attributes:
        sent: How many were sent.
        missed: How many were due while no connection was free; they were not sent.
        latencies: Seconds by status, of each answer.
        lags: Seconds from when each was due to when it was sent.
        lost: Connections that ended while they waited for an answer.
    """

    sent: int = 0
    missed: int = 0
    latencies: dict[int, list[float]] = field(default_factory=dict)
    lags: list[float] = field(default_factory=list)
    lost: int = 0


class Clients:
    """Connections that have been made, by which requests are sent. Belongs to the running event loop."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._all: list[_Connection] = []
        self._idle: list[_Connection] = []
        self._begin = math.inf
        self._offered = Offered()

    async def connect(self, port: int, count: int) -> None:
        """Makes connections to this machine, one after the other."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            connection = _Connection(self._request, self._answered, self._lost)
            await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
            self._all.append(connection)
            self._idle.append(connection)

    async def offer(self, *, rate: float, warmup: float, seconds: float) -> Offered:
        """Sends `rate` requests a second for `warmup` and `seconds`, waits for all answers, and closes. Once only."""
        begin, number, total = time.perf_counter(), 0, int(rate * (warmup + seconds))
        self._begin = begin + warmup
        while number < total:
            now = time.perf_counter()
            while number < min(total, int((now - begin) * rate)):
                self._send(begin + number / rate, now)
                number += 1
            await asyncio.sleep(_TICK_SECONDS)
        while len(self._idle) + self._offered.lost < len(self._all):
            await asyncio.sleep(_TICK_SECONDS)
        for connection in self._all:
            connection.close()
        return self._offered

    def _send(self, due: float, now: float) -> None:
        counts, offered = due >= self._begin, self._offered
        if self._idle:
            self._idle.pop().send(due)
            offered.sent += counts
            if counts:
                offered.lags.append(now - due)
        else:
            offered.missed += counts

    def _answered(self, connection: _Connection, status: int) -> None:
        self._idle.append(connection)
        if connection.due >= self._begin:
            self._offered.latencies.setdefault(status, []).append(time.perf_counter() - connection.due)

    def _lost(self) -> None:
        self._offered.lost += 1


class _Connection(asyncio.Protocol):
    def __init__(self, request: bytes, answered: Callable[[_Connection, int], None], lost: Callable[[], None]) -> None:
        self.due = 0.0
        self._request = request
        self._answered = answered
        self._lost = lost
        self._waits = False
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is none of asyncio's classes

    def send(self, due: float) -> None:
        self.due = due
        self._waits = True
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(_HEAD_END)
        length = _LENGTH.search(self._data, 0, end) if end > 0 else None
        if length and len(self._data) >= end + len(_HEAD_END) + int(length[1]):
            status, self._data = int(self._data[9:12]), b""
            self._waits = False
            self._answered(self, status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._waits:
            self._lost()

    def close(self) -> None:
        self._transport.close()

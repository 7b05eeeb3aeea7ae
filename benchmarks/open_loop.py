"""An open-loop load generator: sends so many requests a second, whatever comes of those before.

Each connection has one request at a time, as that of a client that waits for its answer; so a refusal is not held back
behind the answers that were asked for before it. Latency is counted from when a request was due, not from when the
generator got to it.
"""

from __future__ import annotations

import asyncio
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


async def offer(port: int, request: bytes, *, rate: float, connections: int, warmup: float, seconds: float) -> Offered:
    """Sends `rate` requests a second for `warmup` and `seconds`, and waits for all answers."""
    loop = asyncio.get_running_loop()
    offered, idle = Offered(), list[_Connection]()
    begin = 0.0

    def answered(connection: _Connection, status: int) -> None:
        idle.append(connection)
        if connection.due - begin >= warmup:
            offered.latencies.setdefault(status, []).append(time.perf_counter() - connection.due)

    def lost() -> None:
        offered.lost += 1

    made = [_Connection(request, answered, lost) for _ in range(connections)]
    for connection in made:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
    idle.extend(made)
    begin, number, total = time.perf_counter(), 0, int(rate * (warmup + seconds))
    while number < total:
        now = time.perf_counter()
        for place in range(number, min(total, int((now - begin) * rate))):
            due = begin + place / rate
            counts = due - begin >= warmup
            if idle:
                idle.pop().send(due)
                offered.sent += counts
                if counts:
                    offered.lags.append(now - due)
            else:
                offered.missed += counts
            number = place + 1
        await asyncio.sleep(_TICK_SECONDS)
    while len(idle) + offered.lost < connections:
        await asyncio.sleep(_TICK_SECONDS)
    for connection in made:
        connection.close()
    return offered


class _Connection(asyncio.Protocol):
    def __init__(
        self, request: bytes, answered: Callable[[_Connection, int], None], lost: Callable[[], None]
    ) -> None:
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

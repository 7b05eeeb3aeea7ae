"""A load generator: sends one request over and over, and times the answers.

`wrk` where it is installed, else connections of our own on uvloop. Both wait for an answer before they send the next
request on a connection. `limit` in `benchmarks.serving` shows what the generator itself can do.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Load:
    """What came of a run: requests answered, how many a second, and latencies in milliseconds."""

    requests: int
    rate: float
    p50_ms: float
    p99_ms: float


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "benchmarks.load"


JSON = "Content-Type: application/json"


def run(
    port: int, body: bytes, connections: int, seconds: int, path: str = "/predict", headers: tuple[str, ...] = (JSON,)
) -> Load:
    """Sends `POST` requests to this machine.

    Raises:
        SystemExit: a request is not answered with 200.
    """
    if generator() == "wrk":
        return _wrk(port, body, connections, seconds, path, headers)
    return uvloop.run(_own(port, request(path, headers, body), connections, seconds))


def request(path: str, headers: tuple[str, ...], body: bytes) -> bytes:
    """A whole `POST` request."""
    lines = (f"POST {path} HTTP/1.1", "Host: x", *headers, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(lines).encode() + body


def _wrk(port: int, body: bytes, connections: int, seconds: int, path: str, headers: tuple[str, ...]) -> Load:
    with tempfile.TemporaryDirectory() as folder:
        script, content = Path(folder, "post.lua"), Path(folder, "body")
        content.write_bytes(body)
        lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in _pairs(headers)]
        lines += ['wrk.method = "POST"', f'wrk.body = io.open("{content}", "rb"):read("*a")']
        script.write_text("\n".join(lines))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"Not all requests were answered:\n{done.stdout}")
    found = [re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)\n", done.stdout) for share in (50, 99)]
    p50, p99 = (float(item[1]) * _UNITS[item[2]] if item else math.nan for item in found)  # of too few requests
    requests = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    if not requests or not rate:
        raise SystemExit(f"wrk said something else:\n{done.stdout}")
    return Load(int(requests[1]), float(rate[1]), p50, p99)


def _pairs(headers: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, value.strip()) for name, _, value in (header.partition(":") for header in headers)]


async def _own(port: int, request: bytes, connections: int, seconds: int) -> Load:
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    made = [_Connection(request, begin + seconds, loop.create_future()) for _ in range(connections)]
    for connection in made:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
    await asyncio.gather(*(connection.ended for connection in made))
    latencies = [latency for connection in made for latency in connection.latencies]
    percentiles = statistics.quantiles(latencies, n=100)
    return Load(
        len(latencies), len(latencies) / (time.perf_counter() - begin), percentiles[49] * 1e3, percentiles[98] * 1e3
    )


class _Connection(asyncio.Protocol):
    """Takes the length of the first answer for that of all."""

    def __init__(self, request: bytes, end: float, ended: asyncio.Future[None]) -> None:
        self.request = request
        self.end = end
        self.ended = ended
        self.latencies: list[float] = []
        self.missing = self.length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport  # uvloop's is none of asyncio's classes
        self.send()

    def send(self) -> None:
        self.begin = time.perf_counter()
        self.missing = self.length
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.length:
            head = data.partition(b"\r\n\r\n")[0]
            announced = re.search(rb"content-length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or not announced:
                self.ended.set_exception(SystemExit(f"The first answer was {data[:300]!r}."))
                return
            self.length = self.missing = len(head) + 4 + int(announced[1])
        self.missing -= len(data)
        if self.missing > 0:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.begin)
        if now < self.end:
            self.send()
        elif not self.ended.done():
            self.ended.set_result(None)
            self.transport.close()

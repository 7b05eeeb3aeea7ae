"""How much a prediction costs over an empty answer: `python -m benchmarks.predict`.

Starts `python -m service` on a free port, or takes `--url`. One-row JSON requests to `POST /predict` and requests to
`GET /health/live`, which does nothing, are sent in turn over 1, 16 and 64 connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

CONNECTIONS = (1, 16, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running service; by default one is started")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement (default 3)")
    options = parser.parse_args()
    with contextlib.nullcontext(options.url) if options.url else started_service() as url:
        body = json.dumps(example(url)).encode()
        print(f"{'connections':>11}  {'request':<13} {'requests/s':>10}  {'p50 ms':>7}  {'p99 ms':>7}  {'of empty':>8}")
        for connections in CONNECTIONS:
            empty = measure(url, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n", connections, options.seconds)
            headers = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            request = b"POST /predict HTTP/1.1\r\n" + headers.encode() + body
            predict = measure(url, request, connections, options.seconds)
            report(connections, "empty answer", empty, 1.0)
            report(connections, "POST /predict", predict, predict[0] / empty[0])


def report(connections: int, name: str, figures: tuple[float, float, float], ratio: float) -> None:
    rate, p50, p99 = figures
    print(f"{connections:>11}  {name:<13} {rate:>10,.0f}  {p50:>7.2f}  {p99:>7.2f}  {ratio:>8.2f}")


def measure(url: str, request: bytes, connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests a second, median and 99th percentile of the latency in milliseconds."""
    latencies = asyncio.run(_load(url, request, connections, seconds))
    percentiles = statistics.quantiles(latencies, n=100)
    return len(latencies) / seconds, percentiles[49] * 1e3, percentiles[98] * 1e3


async def _load(url: str, request: bytes, connections: int, seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    each = await asyncio.gather(*(_connection(url, request, end) for _ in range(connections)))
    return [latency for latencies in each for latency in latencies]


async def _connection(url: str, request: bytes, end: float) -> list[float]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    latencies = []
    while (begin := time.perf_counter()) < end:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"The service answered: {head.decode()}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.perf_counter() - begin)
    writer.close()
    return latencies


@contextlib.contextmanager
def started_service() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "service", "--port", str(port), "--log-level", "warning"])
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit("The service ended before it was ready.")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(f"{url}/health/ready", timeout=5).close()
                break
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def example(url: str) -> object:
    with urllib.request.urlopen(f"{url}/models", timeout=5) as answer:
        name = json.load(answer)["default"]
    with urllib.request.urlopen(f"{url}/models/{name}", timeout=5) as answer:
        return json.load(answer)["example"]["request"]


if __name__ == "__main__":
    main()

"""What the fast lane is worth: `python -m benchmarks.fast_lane`.

One-row JSON predictions of the published digits model: the service with the fast lane and without, beside an empty
answer of uvicorn and a plain FastAPI route of the same model by LiteRT. The servers run on one core, the load generator
on another, in turn and several times over; the best round of each counts, since whatever else the machine does only
takes away. CPU is the server's own, user and system.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import load
from benchmarks.load import Load

CONNECTIONS = (1, 16, 64)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server and the best that it did over each number of connections."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="published models (artifacts)")
    parser.add_argument("--seconds", type=int, default=2, help="length of each measurement (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="how often all are measured (default 5)")
    parser.add_argument("--service", default="service", help="module that is started as the service")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(started(name, module, flags)) for name, module, flags in commands(options)]
        body = example(servers[2].port)
        for server in servers:
            wait_until_answered(server.port, body)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})
        print(f"Load by {load.generator()}: {options.rounds} rounds of {options.seconds} s, {len(body)} bytes each.")
        columns = f"{'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs':>7} {'of empty':>8}"
        print(f"{'connections':>11}  {'server':<24} {columns}")
        for connections in CONNECTIONS:
            measure(servers, body, connections, options)


def measure(servers: list[Server], body: bytes, connections: int, options: argparse.Namespace) -> None:
    best: dict[str, tuple[Load, float]] = {}
    for _ in range(options.rounds):
        for server in servers:
            before = server.cpu_seconds()
            found = load.run(server.port, body, connections, options.seconds)
            cpu = (server.cpu_seconds() - before) / found.requests * 1e6
            if server.name not in best or found.rate > best[server.name][0].rate:
                best[server.name] = (found, cpu)
    empty = best["uvicorn, empty answer"][0].rate
    for name, (found, cpu) in best.items():
        print(
            f"{connections:>11}  {name:<24} {found.rate:>10,.0f} {found.p50_ms:>8.3f} {found.p99_ms:>8.3f} {cpu:>7.1f} "
            f"{found.rate / empty:>8.2f}"
        )


def commands(options: argparse.Namespace) -> Iterator[tuple[str, str, list[str]]]:
    service = ["--artifacts", str(options.artifacts), "--log-level", "warning"]
    model = max((options.artifacts / "digits").glob("*/model.tflite"), key=lambda path: int(path.parent.name))
    yield "limit of the generator", "benchmarks.servers", ["limit"]
    yield "uvicorn, empty answer", "benchmarks.servers", ["empty"]
    yield "service, fast lane", options.service, service
    yield "service, framework", options.service, [*service, "--no-fast-lane"]
    yield "FastAPI route, LiteRT", "benchmarks.servers", ["fastapi", "--model", str(model)]


@contextlib.contextmanager
def started(name: str, module: str, flags: list[str]) -> Iterator[Server]:
    """A server on the first core, which it inherits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    process = subprocess.Popen([sys.executable, "-m", module, *flags, "--port", str(port)])
    os.sched_setaffinity(0, cores)
    try:
        yield Server(name, port, process)
    finally:
        process.terminate()
        process.wait()


def example(port: int) -> bytes:
    """A request that the digits model takes: a golden row."""
    wait_until_answered(port, b"")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/models/digits", timeout=60) as answer:
        request = json.load(answer)["example"]["request"]
    if np.shape(request["instances"])[0] != 1:
        raise SystemExit("The example is not of one row.")
    return json.dumps(request, separators=(",", ":")).encode()


def wait_until_answered(port: int, body: bytes) -> None:
    """Asks until there is an answer that is not `loading`."""
    for _ in range(600):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict", data=body, headers={"Content-Type": "application/json"}
        )
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            try:
                urllib.request.urlopen(request, timeout=60).close()
            except urllib.error.HTTPError as error:
                if error.code == 503:
                    raise
            return
        time.sleep(0.1)
    raise SystemExit(f"Nothing answers on port {port}.")


if __name__ == "__main__":
    main()

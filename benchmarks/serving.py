"""What the service answers a second, beside what people run today: `make bench`.

JSON predictions of the published digits model by the service, with the fast lane and without; an empty answer of
uvicorn; and a plain FastAPI route of the same model by LiteRT, by a traced function, and by `model.predict`. The
servers run on one core, the load generator on another, in turn and several times over; the best round of each counts,
since whatever else the machine does only takes away. CPU is the server's own, user and system, for each request.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.load import Load

MEASURED = ((1, 1), (1, 16), (1, 64), (32, 16))
"""Rows in a request, and connections."""
EMPTY = "uvicorn, empty answer"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server, and how long it took to its first answer."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    seconds_to_start: float

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="published models (artifacts)")
    parser.add_argument("--seconds", type=int, default=2, help="length of each measurement (default 2)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all are measured (default 3)")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the tables into")
    options = parser.parse_args()
    version = max((options.artifacts / "digits").glob("[0-9]*"), key=lambda path: int(path.name))
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        servers = []
        for name, module, flags in commands(options.artifacts, version):
            servers.append(stack.enter_context(started(name, module, flags, cores[0])))
        row = golden_row(next(server.port for server in servers if server.name.startswith("service")))
        os.sched_setaffinity(0, {cores[-1]})
        lines = [
            *heading(options),
            "| rows | connections | server | requests/s | p50 ms | p99 ms | CPU µs | of empty |",
        ]
        lines.append("|--:|--:|---|--:|--:|--:|--:|--:|")
        for rows, connections in MEASURED:
            body = json.dumps({"instances": [row] * rows}, separators=(",", ":")).encode()
            lines += measure(servers, rows, body, connections, options)
        lines += ["", "| server | s to the first answer | MiB after the load |", "|---|--:|--:|"]
        lines += [f"| {it.name} | {it.seconds_to_start:.1f} | {it.memory_mib():.0f} |" for it in servers]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


def heading(options: argparse.Namespace) -> list[str]:
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Absolute figures depend on the machine and on what else it does; the last column is",
        "the share of the requests a second that uvicorn answers with nothing to do, in the same run.",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; servers on one core, load",
        f"by {load.generator()} on another; the best of {options.rounds} rounds of {options.seconds} s.",
        "",
    ]


def measure(
    servers: list[Server], rows: int, body: bytes, connections: int, options: argparse.Namespace
) -> Iterator[str]:
    best: dict[str, tuple[Load, float]] = {}
    for _ in range(options.rounds):
        for server in servers:
            before = server.cpu_seconds()
            found = load.run(server.port, body, connections, options.seconds)
            cpu = (server.cpu_seconds() - before) / max(found.requests, 1) * 1e6
            if server.name not in best or found.rate > best[server.name][0].rate:
                best[server.name] = (found, cpu)
    empty = best[EMPTY][0].rate
    for name, (found, cpu) in best.items():
        yield (
            f"| {rows} | {connections} | {name} | {found.rate:,.0f} | {found.p50_ms:.2f} | {found.p99_ms:.2f} "
            f"| {cpu:,.1f} | {found.rate / empty:.2f} |"
        )


def commands(artifacts: Path, version: Path) -> Iterator[tuple[str, str, list[str]]]:
    service = ["--artifacts", str(artifacts), "--default-model", "digits", "--log-level", "warning"]
    yield "limit of the generator", "benchmarks.servers", ["limit"]
    yield EMPTY, "benchmarks.servers", ["empty"]
    yield "service, fast lane", "service", service
    yield "service, without it", "service", [*service, "--no-fast-lane"]
    for name, kind in (("LiteRT", "litert"), ("traced function", "traced"), ("model.predict", "predict")):
        yield f"FastAPI, {name}", "benchmarks.servers", [kind, "--version", str(version)]


@contextlib.contextmanager
def started(name: str, module: str, flags: list[str], core: int) -> Iterator[Server]:
    """A server on one core, which it inherits, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cores = os.sched_getaffinity(0)
    begin = time.perf_counter()
    os.sched_setaffinity(0, {core})
    process = subprocess.Popen([sys.executable, "-m", module, *flags, "--port", str(port)], stderr=subprocess.DEVNULL)
    os.sched_setaffinity(0, cores)
    try:
        while not answers(port):
            if process.poll() is not None:
                raise SystemExit(f"{name} ended before it answered. Try: python -m {module} {' '.join(flags)}")
            time.sleep(0.02)
        yield Server(name, port, process, time.perf_counter() - begin)
    finally:
        process.terminate()
        process.wait()


def answers(port: int) -> bool:
    """Whether the server is up and has loaded its model: an empty body is a mistake that it can tell then."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", data=b"{}")
    request.add_header("Content-Type", "application/json")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        return error.code not in (404, 503)
    except OSError:
        return False
    return True


def golden_row(port: int) -> list[Any]:
    """A row that the digits model takes."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/models/digits", timeout=60) as answer:
        row: list[Any] = json.load(answer)["example"]["request"]["instances"][0]
    return row


if __name__ == "__main__":
    main()

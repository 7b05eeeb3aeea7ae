"""What callers get from a service that is asked for more than it can do: `python -m benchmarks.overload`.

Trains a digits model that is dear to run and one that is not, and serves each on one core, with the load on another:

- the cheap one at 64 connections, each with one request at a time: p99 against p50;
- the same with 16 requests in flight on each connection: how soon `/health/live` is answered meanwhile;
- the dear one, offered several times what it can do: how long the requests that are served take against the bound of
  the queue, which is the rows that may wait by the rows a second that are served; how soon the others are refused with
  429, and `/health/live` is answered.

Capacity is measured first, in the same process, by connections that each wait for their answer. Ends with 1 where a
figure is not within its bound. A request to the dear model has several rows; with `--rows 1` four times the capacity is
so many requests that the event loop fills half of the core that it shares with the model by refusing them.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import uvloop

from benchmarks import load
from benchmarks.open_loop import Clients, Offered
from benchmarks.service_process import Service, running, train_digits

T = TypeVar("T")

DEAR = ",".join(["2048"] * 6)
CONNECTIONS = 64
PIPELINED = 16
MOST_P99 = 5.0
"""Times p50, at 64 connections."""
MOST_QUEUED = 2.0
"""Times the queue's bound, the p99 of requests that are served."""
AT_ONCE_SECONDS = 0.05
"""In which health checks and refusals are answered, p99."""
PAUSE_SECONDS = 0.02
"""Between two health checks."""
SPARE = 512
"""Connections for the requests that do not wait in the queue, and files beside those."""


@dataclass
class Verdict:
    """Prints each figure beside its bound."""

    failed: list[str] = field(default_factory=list)

    def check(self, text: str, value: float, most: float, unit: str) -> None:
        is_within = value <= most
        if not is_within:
            self.failed.append(text)
        print(f"  {'ok  ' if is_within else 'FAIL'} {text}: {value:,.2f}{unit} (at most {most:,.2f}{unit})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="length of each measurement (default 8)")
    parser.add_argument("--times", type=float, default=4.0, help="of its capacity that is offered (default 4)")
    parser.add_argument("--queue", type=int, default=4096, help="rows that may wait (default 4096, the service's)")
    parser.add_argument("--rows", type=int, default=8, help="of a request to the dear model (default 8)")
    parser.add_argument("--hidden-units", default=DEAR, help=f"of the dear model (default {DEAR})")
    parser.add_argument("--no-fast-lane", action="store_true", help="as the service's flag")
    options = parser.parse_args()
    if not 1 <= options.rows <= 64 or not options.rows <= options.queue <= 20_000 * options.rows:
        parser.error("--rows must be 1 to 64, and --queue hold 1 to 20,000 requests of so many rows.")
    allow_files(most_connections(options) + SPARE)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("The load needs a core of its own; this process may use only one.")
    verdict = Verdict()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train_digits(folder / "cheap", "--epochs", "3", "--formats", "litert")
        train_digits(folder / "dear", "--epochs", "1", "--formats", "litert", "--hidden-units", options.hidden_units)
        flags = ["--log-level", "warning"] + ["--no-fast-lane"] * options.no_fast_lane
        os.sched_setaffinity(0, {cores[-1]})
        with serving(folder, "cheap", flags, cores[0]) as service:
            measure_cheap(service, options.seconds, verdict)
        flags += ["--max-queue-size", str(options.queue), "--max-connections", str(most_connections(options) + SPARE)]
        with serving(folder, "dear", flags, cores[0]) as service:
            measure_dear(service, options, verdict)
    if verdict.failed:
        raise SystemExit(f"Not within bounds: {'; '.join(verdict.failed)}.")


@contextmanager
def serving(folder: Path, name: str, flags: list[str], core: int) -> Iterator[Service]:
    arguments = ("--artifacts", str(folder / name), "--runtime", "litert", *flags)
    with running(*arguments, log=folder / f"{name}.log", cores={core}) as service:
        yield service


def allow_files(count: int) -> None:
    """Raises the limit on open files of this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise SystemExit(f"{count} files must be open at once, and {hard} may. Choose a shorter --queue.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))


def measure_cheap(service: Service, seconds: int, verdict: Verdict) -> None:
    body = some_rows(service, 1)
    load.run(service.port, body, CONNECTIONS, 1)
    found = load.run(service.port, body, CONNECTIONS, seconds)
    print(f"Cheap model, {CONNECTIONS} connections: {found.rate:,.0f} requests/s, "
          f"p50 {found.p50_ms:.2f} ms, p99 {found.p99_ms:.2f} ms")  # fmt: skip
    verdict.check("p99 / p50", found.p99_ms / found.p50_ms, MOST_P99, "")
    request = load.request("/predict", (load.JSON,), body)
    answered, probes = uvloop.run(beside_probe(service.port, seconds, flood(service.port, request, seconds)))
    print(f"The same, {PIPELINED} requests in flight on each: {answered / seconds:,.0f} requests/s")
    check_health(probes, verdict)


def measure_dear(service: Service, options: argparse.Namespace, verdict: Verdict) -> None:
    body = some_rows(service, options.rows)
    load.run(service.port, body, CONNECTIONS, 1)
    capacity = load.run(service.port, body, 2 * CONNECTIONS, options.seconds).rate
    bound = options.queue / (options.rows * capacity)
    print(f"Dear model, {options.rows} rows a request: {capacity:,.0f} requests/s at most; {options.queue} rows wait "
          f"{bound * 1e3:,.0f} ms")  # fmt: skip
    request, rate = load.request("/predict", (load.JSON,), body), options.times * capacity
    offered, probes = uvloop.run(overload(service.port, request, rate, 1 + 2 * bound, options))
    report(offered, rate, options.seconds, verdict)
    served, refused = (offered.latencies.get(status, []) for status in (200, 429))
    if served and refused:
        verdict.check("p99 of those served / the queue's bound", p99(served) / bound, MOST_QUEUED, "")
        verdict.check("p99 of refusals", p99(refused) * 1e3, AT_ONCE_SECONDS * 1e3, " ms")
    check_health(probes, verdict)


def report(offered: Offered, rate: float, seconds: int, verdict: Verdict) -> None:
    print(f"Offered {offered.sent / seconds:,.0f} requests/s of {rate:,.0f} (p99 of the generator's own delay "
          f"{p99(offered.lags) * 1e3:.1f} ms; {offered.missed} not sent for want of a connection)")  # fmt: skip
    for status, latencies in sorted(offered.latencies.items()):
        middle, late, last = (each * 1e3 for each in (statistics.median(latencies), p99(latencies), max(latencies)))
        print(f"  {status}: {len(latencies) / seconds:,.0f} a second, p50 {middle:,.1f} ms, p99 {late:,.1f} ms, "
              f"longest {last:,.1f} ms")  # fmt: skip
    strange = sum(len(latencies) for status, latencies in offered.latencies.items() if status not in (200, 429))
    verdict.check("answers but 200 and 429, or none", strange + offered.lost, 0, "")
    missing = {200, 429} - offered.latencies.keys()
    if missing:
        verdict.failed.append(f"no answer was {' or '.join(map(str, missing))}")


def check_health(probes: list[float], verdict: Verdict) -> None:
    verdict.check(f"p99 of {len(probes)} health checks", p99(probes) * 1e3, AT_ONCE_SECONDS * 1e3, " ms")


def most_connections(options: argparse.Namespace) -> int:
    """One for each request that may wait, and some for the others."""
    return int(options.queue // options.rows + SPARE)


def some_rows(service: Service, count: int) -> bytes:
    example = service.get("/models/digits")["example"]["request"]["instances"]
    return json.dumps({"instances": example[:1] * count}, separators=(",", ":")).encode()


async def overload(
    port: int, request: bytes, rate: float, warmup: float, options: argparse.Namespace
) -> tuple[Offered, list[float]]:
    clients = Clients(request)
    await clients.connect(port, most_connections(options))
    offering = clients.offer(rate=rate, warmup=warmup, seconds=options.seconds)
    return await beside_probe(port, warmup + options.seconds, offering)


async def beside_probe(port: int, seconds: float, work: Awaitable[T]) -> tuple[T, list[float]]:
    """The result of `work`, and the seconds of each health check that another process made meanwhile."""
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        processes.submit(os.getpid).result()  # so that it has started
        probing = asyncio.get_running_loop().run_in_executor(processes, probe, port, seconds)
        return await work, await probing


def probe(port: int, seconds: float) -> list[float]:
    """Asks `/health/live` on a connection of its own; gives the seconds of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        connection.request("GET", "/health/live")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"/health/live answered {answer.status}.")
        latencies.append(time.perf_counter() - begin)
        time.sleep(PAUSE_SECONDS)
    return latencies


async def flood(port: int, request: bytes, seconds: float) -> int:
    """Keeps several requests in flight on each of many connections; gives how many were answered."""
    counts = await asyncio.gather(*(pipeline(port, request, seconds) for _ in range(CONNECTIONS)))
    return sum(counts)


async def pipeline(port: int, request: bytes, seconds: float) -> int:
    """All answers are as long as the first: the same model answers the same row."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered, length, end = 0, 0, time.perf_counter() + seconds
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = len(head) + int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    await reader.readexactly(length - len(head))
    while time.perf_counter() < end:
        writer.write(request * PIPELINED)
        answers = await reader.readexactly(length * PIPELINED)
        if answers.count(b"HTTP/1.1 200") != PIPELINED:
            raise SystemExit(f"Not all of these were 200:\n{answers!r}")
        answered += PIPELINED
    writer.close()
    return answered


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98]


if __name__ == "__main__":
    main()

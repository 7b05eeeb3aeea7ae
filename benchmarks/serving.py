"""What the service answers a second, beside what people run today: `make bench`.

Predictions of the published digits model by the service, with the fast lane and without; an empty answer of uvicorn;
and a plain FastAPI route of the same model by LiteRT, by a traced function, and by `model.predict`. Then requests of 32
rows in the service's other forms, and of a 784-512-512-10 model, beside what the runtime makes of batches of 32 by
itself. The servers run on one core, the load generator on another, in turn and several times over; the best round of
each counts, since whatever else the machine does only takes away. CPU is the server's own, user and system, for each
request. Beside these, the service with two workers on two cores, one of which is the generator's if there are no more.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.bench_requests import DECIMALS, MANY, WIDE, Asked, publish_wide, requests, some_rows
from benchmarks.load import Load
from benchmarks.service_process import Service, cpu_seconds, free_port, memory_mib, started, wait_until
from models.artifact import Artifact
from models.manifest import Tensors
from models.store import ArtifactStore
from service.runtimes import Runtime
from service.runtimes import load as load_runtime

DIGITS = "digits"
EMPTY = "uvicorn, empty answer"
SERVICE = "service"
LANE = f"{SERVICE}, fast lane"
WORKERS = 2
IDLE_SECONDS = 0.02


@dataclass(frozen=True)
class Server:
    """A running server, and how long it took to its first answer."""

    name: str
    model: str
    port: int
    process: subprocess.Popen[bytes]
    seconds_to_start: float


@dataclass(frozen=True)
class Alone:
    """The runtime that serves a model, in this process, with a batch for it."""

    runtime: Runtime
    artifact: Artifact

    def rows_a_second(self, core: int, seconds: float) -> float:
        """On the servers' core, while they are idle."""
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})
        try:
            return MANY * calls_a_second(self.runtime, some_rows(self.artifact, MANY), seconds)
        finally:
            os.sched_setaffinity(0, cores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"), help="published models (artifacts)")
    parser.add_argument("--seconds", type=int, default=1, help="length of each measurement (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="how often all are measured (default 3)")
    parser.add_argument("--write", type=Path, help="a Markdown file to write the tables into")
    options = parser.parse_args()
    digits = ArtifactStore(options.artifacts).resolve(DIGITS)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        store = ArtifactStore(folder / "artifacts")
        wide = publish_wide(store, folder)
        servers = [
            stack.enter_context(serving(name, model, command, folder, set(cores[:number])))
            for name, model, number, command in commands(options.artifacts, store.root, digits)
        ]
        os.sched_setaffinity(0, {cores[-1]})
        alone = {model: runtime_alone(servers, model, artifact) for model, artifact in ((DIGITS, digits), (WIDE, wide))}
        lines = [*heading(options), *table(requests(digits, wide), servers, alone, cores[0], options)]
        lines += ["", "| server | s to the first answer | MiB after the load |", "|---|--:|--:|"]
        lines += [f"| {it.name} | {it.seconds_to_start:.1f} | {memory_mib(it.process.pid):.0f} |" for it in servers]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


def heading(options: argparse.Namespace) -> list[str]:
    return [
        "# Benchmarks",
        "",
        "Written by `make bench`. Absolute figures depend on the machine and on what else it does. Both last columns",
        "are of the same run: the share of the requests a second that uvicorn answers with nothing to do, and, for",
        f"requests of {MANY} rows, the share of the rows a second that the runtime alone makes in batches of {MANY}",
        f"on one core. `{WORKERS} workers` have {WORKERS} cores, one of them the generator's if there is no third.",
        "",
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; servers on one core, load",
        f"by {load.generator()} on another; the best of {options.rounds} rounds of {options.seconds} s. `{WIDE}` is a",
        f"784-512-512-10 classifier, whose JSON has {DECIMALS} decimals, or `in full` all digits that Python writes.",
        "",
    ]


def table(
    asked: list[Asked], servers: list[Server], alone: dict[str, Alone], core: int, options: argparse.Namespace
) -> Iterator[str]:
    yield "| request | connections | server | requests/s | p50 ms | p99 ms | CPU µs | of empty | of runtime alone |"
    yield "|---|--:|---|--:|--:|--:|--:|--:|--:|"
    empty = 0.0
    for each in asked:
        best, rows_alone = measure(each, servers, alone[each.model], core, options)
        if EMPTY in best:
            empty = best[EMPTY][0].rate
        for name, (found, cpu) in best.items():
            # A server that does not run the model has no share in what the runtime makes.
            has_share = each.rows == MANY and name.startswith((SERVICE, "FastAPI, LiteRT"))
            share = f"{found.rate * each.rows / rows_alone:.2f}" if has_share else ""
            yield (
                f"| {each.name} | {each.connections} | {name} | {found.rate:,.0f} | {found.p50_ms:.3f} "
                f"| {found.p99_ms:.2f} | {cpu:,.1f} | {found.rate / empty:.2f} | {share} |"
            )
        if each.rows == MANY:
            yield f"| {each.name} | | runtime alone | {rows_alone / each.rows:,.0f} | | | | | 1.00 |"


def measure(
    asked: Asked, servers: list[Server], alone: Alone, core: int, options: argparse.Namespace
) -> tuple[dict[str, tuple[Load, float]], float]:
    """The best load of each server with its CPU microseconds a request, and the rows a second of the runtime alone."""
    best: dict[str, tuple[Load, float]] = {}
    rows_alone = 0.0
    for _ in range(options.rounds):
        for server in servers:
            if server.model != asked.model or not (asked.is_for_all or server.name.startswith(SERVICE)):
                continue
            before = cpu_seconds(server.process.pid)
            found = load.run(server.port, asked.body, asked.connections, options.seconds, asked.path, asked.headers)
            cpu = (cpu_seconds(server.process.pid) - before) / max(found.requests, 1) * 1e6
            if server.name not in best or found.rate > best[server.name][0].rate:
                best[server.name] = (found, cpu)
            wait_until_idle(server.process.pid)
            if asked.rows == MANY and server.name.startswith(LANE):
                rows_alone = max(rows_alone, alone.rows_a_second(core, options.seconds))
    return best, rows_alone


def wait_until_idle(pid: int) -> None:
    """Lets a server that queues end what nobody waits for any more; else the next one would share the core with it."""
    used = -1.0
    while (now := cpu_seconds(pid)) - used > IDLE_SECONDS:
        used = now
        time.sleep(0.2)


def commands(artifacts: Path, wide: Path, digits: Artifact) -> Iterator[tuple[str, str, int, list[str]]]:
    """The name and model of each server, how many cores it has, and its command."""
    flags = ["service", "--log-level", "warning", "--default-model"]
    ours, ours_wide = [*flags, DIGITS, "--artifacts", str(artifacts)], [*flags, WIDE, "--artifacts", str(wide)]
    workers = ["--workers", str(WORKERS)]
    yield "limit of the generator", DIGITS, 1, ["benchmarks.servers", "limit"]
    yield EMPTY, DIGITS, 1, ["benchmarks.servers", "empty"]
    yield LANE, DIGITS, 1, ours
    yield f"{LANE}, {WORKERS} workers", DIGITS, WORKERS, [*ours, *workers]
    yield f"{SERVICE}, without it", DIGITS, 1, [*ours, "--no-fast-lane"]
    yield f"{LANE}, {WIDE}", WIDE, 1, ours_wide
    yield f"{LANE}, {WIDE}, {WORKERS} workers", WIDE, WORKERS, [*ours_wide, *workers]
    for name, kind in (("LiteRT", "litert"), ("traced function", "traced"), ("model.predict", "predict")):
        yield f"FastAPI, {name}", DIGITS, 1, ["benchmarks.servers", kind, "--version", str(digits.path)]


@contextlib.contextmanager
def serving(name: str, model: str, command: list[str], folder: Path, cores: set[int]) -> Iterator[Server]:
    """A server on some cores, once it answers."""
    port, log, begin = free_port(), folder / f"{name}.log", time.perf_counter()
    with started(sys.executable, "-m", *command, "--port", str(port), log=log, cores=cores) as process:
        wait_until(lambda: answers(port), process, log)
        yield Server(name, model, port, process, time.perf_counter() - begin)


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


def calls_a_second(runtime: Runtime, inputs: Tensors, seconds: float) -> float:
    """By all calls in a time, as requests are counted; a median would not see what else the machine does."""
    runtime.run(inputs)
    calls, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        runtime.run(inputs)
        calls += 1
    return calls / passed


def runtime_alone(servers: list[Server], model: str, artifact: Artifact) -> Alone:
    """The same runtime as the service has chosen."""
    server = next(each for each in servers if each.model == model and each.name.startswith(SERVICE))
    name = Service(server.process, server.port).get(f"/models/{model}")["runtime"]
    return Alone(load_runtime(name, artifact), artifact)


if __name__ == "__main__":
    main()

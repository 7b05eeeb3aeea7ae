"""Whether versions swap under load without a failed or mixed answer, and without a leak: `python -m benchmarks.swaps`.

Publishes two versions of the digits model in a temporary folder, serves them, and swaps them by pins while 64
connections ask. Each answer must be the one version's or the other's, and that of the version it names. Then processes
take over the port from one another. `--swaps 0` or `--restarts 0` leaves one part out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.answers import NAME, ROWS, Answers, known_answers
from benchmarks.service_process import Connection, Service, post, running, train_digits
from models.store import ArtifactStore


@dataclass
class Load:
    """What the connections saw."""

    requests: list[bytes]
    known: Answers
    is_over: bool = False
    answers: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def note(self, row: int, status: int, body: bytes) -> None:
        if status != 200:
            self.failures.append(f"{status} {body[:200]!r}")
            return
        answer = json.loads(body)
        problem = self.known.problem([row], answer["version"], np.array(answer["predictions"]))
        if problem:
            self.failures.append(f"row {row}: {problem}")
        else:
            self.answers[answer["version"]] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--runtime", default="auto", help="as the service's --runtime")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in (0, 1):
            train_digits(folder / "artifacts", "--epochs", "3", "--seed", str(seed), "--formats", "onnx,litert")
        store = ArtifactStore(folder / "artifacts")
        flags = ("--artifacts", str(store.root), "--runtime", options.runtime)
        if options.swaps:
            asyncio.run(swap(store, options.swaps, options.connections, flags, folder / "log"))
        if options.restarts:
            asyncio.run(restart(store, options.restarts, options.connections, flags, folder))


async def swap(store: ArtifactStore, swaps: int, connections: int, flags: Iterable[str], log: Path) -> None:
    store.pin(NAME, 1)
    load = new_load(store)
    memory: dict[int, float] = {}
    with running(*flags, "--reload-interval", "3600", log=log) as service:
        tasks = [asyncio.create_task(ask(load, service.port, offset)) for offset in range(connections)]
        for number in range(1, swaps + 1):
            wanted = 1 + number % 2
            store.pin(NAME, wanted)
            service.reload()
            await asyncio.to_thread(wait_for, service, wanted)
            memory[number] = service.memory_mib()
        load.is_over = True
        await asyncio.gather(*tasks)
    report(f"{swaps} swaps, {connections} connections", load)
    print("  memory after each tenth swap, MiB:", *(f"{memory[number]:.0f}" for number in range(10, swaps + 1, 10)))
    early = memory[min(10, swaps)]
    print(f"  memory after swap {min(10, swaps)}: {early:.0f} MiB, after swap {swaps}: {memory[swaps]:.0f} MiB"
          f" ({memory[swaps] / early - 1:+.1%})")  # fmt: skip


async def restart(store: ArtifactStore, restarts: int, connections: int, flags: Iterable[str], folder: Path) -> None:
    """Each process takes over from the one before, which is told to end once the new one listens."""
    store.pin(NAME, 1)
    load = new_load(store)
    flags = (*flags, "--drain-delay", "1", "--reuse-port")
    codes = []
    with contextlib.ExitStack() as processes:
        old = processes.enter_context(running(*flags, log=folder / "restart-0"))
        tasks = [asyncio.create_task(ask(load, old.port, offset)) for offset in range(connections)]
        for number in range(1, restarts + 1):
            starting = running(*flags, log=folder / f"restart-{number}", port=old.port)
            new = await asyncio.to_thread(processes.enter_context, starting)
            old.process.send_signal(signal.SIGTERM)
            codes.append(await asyncio.to_thread(old.process.wait, 60))
            old = new
        before = sum(load.answers.values())
        await asyncio.sleep(1)
        load.is_over = True
        await asyncio.gather(*tasks)
    report(f"{restarts} rolling restarts, {connections} connections (exit codes {sorted(set(codes))})", load)
    print(f"  answers after the last had ended: {sum(load.answers.values()) - before}")


def new_load(store: ArtifactStore) -> Load:
    answers = known_answers(store)
    return Load([post("/predict", {"instances": [row]}) for row in answers.inputs], answers)


async def ask(load: Load, port: int, offset: int) -> None:
    connection, row = Connection(port), offset % ROWS
    while not load.is_over:
        try:
            status, _, body = await connection.send(load.requests[row])
            load.note(row, status, body)
        except (OSError, EOFError, ValueError) as error:
            load.failures.append(f"{type(error).__name__}: {error}")
            connection.close()
        row = (row + 1) % ROWS
    connection.close()


def wait_for(service: Service, version: int) -> None:
    while service.get(f"/models/{NAME}")["version"] != version:
        time.sleep(0.01)


def report(title: str, load: Load) -> None:
    answers = ", ".join(f"version {version}: {count}" for version, count in sorted(load.answers.items()))
    print(f"{title}\n  right answers by {answers}\n  failed or mixed: {len(load.failures)}")
    for text, count in Counter(load.failures).most_common(5):
        print(f"    {count} x {text}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()

"""Whether the service stands what clients, operators and disks do to it: `python -m benchmarks.faults --minutes 10`.

A service on one core is asked by sound clients, who compare each answer with what the version that it names is known
to give, while at random: clients leave amid a request, send half of one, garbage, floods, nonsense, or do not read;
versions whose files are damaged or that answer wrong are published, and broken pins set; good versions swap; SIGHUP
comes; another model is loaded and unloaded by the control API; and the log's disk is full (a small tmpfs, where
mounting one is permitted).

Ends with a verdict, and with 1 where it fails: wrong answers, failed requests of sound clients, answers of 500, moments
at which it was not ready, memory that grows after the first minute, and tasks, sockets and threads at the end that
it had not then. For these counts all faults pause. The same `--seed` makes the same choices, not the same moments.
Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import faulty_versions
from benchmarks.answers import NAME, known_answers
from benchmarks.counted_service import FILE
from benchmarks.faulty_clients import CLIENTS
from benchmarks.held import Held, count_held
from benchmarks.service_process import Connection, Service, post, running, train_digits
from benchmarks.sound_clients import Sound, ask
from models.store import ArtifactStore

OTHER = "other"
CLIENT_TIMEOUT = 5
MOST_GROWTH = 1.1
"""Of the memory, from the median of one half of the time after the first minute to that of the other.

What a process holds at a moment says little: floods come and go, and the allocator keeps what they took for a while.
"""
SECONDS_TO_FILL = 60
"""In which the access log of the sound clients fills its disk."""
POOL_THREADS = 4 + (os.cpu_count() or 1)
"""Threads that pools may still start after the first minute."""


@dataclass
class Trial:
    """The service under trial, and what was seen."""

    service: Service
    store: ArtifactStore
    sound: Sound
    chance: random.Random
    tasks_file: Path
    log: Path
    has_small_disk: bool
    done: Counter[str] = field(default_factory=Counter)
    unready: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    """In MiB, all the time after the first minute."""
    failures: list[str] = field(default_factory=list)
    """Of what an operator may expect to work."""
    runs: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while faults pause."""
    under_way: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of faults (default 10)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of all chance (default: any)")
    parser.add_argument("--runtime", default="litert", help="as the service's --runtime, but not auto (default litert)")
    parser.add_argument("--sound-clients", type=int, default=9, help="who ask all the time (default 9)")
    parser.add_argument("--faulty-clients", type=int, default=6, help="at work at a time (default 6)")
    options = parser.parse_args()
    print(f"Seed {options.seed}, {options.minutes:g} minutes")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary, small_disk(Path(temporary)) as disk:
        folder = Path(temporary)
        for seed in (0, 1):
            train_digits(folder / "artifacts", "--epochs", "3", "--seed", str(seed), "--formats", "onnx,litert")
        train_digits(folder / "artifacts", "--epochs", "1", "--name", OTHER, "--formats", "litert")
        store = ArtifactStore(folder / "artifacts")
        answers = known_answers(store)
        os.environ[FILE] = str(folder / "tasks")
        flags = ["--artifacts", str(store.root), "--default-model", NAME, "--control-api", "--reload-interval", "1"]
        flags += ["--runtime", options.runtime]
        flags += ["--client-timeout", str(CLIENT_TIMEOUT)] + ["--access-log"] * (disk is not None)
        log = (disk or folder) / "log"
        os.sched_setaffinity(0, {cores[-1]})
        with running(*flags, log=log, cores={cores[0]}, module="benchmarks.counted_service") as service:
            trial = Trial(
                service, store, Sound(answers), random.Random(options.seed), folder / "tasks", log, disk is not None
            )
            first, last = asyncio.run(suffer(trial, options))
        problems = judge(trial, first, last, service.process.returncode)
    if problems:
        raise SystemExit(f"FAILED: {'; '.join(problems)}. Seed {options.seed}.")
    print("Passed.")


async def suffer(trial: Trial, options: argparse.Namespace) -> tuple[Held, Held]:
    """Lets faults happen; gives what the service holds after the first minute, or half of the time, and at the end."""
    clients = [ask(trial.sound, trial.service.port, number) for number in range(options.sound_clients)]
    faults = [faulty_clients(trial, random.Random(trial.chance.random())) for _ in range(options.faulty_clients)]
    tasks = [asyncio.create_task(each) for each in [*clients, *faults, operators(trial), watch_ready(trial)]]
    first = min(60.0, 30 * options.minutes)
    held = []
    for seconds in (first, 60 * options.minutes - first):
        trial.runs.set()
        trial.sound.runs.set()
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)  # none ends but by a mistake
        for task in tasks:
            if task.done():
                task.result()
        held.append(await pause(trial))
        print(f"{sum(trial.done.values())} faults, {trial.sound.right} right answers; holds {held[-1]}", flush=True)
        if len(held) == 1:
            trial.memory.clear()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return held[0], held[1]


async def pause(trial: Trial) -> Held:
    """Waits until no fault is under way and what is left of them has timed out, then counts."""
    trial.runs.clear()
    while trial.under_way:
        await asyncio.sleep(0.05)
    trial.sound.runs.clear()
    while trial.sound.under_way:
        await asyncio.sleep(0.05)
    await asyncio.sleep(CLIENT_TIMEOUT + 3)
    return await asyncio.to_thread(count_held, trial.service, trial.tasks_file)


async def faulty_clients(trial: Trial, chance: random.Random) -> None:
    while True:
        await trial.runs.wait()
        client = chance.choice(CLIENTS)
        trial.under_way += 1
        try:
            await client(trial.service.port, chance.choice(trial.sound.requests).data, chance)
            trial.done[client.__name__] += 1
        finally:
            trial.under_way -= 1


async def operators(trial: Trial) -> None:
    works = [broken_version, broken_pin, swap, hang_up, other_model] + [full_disk] * trial.has_small_disk
    while True:
        await trial.runs.wait()
        work = trial.chance.choice(works)
        trial.under_way += 1
        try:
            await work(trial)
            trial.done[work.__name__] += 1
        finally:
            trial.under_way -= 1
        await asyncio.sleep(trial.chance.uniform(0.0, 1.0))


async def broken_version(trial: Trial) -> None:
    version = await asyncio.to_thread(faulty_versions.publish_broken, trial.store.root / NAME, trial.chance)
    await look(trial)
    await asyncio.to_thread(faulty_versions.remove, version)


async def broken_pin(trial: Trial) -> None:
    faulty_versions.break_pin(trial.store.root / NAME, trial.chance)
    await look(trial)
    trial.store.unpin(NAME)


async def swap(trial: Trial) -> None:
    """Pins a good version for a while."""
    await asyncio.to_thread(trial.store.pin, NAME, trial.chance.choice((1, 2)))
    await look(trial)
    trial.store.unpin(NAME)


async def look(trial: Trial) -> None:
    """Gives the service time to see what is there, with or without telling it to look."""
    if trial.chance.random() < 0.5:
        trial.service.reload()
    await asyncio.sleep(trial.chance.uniform(0.0, 2.5))


async def hang_up(trial: Trial) -> None:
    for _ in range(trial.chance.randrange(1, 50)):
        trial.service.reload()
        await asyncio.sleep(trial.chance.choice((0.0, 0.002)))


async def other_model(trial: Trial) -> None:
    """Unloads, loads and asks it. Each must succeed."""
    connection = Connection(trial.service.port)
    row = trial.sound.answers.inputs[0]
    for path in (f"/v2/repository/models/{OTHER}/unload", f"/v2/repository/models/{OTHER}/load", "predict"):
        content = {"instances": [row]} if path == "predict" else {}
        request = post(f"/models/{OTHER}/predict" if path == "predict" else path, content)
        try:
            status, _, body = await connection.send(request)
            if status != 200:
                trial.failures.append(f"{path}: {status} {body[:300]!r}")
        except (OSError, EOFError) as error:
            trial.failures.append(f"{path}: {type(error).__name__} {error}")
            connection.close()
    connection.close()


async def full_disk(trial: Trial) -> None:
    """Waits until the log has filled its disk, leaves it so for a while, and gives it room again."""
    try:
        async with asyncio.timeout(SECONDS_TO_FILL):
            while os.statvfs(trial.log.parent).f_bavail:
                await asyncio.sleep(0.05)
    except TimeoutError:
        trial.failures.append(f"the log has not filled its disk in {SECONDS_TO_FILL} s")
    await asyncio.sleep(trial.chance.uniform(0.0, 2.0))
    os.truncate(trial.log, 0)


async def watch_ready(trial: Trial) -> None:
    request = b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    while True:
        await trial.runs.wait()
        trial.memory.append(trial.service.memory_mib())
        try:
            status, _, body = await Connection(trial.service.port).send(request)
            if status != 200:
                trial.unready.append(f"{status} {body[:300]!r}")
        except (OSError, EOFError) as error:
            trial.unready.append(f"{type(error).__name__} {error}")
        await asyncio.sleep(0.05)


def judge(trial: Trial, first: Held, last: Held, code: int | None) -> list[str]:
    """Prints all that was seen; gives what is not as it must be."""
    print("Faults:", ", ".join(f"{name} {count}" for name, count in sorted(trial.done.items())))
    problems = []
    zeros = {
        "wrong answers": trial.sound.wrong,
        "failed requests of sound clients": trial.sound.failed,
        "failures of what operators may expect": trial.failures,
        "moments at which it was not ready": trial.unready,
    }
    for title, found in zeros.items():
        print(f"{title}: {len(found)}" + (f" of {trial.sound.right + len(found)}" if "answers" in title else ""))
        for text, count in Counter(found).most_common(5):
            print(f"  {count} x {text}")
        if found:
            problems.append(f"{len(found)} {title}")
    half = len(trial.memory) // 2
    earlier, later = statistics.median(trial.memory[:half]), statistics.median(trial.memory[half:])
    figures = (
        ("tasks", first.tasks, last.tasks, first.tasks),
        ("sockets", first.sockets, last.sockets, first.sockets),
        ("threads", first.threads, last.threads, first.threads + POOL_THREADS),
        ("MiB", earlier, later, earlier * MOST_GROWTH),
        ("answers of 500", first.failures, last.failures, 0),
        ("exit code", 0, code if code is not None else -1, 0),
    )
    for title, before, after, most in figures:
        print(f"{title}: {before:.0f} then, {after:.0f} at the end (at most {most:.0f})")
        if after > most or after < 0:
            problems.append(f"{title} {before:.0f} to {after:.0f}")
    return problems


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A disk that is soon full; None where mounting one is not permitted."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("Not tried: a full disk for the log, for this process may mount none.")
        yield None
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


if __name__ == "__main__":
    main()

"""What batching costs in Python: `python -m benchmarks.batching`.

Submits one-row requests in one turn of an event loop and waits for the last answer, in this process, with a runtime
that does nothing. So these are floors, beyond which a service has HTTP, JSON and the model to do. `turn` is the same
with no batcher at all: a callback and a future.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import uvloop

from models.artifact import Artifact
from models.manifest import Tensors
from models.store import ArtifactStore
from service.batching import Batcher
from service.engine import Engine
from service.inference import InferenceRequest
from service.limits import Limits
from service.repository import ModelRepository
from tests.service.fakes import FakeRuntime, publish_fake

SIZES = (1, 16, 64)
LIMITS = Limits(max_batch_size=64, max_queue_size=4096, max_queue_delay_ms=0, request_timeout=30, threads=1)
REPEATS, REQUESTS = 15, 6400
INPUTS = {"x": np.zeros((1, 2), np.float32)}
ANSWERS = np.zeros((64, 2), np.float32)

Done = Callable[[object], None]
Submit = Callable[[Done], object]


def main() -> None:
    uvloop.run(compare())


async def compare() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ways = {"turn": asyncio.get_running_loop().call_soon, "batcher": batcher(), "engine": engine(Path(folder))}
        print(f"{'at once':>7}  " + "".join(f"{name + ' us':>12}" for name in ways) + "   of CPU a request")
        for size in SIZES:
            costs = [await cost(submit, size) for submit in ways.values()]
            print(f"{size:>7}  " + "".join(f"{seconds * 1e6:>12.2f}" for seconds in costs))


def batcher() -> Submit:
    queue: Batcher[Tensors] = Batcher(
        answer_nothing,
        lambda outputs: outputs,
        joins=True,
        ragged=(),
        limits=LIMITS,
        executor=ThreadPoolExecutor(1),
        hold=lambda: True,
        release=lambda: None,
    )
    return lambda done: queue.submit(INPUTS, done)


def engine(folder: Path) -> Submit:
    """With the search for the model, the check of the inputs and the response."""
    logging.disable()
    store = ArtifactStore(folder)
    publish_fake(store, batch_safe=True)
    repository = ModelRepository(store, load_nothing)
    repository.reconcile()
    hall = Engine(repository, default_model=None, reload_interval=3600, limits=LIMITS)
    return lambda done: hall.submit(InferenceRequest(INPUTS), done)


def load_nothing(artifact: Artifact) -> FakeRuntime:  # noqa: ARG001 - as a loader is called
    runtime = FakeRuntime(lambda inputs, factor: {"y": inputs["x"] * factor}, 2.0)
    runtime.run = answer_golden_or_nothing  # type: ignore[method-assign]
    return runtime


def answer_nothing(inputs: Tensors) -> Tensors:
    return {"y": ANSWERS[: len(inputs["x"])]}


def answer_golden_or_nothing(inputs: Tensors) -> Tensors:
    """The golden rows are not zero, and must be doubled."""
    return {"y": inputs["x"] * np.float32(2)} if inputs["x"][0, 0] else answer_nothing(inputs)


async def cost(submit: Submit, size: int) -> float:
    """CPU seconds a request, the best of several repetitions."""
    rounds = REQUESTS // size // 10
    await timed(lambda: one_round(submit, size), rounds)
    return min([await timed(lambda: one_round(submit, size), rounds) for _ in range(REPEATS)]) / size


async def timed(work: Callable[[], Awaitable[None]], rounds: int) -> float:
    begin = time.process_time()
    for _ in range(rounds):
        await work()
    return (time.process_time() - begin) / rounds


async def one_round(submit: Submit, size: int) -> None:
    finished = asyncio.get_running_loop().create_future()
    left = size

    def done(result: object = None) -> None:  # noqa: ARG001 - as the batcher calls
        nonlocal left
        left -= 1
        if not left:
            finished.set_result(None)

    for _ in range(size):
        submit(done)
    await finished


if __name__ == "__main__":
    main()

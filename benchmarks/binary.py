"""What a binary request costs over the model's own run: `python -m benchmarks.binary`.

Publishes a dense model of 784 features in a temporary folder and serves it. A request to `POST /v2/models/wide/infer`
with 256 rows as raw float32, one to `GET /v2/health/live`, which does nothing, and a call of the same runtime in this
process take turns, so that a noisy machine disturbs all three alike. Printed are medians, and the request's share of
the runtime and the empty request together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import keras
import numpy as np

from benchmarks.service_process import Connection, Service, running
from export.publish import Candidate, publish
from models.artifact import Artifact
from models.store import ArtifactStore
from service.runtimes import load

ROWS, FEATURES = 256, 784
PATH = "/v2/models/wide/infer"
EMPTY = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", default="onnx", help="that runs the model, there and here (default onnx)")
    parser.add_argument("--units", type=int, default=1024, help="of each of the two hidden layers (default 1024)")
    parser.add_argument("--rounds", type=int, default=300, help="measurements of each (default 300)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        artifact = published(Path(folder) / "artifacts", options.units)
        flags = ["--artifacts", str(artifact.path.parent.parent), "--runtime", options.runtime]
        flags += ["--max-batch-size", str(ROWS)]
        with running(*flags, log=Path(folder) / "log") as service:
            asyncio.run(compare(service, artifact, options.runtime, options.rounds))


def published(root: Path, units: int) -> Artifact:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,), name="x")
    hidden = keras.layers.Dense(units, activation="relu")(inputs)
    hidden = keras.layers.Dense(units, activation="relu")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(10, name="y")(hidden))
    return publish(ArtifactStore(root), Candidate("wide", model, {"x": rows(8)}))


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(0).random((count, FEATURES), np.float32)


def request() -> bytes:
    tensor = rows(ROWS).tobytes()
    described = {"name": "x", "datatype": "FP32", "shape": [ROWS, FEATURES]}
    described["parameters"] = {"binary_data_size": len(tensor)}
    text = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(text)}\r\n"
    return f"{head}Content-Length: {len(text) + len(tensor)}\r\n\r\n".encode() + text + tensor


async def compare(service: Service, artifact: Artifact, name: str, rounds: int) -> None:
    connection, runtime, inputs, binary = Connection(service.port), load(name, artifact), {"x": rows(ROWS)}, request()

    async def run() -> None:
        runtime.run(inputs)

    async def send(content: bytes) -> None:
        status, _, body = await connection.send(content)
        if status != 200:
            raise SystemExit(f"The service answered {status}: {body.decode()}")

    ways: dict[str, Callable[[], Awaitable[None]]] = {
        "runtime": run,
        "empty request": lambda: send(EMPTY),
        "binary request": lambda: send(binary),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 20):
        for way, measured in ways.items():
            begin = time.perf_counter()
            await measured()
            if number >= 20:
                times[way].append(time.perf_counter() - begin)
    connection.close()
    medians = {way: statistics.median(each) * 1e3 for way, each in times.items()}
    print(f"({ROWS}, {FEATURES}) float32 by {name}, median of {rounds} in ms")
    for way, milliseconds in medians.items():
        print(f"{way:<15}{milliseconds:>8.3f}")
    print(f"binary request / (runtime + empty request): {medians.pop('binary request') / sum(medians.values()):.2f}")


if __name__ == "__main__":
    main()

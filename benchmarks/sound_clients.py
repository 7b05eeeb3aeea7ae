"""Clients that behave, and look at each answer closely."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.answers import NAME, Answers
from benchmarks.service_process import Connection, post

_PAUSE_SECONDS = 0.002


@dataclass(frozen=True)
class Asked:
    """A request for some of the known rows."""

    data: bytes
    rows: list[int]


@dataclass
class Sound:
    """What the clients send, and what they saw."""

    answers: Answers
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    runs: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while they pause."""
    under_way: int = 0
    requests: list[Asked] = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(0)
        self.requests = []
        for count in (1, 1, 1, 3, 20, 32):
            rows = chance.sample(range(len(self.answers.inputs)), count)
            instances = [self.answers.inputs[row] for row in rows]
            tensor = {"name": self.answers.input_name, "datatype": "FP32", "shape": [count, 64], "data": instances}
            self.requests.append(Asked(post("/predict", {"instances": instances}), rows))
            self.requests.append(Asked(post(f"/models/{NAME}/predict", {"instances": instances}), rows))
            self.requests.append(Asked(post(f"/v2/models/{NAME}/infer", {"inputs": [tensor]}), rows))

    def note(self, asked: Asked, status: int, body: bytes) -> None:
        """Looks at an answer."""
        if status != 200:
            self.failed.append(f"{status} {body[:300]!r}")
            return
        answer: dict[str, Any] = json.loads(body)
        if "outputs" in answer:
            (output,) = answer["outputs"]
            found, version = np.array(output["data"]).reshape(output["shape"]), int(answer["model_version"])
        else:
            found, version = np.array(answer["predictions"]), answer["version"]
        problem = self.answers.problem(asked.rows, version, found)
        if problem:
            self.wrong.append(problem)
        else:
            self.right += 1


async def ask(sound: Sound, port: int, seed: int) -> None:
    """Asks for ever, on one connection while that lasts; one that the server closes after an answer is made anew."""
    connection, chance = Connection(port), random.Random(seed)
    while True:
        await sound.runs.wait()
        asked = chance.choice(sound.requests)
        sound.under_way += 1
        try:
            sound.note(asked, *(await connection.send(asked.data))[::2])
        except (OSError, EOFError, ValueError) as error:
            sound.failed.append(f"{type(error).__name__}: {error}")
            connection.close()
        finally:
            sound.under_way -= 1
        await asyncio.sleep(_PAUSE_SECONDS)

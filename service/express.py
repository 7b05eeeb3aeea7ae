"""Batches that need no queue: rows of requests that have come together, find nobody waiting, and are cheap to run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.manifest import Tensors
from service.cost import Cost
from service.tickets import OnBatch, Run, attempt_rows


class Express:
    """Runs rows of several callers on the event loop, without a ticket for each. Belongs to a `Batcher`.

    Args:
        run: Answers rows, which must not depend on each other.
        most_rows: Of a batch.
        cost: What is known of a run's.
        hold, release, on_batch, clock: As the batcher's.
    """

    def __init__(
        self,
        run: Run,
        most_rows: int,
        cost: Cost,
        *,
        hold: Callable[[], bool],
        release: Callable[[], None],
        on_batch: OnBatch | None,
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._most_rows = most_rows
        self._cost = cost
        self._hold, self._release = hold, release
        self._on_batch = on_batch
        self._clock = clock

    def run(self, inputs: Tensors, counts: list[int], waited: float) -> Tensors | None:
        """Answers the rows of requests that have `counts` of them and have waited some seconds.

        None where they would hold up the event loop or have to be cut, or where a run fails.
        """
        values, rows = sum([each.size for each in inputs.values()]), sum(counts)
        if max(counts) > self._most_rows or not self._cost.is_cheap(values) or not self._hold():
            return None
        try:
            if rows <= self._most_rows:
                return self._run_batch(inputs, values, rows, waited, len(counts))
            answers = []
            for start, stop, requests in _batches(counts, self._most_rows):
                part = {name: each[start:stop] for name, each in inputs.items()}
                answer = self._run_batch(part, values * (stop - start) // rows, stop - start, waited, requests)
                if answer is None:
                    return None
                answers.append(answer)
        finally:
            self._release()
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}

    def _run_batch(self, inputs: Tensors, values: int, rows: int, waited: float, requests: int) -> Tensors | None:
        begin = self._clock()
        outputs = attempt_rows(self._run, inputs)
        if isinstance(outputs, Exception):
            return None
        seconds = self._clock() - begin
        self._cost.learn(values, seconds)
        if self._on_batch:
            self._on_batch(rows, waited, seconds, requests)
        return outputs


def _batches(counts: list[int], most_rows: int) -> list[tuple[int, int, int]]:
    """The first row of each batch, the one behind its last, and the number of its requests, none of which is cut."""
    batches = []
    start = stop = requests = 0
    for count in counts:
        if stop - start + count > most_rows:
            batches.append((start, stop, requests))
            start, requests = stop, 0
        stop += count
        requests += 1
    return [*batches, (start, stop, requests)]

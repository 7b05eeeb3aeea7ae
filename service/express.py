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
        *,
        most_rows: int,
        cost: Cost,
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
            answers, ran = [], []
            for start, stop, requests in _batches(counts, rows, self._most_rows):
                part = inputs if stop - start == rows else {name: each[start:stop] for name, each in inputs.items()}
                begin = self._clock()
                outputs = attempt_rows(self._run, part)
                if isinstance(outputs, Exception):
                    return None
                answers.append(outputs)
                ran.append((stop - start, waited, self._clock() - begin, requests))
        finally:
            self._release()
        for figures in ran:
            self._cost.learn(values * figures[0] // rows, figures[2])
            if self._on_batch:
                self._on_batch(*figures)
        if len(answers) == 1:
            return answers[0]
        return {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}


def _batches(counts: list[int], rows: int, most_rows: int) -> list[tuple[int, int, int]]:
    """The first row of each batch, the one behind its last, and the number of its requests, none of which is cut."""
    if rows <= most_rows:
        return [(0, rows, len(counts))]
    batches = []
    start = stop = requests = 0
    for count in counts:
        if stop - start + count > most_rows:
            batches.append((start, stop, requests))
            start, requests = stop, 0
        stop += count
        requests += 1
    return [*batches, (start, stop, requests)]

"""How long a model takes, learned from its own runs: what decides whether a batch may run on the event loop."""

from __future__ import annotations

import math
from collections import deque

LOOP_SECONDS = 1e-3
"""What a batch may cost and still run on the event loop, and how long others may wait there for their turn."""
_REMEMBERED_RUNS = 8
_SURPRISE_SECONDS = 25e-3
_FEWEST_WARY_RUNS, _MOST_WARY_RUNS = 8, 1024
_SOON = 16  # times as many runs as were wary


class Cost:
    """Estimates the seconds of a run by the size of its inputs, counted in values.

    Sizes are kept by powers of two, since what a batch costs is no straight line: some runtimes pad, some start
    threads at a certain size. A size that was never seen is guessed from its neighbours, too high rather than too low.
    Of each size the shortest of the last eight runs counts: a busy machine makes runs look longer, nothing makes them
    look shorter.

    A run that took far longer than expected may be such a machine's, or of rows that are dear whatever their size. So
    none is cheap for the next eight runs, and for twice as many each time that another such run comes soon.
    """

    __slots__ = ("_runs", "_runs_since", "_wary_runs")

    def __init__(self) -> None:
        self._runs: dict[int, deque[float]] = {}
        self._wary_runs = self._runs_since = 0

    def learn(self, size: int, seconds: float) -> None:
        """Takes in a run of `size` values."""
        self._runs_since += 1
        if seconds > _SURPRISE_SECONDS and self.estimate(size) <= LOOP_SECONDS:
            is_soon = self._runs_since < _SOON * self._wary_runs
            self._wary_runs = min(2 * self._wary_runs, _MOST_WARY_RUNS) if is_soon else _FEWEST_WARY_RUNS
            self._runs_since = 0
        power = size.bit_length()
        if power not in self._runs:
            self._runs[power] = deque(maxlen=_REMEMBERED_RUNS)
        self._runs[power].append(seconds)

    def estimate(self, size: int) -> float:
        """Seconds that a run of `size` values takes; infinity where nothing is known."""
        power = size.bit_length()
        runs = self._runs.get(power)
        if runs:
            return min(runs)
        guesses = [min(runs) * 2.0 ** max(0, power - other) for other, runs in self._runs.items()]
        return min(guesses, default=math.inf)

    def is_cheap(self, size: int) -> bool:
        """Whether a run of `size` values may hold up the event loop."""
        return self._runs_since >= self._wary_runs and self.estimate(size) <= LOOP_SECONDS

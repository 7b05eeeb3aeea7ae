"""How long a model takes, learned from its own runs: what decides whether a batch may run on the event loop."""

from __future__ import annotations

import math

_RISE = 1 / 8


class Cost:
    """Estimates the seconds of a run by the size of its inputs, counted in values.

    Sizes are kept by powers of two, since what a batch costs is no straight line: some runtimes pad, some start
    threads at a certain size. A size that was never seen is guessed from its neighbours, too high rather than too low.
    An estimate falls at once and rises by an eighth of the difference, so that a run which the machine held up does not
    count as a slow model, while one that is ten times too slow does.
    """

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        """Takes in a run of `size` values."""
        power = size.bit_length()
        known = self._seconds.get(power)
        if known is None or seconds < known:
            self._seconds[power] = seconds
        else:
            self._seconds[power] = known + (seconds - known) * _RISE

    def estimate(self, size: int) -> float:
        """Seconds that a run of `size` values takes; infinity where nothing is known."""
        power = size.bit_length()
        known = self._seconds.get(power)
        if known is not None:
            return known
        guesses = [
            seconds if other > power else seconds * 2.0 ** (power - other) for other, seconds in self._seconds.items()
        ]
        return min(guesses, default=math.inf)

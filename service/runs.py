"""What is known of the runs of models, told some at a time to those who count them.

Counting takes a microsecond where it is done over and over, and six where a lone caller's request comes every now and
then and finds nothing of it in the processor's caches: a fifteenth of its latency.
"""

from __future__ import annotations

import time

from service.metrics import Metrics
from service.statistics import Statistics

_MOST = 32


class Runs:
    """Keeps runs until there are some, or somebody looks at the figures. Belongs to the event loop."""

    def __init__(self, metrics: Metrics, statistics: Statistics) -> None:
        self._metrics, self._statistics = metrics, statistics
        self._pending: list[tuple[float, tuple[str, int, int, float, float, int]]] = []
        metrics.catch_up = statistics.catch_up = self.tell

    def add(self, *figures: *tuple[str, int, int, float, float, int]) -> None:
        """Takes in a run that has just ended; see `service.queues.OnBatch`."""
        self._pending.append((time.time(), figures))
        if len(self._pending) >= _MOST:
            self.tell()

    def tell(self) -> None:
        """Lets all that have come be counted."""
        pending, self._pending = self._pending, []
        for ended, figures in pending:
            self._metrics.on_batch(*figures)
            self._statistics.on_batch(*figures, ended=ended)

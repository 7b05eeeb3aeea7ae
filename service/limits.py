"""How much a queue holds and for how long, and how much one request may hold."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of each version's queue, sizes in rows. `threads` is how many dear batches of a version run at once."""

    max_batch_size: int
    max_queue_size: int
    max_queue_delay_ms: float
    request_timeout: float
    threads: int


@dataclass(frozen=True)
class RequestLimits:
    """Of one request: its rows, and the values of all its inputs and rows together."""

    max_rows: int
    max_elements: int


NO_LIMITS = RequestLimits(sys.maxsize, sys.maxsize)

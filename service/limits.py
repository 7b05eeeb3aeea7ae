"""How much a queue holds, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Of each version's queue, sizes in rows. `threads` is how many dear batches of a version run at once."""

    max_batch_size: int
    max_queue_size: int
    max_queue_delay_ms: float
    request_timeout: float
    threads: int

"""Waiting for what no event tells: the state of another process, or of the disk's watcher."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Asks again and again, as a load balancer asks /health/ready."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.005)

"""What a queue tells those that it does not take in, or has taken in for nothing."""

from __future__ import annotations

import math

from service.errors import DeadlineExceeded, QueueFull

_LONGEST_RETRY_SECONDS = 60


class Closed(Exception):  # noqa: N818 - nobody's error: another version has taken over
    """The version has been let go of since it was looked up."""


def queue_full(rows: int, waiting: int, most: int, seconds: float) -> QueueFull:
    """Refuses `rows` rows where `waiting` of `most` wait already, which will take some seconds, if that is known."""
    wait = 1 if math.isinf(seconds) else math.ceil(seconds)
    return QueueFull(
        f"The queue is full: {waiting} rows wait, {most} may. Received: {rows} more. Send the request again later.",
        max(1, min(wait, _LONGEST_RETRY_SECONDS)),
    )


def too_late(seconds: float) -> DeadlineExceeded:
    """Refuses a request whose time of so many seconds is over."""
    return DeadlineExceeded(f"The request was not answered within {seconds * 1e3:.0f} ms.")

"""What becomes known of one request while it is answered, for metrics and the access log."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

CLIENT_LEFT = 499
"""Status of a request whose client left before its answer, as nginx has it; only the metrics and the log see it."""

_KEY = "layerserve.exchange"
_CURRENT: ContextVar[Exchange] = ContextVar(_KEY)
_SANE_ID = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")


@dataclass(slots=True)
class Exchange:
    """A request and its answer. Whoever learns something writes it here.

    Attributes:
        request_id: As the client gave it, or ours.
        protocol: Of the inference that was asked for; empty for any other request.
        model, version: Which one was found for it.
        rows: Of the request.
        received: When its body was complete, by `time.perf_counter`; 0 until then.
        decode, encode: Seconds that these took.
        error: What the client was told.
    """

    request_id: str
    protocol: str = ""
    model: str = ""
    version: int | None = None
    rows: int = 0
    received: float = 0.0
    decode: float = 0.0
    encode: float = 0.0
    error: str = ""

    @staticmethod
    def of(scope: MutableMapping[str, Any]) -> Exchange:
        """The exchange of an ASGI scope; an unobserved one where no observer is around the application."""
        exchange: Exchange = scope.setdefault(_KEY, Exchange(""))
        return exchange

    def enter(self, scope: MutableMapping[str, Any]) -> None:
        """Makes `of` find it."""
        scope[_KEY] = self

    @staticmethod
    def current() -> Exchange:
        """The exchange of the call over gRPC that this task answers, whose context cannot hold it."""
        return _CURRENT.get()

    def make_current(self) -> None:
        """Makes `current` find it, in this task."""
        _CURRENT.set(self)


class RequestIds:
    """Gives each request an id: the client's if it is sane, else one that no other request has."""

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex().encode()
        self._numbers = itertools.count(1)

    def choose(self, header: bytes | None) -> bytes:
        """The id for a request that came with this `X-Request-Id`."""
        if header is not None and _SANE_ID.fullmatch(header):
            return header
        return b"%b-%08x" % (self._prefix, next(self._numbers))

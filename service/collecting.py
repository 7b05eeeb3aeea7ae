"""Requests whose head has come before: taken past the parser, whole or in parts.

A client sends the same head over and over, byte for byte. To look it up takes a fraction of what the parser and all
that it calls take, and a long body is put together once instead of growing with each part.
"""

from __future__ import annotations

from typing import Any

from service.connection import Awaits, Connection
from service.lane_heads import Head, Heads
from service.lane_request import Request
from service.observer import Observing
from service.protocols.json_rows import LARGE_BODY_BYTES

HEADS = Heads()
_MOST_PARTS = 256


class Collecting(Connection):
    """A connection that knows heads. What is done with their requests, and with which of them, is its subclasses'.

    While the rest of a request is still to come, that is the connection's cycle: uvicorn waits for it when the service
    ends.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._observing: Observing = self.app_state.get("observing")  # type: ignore[assignment] # there with the lane
        self._longest_body = min(self.limits.max_body_bytes, LARGE_BODY_BYTES)
        self._unknown_head: bytes | None = None
        self._parts: list[bytes] = []  # of the request that is being collected, and what has come behind them
        self._rest = bytearray()
        self._missing = self._end = 0

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets what has come of a request."""
        self._forget_parts()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Collects requests whose head has come before, and leaves all else to the parser."""
        if self._missing:
            self._collect(data)
            return
        if self.awaits is not Awaits.REST_OF_REQUEST:
            end = data.find(b"\r\n\r\n") + 4
            text = data[:end]
            head = HEADS.get(text)
            if head is None and len(text) <= self.limits.max_header_bytes:
                head = HEADS.find(text, self._longest_body)
            if head is None:
                self._unknown_head = text
            else:
                missing = head.length - len(data) + end
                if missing >= 0 and self._may_take(head, is_whole=not missing) and not self.is_ending():
                    request = Request(self, head, self._observing.request_ids.choose(None))  # type: ignore[arg-type]
                    if missing:
                        self._begin(request, data, end, missing)
                    else:
                        self._take_whole(request, data, end)
                    return
        super().data_received(data)
        self._unknown_head = None

    def leave_to_parser(self, data: bytes) -> None:
        """Lets uvicorn see a request from its beginning, as if it had not been looked at here."""
        is_last = self.cycle is not None and not self.cycle.keep_alive  # uvicorn has been told to end
        self.cycle = None  # type: ignore[assignment] # as before the first request
        self.awaits = Awaits.NEXT_REQUEST
        if not self.transport.is_closing():
            super().data_received(data)
        if is_last and self.cycle is not None:
            self.cycle.keep_alive = False

    def _may_take(self, head: Head, *, is_whole: bool) -> bool:
        """Whether a request may be taken past the parser now, of which all has come or the rest is still to come."""
        raise NotImplementedError

    def _take_whole(self, request: Request, raw: bytes, end: int) -> None:
        """Takes a request that has arrived: all that came of it, and where its head ends."""
        if request.head.way:
            self._take_kept(request, raw, end)
        else:
            request.body = raw[end:]
            self._answer_whole(request)

    def _take_kept(self, request: Request, raw: bytes, end: int) -> None:
        """The same for one of another protocol, which may still be the application's."""
        raise NotImplementedError

    def _go_on_behind(self) -> None:
        """Takes what has come behind such a request, once it has its answer."""
        raise NotImplementedError

    def _answer_whole(self, request: Request) -> None:
        """Sees to the answer of a request that has its body."""
        raise NotImplementedError

    def _begin(self, request: Request, data: bytes, end: int, missing: int) -> None:
        if self.timeout_keep_alive_task:  # as uvicorn does with whatever comes
            self._unset_keepalive_if_required()
        self._parts, self._end, self._missing = [data], end, missing
        self.cycle = request  # type: ignore[assignment] # it has all that uvicorn asks of a cycle
        self.awaits = Awaits.REST_OF_REQUEST
        self.steps += 1

    def _collect(self, data: bytes) -> None:
        if len(self._parts) < _MOST_PARTS:
            self._parts.append(data)
        else:  # an object for each of very small parts would take many times their size
            self._rest += data
        self._missing -= len(data)
        if self._missing > 0:
            return
        request, raw, is_alone = self.cycle, b"".join((*self._parts, self._rest)), not self._missing
        self._forget_parts()
        if is_alone:
            self._take_whole(request, raw, self._end)  # type: ignore[arg-type] # `_begin` has put it there
        else:
            self.leave_to_parser(raw)

    def _forget_parts(self) -> None:
        self._parts, self._rest, self._missing = [], bytearray(), 0

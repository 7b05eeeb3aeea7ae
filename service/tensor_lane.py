"""The fast lane of binary requests: `POST /v2/models/.../infer` with tensors behind a JSON that has come before.

Only what can be answered together with others in the turn is answered here, even if there is no other. A request whose
head is not known yet, or for which anything is special, is read by uvicorn and answered by the application as if this
file did not exist: until it is known which, a request is held as it came, and nothing behind it is read.
"""

from __future__ import annotations

from typing import Any

from service.connection import Awaits
from service.fast_lane import DECLINED, ID, TIMEOUT, FastLane
from service.lane_request import Answer, Head, Heads, Request
from service.protocols.v2_body import HEADER
from service.protocols.v2_together import parse_url

_BEGINNING = b"POST /v2/"
_JSON_LENGTH = HEADER.encode()
# What the application would answer otherwise for, and what must be the same for each request with a head.
_SPECIAL = DECLINED | {ID, TIMEOUT, b"accept-encoding"}
_HEADS = Heads()


class TensorLane(FastLane):
    """A connection with the lane for JSON and the one for tensors."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._held: bytearray | None = None  # of a request of which the rest, or the turn, is still to come
        self._waits_for_turn = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets what has not been answered."""
        self._held = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes requests whose head has come before past the parser, whole or in parts, and leaves all else to it."""
        if self._held is None:
            if not data.startswith(_BEGINNING) or self._is_busy() or self.is_ending():
                super().data_received(data)
                return
            self._held = bytearray(data)
        else:
            self._held += data
        if not self._waits_for_turn:
            self._look_at_held()

    def take(self, request: Request, answer: Answer) -> None:
        """Writes the answer, and goes on with what has come behind its request."""
        super().take(request, answer)
        if request.head.json_length:
            behind = self._let_go()
            if behind and not self.transport.is_closing():
                self.data_received(behind)

    def run(self, request: Request) -> None:
        """Lets the application answer a request of tensors that could not be answered with others."""
        if not request.head.json_length:
            super().run(request)
            return
        self._lane.clear()
        self._leave_to_parser(request.raw + self._let_go())

    def _enter(self) -> Request | None:
        request = super()._enter()
        if request is None and self._unknown_head is not None:
            self._note(self._unknown_head)
        return request

    def _note(self, text: bytes) -> None:
        """Remembers the head that is being read, if requests with it may be answered here."""
        target = parse_url(self.url) if text.startswith(_BEGINNING) else None
        headers = dict(self.headers)
        if target is None or len(headers) < len(self.headers) or not _SPECIAL.isdisjoint(headers):
            return
        length, json_length = headers.get(b"content-length", b""), headers.get(_JSON_LENGTH, b"")
        if not (
            length.isdigit() and json_length.isdigit() and 0 < int(json_length) < int(length) <= self._longest_body
        ):
            return
        if self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self.is_closing_soon:
            _HEADS.add(text, Head(self.url, target, False, None, int(length), True, int(json_length)))

    def _is_busy(self) -> bool:
        """Whether an earlier request is being read or has not been answered."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return self.awaits is Awaits.REST_OF_REQUEST or not is_answered or bool(self._lane or self.pipeline)

    def _look_at_held(self) -> None:
        """Finds out what is held: a request of ours, a part of one, or something else."""
        held = self._held
        assert held is not None  # noqa: S101 - its only caller has seen to that
        end = held.find(b"\r\n\r\n") + 4
        head = _HEADS.get(bytes(held[:end])) if end > 3 else None
        if head is None or len(held) > end + head.length:
            self._leave_to_parser(self._let_go())
        elif len(held) == end + head.length:
            self._start_tensors(head, self._let_go(), end)
        elif self.awaits is not Awaits.REST_OF_REQUEST:
            # uvicorn waits for a request that has begun to arrive when the service ends.
            self.cycle = Request(self, head, b"")  # type: ignore[assignment] # as in `FastLane`
            self.awaits = Awaits.REST_OF_REQUEST
            self.steps += 1

    def _start_tensors(self, head: Head, raw: bytes, end: int) -> None:
        request = Request(self, head, self._observing.request_ids.choose(None))
        request.keep_alive = self.cycle is None or self.cycle.keep_alive
        request.raw = raw
        begin = end + (head.json_length or 0)
        request.json, request.body = raw[end:begin], raw[begin:]
        self._held, self._waits_for_turn = bytearray(), True
        self._take_whole(request)

    def _let_go(self) -> bytes:
        held = bytes(self._held or b"")
        self._held, self._waits_for_turn = None, False
        return held

    def _leave_to_parser(self, data: bytes) -> None:
        """Lets uvicorn see a request from its beginning."""
        cycle: Any = self.cycle
        if type(cycle) is Request and not cycle.response_complete:  # it has begun to arrive here
            self.cycle = None  # type: ignore[assignment] # as before the first request
            self.awaits = Awaits.NEXT_REQUEST
        if not self.transport.is_closing():
            super().data_received(data)

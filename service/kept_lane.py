"""The fast lane of other protocols: inferences of the Open Inference Protocol and predictions as TensorFlow Serving's.

Only what can be answered together with others in the turn is answered here, even if there is no other. A request whose
head is not known yet, or for which anything is special, is read by uvicorn and answered by the application as if this
file did not exist: until it is known which, a request is kept as it came, and nothing behind it is read.
"""

from __future__ import annotations

from typing import Any

from service.collecting import HEADS
from service.fast_lane import FastLane
from service.lane_heads import DECLINED, ID, TIMEOUT, Head
from service.lane_request import Request
from service.protocols import tfs_together, v2_binary, v2_texts
from service.protocols.v2_body import HEADER

_BEGINNING = b"POST /v"
_LENGTH, _JSON_LENGTH, _ACCEPT_ENCODING = b"content-length", HEADER.encode(), b"accept-encoding"
WAYS = (v2_binary.WAY, v2_texts.WAY, tfs_together.WAY)
_MOST_DIGITS = 15
# What the application would answer otherwise for, and what must be the same for each request with a head.
_SPECIAL = DECLINED | {ID, TIMEOUT}


class KeptLane(FastLane):
    """A connection with the lane for predictions and the one for those of other protocols."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._behind: list[bytes] | None = None  # what has come since a kept request waits for the turn

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets what has not been answered."""
        self._behind = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Holds back what is behind a kept request until that has been answered."""
        if self._behind is None:
            super().data_received(data)
        else:
            self._behind.append(data)
            self.flow.pause_reading()

    def run(self, request: Request) -> None:
        """Lets the application answer a kept request that could not be answered with others."""
        if not request.head.way:
            super().run(request)
            return
        self._lane.clear()
        self.flow.resume_reading()
        self.leave_to_parser(request.raw + self._let_go())

    def _enter(self) -> Request | None:
        request = super()._enter()
        if request is None and self._unknown_head is not None:
            self._note(self._unknown_head)
        return request

    def _note(self, text: bytes) -> None:
        """Remembers the head that is being read, if requests with it may be answered here."""
        headers = dict(self.headers)
        if not text.startswith(_BEGINNING) or len(headers) < len(self.headers) or not _SPECIAL.isdisjoint(headers):
            return
        length, json_length = [_number(headers.get(name, b"")) for name in (_LENGTH, _JSON_LENGTH)]
        is_usual = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
        if not is_usual or self.is_closing_soon or not 0 < length <= self._longest_body:
            return
        for way in WAYS:
            target = way.target_of(self.url, _JSON_LENGTH in headers)
            if target:
                packs = way.packs and _ACCEPT_ENCODING in headers
                head = Head(self.url, target, False, None, length, True, way=way, json_length=json_length, packs=packs)
                HEADS.add(text, head)

    def _take_kept(self, request: Request, raw: bytes, end: int) -> None:
        head = request.head
        parts = head.way.split(raw, end, head.json_length) if head.way else None
        if parts is None:
            self.leave_to_parser(raw)
            return
        request.raw = raw
        request.common, request.body = parts
        self._behind = []
        self._answer_whole(request)

    def _go_on_behind(self) -> None:
        behind = self._let_go()
        if behind and not self.transport.is_closing():
            self.data_received(behind)

    def _let_go(self) -> bytes:
        behind = b"".join(self._behind or ())
        self._behind = None
        return behind


def _number(digits: bytes) -> int:
    """The number; -1 where the application must say what it is."""
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else -1

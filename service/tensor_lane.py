"""The fast lane of binary requests: `POST /v2/models/.../infer` with tensors behind a JSON that has come before.

Only what can be answered together with others in the turn is answered here, even if there is no other. A request whose
head is not known yet, or for which anything is special, is read by uvicorn and answered by the application as if this
file did not exist: until it is known which, a request is kept as it came, and nothing behind it is read.
"""

from __future__ import annotations

from typing import Any

from service.collecting import HEADS
from service.fast_lane import FastLane
from service.lane_heads import DECLINED, ID, TIMEOUT, Head
from service.lane_request import Answer, Request
from service.protocols.v2_body import HEADER
from service.protocols.v2_together import parse_url

_BEGINNING = b"POST /v2/"
_JSON_LENGTH = HEADER.encode()
_LONGEST_JSON = 16 * 2**10  # each is kept while its version serves
_MOST_DIGITS = 15
# What the application would answer otherwise for, and what must be the same for each request with a head.
_SPECIAL = DECLINED | {ID, TIMEOUT, b"accept-encoding"}


class TensorLane(FastLane):
    """A connection with the lane for JSON and the one for tensors."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._behind: list[bytes] | None = None  # what has come since a request of tensors waits for the turn

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets what has not been answered."""
        self._behind = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Keeps what is behind a request of tensors until that has been answered."""
        if self._behind is None:
            super().data_received(data)
        else:
            self._behind.append(data)
            self.flow.pause_reading()

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
        self.flow.resume_reading()
        self.leave_to_parser(request.raw + self._let_go())

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
        length, json_length = [_number(headers.get(name, b"")) for name in (b"content-length", _JSON_LENGTH)]
        if not 0 < json_length < length <= self._longest_body or json_length > _LONGEST_JSON:
            return
        if self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1" and not self.is_closing_soon:
            HEADS.add(text, Head(self.url, target, False, None, length, True, json_length=json_length))

    def _take_whole(self, request: Request, raw: bytes, end: int) -> None:
        length = request.head.json_length
        if not length:
            super()._take_whole(request, raw, end)
            return
        begin = end + length
        request.raw, request.json, request.body = raw, raw[end:begin], memoryview(raw)[begin:]
        self._behind = []
        self._answer_whole(request)

    def _let_go(self) -> bytes:
        behind = b"".join(self._behind or ())
        self._behind = None
        return behind


def _number(digits: bytes) -> int:
    """The number; -1 where the application must say what it is."""
    return int(digits) if digits.isdigit() and len(digits) <= _MOST_DIGITS else -1

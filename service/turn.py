"""What has reached the fast lane in one turn of the event loop, answered together.

Nearly all requests are alike: a few rows of numbers, for the same model. The texts of their rows are parsed as one, the
rows run as one batch, and the answers are written as one text and cut, so what is dear about a request is paid once for
all of them. Where anything is otherwise, each goes its own way, to the same answer or to its own error.
"""

from __future__ import annotations

import asyncio
import logging

from service.lane_request import Answer, Request
from service.protocols.predict import Predictor

_log = logging.getLogger(__name__)
_MOST_BYTES = 2**16  # after which others have a turn


class Turn:
    """Collects requests of all connections until the event loop has handed out what came in. Belongs to that loop."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Answers a request that has arrived whole, and asks for nothing special, at the end of the turn."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._end)
        self._requests.append(request)

    def _end(self) -> None:
        url, size = self._requests[0].head.url, 0
        alike: list[Request] = []
        later: list[Request] = []
        for request in self._requests:
            fits = size < _MOST_BYTES and request.head.url == url
            (alike if fits else later).append(request)
            size += len(request.body) if fits else 0
        self._requests = later
        if later:
            asyncio.get_running_loop().call_soon(self._end)
        present = [request for request in alike if not request.has_left]
        if present and not self._answer(present):
            for request in present:
                request.connection.run(request)

    def _answer(self, requests: list[Request]) -> bool:
        """Whether they could be answered together."""
        try:
            plan = self._predictor.plan(requests[0].head.target)
            answers = plan.answer_together([request.body for request in requests], requests[0].received)
        except Exception:  # each of them will get it again, and tell its caller
            _log.debug("Requests that came together go each its own way.", exc_info=True)
            return False
        if answers is None:
            return False
        head = plan.encoder.head
        for request, body, rows in zip(requests, answers.bodies, answers.rows, strict=True):
            request.plan, request.rows = plan, rows
            plan.counts.succeeded((answers.ended - request.received, answers.decode_seconds, answers.encode_seconds))
            request.connection.take(request, Answer(200, head, body))
        return True

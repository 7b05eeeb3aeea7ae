"""What has reached the fast lane in one turn of the event loop, answered together.

Nearly all requests are alike: a few rows of numbers, for the same model. The texts of their rows are parsed as one, the
rows run as one batch, and the answers are written as one text and cut, so what is dear about a request is paid once for
all of them. Where anything is otherwise, each goes its own way, to the same answer or to its own error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from service.lane_request import Answer, Request
from service.protocols.predict import Predictor
from service.protocols.ways import Plan, Plans, Way

_log = logging.getLogger(__name__)
_MOST_BYTES = 2**18  # after which others have a turn


class Turn:
    """Collects requests of all connections until the event loop has handed out what came in. Belongs to that loop."""

    def __init__(self, predictor: Predictor, plans: Mapping[Way, Plans]) -> None:
        self._predictor = predictor
        self._plans = plans
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        """Answers a request that has arrived whole, and asks for nothing special, at the end of the turn."""
        if not self._requests:
            asyncio.get_running_loop().call_soon(self._end)
        self._requests.append(request)

    def answer(self, request: Request) -> None:
        """As `add`, but before it returns: for the only client there is, whose next request waits for this answer."""
        if self._requests:
            self._requests.append(request)
        elif not self._answer([request]):
            request.connection.run(request)

    def plan(self, request: Request) -> Plan | None:
        """That of the version which answers a request; None where it cannot be answered together with others.

        Raises:
            ServiceError: there is none.
        """
        head = request.head
        if head.way is None:
            return self._predictor.plan(head.target)
        return self._plans[head.way].plan(head.target, request.common, packs=head.packs)

    def _end(self) -> None:
        first, size = self._requests[0], 0
        head = first.head
        alike: list[Request] = []
        later: list[Request] = []
        for request in self._requests:
            is_alike = request.head is head or request.head.is_like(head)
            fits = is_alike and request.common == first.common and size < _MOST_BYTES
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
            plan = self.plan(requests[0])
            bodies, received = [request.body for request in requests], requests[0].received
            answers = plan.answer_together(bodies, received) if plan else None
        except Exception:  # each of them will get it again, and tell its caller
            _log.debug("Requests that came together go each its own way.", exc_info=True)
            return False
        if plan is None or answers is None:
            return False
        for request, body, rows in zip(requests, answers.bodies, answers.rows, strict=True):
            if request.has_left:  # since the answer to one before it was the last of their connection
                continue
            request.plan, request.rows = plan, rows
            plan.counts.succeeded((answers.ended - request.received, answers.decode_seconds, answers.encode_seconds))
            request.connection.take(request, Answer(200, answers.head, body, answers.media_type))
        return True

"""What has reached the fast lane in one turn of the event loop, answered together.

Nearly all requests are alike: a few rows of numbers, for the same model. The texts of their rows are parsed as one, the
rows run as one batch, and the answers are written as one text and cut, so what is dear about a request is paid once for
all of them. Where anything is otherwise, each goes its own way, to the same answer or to its own error.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping
from itertools import accumulate
from time import perf_counter

from service.errors import NotInJson
from service.lane_request import Answer, Request
from service.protocols.predict import Predictor
from service.protocols.ways import Plan, Plans, Way

_log = logging.getLogger(__name__)
_MOST_BYTES, _MOST_SECONDS = 2**18, 1e-3  # after which others have a turn


class Turn:
    """Collects requests of all connections until the event loop has handed out what came in. Belongs to that loop."""

    def __init__(
        self, predictor: Predictor, plans: Mapping[Way, Plans], *, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._clock = clock
        self._predictor = predictor
        self._plans = plans
        self._groups: dict[tuple[object, ...], list[Request]] = {}  # those that are alike

    def add(self, request: Request) -> None:
        """Answers a request that has arrived whole, and asks for nothing special, at the end of the turn."""
        groups, head = self._groups, request.head
        if not groups:
            asyncio.get_running_loop().call_soon(self._end)
        key = (head.url, head.way, head.packs, request.common)
        if key in groups:
            groups[key].append(request)
        else:
            groups[key] = [request]

    def answer(self, request: Request) -> None:
        """As `add`, but before it returns: for the only client there is, whose next request waits for this answer."""
        if self._groups:
            self.add(request)
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
        """Answers as many as a turn may take, at least one, and leaves the others to the next."""
        groups, self._groups = self._groups, {}
        size, began = 0, self._clock()
        while groups and (not size or (size < _MOST_BYTES and self._clock() - began < _MOST_SECONDS)):
            key = next(iter(groups))
            requests = groups.pop(key)
            number, bytes_ = _count_fitting(requests, _MOST_BYTES - size)
            if number < len(requests):
                groups[key] = requests[number:]  # behind the others
            size += 1 + bytes_
            self._answer_all([request for request in requests[:number] if not request.has_left])
        if groups:
            if not self._groups:
                asyncio.get_running_loop().call_soon(self._end)
            for key, requests in self._groups.items():  # which have come while those were answered
                groups.setdefault(key, []).extend(requests)
            self._groups = groups

    def _answer_all(self, requests: list[Request]) -> None:
        if requests and not self._answer(requests):
            for request in requests:
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
            if isinstance(body, NotInJson):
                request.connection.refuse(request, body)
                continue
            plan.counts.succeeded((answers.ended - request.received, answers.decode_seconds, answers.encode_seconds))
            request.connection.take(request, Answer(200, answers.head, body, answers.media_type))
        return True


def _count_fitting(requests: list[Request], most_bytes: int) -> tuple[int, int]:
    """How many of the first a turn takes that has so many bytes left, the last of them in any case; their bytes."""
    sizes = [len(request.body) for request in requests]
    size = sum(sizes)
    if size <= most_bytes:
        return len(requests), size
    ends = list(accumulate(sizes))
    last = bisect_left(ends, most_bytes)
    return last + 1, ends[last]

"""The fast lane: predictions answered from the connection itself, without an ASGI scope, a task or a future.

A connection that finds the head of a plain `POST .../predict` collects the body, decodes it, queues the rows in the
engine, and writes the answer when the engine calls back. Everything else is uvicorn's and goes on to the application:
other paths, and predictions that are chunked, large, compressed, of another type, or that ask for 100-continue. What is
done with a body is in `service.protocols.predict` for both ways, so the answers are the same to the byte.

Requests that one client sends without waiting run together, and are answered in their order: `_lane` holds them until
their turn. A request that follows one of the application's waits in uvicorn's own `pipeline`, as the application's do.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from functools import lru_cache
from typing import Any, NamedTuple

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.connection import Connection
from service.errors import UNFORESEEN, ServiceError, error_body, log_error
from service.inference import InferenceResponse
from service.protocols.json_rows import LARGE_BODY_BYTES
from service.protocols.predict import JSON, TIMEOUT_HEADER, Predictor, PredictPlan, timeout_seconds
from service.tickets import Ticket

_MOST_AT_ONCE = 64
_LONGEST_URL = 300
_MEDIA_TYPE = JSON.encode()
_TIMEOUT = TIMEOUT_HEADER.lower().encode()
_ALLOWED = frozenset({b"content-length", b"content-type", _TIMEOUT})
_DECLINED = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_READ = _ALLOWED | _DECLINED
_URL = re.compile(r"(?:/models/([\w.-]+)(?:/versions/(\d+))?)?/predict(\?labels=true)?", re.ASCII)


class _Target(NamedTuple):
    """What a URL asks for."""

    name: str | None
    version: str | None
    labels: bool


@lru_cache(maxsize=1024)
def _target_of(url: bytes) -> _Target | None:
    found = _URL.fullmatch(url.decode("latin-1"))
    return found and _Target(found[1], found[2], found[3] is not None)


class _Answer(NamedTuple):
    """What is written: `head` is the lines that the answer has beside those of every answer."""

    status: int
    head: bytes
    body: bytes


class _Request:
    """A request in the lane. uvicorn's code takes it for one of its own cycles, of which it has the attributes."""

    message_event = asyncio.Event()  # uvicorn sets it when the client leaves; nobody waits for it here
    has_arrived = False
    has_started = False
    is_last = False
    disconnected = False
    response_complete = False
    body: bytes | bytearray = b""
    plan: PredictPlan | None = None
    ticket: Ticket[InferenceResponse] | None = None
    answer: _Answer | None = None

    def __init__(self, connection: FastLane, target: _Target, timeout: str | None, *, keep_alive: bool) -> None:
        self.connection = connection
        self.url = connection.url
        self.target = target
        self.timeout = timeout
        self.keep_alive = keep_alive

    def done(self, result: InferenceResponse | BaseException) -> None:
        """Called by the engine, once, unless the ticket has been cancelled."""
        self.connection.take_answer(self, result)


class FastLane(Connection):
    """A connection with the lane. `app_state` holds the application's predictor; without one the lane is closed."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._predictor: Predictor | None = self.app_state.get("predictor")
        self._lane: deque[_Request] = deque()
        self._arriving: _Request | None = None
        self._longest_body = min(self.limits.max_body_bytes, LARGE_BODY_BYTES)
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """Takes the client's rows out of the queue."""
        self._drop_lane()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Makes no ASGI scope yet: the lane needs none."""
        self.begin_message()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._arriving = None

    def on_headers_complete(self) -> None:
        """Decides which way the request goes."""
        request = self._enter()
        if request is None:
            self._leave_to_uvicorn()
            return
        self.end_head()
        self._arriving = request
        previous: Any = self.cycle
        self.cycle = request  # type: ignore[assignment] # it has all that uvicorn asks of a cycle
        is_next = previous is None or previous.response_complete or type(previous) is _Request
        if is_next and not self.pipeline and len(self._lane) < _MOST_AT_ONCE:
            self._start(request)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Collects a body; `content-length` has said that it is small."""
        request = self._arriving
        if request is None:
            super().on_body(body)
        elif not request.body:
            request.body = body
        else:
            if type(request.body) is bytes:
                request.body = bytearray(request.body)
            request.body += body

    def on_message_complete(self) -> None:
        """Runs a request of the lane, if it need not wait for others."""
        request = self._arriving
        if request is None:
            super().on_message_complete()
            return
        self.end_message()
        self._arriving = None
        request.has_arrived = True
        if request.has_started and not self.transport.is_closing():
            self._run(request)
            if request.answer:
                self._advance()

    def take_answer(self, request: _Request, result: InferenceResponse | BaseException) -> None:
        """Writes the answer as soon as no earlier one is missing."""
        try:
            if isinstance(result, BaseException):
                raise result
            assert request.plan is not None  # noqa: S101 - what has been queued has been decoded
            encoder = request.plan.encoder_for(result)
            body = encoder.encode(result.outputs, labels=request.target.labels)
            request.answer = _Answer(200, encoder.head, body)
        except Exception as error:
            request.answer = self._failure(request, error)
        self._advance()

    def _enter(self) -> _Request | None:
        """The request whose head has just come, if it is one for the lane."""
        target = _target_of(self.url) if self._predictor and len(self.url) <= _LONGEST_URL else None
        parser = self.parser
        if target is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        found: dict[bytes, bytes] = {}
        for name, value in self.headers:
            if name in _READ:
                if name in found or name in _DECLINED:
                    return None
                found[name] = value
        media_type = found.get(b"content-type", _MEDIA_TYPE)
        is_json = media_type == _MEDIA_TYPE or media_type.partition(b";")[0].strip().lower() == _MEDIA_TYPE
        is_small = int(found.get(b"content-length", b"0")) <= self._longest_body
        if not (is_json and is_small) or self._is_crowded():
            return None
        timeout = found[_TIMEOUT].decode("latin-1") if _TIMEOUT in found else None
        return _Request(self, target, timeout, keep_alive=parser.should_keep_alive())

    def _is_crowded(self) -> bool:
        """Whether uvicorn is to refuse the request, as it does with its `limit_concurrency`."""
        limit = self.limit_concurrency
        return limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit)

    def _leave_to_uvicorn(self) -> None:
        """Lets uvicorn see the head from its beginning."""
        url, headers, expects_100_continue = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)  # our own part of it has been done
        self.url, self.expect_100_continue = url, expects_100_continue
        self.headers.extend(headers)  # the scope has this very list
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:
        """Called by uvicorn to start what has waited behind an answer of the application."""
        if type(cycle) is _Request:
            self._start(cycle)
            self._advance()
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, request: _Request) -> None:
        request.has_started = True
        self._lane.append(request)
        if request.has_arrived:
            self._run(request)

    def _run(self, request: _Request) -> None:
        """Queues the rows; where they can't be, the answer says why."""
        target, predictor = request.target, self._predictor
        assert predictor is not None  # noqa: S101 - nothing has entered without it
        try:
            timeout = timeout_seconds(request.timeout)
            plan = request.plan = predictor.plan(target.name, target.version)
            if target.labels:
                plan.check_labels()
            inputs = plan.decode(bytes(request.body))
            request.body = b""
            request.ticket = plan.submit(predictor.engine, inputs, target.version, timeout, request.done)
        except Exception as error:
            request.answer = self._failure(request, error)

    def _advance(self) -> None:
        """Writes the answers whose turn it is, then starts what has waited behind them."""
        lane, pipeline = self._lane, self.pipeline
        while not self.transport.is_closing():
            while lane and lane[0].answer:
                self._write(lane.popleft())
            if not pipeline or len(lane) >= _MOST_AT_ONCE:
                break
            following: Any = pipeline[-1][0]
            if type(following) is _Request:
                pipeline.pop()
                self._start(following)
            elif not lane:
                super()._start_asgi_task(*pipeline.pop())
                break
            else:
                break
        if self.flow.read_paused:
            self.flow.resume_reading()
        self.end_answer()

    def _write(self, request: _Request) -> None:
        status, head, body = request.answer  # type: ignore[misc] # `_advance` has seen that there is one
        if self.access_log and self.access_logger.isEnabledFor(logging.INFO):
            client = ":".join(map(str, self.client)) if self.client else ""
            self.access_logger.info('%s - "%s %s HTTP/%s" %d', client, "POST", request.url.decode(), "1.1", status)
        headers = self.server_state.default_headers
        if headers is not self._default_headers:  # uvicorn makes them anew once a second, for the date
            self._default_headers = headers
            self._default_lines = b"".join(b"%b: %b\r\n" % (name.lower(), value) for name, value in headers)
        end = b"\r\n" if request.keep_alive else b"connection: close\r\n\r\n"
        length = b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body)
        self.transport.write(b"".join((STATUS_LINE[status], self._default_lines, head, length, end, body)))
        request.response_complete = True
        self.server_state.total_requests += 1
        if request.is_last or not request.keep_alive:
            self.transport.close()
            self._drop_lane()

    def _failure(self, request: _Request, error: Exception) -> _Answer:
        if not isinstance(error, ServiceError):
            self.logger.error("Exception in the fast lane\n", exc_info=error)
            request.is_last = True  # as after an exception in the application
            return _Answer(500, b"", error_body(UNFORESEEN))
        log_error("POST", request.url.partition(b"?")[0].decode(), error)
        head = b"".join([f"{name}: {value}\r\n".encode("latin-1") for name, value in error.headers.items()])
        return _Answer(error.status, head, error_body(str(error)))

    def _drop_lane(self) -> None:
        """Nobody waits for these answers any more."""
        for request in self._lane:
            if request.ticket:
                request.ticket.cancel()
        self._lane.clear()
        self._arriving = None

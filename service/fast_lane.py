"""The fast lane: predictions answered from the connection itself, without an ASGI scope, a task or a future.

A connection that finds the head of a plain `POST .../predict` collects the body and leaves it to the turn of the event
loop, which answers requests of one row together; any other is decoded, its rows are queued in the engine, and the
answer is written when the engine calls back. Everything else is uvicorn's and goes on to the application:
other paths, and predictions that are chunked, large, compressed, or that ask for 100-continue. What is done with a body
is in `service.protocols.predict` for both ways, so the answers are the same to the byte.

Requests that one client sends without waiting are answered in their order: `_lane` holds them until their turn. One
that follows a request of the application's waits in uvicorn's own `pipeline`, as the application's do.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from time import perf_counter
from typing import Any

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.collecting import HEADS, Collecting
from service.connection import CLOSE, Awaits
from service.inference import InferenceResponse
from service.lane_heads import ID, Head, read_head
from service.lane_request import Answer, Request, has_room
from service.protocols.predict import Predictor, PredictPlan, timeout_seconds
from service.turn import Turn

_LINES = b"content-length: %d\r\ncontent-type: %b\r\nx-request-id: %b\r\n"


class FastLane(Collecting):
    """A connection with the lane. `app_state` holds the application's predictor; without one the lane is closed."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._predictor: Predictor | None = self.app_state.get("predictor")
        self._turn: Turn = self.app_state.get("turn")  # type: ignore[assignment] # there with the predictor
        self._lane: deque[Request] = deque()
        self._arriving: Request | None = None
        self._default_headers: list[tuple[bytes, bytes]] | None = None
        self._default_lines = b""
        self._says_close = self._waits_for_reader = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Takes the client's rows out of the queue."""
        left = self._drop_lane()
        if self._missing:
            left.append(self.cycle)  # type: ignore[arg-type] # what is being collected
        for request in left:
            request.end_unanswered(self._observing, self._turn.plan)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """Goes on with what has waited for the client to read."""
        super().resume_writing()
        if self._waits_for_reader:
            self._advance()

    def on_message_begin(self) -> None:
        """Makes no ASGI scope yet: the lane needs none."""
        self.begin_message()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._arriving = None

    def on_headers_complete(self) -> None:
        """Decides which way the request goes."""
        self.end_head()
        if self.transport.is_closing() and self.cycle is not None:  # by the answer to one before it in this chunk
            return
        request = self._enter()
        self._unknown_head = None  # what follows in this chunk has another
        if request is None:
            self._leave_to_uvicorn()
            return
        self._arriving = request
        is_free = self._is_free(request.head)
        self.cycle = request  # type: ignore[assignment] # it has all that uvicorn asks of a cycle
        if is_free:
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
        elif isinstance(request.body, bytearray):
            request.body += body
        else:
            request.body = bytearray().join((request.body, body))

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
            self._go(request)
            if request.answer:
                self._advance()

    def take(self, request: Request, answer: Answer) -> None:
        """Writes the answer as soon as no earlier one is missing."""
        request.answer = answer
        self._advance()
        if request.raw:
            self._go_on_behind()

    def refuse(self, request: Request, error: Exception) -> None:
        """Writes what is wrong, as `take` does."""
        self.take(request, request.failure(self._observing, error))

    def take_result(self, request: Request, result: InferenceResponse | BaseException) -> None:
        """Encodes the engine's answer, and writes it as `take` does."""
        try:
            if isinstance(result, BaseException):
                raise result
            plan = request.plan
            assert isinstance(plan, PredictPlan)  # noqa: S101 - what has been queued has been decoded
            began = perf_counter()
            head, body = plan.encode(result, request.head.answer, labels=request.head.labels)
            ended = perf_counter()
            counts = plan.counts if result.version == plan.version else plan.counts_for(result)
            counts.succeeded((ended - request.received, request.decoded - request.received, ended - began))
            request.answer = Answer(200, head, body, request.head.media_type)
        except Exception as error:
            request.answer = request.failure(self._observing, error)
        self._advance()

    def _enter(self) -> Request | None:
        """The request whose head has just come, if it is one for the lane."""
        parser = self.parser
        if self._predictor is None or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        head = read_head(self.url, self.headers, keep_alive=parser.should_keep_alive())
        if head is None or self.is_closing_soon or not self._is_short(head):
            return None
        own_id = dict(self.headers).get(ID)
        if self._unknown_head is not None and own_id is None and head.keep_alive:
            HEADS.add(self._unknown_head, head)
        return Request(self, head, self._observing.request_ids.choose(own_id))

    def _may_take(self, head: Head, *, is_whole: bool) -> bool:
        if head.length > self._longest_body and not self._is_short(head):
            return False
        return self._is_free(head) if is_whole and not head.way else self._is_idle()

    def _is_short(self, head: Head) -> bool:
        """Whether the version that serves now decodes such a body on the event loop."""
        most = self._longest_body
        if head.length > most and self._predictor and not (head.kind or head.way):
            most = self._predictor.most_bytes(head.target, self.limits.max_body_bytes)
        return head.length <= most

    def _is_free(self, head: Head) -> bool:
        """Whether a request need not wait for earlier ones."""
        previous: Any = self.cycle
        is_next = previous is None or previous.response_complete or type(previous) is Request
        return is_next and not self.pipeline and (not self._lane or has_room(self._lane, head))

    def _is_idle(self) -> bool:
        """Whether no earlier request waits for its answer."""
        is_answered = self.cycle is None or self.cycle.response_complete
        return is_answered and not (self._lane or self.pipeline)

    def _answer_whole(self, request: Request) -> None:
        """Does what the callbacks of the parser do for a request."""
        if self.timeout_keep_alive_task:
            self._unset_keepalive_if_required()
        request.has_arrived = request.has_started = True
        self.cycle = request  # type: ignore[assignment] # as in `on_headers_complete`
        self.awaits = Awaits.ANSWER
        self.steps += 1
        self._lane.append(request)
        request.received = perf_counter()
        if request.head.is_plain:
            (self._turn.answer if len(self.connections) == 1 else self._turn.add)(request)
        else:
            self.run(request)

    def _leave_to_uvicorn(self) -> None:
        """Lets uvicorn see the head from its beginning."""
        url, headers, expects_100_continue = self.url, self.headers, self.expect_100_continue
        HttpToolsProtocol.on_message_begin(self)  # our own part of it has been done
        self.url, self.expect_100_continue = url, expects_100_continue
        self.headers.extend(headers)  # the scope has this very list
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: ASGI3Application) -> None:
        """Called by uvicorn to start what has waited behind an answer of the application."""
        if type(cycle) is Request:
            self._start(cycle)
            self._advance()
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, request: Request) -> None:
        request.has_started = True
        self._lane.append(request)
        if request.has_arrived:
            self._go(request)

    def _go(self, request: Request) -> None:
        request.received = perf_counter()
        (self._turn.add if request.head.is_plain else self._run)(request)

    def run(self, request: Request) -> None:
        """Queues the rows of a request that could not be answered with others."""
        self._run(request)
        if request.answer:
            self._advance()

    def _run(self, request: Request) -> None:
        """Queues the rows; where they can't be, the answer says why."""
        predictor = self._predictor
        assert predictor is not None  # noqa: S101 - nothing has entered without it
        try:
            _, target, labels, timeout, _, _, kind, answer, *_ = request.head
            seconds = timeout_seconds(timeout)
            plan = request.plan = predictor.plan(target)
            plan.check_answer(answer, labels=labels)
            body = bytes(request.body)
            decode = partial(plan.decode_kind, kind, self.limits.max_body_bytes) if kind else plan.decode
            if kind or plan.is_quick(body):
                request.submit(decode(body), seconds)
            else:  # in a thread, so that others are answered meanwhile
                decoding = self.loop.run_in_executor(None, decode, body)
                decoding.add_done_callback(partial(request.submit_decoded, self._observing, seconds))
        except Exception as error:
            request.answer = request.failure(self._observing, error)

    def _advance(self) -> None:
        """Writes the answers whose turn it is, then starts what has waited behind them."""
        lane, pipeline = self._lane, self.pipeline
        while not self.transport.is_closing():
            while lane and lane[0].answer:
                self._write(lane.popleft())
            if not pipeline or self.flow.write_paused or self.transport.is_closing():
                break
            following: Any = pipeline[-1][0]
            if type(following) is Request and has_room(lane, following.head):
                pipeline.pop()
                self._start(following)
            elif not lane:
                super()._start_asgi_task(*pipeline.pop())
                break
            else:
                break
        self._waits_for_reader = self.flow.write_paused and bool(pipeline)
        if self.flow.read_paused:
            self.flow.resume_reading()
        self.end_answer()

    def _write(self, request: Request) -> None:
        status, head, body, media_type = request.answer  # type: ignore[misc] # `_advance` has seen that there is one
        if (status != 200 or self._observing.access_log) and self._observing.has_line(status):
            request.log(self._observing, status)
        headers = self.server_state.default_headers
        if headers is not self._default_headers:  # uvicorn makes them anew once a second, for the date
            self._default_headers = headers
            self._default_lines = b"".join(b"%b: %b\r\n" % (name.lower(), value) for name, value in headers)
            self._says_close = CLOSE in headers
        is_last = self._says_close or not request.keep_alive
        end = b"connection: close\r\n\r\n" if is_last and not self._says_close else b"\r\n"
        lines = _LINES % (len(body), media_type, request.request_id)
        self.transport.write(b"".join((STATUS_LINE[status], self._default_lines, head, lines, end, body)))
        request.response_complete = True
        self.server_state.total_requests += 1
        if is_last:
            self.transport.close()
            self._drop_lane()

    def _drop_lane(self) -> list[Request]:
        """Nobody waits for these answers any more: gives the requests that have none."""
        left = [request for request in self._lane if not request.answer]
        for request in left:
            request.leave()
        self._lane.clear()
        self._arriving = None
        return left

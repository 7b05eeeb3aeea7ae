"""What a client may make the server wait for, with the fast lane and without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from models.store import ArtifactStore
from tests.service.doors import Door, Wire, opened
from tests.service.fakes import publish_fake
from tests.service.processes import post, post_head

BODY = b'{"instances":[[1,2]]}'
LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture(params=[True, False], ids=["fast lane", "application"])
def impatient(store: ArtifactStore, request: pytest.FixtureRequest) -> Iterator[Door]:
    """A server that waits for nobody: it looks at its connections once a second."""
    publish_fake(store)
    with opened(
        store,
        fast_lane=request.param,
        log_level="warning",
        keep_alive_timeout=0.1,
        client_timeout=0.1,
        max_header_bytes=2000,
    ) as door:
        yield door


def test_clients_who_send_nothing_more_are_let_go(impatient: Door) -> None:
    with ExitStack() as stack:
        # All at once, for each is waited for.
        wires = {
            sent: stack.enter_context(impatient.connect()).send(sent)
            for sent in (b"", b"POST", post_head(21), post_head(21) + BODY[:5], post(BODY), LIVE)
        }
        for sent in (post(BODY), LIVE):
            assert wires[sent].answer().startswith(b"HTTP/1.1 200")
        assert [sent for sent, wire in wires.items() if not wire.is_at_end()] == []


def test_answer_may_take_longer_than_a_client_may(impatient: Door) -> None:
    runtime = impatient.runtimes.loaded[0]
    runtime.hold()
    with impatient.connect() as slow, impatient.connect() as idle:
        slow.send(post(BODY))
        assert idle.is_at_end()  # by then the other has waited as long
        runtime.release()
        assert slow.answer().startswith(b"HTTP/1.1 200")


def test_client_who_does_not_read_is_read_no_more_and_let_go(impatient: Door) -> None:
    request = post(json.dumps({"instances": [[0.123456, 0.654321]] * 400}).encode())
    requests = request * 20_000  # more than all buffers on the way can hold
    with impatient.connect() as wire, pytest.raises((BrokenPipeError, ConnectionResetError)):
        wire.send(requests)


def send_long_head(wire: Wire, request: bytes, *, in_parts: bool) -> Wire:
    """Sends a request whose head is too long: whole, or in parts and never to its end."""
    line, rest = request.split(b"\r\n", 1)
    whole = line + b"\r\nX-Long: " + b"x" * 2000 + b"\r\n" + rest
    if not in_parts:
        return wire.send(whole)
    for start in range(0, 2000, 100):
        wire.send(whole[start : start + 100])
    return wire.send(b"x" * 3000)


def test_head_that_is_too_long_is_431(impatient: Door) -> None:
    with ExitStack() as stack:
        wires = [
            send_long_head(stack.enter_context(impatient.connect()), request, in_parts=in_parts)
            for request in (LIVE, post(BODY))
            for in_parts in (False, True)
        ]
        answers = [wire.answer() for wire in wires]
        assert all(wire.is_at_end() for wire in wires)
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
            "error": "The head of a request may have at most 2000 bytes. Send fewer headers."
        }


def test_head_that_comes_in_two_parts_is_counted_whole(impatient: Door) -> None:
    head, body = post(BODY, b"X-Long: " + b"x" * 1100, b"X-Long: " + b"x" * 1100), BODY
    with impatient.connect() as wire:
        wire.send(head[:1200])
        with impatient.connect() as other:  # by whose answer the first part has been read
            assert other.send(LIVE).answer().startswith(b"HTTP/1.1 200")
        assert wire.send(head[1200:], body).answer().startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize("request_", [post(BODY), LIVE], ids=["prediction", "GET"])
def test_heads_of_many_requests_that_come_at_once_are_not_counted_as_one(impatient: Door, request_: bytes) -> None:
    with impatient.connect() as wire:
        wire.send(request_[:10])
        with impatient.connect() as other:
            other.send(LIVE).answer()  # by which the part has been read
        with impatient.held_up():  # a chunk longer than a head may be, which begins and ends within one
            wire.send(request_[10:], request_ * 100, request_[:10])
        wire.send(request_[10:])
        assert {wire.answer()[9:12] for _ in range(102)} == {b"200"}


def test_head_of_the_largest_size_is_taken_however_large_its_body(impatient: Door) -> None:
    padding = 2000 - len(b"/predict") - len(b"Hosttest") - len(b"Content-Length9000") - len(b"X-Long") - 3 * 4
    body = BODY.ljust(9000)
    with impatient.connect() as wire:
        assert wire.send(post(body, b"X-Long: " + b"x" * padding)).answer().startswith(b"HTTP/1.1 200")
    with impatient.connect() as wire:
        assert wire.send(post(body, b"X-Long: " + b"x" * (padding + 1))).answer().startswith(b"HTTP/1.1 431")

"""The fast lane against the application: the same bytes, whatever is asked and however it comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from models.store import ArtifactStore
from service.connection import Connection
from service.inference import InferenceResponse
from service.lane_heads import Head
from service.lane_request import Answer, Request, has_room
from service.protocols.bodies import KINDS
from service.protocols.json_rows import RowsDecoder
from service.protocols.predict import Target
from service.turn import Turn
from tests.service.doors import Door, both_ways, opened, warm
from tests.service.fakes import MODELS, publish_fake
from tests.service.processes import post, post_head
from tests.service.protocols import test_native
from tests.service.test_kept_lane import LIVE, ROWS, infer
from tests.service.waiting import wait_until

BODY = b'{"instances":[[1,2]]}'


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, Door]]:
    """Two servers of the same models, `demo` and one of each kind: one with the lane, one without."""
    store = ArtifactStore(tmp_path_factory.mktemp("doors"))
    publish_fake(store, batch_safe=True)
    for kind in MODELS:
        publish_fake(store, kind, kind, batch_safe=True)
    settings = {"default_model": "demo", "max_body_bytes": 200_000, "log_level": "warning"}
    with both_ways(store, len(MODELS) + 1, **settings) as pair:
        yield pair


def table(test: Any) -> list[Any]:
    """The cases of a parametrized test."""
    return [case for mark in test.pytestmark if mark.name == "parametrize" for case in mark.args[1]]


def both(doors: tuple[Door, Door], request: bytes, *, has_body: bool = True) -> tuple[bytes, bytes, int]:
    """What each way answers, and how often the lane's server asked its application.

    The lane does not wait for others where there is one client, so it is asked once more with another beside it.
    """
    lane, application = doors
    asked = lane.asked
    with lane.connect() as quick, application.connect() as slow:
        first = quick.send(request).answer(has_body=has_body)
        second = slow.send(request).answer(has_body=has_body)
        asked = lane.asked - asked
        if b"connection: close" in first:
            assert quick.is_at_end()
            assert slow.is_at_end()
        else:
            with lane.connect() as other:
                assert other.send(LIVE).answer() == slow.send(LIVE).answer()
                assert quick.send(request).answer(has_body=has_body) == first
    return first, second, asked


def refused() -> Iterator[tuple[str, bytes]]:
    """Model and body of each request that `test_native` sees refused."""
    for body, _ in table(test_native.test_malformed_json_is_refused_with_its_place):
        yield "demo", body
    for document, _ in table(test_native.test_body_without_the_one_key_is_refused):
        yield "demo", document.encode()
    for instances, _ in table(test_native.test_instances_that_are_no_rows_are_refused):
        yield "demo", f'{{"instances": {instances}}}'.encode()
    for rows, _ in table(test_native.test_rows_that_the_model_does_not_take_are_refused_with_an_example):
        yield "demo", f'{{"instances": {rows}}}'.encode()
    for kind, rows, _ in table(test_native.test_value_of_another_type_is_refused_by_any_dtype):
        yield kind, f'{{"instances": {rows}}}'.encode()
    yield "wide", b'{"instances":[[1]]}'
    yield "roots", b'{"instances":[[4,1],[4,-1]]}'


def answered() -> Iterator[tuple[str, bytes]]:
    """Model and body of requests that are answered."""
    for kind, rows in table(test_native.test_any_rank_and_dtype_goes_in_and_comes_out):
        yield kind, json.dumps({"instances": rows}).encode()
    yield "combine", json.dumps({"instances": [test_native.COMBINED] * 2}).encode()
    yield "demo", b'{"instances":[{"x":[1,2]}]}'


@pytest.mark.parametrize(("model", "body"), [*refused(), *answered()])
def test_body_gets_the_same_bytes_either_way(doors: tuple[Door, Door], model: str, body: bytes) -> None:
    quick, slow, asked = both(doors, post(body, path=f"/models/{model}/predict".encode()))
    assert (quick, asked) == (slow, 0)


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/models/demo/versions/1/predict",
        "/models/classify/predict?labels=true",
        "/predict?labels=true",
        *(path for path, _ in table(test_native.test_unknown_model_or_version_is_404_and_lists_those_that_exist)[:4]),
    ],
)
def test_path_gets_the_same_bytes_either_way(doors: tuple[Door, Door], path: str) -> None:
    body = BODY if "classify" not in path else b'{"instances":[[0,1,3]]}'
    quick, slow, asked = both(doors, post(body, path=path.encode()))
    assert (quick, asked) == (slow, 0)


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Type: application/json",),
        (b"content-type: Application/JSON; charset=utf-8",),
        (b"X-Request-Timeout-Ms: 5000",),
        (b"X-Request-Timeout-Ms: soon",),
        (b"X-Request-Timeout-Ms: 0",),
        (b"Connection: close",),
        (b"Connection: keep-alive",),
        (b"Authorization: Bearer x", b"X-Other: 1", b"X-Other: 2"),
    ],
)
def test_headers_of_a_plain_request_get_the_same_bytes(doors: tuple[Door, Door], headers: tuple[bytes, ...]) -> None:
    quick, slow, asked = both(doors, post(BODY, *headers))
    assert (quick, asked) == (slow, 0)


CHUNKED = (
    b"Host: test\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n" + BODY[:7] + b"\r\ne\r\n" + BODY[7:] + b"\r\n0\r\n\r\n"
)


@pytest.mark.parametrize(
    "request_",
    [
        post(BODY, b"Content-Type: text/plain"),
        post(BODY, b"Content-Type: application/json", b"Content-Type: text/plain"),
        post(BODY, b"Content-Encoding: gzip"),
        post(BODY, b"Upgrade: h2c", b"Connection: upgrade"),
        post(BODY, path=b"/predict?labels=maybe"),
        post(BODY, path=b"/predict/"),
        post(BODY, path=b"/models/d%65mo/predict"),
        post(BODY, path=b"/models/demo/versions/latest/predict"),
        post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
        post(BODY).replace(b"POST", b"PUT"),
        b"POST /predict HTTP/1.1\r\n" + CHUNKED,
        b"GET /predict HTTP/1.1\r\nHost: test\r\n\r\n",
        post(BODY.ljust(200_001)),
        post_head(10**12),
        post(BODY).replace(b"Content-Length: ", b"Content-Length: " + b"0" * 5000),
    ],
)
def test_whatever_is_odd_goes_to_the_application(doors: tuple[Door, Door], request_: bytes) -> None:
    quick, slow, asked = both(doors, request_)
    assert (quick, asked) == (slow, 1)


def test_head_request_has_the_same_head(doors: tuple[Door, Door]) -> None:
    quick, slow, asked = both(doors, b"HEAD /predict HTTP/1.1\r\nHost: test\r\n\r\n", has_body=False)
    assert (quick, asked) == (slow, 1)


def test_request_may_come_byte_by_byte(doors: tuple[Door, Door]) -> None:
    with doors[0].connect() as wire:
        whole = wire.send(post(BODY)).answer()
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(BODY):
            wire.send(bytes([byte]))
        assert wire.answer() == whole


def test_pipelined_requests_are_answered_in_their_order_whichever_way_each_goes(doors: tuple[Door, Door]) -> None:
    asked = [post(b'{"instances":[[%d,1]]}' % number) for number in range(200)]
    asked[3:3] = [
        post(b"{"),
        LIVE,
        LIVE,
        post(BODY, b"Content-Type: text/plain"),
        b"POST /predict HTTP/1.1\r\n" + CHUNKED,
    ]
    asked[60:60] = [LIVE, post(b"[]")] * 3
    answers = []
    for door in doors:
        with door.connect() as wire:
            wire.send(*asked)
            answers.append([wire.answer() for _ in asked])
    assert answers[0] == answers[1]
    assert b'"predictions":[[398.0,2.0]]' in answers[0][-1]


HEAD = post_head(len(BODY))
OTHER_BODY = BODY.replace(b"1,2", b"3,4")
BARE = HEAD.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ([HEAD + BODY, HEAD + OTHER_BODY, HEAD + BODY], 3),
        ([HEAD + BODY, HEAD + b"{}" + BODY[2:], HEAD + BODY], 3),
        ([HEAD + BODY, HEAD + OTHER_BODY[:9], OTHER_BODY[9:]], 2),
        ([HEAD + BODY, HEAD, OTHER_BODY], 2),
        ([HEAD + BODY, HEAD + OTHER_BODY[:9], OTHER_BODY[9:12], OTHER_BODY[12:], HEAD + BODY], 3),
        ([HEAD + BODY, HEAD + OTHER_BODY[:9], OTHER_BODY[9:] + HEAD + BODY], 3),
        ([HEAD + BODY, HEAD + OTHER_BODY[:9], OTHER_BODY[9:] + HEAD[:20], HEAD[20:] + BODY, LIVE], 4),
        ([HEAD + BODY, HEAD + BODY + HEAD + OTHER_BODY[:9], OTHER_BODY[9:], LIVE], 4),
        ([HEAD + BODY, HEAD + BODY + HEAD + OTHER_BODY], 3),
        ([HEAD + BODY, HEAD + OTHER_BODY + HEAD[:20], HEAD[20:] + BODY], 3),
        ([HEAD + BODY, b"\r\n\r\n" + HEAD + OTHER_BODY, b"\r\n\r\n" + HEAD + BODY], 3),
        ([HEAD + BODY, LIVE, HEAD + OTHER_BODY, LIVE], 4),
        ([LIVE + HEAD + BODY, HEAD + OTHER_BODY], 3),
        ([HEAD + BODY, post(BODY, b"Connection: close"), HEAD + BODY], 2),
        ([BARE + BODY + b"\r\n\r\n" + HEAD + OTHER_BODY, BARE + OTHER_BODY + b"\r\n\r\n" + HEAD + BODY], 1),
    ],
)
def test_head_that_comes_again_is_taken_as_it_was_the_first_time(
    doors: tuple[Door, Door], sent: list[bytes], answers: int
) -> None:
    found = []
    for door in doors:
        with door.connect() as wire:
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):  # where the server has closed it
                for part in sent:
                    wire.send(part)
            found.append([wire.answer() for _ in range(answers)])
    assert found[0] == found[1]


@pytest.mark.parametrize("fast_lane", [True, False])
def test_answers_do_not_pile_up_for_who_does_not_read(store: ArtifactStore, fast_lane: bool) -> None:
    publish_fake(store, batch_safe=True)
    requests = [post(b'{"instances":[[%d,1]]}' % number) for number in range(1000)]
    with opened(store, fast_lane=fast_lane) as door, door.connect() as wire, door.connect() as other:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        for _ in range(3):
            wire.send(post(BODY)).answer()
        (slow,) = [each for each in door.server.server_state.connections if each.client == wire.socket.getsockname()]
        assert isinstance(slow, Connection)
        slow.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        with door.held_up():
            wire.send(*requests)
        wait_until(lambda: slow.flow.write_paused)
        for _ in range(100):  # turns of the event loop in which more could be written
            other.send(LIVE).answer()
        assert 0 < slow.transport.get_write_buffer_size() < 150_000 < sum(map(len, requests)) * 2
        for number in range(1000):
            assert b'"predictions":[[%d.0,2.0]]' % (2 * number) in wire.answer()
        assert wire.send(post(BODY)).answer().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("last", [b"[1,2]", b"[1]", b"[null,2]", b"}"])
@pytest.mark.parametrize("headers", [(), (b"X-Request-Timeout-Ms: 60000",)], ids=["plain", "timeout"])
def test_body_of_very_many_lists_is_decoded_in_a_thread(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, last: bytes, headers: tuple[bytes, ...]
) -> None:
    publish_fake(store, batch_safe=True)
    threads = []
    decode = RowsDecoder.decode
    monkeypatch.setattr(
        RowsDecoder, "decode", lambda self, body: [threads.append(threading.current_thread()), decode(self, body)][1]
    )
    request = post(b'{"instances":[%b%b]}' % (b"[1,2]," * 10_000, last), *headers)
    with both_ways(store, 1) as doors:
        quick, slow, asked = both(doors, request)
        loops = {door.thread for door in doors}
    assert (quick, asked) == (slow, 0)
    assert len(threads) == 3  # `both` asks the lane twice
    assert loops.isdisjoint(threads)


def test_who_leaves_while_a_thread_decodes_does_not_reach_the_runtime(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(store, batch_safe=True)
    has_begun, may_go_on = threading.Event(), threading.Event()
    decode = RowsDecoder.decode

    def hold(self: RowsDecoder, body: bytes) -> Any:
        has_begun.set()
        assert may_go_on.wait(30)
        return decode(self, body)

    monkeypatch.setattr(RowsDecoder, "decode", hold)
    with opened(store) as door, door.connect() as other:
        door.runtimes.loaded[0].batch_sizes.clear()
        with door.connect() as wire:
            wire.send(post(b'{"instances":[%b[1,2]]}' % (b"[1,2]," * 10_000)))
            assert has_begun.wait(30)
        wait_until(lambda: len(door.server.server_state.connections) == 1)
        may_go_on.set()
        monkeypatch.undo()
        assert other.send(post(BODY)).answer().startswith(b"HTTP/1.1 200")
        assert door.runtimes.loaded[0].batch_sizes == [1]
        assert any('status="499"' in line for line in counted(door))
    assert "never retrieved" not in caplog.text


def test_long_bodies_of_one_client_are_answered_in_their_order(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    rows = b"[1,2]," * 100_000
    asked = [post(b'{"instances":[%b[%d,2]]}' % (rows, number)) for number in range(6)]
    answers = []
    with both_ways(store, 1, max_queue_size=10**6, max_rows=10**6) as doors:
        for door in doors:
            with door.connect() as wire, ThreadPoolExecutor(1) as sender:
                sender.submit(wire.send, *asked, post(BODY), LIVE)
                answers.append([wire.answer() for _ in range(8)])
    assert answers[0] == answers[1]


def test_head_that_comes_again_is_not_parsed_again(doors: tuple[Door, Door], monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[bytes] = []
    parsed = HttpToolsProtocol.on_url
    monkeypatch.setattr(HttpToolsProtocol, "on_url", lambda self, url: [urls.append(url), parsed(self, url)])
    with doors[0].connect() as wire:
        for _ in range(3):
            wire.send(post(BODY, b"X-Other: unseen")).answer()
        with doors[0].held_up():
            wire.send(post(BODY, b"X-Other: unseen")[:-5])
        with doors[0].held_up():
            wire.send(BODY[-5:])
        wire.answer()
        for _ in range(2):
            wire.send(post(BODY, b"X-Request-Id: 7")).answer()
    assert len(urls) == 3


def test_request_for_continue_is_told_to_go_on(doors: tuple[Door, Door]) -> None:
    for door in doors:
        with door.connect() as wire:
            assert wire.send(post_head(len(BODY), b"Expect: 100-continue")).answer().startswith(b"HTTP/1.1 100")
            assert wire.send(BODY).answer().startswith(b"HTTP/1.1 200")


def test_nothing_is_answered_after_the_last_answer(doors: tuple[Door, Door]) -> None:
    for door in doors:
        with door.connect() as wire:
            wire.send(post(BODY), post(BODY, b"Connection: close"), post(BODY))
            assert [wire.answer()[9:12] for _ in range(2)] == [b"200", b"200"]
            assert wire.is_at_end()


def test_failure_of_the_model_is_logged_and_leaves_the_connection_to_other_requests(
    doors: tuple[Door, Door], caplog: pytest.LogCaptureFixture
) -> None:
    request = post(b'{"instances":[[500,1]]}', path=b"/models/broken/predict")
    answers = []
    for door in doors:
        caplog.clear()
        with door.connect() as wire:
            answers.append(wire.send(request, post(BODY)).answer())
            assert wire.answer().startswith(b"HTTP/1.1 200 OK")
            assert wire.send(post(BODY)).answer().startswith(b"HTTP/1.1 200 OK")
        assert "out of memory in /srv/secret" in caplog.text
    assert answers[0] == answers[1]


@pytest.mark.parametrize("header", [b"mine-1", b"not sane", b""])
def test_request_id_is_chosen_alike(doors: tuple[Door, Door], header: bytes) -> None:
    quick, slow, asked = both(doors, post(BODY, b"X-Request-Id: " + header))
    assert (quick, asked) == (slow, 0)
    assert (b"\r\nx-request-id: mine-1\r\n" in quick) == (header == b"mine-1")


def test_access_log_is_the_same_either_way(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    publish_fake(store)
    logs = []
    for fast_lane in (True, False):
        caplog.clear()
        with (
            caplog.at_level(logging.INFO),
            opened(store, fast_lane=fast_lane, access_log=True) as door,
            door.connect() as wire,
        ):
            wire.send(post(BODY, path=b"/predict?labels=true"), post(BODY), post(BODY, path=b"/models/no/predict"))
            wire.send(post(b'{"instances":[[1]]}'))
            assert [wire.answer()[9:12] for _ in range(4)] == [b"400", b"200", b"404", b"400"]
            wait_until(lambda: len(access_lines(caplog)) == 4)
        logs.append(access_lines(caplog))
    assert logs[0] == logs[1]
    assert logs[0][1] == "POST '/predict' status=200 model=demo version=1 rows=1"


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [record.getMessage() for record in caplog.records if record.name == "service.access"]
    return [re.sub(r" ms=[0-9.e-]+", "", line) for line in lines]


def in_flight(door: Door) -> None:
    with door.connect() as wire:
        door.runtimes.loaded[0].hold()
        wire.send(post(BODY))
        wait_until(door.runtimes.loaded[0].started.is_set)


def cut_off(request: bytes) -> Any:
    def leave(door: Door) -> None:
        with door.connect() as wire, door.connect() as other:
            for _ in range(3):
                wire.send(request).answer()
            wire.send(request[:-5])
            other.send(LIVE).answer()  # by which the part has been read

    return leave


@pytest.mark.parametrize(
    "leave",
    [in_flight, cut_off(post(BODY)), cut_off(post(BODY, b"X-Request-Id: 1")), cut_off(infer(ROWS))],
    ids=["in flight", "cut off", "cut off, unknown head", "tensors cut off"],
)
def test_who_leaves_is_counted_and_logged_the_same_either_way(
    store: ArtifactStore, caplog: pytest.LogCaptureFixture, leave: Callable[[Door], None]
) -> None:
    publish_fake(store, batch_safe=True)
    found = []
    for fast_lane in (True, False):
        caplog.clear()
        with caplog.at_level(logging.INFO), opened(store, fast_lane=fast_lane, access_log=True) as door:
            leave(door)
            wait_until(lambda: any("status=499" in line for line in access_lines(caplog)))
            lines = [line for line in access_lines(caplog) if "health" not in line]
            found.append((lines, counted(door)))
    assert found[0] == found[1]
    assert any('status="499"' in line and line.endswith(" 1.0") for line in found[0][1])


def test_requests_behind_the_last_answer_are_counted_as_little_as_they_are_answered(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    found = []
    for fast_lane in (True, False):
        with opened(store, fast_lane=fast_lane) as door, warm(door, post(BODY), 2) as (wire, _):
            with door.held_up():
                door.server._close_after_answers()  # as when it ends
                wire.send(post(BODY) * 3)
            assert b"connection: close" in wire.answer()
            assert wire.is_at_end()
            found.append(counted(door))
    assert found[0] == found[1]
    assert found[0][0].endswith(" 3.0")


@pytest.mark.parametrize("last", [post(BODY), post(BODY, b"X-Request-Timeout-Ms: 0")], ids=["in a turn", "at once"])
def test_application_is_not_asked_behind_the_last_answer(
    store: ArtifactStore, caplog: pytest.LogCaptureFixture, last: bytes
) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as door, warm(door, post(BODY), 2) as (wire, other):
        with door.held_up():
            door.server._close_after_answers()  # as when it ends
            wire.send(last, LIVE, post(BODY))
        assert b"connection: close" in wire.answer()
        assert wire.is_at_end()
        other.send(LIVE).answer()
        assert door.asked == 1
    assert "Exception" not in caplog.text


def counted(door: Door) -> list[str]:
    """The requests that the page of metrics tells of."""
    with door.connect() as wire:
        page = wire.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").answer().decode()
    return sorted(line for line in page.splitlines() if line.startswith("layerserve_requests_total{"))


def test_requests_are_counted_the_same_either_way(store: ArtifactStore) -> None:
    publish_fake(store, kind="broken")
    counts = []
    for fast_lane in (True, False):
        with opened(store, fast_lane=fast_lane) as door:
            for body in (BODY, BODY, b"{", b'{"instances":[[500,1]]}'):
                with door.connect() as wire:
                    wire.send(post(body)).answer()
            with door.connect() as wire:
                wire.send(post(BODY, path=b"/models/no/predict")).answer()
                page = wire.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").answer().decode()
        counts.append(sorted(re.findall(r"^(?:layerserve_requests_total|\w+_count)\{.*", page, flags=re.MULTILINE)))
    assert counts[0] == counts[1]
    assert any('status="200"' in line and line.endswith(" 2.0") for line in counts[0])
    assert any("layerserve_codec_seconds_count" in line and line.endswith(" 2.0") for line in counts[0])


@pytest.mark.parametrize("kind", ["scale", "scalars", "images", "half_plus_two"])
def test_model_runs_once_for_a_request_whatever_the_form_of_its_answer(store: ArtifactStore, kind: str) -> None:
    publish_fake(store, kind=kind, batch_safe=True)
    body = {"scale": "[1,2]", "images": "[[[1],[2]]]"}.get(kind, "1")
    request = post(b'{"instances":[%b]}' % body.encode())
    with opened(store) as door, warm(door, request, 3) as wires:
        for wire in wires * 2:
            assert wire.send(request).answer().startswith(b"HTTP/1.1 200")
        assert door.runtimes.loaded[0].batch_sizes == [1] * 6


APART = [
    b'{"instances":[[1,2],[3,4]]}',
    b'{"instances":[[1]]}',
    b'{"instances":[[1,2}',
    b'{"instances":[[1,null]]}',
    b'{"instances":[[1,1e39]]}',
    b'{"instances":[[404,1]]}',
    b'{"instances":[[500,1]]}',
    b'{"instances":[{"x":[1,2]}]}',
    b"",
]


@pytest.mark.parametrize("others", [[], *[[body] for body in APART]], ids=["all alike", *map(repr, APART)])
@pytest.mark.parametrize("paths", [(b"/predict",), (b"/predict", b"/models/demo/predict", b"/models/no/predict")])
def test_requests_of_one_turn_get_what_each_gets_alone(
    store: ArtifactStore, others: list[bytes], paths: tuple[bytes, ...]
) -> None:
    publish_fake(store, kind="broken", batch_safe=True)
    requests = [post(body, path=path) for body in [BODY, *others, BODY] for path in paths]
    with opened(store, fast_lane=False) as application:
        alone = []
        for request in requests:
            with application.connect() as wire:
                alone.append(wire.send(request).answer())
    with opened(store) as lane, warm(lane, post(BODY), len(requests)) as wires:
        with lane.held_up():
            for wire, request in zip(wires, requests, strict=True):
                wire.send(request)
        assert [wire.answer() for wire in wires] == alone
        if not others:
            assert max(lane.runtimes.loaded[0].batch_sizes) > 1


def test_bodies_of_one_form_run_as_one_batch(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as lane, warm(lane, post(BODY), 6) as wires:
        with lane.held_up():
            for number, wire in enumerate(wires):
                wire.send(post(b'{"instances":[[%d,2]]}' % number))
        for number, wire in enumerate(wires):
            assert wire.answer().endswith(b'{"predictions":[[%d.0,4.0]],"model":"demo","version":1}' % (2 * number))
        assert lane.runtimes.loaded[0].batch_sizes == [6]


FORMS = {"application/json": BODY} | {name: kind.encode({"x": np.ones((2, 2), "f4")}) for name, kind in KINDS.items()}
ACCEPTS = ["*/*", "image/png", "application/npy", "text/csv;q=0.5, application/x-npz;q=0.6", *FORMS]


@pytest.mark.parametrize("form", FORMS)
def test_body_and_answer_of_each_form_are_the_same_either_way(doors: tuple[Door, Door], form: str) -> None:
    own, body = b"Content-Type: " + form.encode(), FORMS[form]
    requests = [post(body, own, b"Accept: " + accept.encode()) for accept in ACCEPTS]
    requests += [post(body, own, path=path) for path in (b"/predict?labels=true", b"/models/combine/predict")]
    requests += [post(body[:-1], own), post(b"", own), post(body, own, b"X-Request-Timeout-Ms: 0")]
    for request in requests:
        quick, slow, asked = both(doors, request)
        assert (quick, asked) == (slow, 0)


@pytest.mark.parametrize(
    ("model", "rows", "limit", "asked"),
    [
        ("demo", b"[1,2]," * 50_000, 10**6, 0),
        ("demo", b"[1,2]," * 200_000, 10**7, 1),
        ("words", b'["a","b"],' * 20_000, 10**6, 0),
        ("words", b'["a","b"],' * 50_000, 10**6, 1),
        ("stranger", b"[1,2]," * 50_000, 10**6, 1),
    ],
)
def test_long_body_is_left_to_the_application_where_it_would_hold_up_the_loop(
    store: ArtifactStore, model: str, rows: bytes, limit: int, asked: int
) -> None:
    publish_fake(store, batch_safe=True)
    publish_fake(store, "words", "words", batch_safe=True)
    request = post(b'{"instances":[%b]}' % rows[:-1], path=b"/models/%b/predict" % model.encode())
    with both_ways(store, 2, max_body_bytes=limit, max_rows=10**6) as doors:
        quick, slow, found = both(doors, request)
    assert (quick, found) == (slow, asked)


def test_long_body_is_looked_at_anew_when_another_version_serves(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    request = post(b'{"instances":[%b]}' % (b"[1,2]," * 50_000)[:-1])
    with opened(store, max_rows=10**6) as door, door.connect() as wire:
        for _ in range(2):
            assert wire.send(request).answer().startswith(b"HTTP/1.1 200")
        assert door.asked == 0
        publish_fake(store, kind="words", batch_safe=True)
        wait_until(lambda: door.engine.metadata("demo").version == 2)
        assert wire.send(request).answer().startswith(b"HTTP/1.1 400")
        assert door.asked == 1


def test_client_may_have_a_limited_number_of_requests_and_of_bytes_in_the_lane() -> None:
    small, large = (Head(b"/predict", Target(), False, None, length, True) for length in (100, 2**20))
    line = Line()
    assert has_room([], large)
    assert has_room([Request(line, small, b"")] * 63, small)
    assert not has_room([Request(line, small, b"")] * 64, small)
    assert has_room([Request(line, large, b"")], small)
    assert not has_room([Request(line, large, b"")], large)


class Line:
    """A connection that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Answer | str] = []

    def run(self, request: Request) -> None:
        self.told.append("run")

    def take_result(self, request: Request, result: InferenceResponse | BaseException) -> None:
        self.told.append("result")

    def take(self, request: Request, answer: Answer) -> None:
        self.told.append(answer)

    def refuse(self, request: Request, error: Exception) -> None:
        self.told.append(str(error))


def test_who_has_left_before_the_end_of_the_turn_does_not_reach_the_runtime(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    lines = [Line() for _ in range(3)]

    async def let_one_leave(door: Door) -> None:
        turn = Turn(door.predictor, {})
        for line in lines:
            request = Request(line, Head(b"/predict", Target(), False, None, len(BODY), True), b"id")
            request.body = BODY
            turn.add(request)
            if line is lines[1]:
                request.leave()
        await asyncio.sleep(0)

    with opened(store) as door:
        with door.connect() as wire:
            wire.send(post(BODY)).answer()
        sizes = door.runtimes.loaded[0].batch_sizes
        sizes.clear()
        door.in_loop(let_one_leave(door))
        assert sizes == [2]
    assert [len(line.told) for line in lines] == [1, 0, 1]


@pytest.mark.parametrize(("step", "turns"), [(0.0, 1), (1.0, 200)], ids=["in time", "one a turn"])
def test_requests_of_many_kinds_take_turns(store: ArtifactStore, step: float, turns: int) -> None:
    """None of them is looked at again for each that is answered before it."""
    publish_fake(store, batch_safe=True)
    lines = [Line() for _ in range(400)]
    told: list[int] = []

    async def ask(door: Door) -> None:
        clock = partial(next, count(0.0, step))
        turn = Turn(door.predictor, {}, clock=clock)
        for number, line in enumerate(lines):
            target = Target(f"stranger-{number % 200}")
            request = Request(line, Head(b"/models/%d" % (number % 200), target, False, None, 9, True), b"id")
            request.body = b"[1,2,3,4]"
            turn.add(request)
        for _ in range(turns):
            told.append(sum(bool(line.told) for line in lines))
            await asyncio.sleep(0)

    with opened(store) as door:
        door.in_loop(ask(door))
    assert [line.told for line in lines] == [["run"]] * 400
    assert told == list(range(0, 400, 400 // turns))


def test_long_bodies_of_one_kind_take_turns_with_other_requests(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    lines = [Line() for _ in range(6)]
    told = []

    async def ask(door: Door) -> None:
        turn = Turn(door.predictor, {}, clock=lambda: 0.0)
        for line in lines:
            target = Target("stranger" if line is lines[5] else "demo")
            request = Request(line, Head(str(target.name).encode(), target, False, None, 10**5, True), b"id")
            request.body = b"[" * 10**5
            turn.add(request)
        for _ in range(2):
            await asyncio.sleep(0)
            told.append([bool(line.told) for line in lines])

    with opened(store) as door:
        door.in_loop(ask(door))
    assert told == [[True] * 3 + [False] * 3, [True] * 6]


def test_rows_of_a_client_who_hangs_up_leave_the_queue(store: ArtifactStore) -> None:
    publish_fake(store)
    with opened(store) as door:
        for runtime in door.runtimes.loaded:
            runtime.hold()
        with door.connect() as first:
            running = [first]
            first.send(post(BODY))
            wait_until(door.runtimes.loaded[0].started.is_set)
            for _ in range(16):  # as many as threads may be waiting, and more
                running.append(door.connect())
                running[-1].send(post(BODY))
            wait_until(lambda: sum(door.engine.queued_rows().values()) > 0)
            for wire in running[1:]:
                wire.__exit__()
            wait_until(lambda: sum(door.engine.queued_rows().values()) == 0)
            door.runtimes.loaded[0].release()
            assert first.answer().startswith(b"HTTP/1.1 200")


def test_shutdown_answers_what_is_in_flight_and_closes_what_is_idle(store: ArtifactStore) -> None:
    publish_fake(store)
    with opened(store) as door, door.connect() as idle, door.connect() as busy:
        assert idle.send(LIVE).answer().startswith(b"HTTP/1.1 200")
        door.runtimes.loaded[0].hold()
        busy.send(post(BODY))
        wait_until(door.runtimes.loaded[0].started.is_set)
        door.server.should_exit = True
        assert idle.is_at_end()
        door.runtimes.loaded[0].release()
        answer = busy.answer()
        assert (answer[9:12], b"connection: close" in answer, busy.is_at_end()) == (b"200", True, True)


def test_more_connections_than_allowed_are_told_so(store: ArtifactStore) -> None:
    publish_fake(store)
    with opened(store, max_connections=1) as door, door.connect() as first, door.connect() as second:
        assert first.send(post(BODY)).answer().startswith(b"HTTP/1.1 200 OK")
        assert second.send(LIVE).answer().startswith(b"HTTP/1.1 200 OK")
        assert second.send(post(BODY)).answer().startswith(b"HTTP/1.1 503 Service Unavailable")
        assert second.is_at_end()


@pytest.mark.parametrize("fast_lane", [True, False])
def test_https_is_served_either_way(store: ArtifactStore, certificate: dict[str, Path], fast_lane: bool) -> None:
    publish_fake(store)
    context = ssl.create_default_context(cafile=str(certificate["tls_certificate"]))
    with opened(store, fast_lane=fast_lane, **certificate) as door, door.connect() as wire:
        wire.encrypt(context)
        for _ in range(2):
            assert wire.send(post(BODY)).answer().endswith(b'{"predictions":[[2.0,4.0]],"model":"demo","version":1}')
        assert door.asked == (0 if fast_lane else 2)

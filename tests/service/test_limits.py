"""Limits, on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from models.store import ArtifactStore
from tests.service.fakes import publish_fake
from tests.service.processes import FAKE, ServerProcess, post
from tests.service.waiting import wait_until

pytestmark = pytest.mark.slow

BODY = b'{"instances":[[1,2]]}'
TOO_LARGE = {"error": "The head of a request may have at most 2000 bytes. Send fewer headers."}
FLAGS = ("--max-connections", "4", "--max-header-bytes", "2000", "--max-rows", "3", "--max-elements", "5")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with low limits that all tests share."""
    store = ArtifactStore(tmp_path_factory.mktemp("limits"))
    publish_fake(store)
    server = ServerProcess(FAKE, "--artifacts", str(store.root), "--access-log", *FLAGS)
    try:
        server.wait_ready()
        server.client.close()  # it would count as a connection
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (4, "A request may have at most 3 rows. Received: 4. Send fewer rows at a time."),
        (3, "A request may hold at most 5 values. Received: 6. Send fewer rows at a time."),
    ],
)
def test_too_many_rows_or_values_are_413_and_leave_the_connection_usable(
    server: ServerProcess, rows: int, message: str
) -> None:
    with server.connect() as connection:
        connection.send(post(json.dumps({"instances": [[1, 2]] * rows}).encode()), post(BODY))
        status, _, body = connection.read_answer()
        assert (status, json.loads(body)) == (413, {"error": message})
        assert connection.read_answer()[0] == 200


def test_json_too_deep_is_400(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.send(post(b'{"instances":' + b"[" * 5000 + b"]" * 5000 + b"}"))
        status, _, body = connection.read_answer()
    assert status == 400
    assert "depth limit exceeded" in json.loads(body)["error"]


@pytest.mark.parametrize("size", [1900, 2001])
def test_head_counts_up_to_the_last_byte(server: ServerProcess, size: int) -> None:
    with server.connect() as connection:
        path = b"/health/live?"
        connection.send(b"GET " + path + b"a" * (size - len(path) - len("hostx") - 4) + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        status, headers, body = connection.read_answer()
        assert status == (200 if size <= 2000 else 431)
        if status == 431:
            assert (headers["connection"], json.loads(body)) == ("close", TOO_LARGE)
            assert connection.is_at_end()


@pytest.mark.parametrize("start", [b"GET /health/live HTTP/1.1\r\nx: ", b"GET /"])
def test_head_that_does_not_end_is_431_before_it_ends(server: ServerProcess, start: bytes) -> None:
    with server.connect() as connection:
        connection.send(start, b"a" * 1_000_000)
        status, headers, body = connection.read_answer()
        assert (status, headers["connection"], json.loads(body)) == (431, "close", TOO_LARGE)
        assert connection.is_at_end()
    assert server.ask("/health/live") == 200


def test_head_in_many_pieces_is_counted_once(server: ServerProcess) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.send(b"GET /health/live HTTP/1.1\r\n")
            for _ in range(10):
                connection.send(b"x: " + b"a" * 100 + b"\r\n")
            connection.send(b"\r\n")
            assert connection.read_answer()[0] == 200


def test_large_body_is_no_large_head(server: ServerProcess) -> None:
    with server.connect() as connection:
        for _ in range(3):
            connection.send(post(BODY + b" " * 5000))
            assert connection.read_answer()[0] == 200


def test_refused_head_is_answered_after_the_requests_before_it(server: ServerProcess) -> None:
    with server.connect() as connection:
        connection.send(post(BODY), b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert [connection.read_answer()[0] for _ in range(2)] == [200, 431]


def test_connection_beyond_the_limit_gets_503_but_health_and_metrics(server: ServerProcess) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.connect()) for _ in range(4)]
        for connection in connections:
            connection.send(post(BODY))
            assert connection.read_answer()[0] == 200
        one_more = stack.enter_context(server.connect())
        paths = (
            b"/health/live",
            b"/metrics",
            b"/v2/health/live",
            b"/v2/health/ready",
            b"/monitoring/prometheus/metrics",
        )
        one_more.send(*(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths), post(BODY))
        answers = [one_more.read_answer() for _ in range(6)]
        assert [answer[0] for answer in answers] == [200] * 5 + [503]
        assert answers[5][1]["retry-after"] == "1"
        wait_until(lambda: "status=503 ms=" in server.log and f"[{answers[5][1]['x-request-id']}]" in server.log)
        message = "There are more than 4 connections. Try again, or ask another instance."
        assert json.loads(answers[5][2]) == {"error": message}
        assert one_more.is_at_end()
        connections[0].send(post(BODY))
        assert connections[0].read_answer()[0] == 200

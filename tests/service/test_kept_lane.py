"""The lane of binary requests against the application: the same bytes, however they come."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from models.store import ArtifactStore
from service.connection import Awaits, Connection
from service.kept_lane import KeptLane
from tests.service.doors import Door, Wire, both_ways, opened, warm
from tests.service.fakes import FakeRuntime, publish_fake
from tests.service.processes import post

KINDS = ("scale", "broken", "words", "flags", "counts", "halves", "images", "scalars", "combine")
ROWS = np.array([[1, 2], [3, 4]], np.float32)
LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n"


def tensor(values: np.ndarray, datatype: str = "FP32", name: str = "x", **others: Any) -> dict[str, Any]:
    size = {"binary_data_size": values.nbytes}
    return {"name": name, "datatype": datatype, "shape": list(values.shape), "parameters": size, **others}


def infer(
    *values: np.ndarray,
    inputs: list[dict[str, Any]] | None = None,
    model: str = "demo",
    path: str = "/v2/models/{}/infer",
    headers: tuple[bytes, ...] = (),
    **others: Any,
) -> bytes:
    """A request of tensors, whose outputs are to be binary unless `others` says something else."""
    document = {"inputs": inputs or [tensor(each) for each in values], "parameters": {"binary_data_output": True}}
    head = json.dumps({**document, **others}).encode()
    body = head + b"".join(each.tobytes() for each in values)
    length = b"Inference-Header-Content-Length: %d" % len(head)
    return post(body, length, *headers, path=path.format(model).encode())


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, Door]]:
    """Two servers of the same models: one with the lane, one without."""
    store = ArtifactStore(tmp_path_factory.mktemp("tensors"))
    publish_fake(store, batch_safe=True)
    for kind in KINDS:
        publish_fake(store, kind, kind, batch_safe=True)
    with both_ways(store, len(KINDS) + 1, log_level="warning", max_body_bytes=100_000) as pair:
        yield pair


def again(wire: Wire, door: Door, request: bytes) -> tuple[list[bytes], int]:
    """Four answers to the same request, and how often the application was asked for the third.

    At the fourth there is another client, for whose requests the lane would wait until the end of the turn.
    """
    answers = [wire.send(request).answer() for _ in range(2)]
    asked = door.asked
    answers.append(wire.send(request).answer())
    asked = door.asked - asked
    with door.connect() as other:
        other.send(LIVE).answer()
        answers.append(wire.send(request).answer())
    return answers, asked


def both(doors: tuple[Door, Door], request: bytes) -> int:
    """Checks that both answer alike; how often the lane's application was asked for a request that had come before."""
    with doors[0].connect() as quick, doors[1].connect() as slow:
        answers, asked = again(quick, doors[0], request)
        assert answers == again(slow, doors[1], request)[0]
        assert quick.send(LIVE).answer() == slow.send(LIVE).answer()
    return asked


ALIKE = {
    "one input": infer(ROWS),
    "one row": infer(ROWS[:1]),
    "version": infer(ROWS, path="/v2/models/{}/versions/1/infer"),
    "integers": infer(np.array([[1, -2]], np.int32), inputs=[tensor(np.zeros((1, 2), "i4"), "INT32")], model="counts"),
    "halves": infer(np.ones((3, 2), "f2"), inputs=[tensor(np.zeros((3, 2), "f2"), "FP16")], model="halves"),
    "any length": infer(np.ones((2, 5, 2, 1), np.float32), model="images"),
    "scalars": infer(np.ones(4, np.float32), model="scalars"),
    "output named": infer(ROWS, outputs=[{"name": "y", "parameters": {"binary_data": True}}]),
    "no id": infer(ROWS, id=None),
    "NaN in the answer": infer(np.array([[404, 1]], np.float32), model="broken"),
    "media type": infer(ROWS, headers=(b"Content-Type: application/octet-stream",)),
}
APART = {
    "id": infer(ROWS, id="7"),
    "JSON out": infer(ROWS, parameters={}),
    "classes": infer(ROWS, outputs=[{"name": "y", "parameters": {"binary_data": True, "classification": 1}}]),
    "no such output": infer(ROWS, outputs=[{"name": "z"}]),
    "no such input": infer(ROWS, inputs=[tensor(ROWS, name="z")]),
    "no such model": infer(ROWS, model="nobody"),
    "no such version": infer(ROWS, path="/v2/models/{}/versions/9/infer"),
    "timeout": infer(ROWS, parameters={"binary_data_output": True, "timeout": 10**7}),
    "other datatype": infer(ROWS, inputs=[tensor(ROWS, "FP64")]),
    "bfloat16": infer(np.ones((2, 2), "u2"), inputs=[tensor(np.ones((2, 2), "u2"), "BF16")]),
    "bool": infer(np.array([[1, 0]], "?"), inputs=[tensor(np.array([[1, 0]], "?"), "BOOL")], model="flags"),
    "wrong width": infer(np.ones((2, 3), np.float32)),
    "wrong rank": infer(np.ones(2, np.float32)),
    "no rows": infer(np.ones((0, 2), np.float32)),
    "size too small": infer(ROWS, inputs=[tensor(ROWS[:1])]),
    "size too large": infer(ROWS[:1], inputs=[tensor(ROWS)]),
    "failing model": infer(ROWS, model="no"),
    "gzip accepted": infer(np.ones((300, 2), np.float32), headers=(b"Accept-Encoding: gzip",)),
    "two inputs of one name": infer(ROWS, ROWS),
    "large": infer(np.ones((9000, 2), np.float32)),
    "larger than allowed": infer(np.ones((20_000, 2), np.float32)),
    "no JSON": post(b"x" * 40, b"Inference-Header-Content-Length: 20", path=b"/v2/models/demo/infer"),
    "JSON longer than all": post(b"x" * 40, b"Inference-Header-Content-Length: 41", path=b"/v2/models/demo/infer"),
    "length of JSON with very many digits": post(
        b"x" * 40, b"Inference-Header-Content-Length: " + b"9" * 5000, path=b"/v2/models/demo/infer"
    ),
    "length with very many digits": infer(ROWS).replace(b"\r\nContent-Length: ", b"\r\nContent-Length: " + b"0" * 5000),
    "long JSON": infer(ROWS, comment="x" * 20_000),
    "length that is none": post(b"x" * 40, b"Inference-Header-Content-Length: -1", path=b"/v2/models/demo/infer"),
}


@pytest.mark.parametrize("request_", ALIKE.values(), ids=ALIKE)
def test_request_that_comes_again_is_answered_without_the_application(
    doors: tuple[Door, Door], request_: bytes
) -> None:
    assert both(doors, request_) == 0


@pytest.mark.parametrize("request_", APART.values(), ids=APART)
def test_whatever_is_special_is_answered_by_the_application(doors: tuple[Door, Door], request_: bytes) -> None:
    if b"larger" in request_ or len(request_) > 100_000:
        with doors[0].connect() as wire:
            assert wire.send(request_).answer().startswith(b"HTTP/1.1 413")
        return
    assert both(doors, request_) == 1


def test_request_may_come_in_very_many_parts(doors: tuple[Door, Door]) -> None:
    request = infer(np.ones((60, 2), np.float32))
    with doors[0].connect() as wire:
        wanted = [wire.send(request).answer() for _ in range(2)][1]
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(request[:-320])
        for byte in request[-320:]:
            with doors[0].held_up():
                wire.send(bytes([byte]))
        assert wire.answer() == wanted
        assert wire.send(request).answer() == wanted


@pytest.mark.parametrize("piece", [1, 7, 100, 290])
def test_request_may_come_in_parts(doors: tuple[Door, Door], piece: int) -> None:
    request = infer(ROWS)
    with doors[0].connect() as wire:
        wanted = [wire.send(request).answer() for _ in range(3)]
        for start in range(0, len(request), piece):
            wire.send(request[start : start + piece])
            with doors[0].connect() as other:  # by whose answer the part has been read
                other.send(LIVE).answer()
        assert wire.answer() == wanted[0]
        asked = doors[0].asked
        assert [wire.send(request).answer() for _ in range(2)] == wanted[:2]
        assert doors[0].asked == asked


JSON = post(b'{"instances":[[1,2]]}', path=b"/models/demo/predict")


@pytest.mark.parametrize(
    "behind", [infer(ROWS), infer(ROWS, id="1"), LIVE, JSON], ids=["alike", "other", "GET", "JSON"]
)
def test_what_comes_behind_is_answered_behind(doors: tuple[Door, Door], behind: bytes) -> None:
    request = infer(ROWS)
    with doors[1].connect() as wire:
        wanted = wire.send(request).answer()
    for split in (0, 5, len(request) + 3, len(request)):
        with doors[0].connect() as wire:
            for _ in range(2):
                wire.send(request).answer()
            data = request + behind
            if split:
                with doors[0].held_up():
                    wire.send(data[:split])
                with doors[0].held_up():
                    wire.send(data[split:])
            else:
                wire.send(data)
            assert wire.answer() == wanted
            assert wire.answer().startswith(b"HTTP/1.1 200")


def test_no_more_is_read_than_has_come_behind_a_request_that_waits(doors: tuple[Door, Door]) -> None:
    lane, paused = doors[0], []
    with lane.connect() as wire, lane.connect() as other:
        for _ in range(2):
            wanted = wire.send(infer(ROWS)).answer()
        other.send(LIVE).answer()
        lanes = [each for each in lane.server.server_state.connections if isinstance(each, KeptLane)]
        (busy,) = [each for each in lanes if each.client == wire.socket.getsockname()]

        async def arrive() -> None:
            for piece in (infer(ROWS), infer(ROWS)[:9], infer(ROWS)[9:]):
                busy.data_received(piece)
                paused.append(busy.flow.read_paused)

        lane.in_loop(arrive())
        assert [wire.answer() for _ in range(2)] == [wanted] * 2
        assert wire.send(infer(ROWS)).answer() == wanted
    assert paused == [False, True, True]


def test_head_of_a_pipelined_request_is_not_taken_for_that_of_another(doors: tuple[Door, Door]) -> None:
    body = b'{"instances":[[1,2]]}'
    tensors = infer(ROWS)
    other = post(body.ljust(len(tensors) - tensors.index(b"\r\n\r\n") - 4), path=b"/models/demo/predict")
    with doors[0].connect() as wire:
        wire.send(infer(ROWS, headers=(b"X-First: 1",)) + other)
        first = wire.answer()
        wire.answer()
        assert wire.send(infer(ROWS, headers=(b"X-First: 1",))).answer() == first


def test_requests_of_one_turn_run_as_one_batch(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as door, warm(door, infer(ROWS), 5) as wires:
        with door.held_up():
            for number, wire in enumerate(wires):
                wire.send(infer(ROWS + number))
        for number, wire in enumerate(wires):
            values = np.frombuffer(wire.answer()[-ROWS.nbytes :], np.float32).reshape(2, 2)
            np.testing.assert_array_equal(values, (ROWS + number) * 2)
        assert door.runtimes.loaded[0].batch_sizes == [10]


@pytest.mark.parametrize("number", [1, 3])
def test_tensors_reach_the_runtime_aligned_wherever_they_lie(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    publish_fake(store, batch_safe=True)
    aligned: list[bool] = []
    run = FakeRuntime.run
    monkeypatch.setattr(
        FakeRuntime, "run", lambda self, inputs: [aligned.append(inputs["x"].flags.aligned), run(self, inputs)][1]
    )
    with opened(store) as door, warm(door, LIVE, number) as wires:
        for length in range(4):  # of the JSON, before the tensors
            request = infer(ROWS, comment="x" * length)
            for wire in wires * 2:
                wire.send(request).answer()
            with door.held_up():
                for wire in wires:
                    wire.send(request)
            asked = door.asked
            for wire in wires:
                assert wire.answer()[-ROWS.nbytes :] == (ROWS * 2).tobytes()
            assert door.asked == asked
    assert set(aligned) == {True}


def test_requests_are_counted_the_same_either_way(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    pages = []
    for fast_lane in (True, False):
        with opened(store, fast_lane=fast_lane) as door, door.connect() as wire:
            for _ in range(4):
                wire.send(infer(ROWS)).answer()
            page = wire.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").answer().decode()
            statistics = json.loads(
                wire.send(b"GET /v2/models/demo/stats HTTP/1.1\r\nHost: test\r\n\r\n")
                .answer()
                .partition(b"\r\n\r\n")[2]
            )
        counts = [line for line in page.splitlines() if line.startswith("layerserve_requests_total{")]
        found = statistics["model_stats"][0]
        pages.append((counts, found["inference_count"], found["inference_stats"]["success"]["count"]))
    assert pages[0] == pages[1]
    assert 'protocol="v2",status="200"' in pages[0][0][0]
    assert pages[0][0][0].endswith(" 4.0")


@pytest.mark.parametrize("request_", [infer(ROWS), JSON], ids=["tensors", "JSON"])
@pytest.mark.parametrize("behind", [b"", LIVE], ids=["alone", "another behind"])
def test_half_a_request_is_waited_for_when_the_service_ends(
    store: ArtifactStore, request_: bytes, behind: bytes
) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as door, door.connect() as wire, door.connect() as other:
        for _ in range(2):
            wire.send(request_).answer()
        wire.send(request_[:-5])
        other.send(LIVE).answer()
        door.server.should_exit = True
        assert other.is_at_end()
        wire.send(request_[-5:] + behind)
        answers = [wire.answer() for _ in range(2 if behind else 1)]
        assert {answer[9:12] for answer in answers} == {b"200"}
        assert b"connection: close" in answers[-1]
        assert wire.is_at_end()


@pytest.mark.parametrize("request_", [infer(ROWS), JSON], ids=["tensors", "JSON"])
def test_connection_is_not_idle_while_a_request_that_is_known_arrives(store: ArtifactStore, request_: bytes) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as door, door.connect() as wire:
        wanted = [wire.send(request_).answer() for _ in range(2)]
        wire.send(LIVE).answer()  # by the application, after whose answers uvicorn sets a timer
        with door.held_up():
            wire.send(request_[:-5])
        with door.connect() as other:  # by whose answer the part has been read
            other.send(LIVE).answer()
        connections = [each for each in door.server.server_state.connections if isinstance(each, Connection)]
        (arriving,) = [each for each in connections if each.awaits is Awaits.REST_OF_REQUEST]
        assert arriving.timeout_keep_alive_task is None
        assert wire.send(request_[-5:]).answer() == wanted[1]

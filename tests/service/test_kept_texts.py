"""The lane of other protocols' JSON against the application: the same bytes, whatever the numbers and their frame."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from models.store import ArtifactStore
from service.lane_heads import Head, Heads
from service.protocols.predict import Target
from tests.service.doors import Door, both_ways, opened, warm
from tests.service.fakes import publish_fake
from tests.service.processes import post
from tests.service.test_kept_lane import both

NATIVE = b'{"instances":[[%d,%d]]}'
KINDS = ("broken", "words", "flags", "counts", "halves", "images", "scalars", "combine", "ids", "echo-float64", "gaps")
PACKS = b"Accept-Encoding: gzip, deflate"


def infer(
    data: Any,
    *shape: int,
    datatype: str = "FP32",
    model: str = "demo",
    headers: tuple[bytes, ...] = (),
    outputs: Any = None,
    path: str = "/v2/models/{}/infer",
    **others: Any,
) -> bytes:
    """A request of the Open Inference Protocol with its tensor in JSON; text stands for JSON as it is."""
    tensor = {"name": "x", "datatype": datatype, "shape": list(shape), "data": "DATA"}
    document = {"inputs": [tensor], **({"outputs": outputs} if outputs else {}), **others}
    text = data if isinstance(data, str) else json.dumps(data)
    return post(json.dumps(document).replace('"DATA"', text).encode(), *headers, path=path.format(model).encode())


def predict(instances: Any, model: str = "demo", *headers: bytes, path: str = "/v1/models/{}:predict") -> bytes:
    """A request as TensorFlow Serving's clients send it; text stands for a whole body."""
    text = instances if isinstance(instances, str) else json.dumps({"instances": instances})
    return post(text.encode(), *headers, path=path.format(model).encode())


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Door, Door]]:
    """Two servers of the same models: one with the lane, one without."""
    store = ArtifactStore(tmp_path_factory.mktemp("texts"))
    publish_fake(store, batch_safe=True)
    for kind in KINDS:
        publish_fake(store, kind, kind, batch_safe=True)
    with both_ways(store, len(KINDS) + 1, log_level="error", max_body_bytes=100_000) as pair:
        yield pair


V2_ALIKE = {
    "flat": infer([1, 2.5, -3e2, 4], 2, 2),
    "nested": infer([[1, 2.5], [3, 4]], 2, 2),
    "one row": infer([[1, 2]], 1, 2),
    "without spaces": infer("[1,2]", 1, 2),
    "with more": infer("[ 1 ,\n2\t]", 1, 2),
    "version": infer([1, 2], 1, 2, path="/v2/models/{}/versions/1/infer"),
    "output named": infer([1, 2], 1, 2, outputs=[{"name": "y"}]),
    "JSON asked for": infer([1, 2], 1, 2, parameters={"binary_data_output": False}),
    "integers": infer([1, -2], 1, 2, datatype="INT32", model="counts"),
    "largest integers": infer([0, 2**64 - 1], 2, datatype="UINT64", model="ids"),
    "halves": infer([0.1, 65504], 1, 2, datatype="FP16", model="halves"),
    "double": infer([0.1, 1e300], 1, 2, datatype="FP64", model="echo-float64"),
    "any length": infer([1, 2, 3, 4], 1, 2, 2, 1, model="images"),
    "scalars": infer([1, 2, 3], 3, model="scalars"),
    "NaN in the answer": infer([[404, 1]], 1, 2, model="broken"),
    "infinity in the answer": infer([1, 2, 405, 1], 2, 2, model="broken"),
    "short answer may be compressed": infer([1, 2], 1, 2, headers=(PACKS,)),
    "clients' own parameters": infer([1, 2], 1, 2, parameters={"content_type": "np"}),
    "data before the rest": post(
        b'{"inputs":[{"data":[[1,2]],"name":"x","datatype":"FP32","shape":[1,2]}]}', path=b"/v2/models/demo/infer"
    ),
    "other media type": infer([1, 2], 1, 2, headers=(b"Content-Type: text/plain",)),
}
V2_APART = {
    "id": infer([1, 2], 1, 2, id="7"),
    "timeout": infer([1, 2], 1, 2, parameters={"timeout": 10**7}),
    "binary out": infer([1, 2], 1, 2, parameters={"binary_data_output": True}),
    "classes": infer([1, 2], 1, 2, outputs=[{"name": "y", "parameters": {"classification": 1}}]),
    "no such output": infer([1, 2], 1, 2, outputs=[{"name": "z"}]),
    "no such model": infer([1, 2], 1, 2, model="nobody"),
    "no such version": infer([1, 2], 1, 2, path="/v2/models/{}/versions/9/infer"),
    "by a header's deadline": infer([1, 2], 1, 2, headers=(b"X-Request-Timeout-Ms: 9000",)),
    "other datatype": infer([1, 2], 1, 2, datatype="FP64"),
    "bfloat16": infer([1, 2], 1, 2, datatype="BF16"),
    "bool": infer([True, False], 1, 2, datatype="BOOL", model="flags"),
    "too few": infer([1], 1, 2),
    "too many": infer([1, 2, 3], 1, 2),
    "nested otherwise": infer([[1], [2]], 1, 2),
    "nested unevenly": infer("[[1,2,3],[4]]", 2, 2),
    "nested too deep": infer([[[1, 2]]], 1, 2),
    "nested in part": infer("[1,[2]]", 1, 2),
    "two lists": infer("[1,2],[3,4]", 2, 2),
    "wrong width": infer([1, 2, 3], 1, 3),
    "wrong rank": infer([1, 2], 2),
    "no rows": infer([], 0, 2),
    "string": infer('[1,"2"]', 1, 2),
    "null": infer("[1,null]", 1, 2),
    "null where it may be": infer("[null]", 1, model="gaps"),
    "true": infer("[1,true]", 1, 2),
    "NaN": infer("[1,NaN]", 1, 2),
    "fraction": infer([1, 2.5], 1, 2, datatype="INT32", model="counts"),
    "beyond the integer": infer([1, 2**31], 1, 2, datatype="INT32", model="counts"),
    "beyond the float": infer([1, 1e39], 1, 2),
    "beyond all": infer("[1,1e400]", 1, 2),
    "leading zero": infer("[1,02]", 1, 2),
    "long answer may be compressed": infer([0.1] * 400, 200, 2, headers=(PACKS,)),
    "no JSON": post(b"x" * 40, path=b"/v2/models/demo/infer"),
    "empty": post(b"", path=b"/v2/models/demo/infer"),
    "two inputs": post(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]},'
        b'{"name":"x","datatype":"FP32","shape":[1,2],"data":[3,4]}]}',
        path=b"/v2/models/demo/infer",
    ),
    "data twice": post(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2],"data":[]}]}',
        path=b"/v2/models/demo/infer",
    ),
    "data spelled otherwise": post(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2],"d\\u0061ta":[]}]}',
        path=b"/v2/models/demo/infer",
    ),
    "data of nobody": post(
        b'{"data":[1,2],"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}', path=b"/v2/models/demo/infer"
    ),
    "bracket missing": infer("[1,2", 1, 2),
    "nested in space": infer("[ [1,2], [3,4] ]", 2, 2),
}
TFS_ALIKE = {
    "rows": predict([[1, 2.5], [3, -4e1]]),
    "one row": predict([[1, 2]]),
    "without spaces": predict('{"instances":[[1,2]]}'),
    "version": predict([[1, 2]], path="/v1/models/{}/versions/1:predict"),
    "integers": predict([[1, -2]], "counts"),
    "exact": predict([[2**23, 0.1]]),
    "double": predict([[2**52, 0.1]], "echo-float64"),
    "compression": predict([[0.1, 2]] * 100, "demo", PACKS),
    "NaN in the answer": predict([[404, 1], [1, 2]], "broken"),
    "infinity in the answer": predict([[405, 1]], "broken"),
}
TFS_APART = {
    "columns": predict('{"inputs":[[1,2]]}'),
    "signature": predict('{"signature_name":"serving_default","instances":[[1,2]]}'),
    "named": predict([{"x": [1, 2]}]),
    "label": predict([[1, 2]], path="/v1/models/{}/labels/stable:predict"),
    "other case": predict([[1, 2]], path="/V1/Models/{}:Predict"),
    "regress": predict('{"examples":[{"x":[1,2]}]}', path="/v1/models/{}:regress"),
    "no such model": predict([[1, 2]], "nobody"),
    "no such version": predict([[1, 2]], path="/v1/models/{}/versions/9:predict"),
    "halves": predict([[1, 2]], "halves"),
    "strings": predict([["a", "b"]], "words"),
    "several inputs": predict([{"amounts": [1, 2], "city": "Oslo"}], "combine"),
    "not exact": predict([[2**24 + 1, 2]]),
    "large": predict([[2**25, 2]]),
    "scalars": predict([1, 2], "scalars"),
    "any length": predict([[[[1], [2]]]], "images"),
    "NaN": predict('{"instances":[[1,NaN]]}'),
    "wrong width": predict([[1]]),
    "uneven": predict([[1, 2], [3]]),
    "no rows": predict([]),
    "no JSON": predict("x" * 40),
    "deadline": predict([[1, 2]], "demo", b"X-Request-Timeout-Ms: 9000"),
}
_ALIKE = [*V2_ALIKE.items(), *TFS_ALIKE.items()]
_APART = [*V2_APART.items(), *TFS_APART.items()]


@pytest.mark.parametrize("request_", [item for _, item in _ALIKE], ids=[name for name, _ in _ALIKE])
def test_request_whose_head_has_come_is_answered_without_the_application(
    doors: tuple[Door, Door], request_: bytes
) -> None:
    assert both(doors, request_) == 0


@pytest.mark.parametrize("request_", [item for _, item in _APART], ids=[name for name, _ in _APART])
def test_whatever_is_special_is_answered_by_the_application(doors: tuple[Door, Door], request_: bytes) -> None:
    assert both(doors, request_) == 1


def test_head_is_known_whatever_the_length_of_the_body_is(doors: tuple[Door, Door]) -> None:
    with doors[0].connect() as quick, doors[1].connect() as slow:
        for make in (
            lambda row: infer(row, 1, 2),
            lambda row: predict([row]),
            lambda row: post(NATIVE % tuple(row), path=b"/models/demo/predict"),
        ):
            quick.send(make([1, 2])).answer()
            asked = doors[0].asked
            for row in ([10, 2], [100, 2], [1000, 2], [10, 2]):
                assert quick.send(make(row)).answer() == slow.send(make(row)).answer()
            assert doors[0].asked == asked


def test_head_that_is_too_long_by_the_length_of_its_body_is_refused_either_way(store: ArtifactStore) -> None:
    publish_fake(store, batch_safe=True)
    short, long = [predict('{"instances":[[1,2]]}' + " " * spaces) for spaces in (0, 1000)]
    head = short.partition(b"\r\n\r\n")[0]
    padding = 1024 - len(head) + len(b"POST  HTTP/1.1") - len(b"X-P: \r\n")  # as `Connection.end_head` measures it
    padded = [each.replace(b"Host: test", b"Host: test\r\nX-P: %b" % (b"x" * padding)) for each in (short, long)]
    with both_ways(store, 1, max_header_bytes=1024) as doors:
        answers = []
        for door in doors:
            with door.connect() as wire:
                answers.append([wire.send(request).answer() for request in (padded[0], padded[0], padded[1])])
    assert answers[0] == answers[1]
    assert [answer[9:12] for answer in answers[0]] == [b"200", b"200", b"431"]


def test_numbers_at_random_get_the_same_bytes_either_way(doors: tuple[Door, Door]) -> None:
    chance = random.Random(5)
    pieces = ["1", "-0.0", "2.5e3", "7", "[", "]", ",", " ", "[[", "]]", "],[", '"a"', "null", "-", "}", '"data":[1]']
    with doors[0].connect() as quick, doors[1].connect() as slow:
        for _ in range(400):
            rows = chance.randrange(1, 4)
            values = [chance.choice(["1", "-0.0", "2.5e3", "0.1", "16777217"]) for _ in range(2 * rows)]
            text = f"[{','.join(values)}]"
            if chance.random() < 0.5:
                text = f"[{','.join(f'[{a},{b}]' for a, b in zip(values[::2], values[1::2], strict=True))}]"
            for _ in range(chance.choice([0, 0, 1, 2])):
                place = chance.randrange(len(text) + 1)
                text = text[:place] + chance.choice(pieces) + text[place + chance.randrange(2) :]
            request = chance.choice([infer(text, rows, 2), predict(f'{{"instances":{text}}}')])
            answers = [[wire.send(request).answer() for _ in range(2)] for wire in (quick, slow)]
            assert answers[0] == answers[1], request


@pytest.mark.parametrize(
    "make",
    [lambda row: infer(row, 1, 2), lambda row: infer([row], 1, 2), lambda row: predict([row])],
    ids=["flat", "nested", "tfs"],
)
def test_requests_of_one_turn_run_as_one_batch(store: ArtifactStore, make: Any) -> None:
    publish_fake(store, batch_safe=True)
    with opened(store) as door, warm(door, make([1, 2]), 5) as wires:
        with door.held_up():
            for number, wire in enumerate(wires):
                wire.send(make([number, 2]))
        for number, wire in enumerate(wires):
            assert b"%d.0,4.0]" % (2 * number) in wire.answer()
        assert door.runtimes.loaded[0].batch_sizes == [5]


@pytest.mark.parametrize(
    "make",
    [lambda row: infer(row, 1, 2), lambda row: post(NATIVE % tuple(row))],
    ids=["v2", "native"],
)
def test_answer_that_cannot_be_written_is_an_error_to_its_own_client_alone(store: ArtifactStore, make: Any) -> None:
    publish_fake(store, kind="broken", batch_safe=True)
    with opened(store) as door, warm(door, make([1, 2]), 3) as wires:
        with door.held_up():
            for wire, first in zip(wires, (1, 405, 3), strict=True):
                wire.send(make([first, 2]))
        assert [wire.answer()[9:12] for wire in wires] == [b"200", b"422", b"200"]
        assert door.runtimes.loaded[0].batch_sizes == [3]


def test_clients_that_differ_in_what_may_be_compressed_are_not_answered_together(doors: tuple[Door, Door]) -> None:
    requests = [infer([1, 2] * 120, 120, 2, headers=headers) for headers in ((), (PACKS,))]
    with doors[0].connect() as one, doors[0].connect() as two:
        for wire, request in zip((one, two), requests, strict=True):
            wire.send(request).answer()
        with doors[0].held_up():
            one.send(requests[0])
            two.send(requests[1])
        assert b"content-encoding" not in one.answer()
        assert b"content-encoding: gzip" in two.answer()


@pytest.mark.parametrize("row", [[1, 2], [404, 2], [405, 2]], ids=["numbers", "NaN", "infinity"])
def test_requests_are_counted_the_same_either_way(store: ArtifactStore, row: list[int]) -> None:
    publish_fake(store, kind="broken", batch_safe=True)
    pages = []
    for fast_lane in (True, False):
        with opened(store, fast_lane=fast_lane) as door, door.connect() as wire:
            for request in (infer(row, 1, 2), predict([row]), post(NATIVE % tuple(row))):
                for _ in range(4):
                    wire.send(request).answer()
            page = wire.send(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").answer().decode()
            stats = wire.send(b"GET /v2/models/demo/stats HTTP/1.1\r\nHost: test\r\n\r\n").answer()
            found = json.loads(stats.partition(b"\r\n\r\n")[2])["model_stats"][0]
        counts = [line for line in page.splitlines() if line.startswith("layerserve_requests_total{")]
        durations = {name: each["count"] for name, each in found["inference_stats"].items()}
        pages.append((counts, found["inference_count"], found["execution_count"], durations))
    assert pages[0] == pages[1]
    assert pages[0][1:3] == (12, 12)
    assert [line.rpartition(" ")[2] for line in pages[0][0]] == ["4.0"] * 3


HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


def test_head_of_another_length_is_found_up_to_the_limit() -> None:
    heads = Heads()
    heads.add(HEAD % 20, Head(b"/predict", Target(), False, None, 20, True))
    assert heads.get(HEAD % 21) is None
    found = heads.find(HEAD % 21, 21)
    assert found is not None
    assert found.length == 21
    assert heads.get(HEAD % 21) == found
    assert heads.find(HEAD % 22, 21) is None
    assert heads.find(b"POST /other" + (HEAD % 20)[13:], 99) is None
    assert heads.find(b"GET / HTTP/1.1\r\n\r\n", 99) is None
    assert heads.find(HEAD.replace(b"%d", b"1 2"), 99) is None


def test_heads_do_not_grow_without_bound() -> None:
    heads = Heads()
    for number in range(3000):
        heads.add((HEAD % 20).replace(b"x", b"x%d" % number), Head(b"/predict", Target(), False, None, 20, True))
        heads.find(HEAD % number, 10**6)
    assert max(len(heads._heads), len(heads._without_length)) <= 1024

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.engine import Engine
from tests.service.fakes import MODELS, FakeRuntime, FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]

EXAMPLE = 'A request that works: {"instances":[[1.0,2.0]]}'
ROWS = {"instances": [[1, 2]]}
COMBINED = {"amounts": [1.5, 2.0], "city": "Oslo"}


def error(client: TestClient, body: bytes | str, path: str = "/predict") -> str:
    """The message of a request that must be refused with 400."""
    response = client.post(path, content=body)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert response.headers["content-type"] == "application/json"
    message = response.json()["error"]
    assert isinstance(message, str)
    return message


@pytest.fixture
def client_of(store: ArtifactStore, serve: Serve) -> Callable[[str], TestClient]:
    """The application with one model, `demo`, of the kind asked for."""

    def start(kind: str) -> TestClient:
        publish_fake(store, kind=kind)
        return serve()

    return start


@pytest.mark.parametrize("path", ["/predict", "/models/demo/predict", "/models/demo/versions/1/predict"])
def test_rows_are_answered_in_order_with_model_and_version(client: TestClient, path: str) -> None:
    response = client.post(path, json={"instances": [[1, 2], [0.5, -3]]})
    assert response.status_code == 200
    assert response.json() == {"predictions": [[2.0, 4.0], [1.0, -6.0]], "model": "demo", "version": 1}


def test_headers_tell_model_version_and_runtime(client: TestClient) -> None:
    headers = client.post("/predict", json={"instances": [[1, 2]]}).headers
    assert [headers[f"x-{name}"] for name in ("model-name", "model-version", "runtime")] == ["demo", "1", "fake"]
    assert headers["content-type"] == "application/json"


def test_compressed_body_is_415(client: TestClient) -> None:
    response = client.post("/predict", content=b"{}", headers={"content-encoding": "gzip"})
    assert response.status_code == 415
    assert response.json()["error"] == "The body must not be compressed. Received: Content-Encoding: gzip."


def test_large_body_is_answered_like_a_small_one(client: TestClient) -> None:
    rows = [[float(row), 1.0] for row in range(50_000)]
    response = client.post("/predict", json={"instances": rows})
    assert response.json()["predictions"][-1] == [99_998.0, 2.0]


@pytest.mark.parametrize("media_type", [None, "application/json", "Application/JSON; charset=utf-8"])
def test_json_body_is_taken_by_any_of_its_names(client: TestClient, media_type: str | None) -> None:
    headers = {"content-type": media_type} if media_type else {}
    assert client.post("/predict", content=b'{"instances":[[1,2]]}', headers=headers).status_code == 200


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_body_of_another_type_is_415_with_the_way_out(client: TestClient, media_type: str) -> None:
    response = client.post("/predict", content=b'{"instances":[[1,2]]}', headers={"content-type": media_type})
    assert response.status_code == 415
    message = response.json()["error"]
    assert message.startswith("The body must be application/json, or one of application/x-npy, ")
    assert message.endswith(f" Received: {media_type}. With curl, add -H 'Content-Type: application/json'.")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Input is a zero-length, empty document: line 1 column 1 (char 0)"),
        (b"{", "unexpected end of data: line 1 column 2 (char 1)"),
        (b'{"instances": [[1, 2],]}', "trailing comma is not allowed: line 1 column 22 (char 21)"),
        (b'{"instances": [[1, 2]]} x', "unexpected content after document: line 1 column 25 (char 24)"),
        (b"\xff\xfe", "str is not valid UTF-8: surrogates not allowed: line 1 column 1 (char 0)"),
        (b'{"instances": ["\\ud800"]}', "no low surrogate in string: line 1 column 17 (char 16)"),
        (b'{"instances": [[1e400, 2]]}', "number is infinity when parsed as double: line 1 column 17 (char 16)"),
        (b'{"instances": [[NaN, 2]]}', "NaN and Infinity are not JSON numbers"),
        (b'{"instances": [[1, Infinity]]}', "NaN and Infinity are not JSON numbers"),
        (b'{"instances": [[-Infinity, 2]]}', "NaN and Infinity are not JSON numbers"),
        (b'{"instances": ' + b"[" * 100_000, "depth limit exceeded: line 1 column 1039 (char 1038)"),
    ],
)
def test_malformed_json_is_refused_with_its_place(client: TestClient, body: bytes, reason: str) -> None:
    assert error(client, body) == f"The body is not JSON: {reason}. {EXAMPLE}"


@pytest.mark.parametrize(
    ("document", "received"),
    [
        ("[[1, 2]]", "a list"),
        ("[]", "an empty list"),
        ("5", "5"),
        ("null", "null"),
        ('"text"', "'text'"),
        ("{}", "an empty object"),
        ('{"inputs": [[1, 2]]}', "an object with the keys inputs"),
        ('{"instances": [[1, 2]], "parameters": {}}', "an object with the keys instances, parameters"),
        (json.dumps({"k" * 5000: 1}), f"an object with the keys {'k' * 1000}…"),
    ],
)
def test_body_without_the_one_key_is_refused(client: TestClient, document: str, received: str) -> None:
    expected = "The body must be an object with the one key `instances`."
    assert error(client, document) == f"{expected} Received: {received}. {EXAMPLE}"


@pytest.mark.parametrize(
    ("instances", "received"),
    [("[]", "an empty list"), ("{}", "an object"), ("null", "null"), ("true", "true"), ("7", "7"), ('"a"', "'a'")],
)
def test_instances_that_are_no_rows_are_refused(client: TestClient, instances: str, received: str) -> None:
    expected = "`instances` must be a list of at least one row."
    assert error(client, f'{{"instances": {instances}}}') == f"{expected} Received: {received}. {EXAMPLE}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[[1, 2, 3]]", "Input `x` must have shape (rows, 2). Received: shape (1, 3)."),
        ("[[1, 2], [3, 4], []]", "Input `x` must hold rows of one shape. Row 0 has shape (2,), row 2 has shape (0,)."),
        ("[[]]", "Input `x` must have shape (rows, 2). Received: shape (1, 0)."),
        ("[1, 2]", "Input `x` must have shape (rows, 2). Received: shape (2,)."),
        ("[[[1, 2]]]", "Input `x` must have shape (rows, 2). Received: shape (1, 1, 2)."),
        ("[[1, 2], [3]]", "Input `x` must hold rows of one shape. Row 0 has shape (2,), row 1 has shape (1,)."),
        ("[[[1], 2]]", "Input `x` must hold rows of one shape. Row 0 is ragged: its lists differ in length."),
        ('[["1", 2]]', "Input `x` must hold numbers. Row 0 holds '1'."),
        ("[[1, 2], [true, 2]]", "Input `x` must hold numbers. Row 1 holds true."),
        ("[[1, null]]", "Input `x` must hold numbers. Row 0 holds null."),
        ("[[1, {}]]", "Input `x` must hold numbers. Row 0 holds an object."),
        ("[null]", "Input `x` must hold numbers. Row 0 holds null."),
        ('[[1, 2], {"x": [1, 2]}]', "Input `x` must hold numbers. Row 1 holds an object."),
        ("[[1e39, 2]]", "Input `x` must hold numbers that fit float32. Row 0 holds 1e+39."),
        ('[{"z": [1, 2]}]', "Each row must be an object with the keys x. Row 0 is an object with the keys z."),
        ('[{"x": [1, 2]}, [1, 2]]', "Each row must be an object with the keys x. Row 1 is a list."),
        ("[{}]", "Each row must be an object with the keys x. Row 0 is an empty object."),
    ],
)
def test_rows_that_the_model_does_not_take_are_refused_with_an_example(
    client: TestClient, rows: str, message: str
) -> None:
    assert error(client, f'{{"instances": {rows}}}') == f"{message} {EXAMPLE}"


def test_deep_nesting_is_refused(client: TestClient) -> None:
    message = error(client, b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}")
    assert message.startswith("Input `x` is nested too deeply")


@pytest.mark.parametrize(
    ("instance", "received"),
    [
        ('{"amounts": [1, 2]}', "an object with the keys amounts"),
        ('{"amounts": [1, 2], "city": "Oslo", "zip": 1}', "an object with the keys amounts, city, zip"),
        ("[[1, 2], 3]", "a list"),
    ],
)
def test_row_without_every_named_input_is_refused(
    client_of: Callable[[str], TestClient], instance: str, received: str
) -> None:
    message = error(client_of("combine"), f'{{"instances": [{json.dumps(COMBINED)}, {instance}]}}')
    assert message.startswith(f"Each row must be an object with the keys amounts, city. Row 1 is {received}. ")
    assert message.endswith('{"instances":[{"amounts":[1.5,2.0],"city":"Oslo"}]}')


def test_named_inputs_and_outputs_are_objects(client_of: Callable[[str], TestClient]) -> None:
    rows = [COMBINED, {"city": "Łódź", "amounts": [9, 8]}]
    response = client_of("combine").post("/predict", json={"instances": rows})
    assert response.json()["predictions"] == [
        {"total": 7.0, "is_large": False, "greeting": "to Oslo"},
        {"total": 34.0, "is_large": True, "greeting": "to Łódź"},
    ]


def test_single_named_input_may_be_given_as_an_object(client: TestClient) -> None:
    response = client.post("/predict", json={"instances": [{"x": [1, 2]}, {"x": [3, 4]}]})
    assert response.json()["predictions"] == [[2.0, 4.0], [6.0, 8.0]]


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("scalars", [1.5, -2.0]),
        ("images", [[[[1.0], [2.0]]], [[[3.0], [4.0]]]]),
        ("counts", [[1, -2], [2**31 - 1, -(2**31)]]),
        ("ids", [2**63, 2**64 - 1, 0]),
        ("flags", [[True, False]]),
        ("words", [["alpha", ""], ["βeta", 'quote " and \\']]),
    ],
)
def test_any_rank_and_dtype_goes_in_and_comes_out(
    client_of: Callable[[str], TestClient], kind: str, rows: list[Any]
) -> None:
    response = client_of(kind).post("/predict", json={"instances": rows})
    assert json.dumps(response.json()["predictions"]) == json.dumps(rows)


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("counts", "[[1, 2.5]]", "Input `x` must hold integers. Row 0 holds 2.5."),
        ("counts", "[[1, true]]", "Input `x` must hold integers. Row 0 holds true."),
        ("counts", "[[1, 2147483648]]", "Input `x` must hold integers from -2147483648 to 2147483647. Row 0 holds"),
        ("ids", "[18446744073709551616]", "Input `x` must hold integers. Row 0 holds 1.8446744073709552e+19."),
        ("ids", "[-1]", "Input `x` must hold integers from 0 to 18446744073709551615. Row 0 holds -1."),
        ("flags", "[[1, 0]]", "Input `x` must hold true or false. Row 0 holds 1."),
        ("words", '[["a", 1]]', "Input `x` must hold strings. Row 0 holds 1."),
        ("words", '[["a", "b\\u0000"]]', "Input `x` must hold strings that do not end in a NUL character."),
    ],
)
def test_value_of_another_type_is_refused_by_any_dtype(
    client_of: Callable[[str], TestClient], kind: str, rows: str, message: str
) -> None:
    assert error(client_of(kind), f'{{"instances": {rows}}}').startswith(message)


def test_float32_answers_come_back_to_the_bit(client_of: Callable[[str], TestClient]) -> None:
    bits = np.random.default_rng(7).integers(0, 2**32, 5000, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    response = client_of("scalars").post("/predict", json={"instances": values.astype(float).tolist()})
    answers = np.array(response.json()["predictions"], np.float32)
    assert (answers.view(np.uint32) == values.view(np.uint32)).all()


def test_labels_give_the_likeliest_class_with_its_probability(client_of: Callable[[str], TestClient]) -> None:
    client, body = client_of("classify"), {"instances": [[0, 1, 3], [2, 0, 0]]}
    plain = client.post("/predict", json=body).json()["predictions"]
    labelled = client.post("/predict?labels=true", json=body).json()["predictions"]
    assert labelled == [{"label": "cat", "probability": plain[0][2]}, {"label": "ant", "probability": plain[1][0]}]
    assert [sum(row) for row in plain] == pytest.approx([1, 1], abs=1e-6)  # float32 sums round in the 7th digit


def test_labels_of_a_model_without_any_are_refused(client: TestClient) -> None:
    message = error(client, b'{"instances":[[1,2]]}', "/predict?labels=true")
    assert message == "`demo` is no classifier with labels. Ask without ?labels=true."


def test_labels_that_are_neither_true_nor_false_are_refused(client: TestClient) -> None:
    message = error(client, b'{"instances":[[1,2]]}', "/predict?labels=maybe")
    assert message.startswith("Parameter `labels`: Input should be a valid boolean")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/models/nobody/predict", "There is no model `nobody`. Models: demo."),
        ("/models/nobody/versions/1/predict", "There is no model `nobody`. Models: demo."),
        ("/models/demo/versions/2/predict", "Version 2 of `demo` is not served. Served: 1. Published: 1."),
        ("/models/demo/versions/0/predict", "A version is a number. Received: 0. Served: 1."),
        ("/models/demo/versions/\u0661/predict", "A version is a number. Received: \u0661. Served: 1."),
        ("/models/demo/versions/latest/predict", "A version is a number. Received: latest. Served: 1."),
        (f"/models/demo/versions/{'9' * 5000}/predict", f"A version is a number. Received: {'9' * 5000}. Served: 1."),
        ("/models/nobody/versions/x/predict", "There is no model `nobody`. Models: demo."),
    ],
)
def test_unknown_model_or_version_is_404_and_lists_those_that_exist(
    client: TestClient, path: str, message: str
) -> None:
    response = client.post(path, json={"instances": [[1, 2]]})
    assert (response.status_code, response.json()) == (404, {"error": message})


def test_version_with_a_label_answers_under_it(store: ArtifactStore, serve: Serve) -> None:
    for factor in (2, 3):
        publish_fake(store, factor=factor)
    store.label("demo", "stable", 1)
    client = serve()
    wait_until(lambda: client.get("/models/demo").json()["labels"] == {"stable": 1})
    answers = [
        client.post(f"/models/demo/{path}predict", json={"instances": [[1, 2]]}).json()
        for path in ("", "versions/1/", "labels/stable/")
    ]
    assert [(answer["version"], answer["predictions"]) for answer in answers] == [
        (2, [[3.0, 6.0]]),
        (1, [[2.0, 4.0]]),
        (1, [[2.0, 4.0]]),
    ]
    response = client.post("/models/demo/labels/other/predict", json={"instances": [[1, 2]]})
    assert (response.status_code, response.json()["error"]) == (404, "`demo` has no label `other`. Labels: stable.")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/predict", "POST"),
        ("PUT", "/models/demo/predict", "POST"),
        ("DELETE", "/models/demo", "GET"),
        ("POST", "/models", "GET"),
        ("POST", "/health/ready", "GET"),
    ],
)
def test_wrong_method_is_405_with_the_right_one(client: TestClient, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)
    assert response.json() == {"error": f"{path} takes {allow}. Received: {method}."}


def test_body_that_announces_too_much_is_413_at_once(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    response = serve(max_body_bytes=100).post("/predict", content=b" " * 101)
    assert (response.status_code, response.headers["connection"]) == (413, "close")
    assert response.json() == {"error": "The body may have at most 100 bytes. Send fewer rows at a time."}


def test_stream_that_grows_too_large_is_413_before_it_ends(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    chunks = iter([b" " * 60] * 1000)
    response = serve(max_body_bytes=100).post("/predict", content=chunks)
    assert response.status_code == 413
    assert response.json() == {"error": "The body may have at most 100 bytes. Send fewer rows at a time."}


@pytest.mark.parametrize("as_stream", [False, True])
def test_body_of_the_largest_size_is_taken(store: ArtifactStore, serve: Serve, as_stream: bool) -> None:
    publish_fake(store)
    body = b'{"instances":[[1,2]]}'.ljust(100)
    response = serve(max_body_bytes=100).post("/predict", content=iter([body[:7], body[7:]]) if as_stream else body)
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/models/demo/predict", "/models/demo/versions/1/predict"])
def test_request_before_the_model_is_loaded_is_503(
    store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes, path: str
) -> None:
    publish_fake(store)
    runtimes.may_load.clear()
    client = serve(wait=False)
    wait_until(lambda: runtimes.versions == [1])
    response = client.post(path, json={"instances": [[1, 2]]})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json() == {"error": "`demo` is being loaded."}


def test_service_is_alive_before_it_is_ready(store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes) -> None:
    publish_fake(store)
    runtimes.may_load.clear()
    client = serve(wait=False)
    assert client.get("/health/live").json() == {"status": "alive"}
    not_ready = client.get("/health/ready")
    assert (not_ready.status_code, not_ready.json()) == (503, {"error": "The models are being loaded."})
    runtimes.may_load.set()
    wait_until(lambda: client.get("/health/ready").json() == {"status": "ready"})


def test_runtime_that_raises_is_500_in_our_words(client_of: Callable[[str], TestClient]) -> None:
    response = client_of("broken").post("/predict", json={"instances": [[500, 1]]})
    assert response.status_code == 500
    assert response.json() == {"error": "The service failed on this request. Its log says why."}


def test_answer_that_json_cannot_carry_is_422_and_names_the_forms_that_can(
    client_of: Callable[[str], TestClient],
) -> None:
    client = client_of("broken")
    response = client.post("/predict", json={"instances": [[404, 1], [1, 1], [404, 2]]})
    assert response.status_code == 422
    assert response.json() == {
        "error": "Output `y` holds NaN or Infinity in 2 of 3 rows, which JSON cannot carry. "
        "Ask for another form: `Accept: application/x-npy`, or that of Arrow or MessagePack."
    }
    assert client.post("/predict", json={"instances": [[1, 1]]}).json()["predictions"] == [[2.0, 2.0]]


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_example_request_works_as_it_stands(client_of: Callable[[str], TestClient], kind: str) -> None:
    client = client_of(kind)
    example = client.get("/models/demo").json()["example"]
    response = client.post("/predict", json=example["request"])
    assert (response.status_code, response.json()) == (200, example["response"])


def test_example_of_golden_rows_in_column_order_works(
    store: ArtifactStore, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale = MODELS["scale"]
    monkeypatch.setitem(scale.rows, "x", np.asfortranarray(scale.rows["x"]))
    publish_fake(store)
    assert serve().get("/models/demo").json()["example"]["request"] == {"instances": [[1.0, 2.0]]}


def test_model_is_described_by_signature_metrics_and_versions(client: TestClient) -> None:
    details = client.get("/models/demo").json()
    assert (details["name"], details["version"], details["runtime"]) == ("demo", 1, "fake")
    assert (details["metrics"], details["created_at"]) == ({"test_accuracy": 0.5}, "2025-01-02T00:00:00+00:00")
    assert details["versions"] == [{"version": 1, "state": "READY", "reason": ""}]
    assert details["signature"] == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [None, 2], "nullable": False}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [None, 2], "nullable": False}],
        "labels": None,
    }


def test_unknown_model_is_not_described(client: TestClient) -> None:
    response = client.get("/models/nobody")
    assert (response.status_code, response.json()) == (404, {"error": "There is no model `nobody`. Models: demo."})


def test_long_example_is_pointed_to_instead_of_repeated(client_of: Callable[[str], TestClient]) -> None:
    message = error(client_of("wide"), b'{"instances":[[1]]}')
    assert message == (
        "Input `x` must have shape (rows, 500). Received: shape (1, 1). GET /models/demo shows a request that works."
    )


def test_models_lists_all_with_their_state(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "ants")
    (publish_fake(store, "bees").path / "model.keras").write_bytes(b"")
    body = serve().get("/models").json()
    ants, bees = body["models"]
    assert (body["default"], ants["version"], ants["problem"]) == (None, 1, "")
    assert (bees["version"], bees["versions"][0]["state"]) == (None, "UNAVAILABLE")
    assert bees["problem"].startswith("Version 1 cannot be served: `model.keras` is damaged")


def test_model_that_does_not_serve_is_described_by_its_problem(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "ants")
    (publish_fake(store, "bees").path / "model.keras").write_bytes(b"")
    details = serve().get("/models/bees").json()
    assert details["problem"].startswith("Version 1 cannot be served: `model.keras` is damaged")
    assert (details["version"], "example" in details) == (None, False)


def test_several_models_without_a_default_ask_for_a_name(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "ants")
    publish_fake(store, "bees")
    client = serve()
    response = client.post("/predict", json={"instances": [[1, 2]]})
    assert response.status_code == 404
    assert response.json()["error"].startswith("Several models are served: ants, bees.")
    assert client.post("/models/bees/predict", json={"instances": [[1, 2]]}).json()["model"] == "bees"


def random_values(seed: int) -> Iterator[Any]:
    """Bodies of every JSON shape, from nearly right to nonsense."""
    random = np.random.default_rng(seed)
    leaves = [0, 1, -1.5, 2**63, 2**64, 1e39, "", "a", "\0", True, False, None, {}, []]

    def value(depth: int) -> Any:
        if depth == 0 or random.random() < 0.3:
            return leaves[random.integers(len(leaves))]
        if random.random() < 0.8:
            return [value(depth - 1) for _ in range(random.integers(0, 4))]
        return {str(random.choice(["x", "amounts", "city", "instances"])): value(depth - 1) for _ in range(2)}

    while True:
        yield {"instances": value(4)}


@pytest.mark.parametrize("kind", ["combine", "counts", "flags", "images", "scale", "words"])
def test_no_body_makes_the_service_fail(client_of: Callable[[str], TestClient], kind: str) -> None:
    client = client_of(kind)
    for body, _ in zip(random_values(seed=11), range(300), strict=False):
        response = client.post("/predict", json=body)
        assert response.status_code in {200, 400}, body
        assert list(response.json()) in [["error"], ["predictions", "model", "version"]]


def test_no_answer_names_a_folder_of_the_service(store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes) -> None:
    publish_fake(store, "whole")
    publish_fake(store, "torn").path.joinpath("golden.npz").unlink()
    publish_fake(store, "odd", "broken")
    runtimes.close_error = str(store.root)
    client = serve()
    paths = ["/models", "/models/torn", "/models/nobody", "/health/ready", "/openapi.json", "/nothing", "/predict"]
    answers = [client.get(path) for path in paths]
    answers += [client.post(f"/models/{name}/predict", json={"instances": [[500, 1]]}) for name in ("torn", "odd")]
    texts = [f"{answer.text} {dict(answer.headers)}" for answer in answers]
    assert [text for text in texts if store.root.name in text or "Traceback" in text or ".py" in text] == []


def test_double_precision_of_json_is_rounded_to_the_models_float(client: TestClient) -> None:
    response = client.post("/predict", json={"instances": [[0.1, 0.2]]})
    wanted = [struct.unpack("f", struct.pack("f", value))[0] * 2 for value in (0.1, 0.2)]
    assert np.array(response.json()["predictions"][0], np.float32).tolist() == wanted


@pytest.mark.parametrize("header", ["0", "-5", "1.5", "1e3", "soon", "", "99999999999", "\u00b2"])
def test_timeout_that_is_no_number_of_milliseconds_is_400(client: TestClient, header: str) -> None:
    response = client.post("/predict", json=ROWS, headers={"X-Request-Timeout-Ms": header.encode()})
    assert response.status_code == 400
    assert "`X-Request-Timeout-Ms` must be a whole number of milliseconds from 1 to" in response.json()["error"]


def test_timeout_that_suffices_changes_nothing(client: TestClient) -> None:
    assert client.post("/predict", json=ROWS, headers={"X-Request-Timeout-Ms": "60000"}).status_code == 200


def test_request_that_is_not_answered_in_time_is_504(
    store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    client = serve()
    runtimes.loaded[0].hold()
    response = client.post("/predict", json=ROWS, headers={"X-Request-Timeout-Ms": "20"})
    assert (response.status_code, response.json()) == (
        504,
        {"error": "The request was not answered within 20 ms."},
    )


def has_started(runtime: FakeRuntime, times: int) -> bool:
    return runtime.times_started == times


def test_full_queue_is_429_at_once(store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes) -> None:
    publish_fake(store)
    client = serve(max_queue_size=1)
    engine: Engine = client.app.state.engine  # type: ignore[attr-defined] # the TestClient's type is any ASGI app's
    runtime, busy = runtimes.loaded[0], os.cpu_count() or 1
    runtime.hold()
    runtime.times_started = 0
    with ThreadPoolExecutor(busy + 1) as pool:
        waiting = []
        for count in range(1, busy + 1):  # one by one, as those that arrive in one turn all count as waiting
            waiting.append(pool.submit(client.post, "/predict", json=ROWS))
            wait_until(partial(has_started, runtime, count))
        waiting.append(pool.submit(client.post, "/predict", json=ROWS))
        wait_until(lambda: engine.queued_rows() == {("demo", 1): 1})
        refused = client.post("/predict", json=ROWS)
        runtime.release()
        answered = [request.result().status_code for request in waiting]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "The queue is full: 1 rows wait, 1 may. Received: 1 more." in refused.json()["error"]
    assert answered == [200] * (busy + 1)

"""Requests that nobody honest sends, or whose sender has a bug: each gets a 4xx that says why, and harms no other."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.examples import examples
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.v2_client import HEADER, as_json, binary_body, tensor
from tests.service.waiting import wait_until

ROWS = np.array([[1, 2]], np.float32)
GOOD = as_json("x", ROWS)
LIMIT = 4096


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = ArtifactStore(tmp_path_factory.mktemp("hostile"))
    for kind in ("scale", "words", "flags", "cube-int8", "scalar-string"):
        publish_fake(store, kind, kind)
    app = create_app(Settings(artifacts=store.root, max_body_bytes=LIMIT), load_runtime=FakeRuntimes().load)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


def refused(client: TestClient, body: bytes | str, status: int = 400, model: str = "scale", **headers: str) -> str:
    """The message of a refusal, after which the server still answers."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.post(f"/v2/models/{model}/infer", content=body, headers=headers)
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    assert client.post("/v2/models/scale/infer", json={"inputs": [GOOD]}).status_code == 200
    message: str = response.json()["error"]
    return message


def length(value: object) -> dict[str, str]:
    return {HEADER: str(value)}


def changed(**changes: Any) -> str:
    return json.dumps({"inputs": [{**GOOD, **changes}]})


@pytest.mark.parametrize("size", [-1, 2**31, 2**63, 2**64, 1.0, True, None, "2", [2]])
def test_shape_that_is_none(client: TestClient, size: object) -> None:
    assert refused(client, changed(shape=[1, size])).startswith("`shape` of input `x` must be a list of at most 32")


@pytest.mark.parametrize("shape", [None, 2, "x", {}, [1] * 33, [[1]]])
def test_shape_that_is_no_list(client: TestClient, shape: object) -> None:
    assert refused(client, changed(shape=shape)).startswith("`shape` of input `x` must be a list of at most 32")


@pytest.mark.parametrize("shape", [[2**31 - 1] * 32, [2**16, 2**16, 2**16, 2**16], [2**31 - 1, 2], [0, 2], []])
def test_shape_of_other_many_values_than_came(client: TestClient, shape: list[int]) -> None:
    assert "must have" in refused(client, changed(shape=shape))
    binary = tensor("x", ROWS, shape=shape, parameters={"binary_data_size": 8})
    text = json.dumps({"inputs": [binary]})
    assert "must have" in refused(client, text.encode() + ROWS.tobytes(), **length(len(text)))


def test_single_value_that_is_no_row(client: TestClient) -> None:
    reason = "Input `x` must have shape (rows, 2). Received: shape ()."
    assert refused(client, changed(shape=[], data=[1])) == reason
    text = json.dumps({"inputs": [tensor("x", ROWS, shape=[], parameters={"binary_data_size": 4})]})
    assert refused(client, text.encode() + b"\0\0\0\0", **length(len(text))) == reason


def test_shape_of_no_values_that_no_array_can_have(client: TestClient) -> None:
    huge = {"name": "x", "datatype": "INT8", "shape": [0, *[2**31 - 1] * 4], "data": []}
    refused(client, json.dumps({"inputs": [huge]}), model="cube-int8")
    huge |= {"parameters": {"binary_data_size": 0}}
    del huge["data"]
    text = json.dumps({"inputs": [huge]})
    refused(client, text, model="cube-int8", **length(len(text)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "must have a list as `data`"),
        ("ab", "must have a list as `data`"),
        ({"0": 1}, "must have a list as `data`"),
        ([1], "must have 2 values. Received: 1."),
        ([1, 2, 3], "must have 2 values. Received: 3."),
        ([[1, 2], [3, 4]], "must be flat, or nested as its shape [1, 2] says"),
        ([[1], [2]], "must be flat, or nested as its shape [1, 2] says"),
        ([[1, 2], 3], "must be flat, or nested as its shape [1, 2] says"),
        ([[[1], [2]]], "must hold numbers. Value 0 is a list."),
        ([1, [2]], "must hold numbers. Value 1 is a list."),
        ([1, "2"], "must hold numbers. Value 1 is '2'."),
        ([1, True], "must hold numbers. Value 1 is true."),
        ([1, None], "must hold numbers. Value 1 is null."),
        ([1, {}], "must hold numbers. Value 1 is an object."),
        ([1, 1e39], "must hold values that fit FP32"),
    ],
)
def test_data_that_does_not_fit(client: TestClient, data: object, reason: str) -> None:
    assert reason in refused(client, changed(data=data))


@pytest.mark.parametrize("depth", [33, 70, 1000, 100_000])
def test_deep_nesting(client: TestClient, depth: int) -> None:
    bomb = "[" * depth + "1" + "]" * depth
    status = 413 if depth > 2000 else 400
    refused(client, f'{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": {bomb}}}]}}', status)
    refused(client, bomb, status)
    refused(client, bomb.replace("1", "NaN"), status)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "nul",
        "[]",
        "1",
        '"x"',
        "null",
        "{}",
        '{"inputs": 1}',
        '{"inputs": [1]}',
        '{"inputs": [{}]}',
        '{"a": NaN',
    ],
)
def test_body_that_is_no_request(client: TestClient, body: str) -> None:
    assert refused(client, body)


@pytest.mark.parametrize("part", ["\0", "\udc80", "x\0"])
def test_names_of_odd_characters(client: TestClient, part: str) -> None:
    assert refused(client, changed(name=part))
    assert refused(client, json.dumps({"inputs": [GOOD], "outputs": [{"name": part}]}))


@pytest.mark.parametrize("escape", ["\\ud800", "\\udc80x"])
def test_half_a_character_beside_a_nan(client: TestClient, escape: str) -> None:
    for content in (f'"id": "{escape}", "inputs": []', f'"inputs": [{{"name": "{escape}", "shape": 1}}]'):
        assert refused(client, f'{{{content}, "x": NaN}}').startswith("The body is not JSON:")


@pytest.mark.parametrize("number", ["1e400", "9" * 400, "9" * 5000, "-Infinity1"])
def test_number_that_is_too_large(client: TestClient, number: str) -> None:
    status = 413 if len(number) > LIMIT else 400
    for other in ("1", "NaN"):
        text = f'{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [{other}, {number}]}}]}}'
        assert refused(client, text, status)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"inputs": [GOOD, GOOD]}, "`inputs` must name each tensor once. Named again: 'x'."),
        ({"inputs": [GOOD], "outputs": [{"name": "y"}] * 2}, "`outputs` must name each tensor once. Named again: 'y'."),
        ({"inputs": [GOOD], "outputs": [{"name": "z"}]}, "There is no output 'z'. The outputs are `y`."),
        ({"inputs": [GOOD], "outputs": [{}]}, "Each output must have a `name`. Received: null."),
        ({"inputs": [GOOD], "outputs": {}}, "`outputs` must be a list. Received: an object."),
        ({"inputs": [GOOD | {"name": "z"}]}, "There is no input 'z'. The inputs are `x`."),
        ({"inputs": []}, "The inputs must be `x`. Received: none."),
        ({"inputs": [GOOD], "id": 7}, "`id` must be a string. Received: 7."),
        ({"inputs": [GOOD], "parameters": []}, "`parameters` of the request must be an object."),
        ({"inputs": [GOOD | {"parameters": 1}]}, "`parameters` of input `x` must be an object."),
        ({"inputs": [GOOD], "parameters": {"binary_data_output": 1}}, "`binary_data_output` must be true or false."),
        ({"inputs": [GOOD], "parameters": {"timeout": -1}}, "`timeout` must be a whole number of microseconds."),
        ({"inputs": [GOOD], "parameters": {"timeout": "x" * 99}}, "`timeout` must be a whole number of microseconds."),
        ({"inputs": [GOOD], "outputs": [{"name": "y", "parameters": {"classification": -1}}]}, "`classification` of"),
        ({"inputs": [GOOD | {"datatype": "FP8"}]}, "`datatype` of input `x` must be one of BOOL, INT8"),
        ({"inputs": [GOOD | {"datatype": None}]}, "`datatype` of input `x` must be one of BOOL, INT8"),
        ({"inputs": [GOOD | {"datatype": "FP64"}]}, "Input `x` must be FP32. Received: FP64."),
        ({"inputs": [GOOD | {"datatype": "BF16"}]}, "Input `x` must be sent as bytes: JSON cannot carry BF16."),
        ({"inputs": [GOOD | {"parameters": {"binary_data_size": 8}}]}, "must have `data` or `binary_data_size`, not"),
        ({"inputs": [tensor("x", ROWS, parameters={"binary_data_size": -8})]}, "must be a whole number from 0."),
        ({"inputs": [tensor("x", ROWS, parameters={"binary_data_size": 8})]}, "must add up to 0 bytes. Received: 8."),
    ],
)
def test_request_that_contradicts_itself_or_the_model(client: TestClient, content: Any, reason: str) -> None:
    assert reason in refused(client, json.dumps(content))


def test_shared_memory_is_not_supported(client: TestClient) -> None:
    shared = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    assert refused(client, json.dumps({"inputs": [tensor("x", ROWS, parameters=shared)]}), 501)


@pytest.mark.parametrize("value", ["-1", "", "1.5", "0x10", "٣", "9" * 30, "+5", "5, 5", "10000"])
def test_header_that_lies_about_the_json(client: TestClient, value: str) -> None:
    body, _ = binary_body({"x": ROWS})
    response = client.post("/v2/models/scale/infer", content=body, headers=[(HEADER.encode(), value.encode())])
    assert response.status_code == 400
    assert HEADER.lower() in response.json()["error"]


@pytest.mark.parametrize("shift", [-1, 1, 7])
def test_header_that_cuts_the_json_elsewhere(client: TestClient, shift: int) -> None:
    body, headers = binary_body({"x": ROWS})
    assert refused(client, body, **length(int(headers[HEADER]) + shift))


@pytest.mark.parametrize("tail", [b"", b"1234567", b"123456789"])
def test_bytes_that_are_too_few_or_too_many(client: TestClient, tail: bytes) -> None:
    body, headers = binary_body({"x": ROWS})
    content = body[: int(headers[HEADER])] + tail
    assert f"must add up to {len(tail)} bytes. Received: 8." in refused(client, content, **headers)


@pytest.mark.parametrize(
    "strings", [b"\xff\xff\xff\xff", b"\1\0\0", b"\2\0\0\0a", b"\1\0\0\0a\0", b"\1\0\0\0\xff", b"\2\0\0\0a\0", b""]
)
def test_strings_that_are_none(client: TestClient, strings: bytes) -> None:
    content = tensor("x", np.array(["a"]), parameters={"binary_data_size": len(strings)})
    text = json.dumps({"inputs": [content]}).encode()
    assert "Input `x`" in refused(client, text + strings, model="scalar-string", **length(len(text)))


def test_string_that_ends_in_a_null_byte(client: TestClient) -> None:
    text = json.dumps({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", "b\0"]}]})
    assert "must hold strings that do not end in a NUL" in refused(client, text, model="scalar-string")


def test_booleans_that_are_neither(client: TestClient) -> None:
    content = tensor("x", np.array([[True, False]]), parameters={"binary_data_size": 2})
    text = json.dumps({"inputs": [content]}).encode()
    message = refused(client, text + b"\1\2", model="flags", **length(len(text)))
    assert message == "Input `x` must hold bytes that are 0 or 1."


def test_body_that_is_too_large(client: TestClient) -> None:
    assert refused(client, b" " * (LIMIT + 1), 413)
    response = client.post("/v2/models/scale/infer", content=(b" " * 100 for _ in range(LIMIT)))
    assert response.status_code == 413


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_body_that_becomes_too_large(client: TestClient, encoding: str, compress: Any) -> None:
    bomb = compress(b" " * 2_000_000)
    assert len(bomb) < LIMIT
    assert "4096 bytes once it is unpacked" in refused(client, bomb, 413, content_encoding=encoding)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-4], lambda b: b + b"x", lambda b: b + b, lambda b: b"", lambda b: b[4:]]
)
@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_body_that_cannot_be_decompressed(client: TestClient, encoding: str, compress: Any, damage: Any) -> None:
    body = damage(compress(json.dumps({"inputs": [GOOD]}).encode()))
    assert f"The body is not {encoding}, as its Content-Encoding says" in refused(
        client, body, content_encoding=encoding
    )


def test_body_compressed_in_another_way(client: TestClient) -> None:
    assert "by gzip or deflate" in refused(client, b"{}", 415, content_encoding="br")


@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "shape", "datatype", "data", "parameters", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ),
    st.binary(max_size=20),
    st.integers(-3, 3) | st.none(),
)
def test_any_json_with_any_bytes_is_refused_in_our_form(
    client: TestClient, content: Any, tail: bytes, shift: int | None
) -> None:
    text = json.dumps({"inputs": content if isinstance(content, list) else [content]}).encode()
    headers = {} if shift is None else {HEADER: str(len(text) + shift)}
    response = client.post("/v2/models/scale/infer", content=text + tail, headers=headers)
    assert (response.status_code, list(response.json())) == (400, ["error"])

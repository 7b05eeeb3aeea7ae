from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Serve
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

MODELS = ("half_plus_two", "scale", "classify", "combine", "scalars", "images", "counts", "halves", "words")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A model of each kind, by the name of its kind."""
    store = ArtifactStore(tmp_path_factory.mktemp("tfs") / "artifacts")
    for kind in MODELS:
        publish_fake(store, kind, kind)
    app = create_app(Settings(artifacts=store.root), load_runtime=FakeRuntimes().load)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


def ask(client: TestClient, verb: str, body: Any) -> tuple[int, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body)
    response = client.post(f"/v1/models/{verb}", content=content)
    return response.status_code, response.json()


@pytest.mark.parametrize(
    ("verb", "body", "answer"),
    [
        ("half_plus_two:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
        ("half_plus_two:predict", {"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}),
        ("half_plus_two:predict", {"instances": [{"x": 1}]}, {"predictions": [2.5]}),
        ("half_plus_two:predict", {"inputs": {"x": [1], "more": 1}}, {"outputs": [2.5]}),
        (
            "half_plus_two:predict",
            {"signature_name": "serving_default", "instances": [1.0]},
            {"predictions": [2.5]},
        ),
        ("half_plus_two:regress", {"examples": [{"x": 1.0}, {"x": [2.0]}]}, {"results": [2.5, 3.0]}),
        ("half_plus_two:regress", {"context": {"x": 1}, "examples": [{}, {"x": 2}]}, {"results": [2.5, 3.0]}),
        ("HALF_PLUS_TWO/versions/1:predict", {"instances": [1.0]}, None),
        ("half_plus_two/versions/1:PREDICT", {"instances": [1.0]}, {"predictions": [2.5]}),
        ("half_plus_two/versions/0:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
        ("half%5fplus%5Ftwo:predict", {"instances": [1.0]}, {"predictions": [2.5]}),
        ("words:predict", {"instances": [["a", {"b64": "w4Vz"}]]}, {"predictions": [["a", "Ås"]]}),
        ("images:regress", {"examples": [{"x": [1.0, 2.0]}]}, None),
        (
            "combine:predict",
            {"instances": [{"amounts": [1, 2], "city": "Graz"}]},
            {"predictions": [{"total": 6.0, "is_large": False, "greeting": "to Graz"}]},
        ),
        (
            "combine:predict",
            {"inputs": {"amounts": [[1, 2], [9, 9]], "city": ["a", "b"]}},
            {"outputs": {"total": [6.0, 36.0], "is_large": [False, True], "greeting": ["to a", "to b"]}},
        ),
    ],
)
def test_documented_forms_are_answered(client: TestClient, verb: str, body: Any, answer: Any) -> None:
    status, document = ask(client, verb, body)
    assert (status == 200) == (answer is not None)
    assert answer is None or document == answer


def test_classify_gives_each_label_with_its_score(client: TestClient) -> None:
    status, document = ask(client, "classify:classify", {"examples": [{"features": [0.0, 0.0, 0.0]}]})
    assert status == 200
    assert [label for label, _ in document["results"][0]] == ["ant", "bee", "cat"]
    assert [score for _, score in document["results"][0]] == pytest.approx([1 / 3] * 3)


def test_scores_without_labels_are_numbered(client: TestClient) -> None:
    assert ask(client, "scale:classify", {"examples": [{"x": [1, 2]}]}) == (
        200,
        {"results": [[["0", 2.0], ["1", 4.0]]]},
    )


def test_path_is_matched_in_any_case(client: TestClient) -> None:
    response = client.post("/V1/Models/half_plus_two:Predict", content='{"instances": [1.0]}')
    assert response.json() == {"predictions": [2.5]}


def test_answer_is_printed_over_several_lines(client: TestClient) -> None:
    response = client.post("/v1/models/scale:predict", content='{"instances": [[1, 2], [3, 4]]}')
    assert response.text == '{\n    "predictions": [[2.0,4.0],[6.0,8.0]]\n}'
    assert response.headers["content-type"] == "application/json"


def test_tokens_for_what_is_not_finite_come_and_go(client: TestClient) -> None:
    body = b'{"instances": [{"amounts": [NaN, 1], "city": "a"}, {"amounts": [-Infinity, 1], "city": "b"}]}'
    response = client.post("/v1/models/combine:predict", content=body)
    first, second = (row["total"] for row in response.json()["predictions"])
    assert (math.isnan(first), second) == (True, -math.inf)
    response = client.post("/v1/models/scale:predict", content=b'{"inputs": [[Infinity, 1], [2, NaN]]}')
    assert '"outputs": [[Infinity,2.0],[4.0,NaN]]' in response.text


def test_bytes_come_in_base64_from_outputs_that_say_so(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "photos", "image_bytes")
    document = ask(serve(), "photos:predict", {"instances": [{"b64": "cGl4ZWxz"}, "text"]})
    assert document == (200, {"predictions": [{"b64": "cGl4ZWxz"}, {"b64": "dGV4dA=="}]})


def failed(element: int, what: str, key: str = "") -> str:
    return f"Failed to process element: {element}{key} of 'instances' list. Error: INVALID_ARGUMENT: {what}"


PLAIN_LIST = "expecting list of objects as multiple input tensors required as per tensorinfo_map"


@pytest.mark.parametrize(
    ("verb", "body", "message"),
    [
        ("scale:predict", b"", "JSON Parse error: The document is empty"),
        ("scale:predict", b"{", "JSON Parse error: unexpected end of data at offset: 1"),
        ("scale:predict", [1], "JSON Value: [1] Is not object"),
        ("scale:predict", {}, "Missing 'inputs' or 'instances' key"),
        ("scale:predict", {"instances": []}, "JSON Value: {\"instances\": []} No values in 'instances' array"),
        (
            "scale:predict",
            {"instances": 1},
            "JSON Value: {\"instances\": 1} Excepting 'instances' to be an list/array",
        ),
        (
            "scale:predict",
            {"instances": [1], "inputs": 1},
            (
                'JSON Value: {"instances": [1], "inputs": 1} Not formatted correctly expecting only one of '
                "'inputs' or 'instances' keys to exist "
            ),
        ),
        (
            "scale:predict",
            {"signature_name": 1},
            "JSON Value: {\"signature_name\": 1} not formatted correctly. 'signature_name' key must be a string value.",
        ),
        (
            "scale:predict",
            {"signature_name": "other", "inputs": 1},
            'Serving signature name: "other" not found in signature def',
        ),
        (
            "scale:predict",
            {"instances": [[1, "a"]]},
            failed(0, 'JSON Value: "a" Type: String is not of expected type: float'),
        ),
        (
            "scale:predict",
            {"instances": [[1, 2], [True, 2]]},
            failed(1, "JSON Value: true Type: True is not of expected type: float"),
        ),
        ("scale:predict", {"instances": [[1, 2], [1]]}, failed(1, "Expecting shape [2] but got: [1]")),
        (
            "scale:predict",
            {"instances": [[1, [2]]]},
            failed(0, "Encountered list at unexpected level: 1 expected < 1"),
        ),
        (
            "scale:predict",
            {"inputs": [[1, 2], [3]]},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            "scale:predict",
            {"inputs": [[1, 2], 3]},
            "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            "scale:predict",
            {"instances": [[1, 16777217]]},
            failed(0, "Cannot convert JSON value: 16777217 to float without loss of precision."),
        ),
        (
            "scale:predict",
            b'{"instances": [[NaN, 1e39]]}',
            failed(0, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ),
        (
            "scale:predict",
            {"instances": [{"y": 1}]},
            failed(0, "JSON object: does not have named input: y", " key: y"),
        ),
        (
            "scale:predict",
            {"instances": [{}]},
            "Failed to process element: 0 of 'instances' list. JSON object: {} keys must be equal to: x",
        ),
        (
            "scale:predict",
            {"instances": [[1, 2], {"x": 1}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            "scale:predict",
            {"instances": [{"x": [1, 2]}, [1, 2]]},
            "Expecting object but got list at item 1 of input list",
        ),
        ("scale:predict", {"inputs": {"y": 1}}, "Missing named input: x in 'inputs' object."),
        ("combine:predict", {"instances": [1]}, f"instances is a plain list, but {PLAIN_LIST}"),
        (
            "combine:predict",
            {"inputs": [1]},
            (
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            ),
        ),
        (
            "counts:predict",
            {"instances": [[1, 2.5]]},
            failed(0, "JSON Value: 2.5 Type: Number is not of expected type: int32"),
        ),
        ("words:predict", {"instances": [["a", {"b64": "?"}]]}, "Unable to base64 decode"),
        (
            "words:predict",
            {"instances": [["a", {"b64": "/w=="}]]},
            "A string must be UTF-8. Received: other bytes, in base64.",
        ),
        (
            "words:predict",
            {"instances": [["a", {"b65": ""}]]},
            failed(0, 'JSON Value: {"b65": ""} not formatted correctly for base64 data'),
        ),
        ("scale:predict", {"inputs": 3}, "Input `x` must have shape (rows, 2). Received: shape ()."),
        ("scale:classify", {"examples": []}, "JSON Value: {\"examples\": []} 'examples' value is an empty array"),
        ("scale:classify", {"examples": [1]}, "Example must be JSON object but got JSON 1"),
        (
            "scale:classify",
            {"examples": [{}]},
            "Feature: x (data type: float32) is required but could not be found.",
        ),
        (
            "scale:classify",
            {},
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            "scale:regress",
            {"examples": [{"x": [1, 2]}]},
            ("Expected one output Tensor of numbers of shape [batch_size]. Ask :predict for what this model gives."),
        ),
    ],
)
def test_mistakes_are_named_as_tensorflow_serving_names_them(
    client: TestClient, verb: str, body: Any, message: str
) -> None:
    assert ask(client, verb, body) == (400, {"error": message})


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        b'{"instances": [NaN, ' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
        b'{"instances": [[NaN, ' + b"9" * 5000 + b"]]}",
        b'{"instances": [[NaN, 1e999]]}',
        b'{"instances": [[NaN, "\\ud800"]]}',
        b'{"instances": [[NaN, "\xff"]]}',
        b'{"instances": [[1, null]]}',
        b'{"inputs": {"x": {"b64": "AAAA"}}}',
        b'{"inputs": []}',
        b'{"examples": [[]]}',
    ],
)
@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_hostile_bodies_are_the_callers_mistake(client: TestClient, verb: str, body: bytes) -> None:
    status, document = ask(client, f"scale:{verb}", body)
    assert status == 400
    assert len(document["error"]) < 1000


def test_half_precision_is_not_for_json(client: TestClient) -> None:
    assert ask(client, "halves:predict", {"instances": [[0.5, 1]]}) == (
        501,
        {"error": "Conversion of JSON Value: [[0.5, 1]] to type: half"},
    )


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("other:predict", 404, "Servable not found for request: Latest(other)"),
        ("scale/versions/7:predict", 404, "Servable not found for request: Specific(scale, 7)"),
        ("scale/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
        (
            "scale/versions/99999999999999999999:predict",
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        ),
        ("scale:explain", 400, "Malformed request: POST /v1/models/scale:explain"),
        ("scale/metadata", 400, "Malformed request: POST /v1/models/scale/metadata"),
        ("scale/versions/a:predict", 400, "Malformed request: POST /v1/models/scale/versions/a:predict"),
    ],
)
def test_unknown_targets_are_refused_as_tensorflow_serving_does(
    client: TestClient, path: str, status: int, message: str
) -> None:
    assert ask(client, path, {"instances": [[1, 2]]}) == (status, {"error": message})


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("other", 404, "Could not find any versions of model other"),
        ("scale/versions/7", 404, "Could not find version 7 of model scale"),
        ("scale/versions/7/metadata", 404, "Servable not found for request: Specific(scale, 7)"),
        ("other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("scale:predict", 400, "Malformed request: GET /v1/models/scale:predict"),
    ],
)
def test_questions_about_what_there_is_not_are_refused(
    client: TestClient, path: str, status: int, message: str
) -> None:
    response = client.get(f"/v1/models/{path}")
    assert (response.status_code, response.json()) == (status, {"error": message})


def test_status_is_that_of_both_protocols(client: TestClient) -> None:
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    expected = {"model_version_status": [status], "name": "scale", "ready": True}
    assert client.get("/v1/models/scale").json() == expected
    assert client.get("/v1/models/scale/versions/1").json() == expected
    assert client.get("/v1/models").json() == {"models": sorted(MODELS)}


def test_label_stands_for_a_version(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    publish_fake(store, factor=3)
    store.label("demo", "canary", 1)
    client = serve()
    wait_until(lambda: client.get("/v1/models/demo/labels/canary").status_code == 200)
    assert ask(client, "demo/labels/canary:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [[2.0, 4.0]]})
    assert ask(client, "demo:predict", {"instances": [[1, 2]]}) == (200, {"predictions": [[3.0, 6.0]]})
    assert client.get("/v1/models/demo/labels/canary/metadata").json()["model_spec"]["version"] == "1"


def test_refused_version_has_ended_with_the_reason(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    publish_fake(store, factor=3, golden_factor=4)
    client = serve()
    wait_until(lambda: len(client.get("/v1/models/demo").json()["model_version_status"]) == 2)
    document = client.get("/v1/models/demo/versions/2").json()
    (status,) = document["model_version_status"]
    assert (status["state"], status["status"]["error_code"]) == ("END", "FAILED_PRECONDITION")
    assert "golden answers" in status["status"]["error_message"]
    assert document["ready"] is False


def test_metadata_describes_the_signature_in_tensorflows_terms(client: TestClient) -> None:
    document = client.get("/v1/models/counts/metadata").json()
    assert document["model_spec"] == {"name": "counts", "signature_name": "", "version": "1"}
    definition = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["x"]["dtype"] == "DT_INT32"
    assert definition["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
        "unknown_rank": False,
    }


def test_root_is_alive_for_programs_and_documentation_for_browsers(client: TestClient) -> None:
    assert client.get("/").json() == {"status": "alive"}
    response = client.get("/", headers={"accept": "text/html,*/*"}, follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "docs")


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
def test_compressed_body_is_unpacked(client: TestClient, encoding: str, wbits: int) -> None:
    packer = zlib.compressobj(wbits=wbits)
    body = packer.compress(b'{"instances": [1.0]}') + packer.flush()
    response = client.post("/v1/models/half_plus_two:predict", content=body, headers={"content-encoding": encoding})
    assert response.json() == {"predictions": [2.5]}


def test_body_is_limited_as_it_came_and_unpacked(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    client = serve(max_body_bytes=1000)
    bomb = zlib.compressobj(wbits=31)
    packed = bomb.compress(b" " * 10_000) + bomb.flush()
    assert len(packed) < 1000
    for body, headers in ((b" " * 1001, {}), (packed, {"content-encoding": "gzip"})):
        response = client.post("/v1/models/demo:predict", content=body, headers=headers)
        assert response.status_code == 413


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [("br", b"", 415), ("gzip", b"plain", 400), ("gzip", zlib.compress(b"{}", wbits=31)[:-4], 400)],
)
def test_body_that_cannot_be_unpacked_is_refused(client: TestClient, encoding: str, body: bytes, status: int) -> None:
    response = client.post("/v1/models/scale:predict", content=body, headers={"content-encoding": encoding})
    assert response.status_code == status


@pytest.mark.parametrize("verb", ["predict", "regress"])
def test_request_has_the_time_that_its_header_gives(
    store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes, verb: str
) -> None:
    publish_fake(store, kind="half_plus_two")
    client = serve()
    runtimes.loaded[0].hold()
    body = {"instances": [1.0]} if verb == "predict" else {"examples": [{"x": 1.0}]}
    headers = {"X-Request-Timeout-Ms": "20"}
    response = client.post(f"/v1/models/demo:{verb}", json=body, headers=headers)
    assert (response.status_code, response.json()) == (504, {"error": "The request was not answered within 20 ms."})


def test_time_that_is_no_number_is_400(client: TestClient) -> None:
    headers = {"X-Request-Timeout-Ms": "soon"}
    response = client.post("/v1/models/scale:predict", json={"instances": [[1, 2]]}, headers=headers)
    assert response.status_code == 400
    assert "`X-Request-Timeout-Ms` must be a whole number" in response.json()["error"]

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema_rs import validator_for
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import publish_fake
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]
Document = dict[str, Any]

KINDS = ["alike", "classify", "counts", "gaps", "ids", "image_bytes", "images", "sums", "words", "echo-float16"]
SCORES = {"classify", "counts", "ids", "sums"}


def document_of(client: TestClient) -> Document:
    found: Document = client.get("/openapi.json").json()
    return found


def bodies(document: Document, path: str) -> tuple[Document, Document]:
    """The schemas of request and answer."""
    operation = document["paths"][path]["post"]
    places = operation["requestBody"], operation["responses"]["200"]
    keys = [place["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2] for place in places]
    request, response = (document["components"]["schemas"][key] for key in keys)
    return request, response


def typed(document: Document) -> list[str]:
    """The paths of loaded models, without that of the default one."""
    verbs = ("/predict", ":predict", ":classify", ":regress", "/infer")
    return [path for path in document["paths"] if path.endswith(verbs) and "{" not in path and path != "/predict"]


def row(document: Document, path: str) -> Document:
    """The schema of one row of a model with several inputs."""
    found: Document = bodies(document, path)[0]["properties"]["instances"]["items"]["properties"]
    return found


@pytest.fixture
def all_kinds(store: ArtifactStore, serve: Serve) -> TestClient:
    for kind in KINDS:
        publish_fake(store, kind, kind)
    return serve()


def test_document_of_all_models_is_valid(all_kinds: TestClient) -> None:
    document = document_of(all_kinds)
    OpenAPI.model_validate(document)
    for content in document["components"]["schemas"].values():
        validator_for({**content, "components": document["components"]})


def test_each_loaded_model_has_its_paths_in_every_protocol(all_kinds: TestClient) -> None:
    places = [(kind, which) for kind in KINDS for which in ("", "/versions/1")]
    expected = {f"/models/{kind}{which}/predict" for kind, which in places}
    expected |= {f"/v2/models/{kind}{which}/infer" for kind, which in places}
    # TensorFlow Serving's JSON has no half precision.
    expected |= {f"/v1/models/{kind}{which}:predict" for kind, which in places if kind != "echo-float16"}
    # What has scores, and what has a number a row.
    expected |= {f"/v1/models/{kind}{which}:classify" for kind, which in places if kind in SCORES}
    expected |= {f"/v1/models/{kind}{which}:regress" for kind, which in places if kind in {"ids", "sums"}}
    assert set(typed(document_of(all_kinds))) == expected


def test_example_of_each_path_is_answered_as_the_document_says(all_kinds: TestClient) -> None:
    document = document_of(all_kinds)
    for path in typed(document):
        request, response = bodies(document, path)
        answer = all_kinds.post(path, json=request["examples"][0])
        assert (path, answer.status_code, answer.json()) == (path, 200, response["examples"][0])


def test_examples_are_what_their_schemas_say(all_kinds: TestClient) -> None:
    document = document_of(all_kinds)
    for path in typed(document):
        for content in bodies(document, path):
            validator_for(content).validate(content["examples"][0])


def test_operations_have_names_of_their_own(all_kinds: TestClient) -> None:
    paths = document_of(all_kinds)["paths"].values()
    names = [operation["operationId"] for item in paths for operation in item.values()]
    assert len(set(names)) == len(names)
    assert "gaps.predict" in names


def test_row_is_described_by_the_signature(all_kinds: TestClient) -> None:
    found = row(document_of(all_kinds), "/models/gaps/predict")
    assert [found[name]["type"] for name in ("age", "city", "is_new")] == [
        ["number", "null"],
        ["string", "null"],
        ["boolean", "null"],
    ]
    counts = found["counts"]
    assert (counts["minItems"], counts["maxItems"]) == (2, 2)
    assert counts["items"] == {"type": "integer", "format": "int16", "minimum": -(2**15), "maximum": 2**15 - 1}


@pytest.mark.parametrize(
    ("kind", "instances", "fits"),
    [
        ("counts", [[1, 2]], True),
        ("counts", [{"x": [1, 2]}], True),
        ("counts", [[1, 2], {"x": [1, 2]}], False),
        ("counts", [[1, 2, 3]], False),
        ("counts", [[1, 2**31]], False),
        ("counts", [[1, None]], False),
        ("counts", [], False),
        ("gaps", [{"age": None, "city": None, "is_new": None, "counts": [0, 0]}], True),
        ("gaps", [{"age": 1, "city": "", "is_new": True, "counts": [0, 0]}], True),
        ("gaps", [{"age": 1, "city": "", "is_new": 1, "counts": [0, 0]}], False),
        ("gaps", [{"age": 1, "city": "", "is_new": True}], False),
        ("ids", [2**64 - 1], True),
        ("ids", [-1], False),
        ("words", [["a", "b"]], True),
        ("words", [["a", 1]], False),
        ("images", [[[[1], [2]]]], True),
        ("images", [[[[1, 2]]]], False),
    ],
)
def test_document_allows_what_is_answered_and_nothing_else(
    store: ArtifactStore, serve: Serve, kind: str, instances: list[Any], fits: bool
) -> None:
    publish_fake(store, kind, kind)
    client, body = serve(), {"instances": instances}
    for path, protocol in ((f"/models/{kind}/predict", "native"), (f"/v1/models/{kind}:predict", "tfs")):
        request = bodies(document_of(client), path)[0]
        answer = client.post(path, json=body)
        assert (protocol, validator_for(request).is_valid(body), answer.status_code) == (
            protocol,
            fits,
            200 if fits else 400,
        )


@pytest.mark.parametrize(
    ("kind", "document", "fits"),
    [
        ("counts", {"examples": [{"x": [1, 2]}]}, True),
        ("counts", {"examples": [{"x": [1, 2]}, {}], "context": {"x": [3, 4]}}, True),
        ("counts", {"examples": [{"x": [1, 2], "y": 3}], "signature_name": "serving_default"}, True),
        ("counts", {"examples": [{"x": [1, 2, 3]}]}, False),
        ("counts", {"examples": [{"x": 1}]}, False),
        ("counts", {"examples": [{"x": [1, 2**31]}]}, False),
        ("counts", {"examples": [[1, 2]]}, False),
        ("counts", {"examples": []}, False),
        ("counts", {"context": {"x": [1, 2]}}, False),
        ("ids", {"examples": [{"x": 1}, {"x": [2]}]}, True),
        ("ids", {"examples": [{"x": [1, 2]}]}, False),
        ("sums", {"examples": [{"words": ["a", {"b64": "Yg=="}], "picture": [1, 2, 3, 4]}]}, True),
        ("sums", {"examples": [{"words": "a", "picture": [[1, 2], [3, 4]]}]}, True),
        ("sums", {"examples": [{"words": [], "picture": [[1, 2], [3, 4]]}]}, True),
        ("sums", {"examples": [{"words": ["a"], "picture": [[1, 2, 3, 4]]}]}, False),
        ("sums", {"examples": [{"words": ["a"], "picture": 1}]}, False),
    ],
)
def test_document_allows_the_examples_that_are_answered(
    store: ArtifactStore, serve: Serve, kind: str, document: dict[str, Any], fits: bool
) -> None:
    publish_fake(store, kind, kind)
    client = serve()
    path = f"/v1/models/{kind}:classify"
    request, response = bodies(document_of(client), path)
    answer = client.post(path, json=document)
    assert (validator_for(request).is_valid(document), answer.status_code) == (fits, 200 if fits else 400)
    assert not fits or validator_for(response).is_valid(answer.json())


def test_labels_are_described_where_the_model_has_some(all_kinds: TestClient) -> None:
    document = document_of(all_kinds)
    _, response = bodies(document, "/models/classify/predict")
    answer = all_kinds.post("/models/classify/predict?labels=true", json={"instances": [[1, 2, 3]]}).json()
    validator_for(response).validate(answer)
    parameters = {
        kind: [item["name"] for item in document["paths"][f"/models/{kind}/predict"]["post"]["parameters"]]
        for kind in ("classify", "counts")
    }
    assert parameters == {"classify": ["labels", "X-Request-Timeout-Ms"], "counts": ["X-Request-Timeout-Ms"]}


def test_versions_and_labels_have_paths_with_their_own_version(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "demo", "counts")
    publish_fake(store, "demo", "words")
    store.label("demo", "stable", 1)
    document = document_of(serve())
    types = {
        path: bodies(document, path)[0]["examples"][0]["instances"][0][0]
        for path in typed(document)
        if path.startswith("/models")
    }
    assert types == {
        "/models/demo/predict": "alpha",
        "/models/demo/versions/2/predict": "alpha",
        "/models/demo/versions/1/predict": 1,
        "/models/demo/labels/stable/predict": 1,
    }


def test_schemas_keep_their_names_when_a_version_takes_over(store: ArtifactStore, client: TestClient) -> None:
    before = bodies(document_of(client), "/models/demo/predict")[0]
    publish_fake(store, "demo", "words")
    wait_until(lambda: client.get("/models/demo").json()["version"] == 2)
    document = document_of(client)
    after = document["components"]["schemas"]["demo.PredictRequest"]
    assert before["examples"] == [{"instances": [[1.0, 2.0]]}]
    assert after["examples"] == [{"instances": [["alpha", "βeta"]]}]
    assert bodies(document, "/models/demo/predict")[0] == after


def test_default_path_is_typed_by_the_default_model(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "ants", "scale")
    publish_fake(store, "bees", "counts")
    without, having = document_of(serve()), document_of(serve(default_model="bees"))
    generic = {"$ref": "#/components/schemas/PredictResponse"}
    answer = without["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == generic
    assert bodies(having, "/predict") == bodies(having, "/models/bees/predict")


def test_document_describes_a_model_as_soon_as_it_is_loaded(store: ArtifactStore, serve: Serve) -> None:
    client = serve(wait=False)
    before = typed(document_of(client))
    publish_fake(store)
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert (before, "/models/demo/predict" in typed(document_of(client))) == ([], True)


def test_request_of_any_model_is_in_the_document_without_one() -> None:
    document = create_app(Settings()).openapi()
    requests = {name for name in document["components"]["schemas"] if name.endswith("Request")}
    assert requests == {"PredictRequest", "TfsPredictRequest", "TfsExamplesRequest", "V2InferRequest"}


def test_document_is_made_anew_only_when_something_has_changed(store: ArtifactStore, client: TestClient) -> None:
    openapi = client.app.openapi  # type: ignore[attr-defined] # FastAPI's
    first, second = openapi(), openapi()
    store.label("demo", "stable", 1)
    wait_until(lambda: client.get("/models/demo").json()["labels"] == {"stable": 1})
    assert first is second
    assert openapi()["paths"].keys() - first["paths"].keys() == {
        "/models/demo/labels/stable/predict",
        "/v1/models/demo/labels/stable:classify",
        "/v1/models/demo/labels/stable:predict",
    }


def test_version_that_is_loaded_again_is_described_anew(store: ArtifactStore, client: TestClient) -> None:
    openapi = client.app.openapi  # type: ignore[attr-defined] # FastAPI's
    first = openapi()
    shutil.rmtree(store.root / "demo")
    wait_until(lambda: client.get("/models").json()["models"] == [])
    publish_fake(store, "demo", "words")
    wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert (
        openapi()["components"]["schemas"]["demo.PredictRequest"]
        != first["components"]["schemas"]["demo.PredictRequest"]
    )


def test_model_without_a_loaded_version_has_no_paths(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "whole")
    publish_fake(store, "torn").path.joinpath("model.keras").unlink()
    document = document_of(serve())
    assert [tag["name"] for tag in document["tags"]] == ["model whole"]
    assert not [path for path in document["paths"] if "torn" in path]


def test_long_row_is_no_example(store: ArtifactStore, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.openapi._LARGEST_EXAMPLE_BYTES", 1999)
    publish_fake(store, "wide", "wide")  # a row of 500 float32
    publish_fake(store, "short", "scale")
    document = document_of(serve())
    assert "examples" not in bodies(document, "/models/wide/predict")[0]
    assert "examples" in bodies(document, "/models/short/predict")[0]


@pytest.mark.parametrize("control_api", [True, False])
def test_loading_is_described_where_it_is_switched_on(store: ArtifactStore, serve: Serve, control_api: bool) -> None:
    publish_fake(store)
    paths = document_of(serve(control_api=control_api))["paths"]
    assert ("/v2/repository/models/{name}/load" in paths) is control_api
    assert "/v2/repository/index" in paths

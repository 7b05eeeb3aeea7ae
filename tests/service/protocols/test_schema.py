from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.protocols import schema
from tests.service.fakes import publish_fake

Serve = Callable[..., TestClient]

PREDICT_PATHS = [
    "/predict",
    "/models/{name}/predict",
    "/models/{name}/versions/{version}/predict",
    "/models/{name}/labels/{label}/predict",
]


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    content: dict[str, Any] = client.get("/openapi.json").json()
    return content


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (item for key, item in value.items() if key == "$ref")
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_document_is_valid_openapi_and_refers_to_nothing_missing(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    defined = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= defined


def of_any_model(document: dict[str, Any], prefix: str) -> set[str]:
    """The paths of a protocol, without those of the loaded model alone."""
    return {path for path in document["paths"] if path.startswith(prefix) and "demo" not in path}


def test_document_lists_every_endpoint(document: dict[str, Any]) -> None:
    native = {*PREDICT_PATHS, "/models", "/models/{name}", "/health/live", "/health/ready"}
    others = of_any_model(document, "/v1/") | of_any_model(document, "/v2")
    assert of_any_model(document, "/") - others == {"/", *native}


def test_document_lists_every_path_of_tensorflow_serving(document: dict[str, Any]) -> None:
    models = [f"/v1/models/{{name}}{which}" for which in ("", "/versions/{version}", "/labels/{label}")]
    questions = [f"{model}{tail}" for model in models for tail in ("", "/metadata")]
    verbs = [f"{model}:{verb}" for model in models for verb in ("predict", "classify", "regress")]
    assert of_any_model(document, "/v1/") == {"/v1/models", *questions, *verbs}


def test_document_lists_every_path_of_the_open_inference_protocol(document: dict[str, Any]) -> None:
    models = ["/v2/models/{name}", "/v2/models/{name}/versions/{version}"]
    questions = [f"{model}{tail}" for model in models for tail in ("", "/ready", "/config", "/stats", "/infer")]
    server = ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats", "/v2/repository/index"]
    assert of_any_model(document, "/v2") == {*server, *questions}


@pytest.mark.parametrize("path", PREDICT_PATHS)
def test_prediction_documents_the_errors_that_it_gives(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path]["post"]["responses"]
    assert sorted(responses) == ["200", "400", "404", "413", "415", "422", "429", "500", "503", "504", "default"]
    schemas = {code: answer["content"]["application/json"]["schema"]["$ref"] for code, answer in responses.items()}
    assert schemas.pop("200").endswith("PredictResponse")
    assert set(schemas.values()) == {"#/components/schemas/ErrorResponse"}


def test_no_endpoint_documents_an_error_of_another_form(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/models", schema.ModelList),
        ("/models/whole", schema.ModelDetails),
        ("/models/torn", schema.ModelDetails),
        ("/health/live", schema.Status),
        ("/health/ready", schema.Status),
        ("/nothing", schema.ErrorResponse),
    ],
)
def test_answer_has_the_documented_form(store: ArtifactStore, serve: Serve, path: str, model: Any) -> None:
    publish_fake(store, "whole")
    publish_fake(store, "torn").path.joinpath("model.keras").unlink()
    body = serve().get(path).json()
    parsed = model.model_validate(body, extra="forbid")
    assert body == parsed.model_dump(mode="json", exclude_unset=True)


def test_prediction_has_the_documented_form(client: TestClient) -> None:
    body = client.post("/predict", json={"instances": [[1, 2]]}).json()
    assert schema.PredictResponse.model_validate(body, extra="forbid").model_dump() == body


def test_docs_page_shows_the_document(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert re.search(r"url: ['\"]/openapi.json['\"]", page.text)

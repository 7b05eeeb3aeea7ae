from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.protocols import v2_schema
from service.protocols.v2_infer_schema import V2InferResponse
from tests.service.fakes import publish_fake

Serve = Callable[..., TestClient]
X = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


@pytest.fixture
def asked(store: ArtifactStore, serve: Serve) -> TestClient:
    """A model that has answered a request, and another that is damaged."""
    publish_fake(store, "whole")
    publish_fake(store, "torn").path.joinpath("model.keras").unlink()
    client = serve()
    assert client.post("/v2/models/whole/infer", json={"inputs": [X]}).status_code == 200
    return client


@pytest.mark.parametrize(
    ("path", "status", "model"),
    [
        ("/v2", 200, v2_schema.V2Server),
        ("/v2/health/live", 200, v2_schema.V2Health),
        ("/v2/health/ready", 200, v2_schema.V2Health),
        ("/v2/models", 200, v2_schema.V2Models),
        ("/v2/models/stats", 200, v2_schema.V2Statistics),
        ("/v2/models/whole", 200, v2_schema.V2Model),
        ("/v2/models/whole/ready", 200, v2_schema.V2ModelReady),
        ("/v2/models/whole/config", 200, v2_schema.V2ModelConfig),
        ("/v2/models/whole/stats", 200, v2_schema.V2Statistics),
        ("/v2/models/whole/versions/1/stats", 200, v2_schema.V2Statistics),
        ("/v2/models/torn", 503, v2_schema.V2Error),
        ("/v2/models/other", 404, v2_schema.V2Error),
    ],
)
def test_answer_has_the_documented_form(asked: TestClient, path: str, status: int, model: Any) -> None:
    answer = asked.get(path)
    parsed = model.model_validate(answer.json(), extra="forbid")
    assert (answer.status_code, answer.json()) == (status, parsed.model_dump(mode="json", exclude_unset=True))


def test_index_has_the_documented_form(asked: TestClient) -> None:
    body = asked.post("/v2/repository/index").json()
    parsed = TypeAdapter(list[v2_schema.V2Version]).validate_python(body, extra="forbid")
    assert [item.state for item in parsed] == ["UNAVAILABLE", "READY"]


@pytest.mark.parametrize("parameters", [{}, {"binary_data": True}, {"classification": 1}])
def test_inference_has_the_documented_form(asked: TestClient, parameters: dict[str, Any]) -> None:
    request = {"id": "7", "inputs": [X], "outputs": [{"name": "y", "parameters": parameters}]}
    answer = asked.post("/v2/models/whole/infer", json=request)
    end = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    V2InferResponse.model_validate_json(answer.content[:end], extra="forbid")

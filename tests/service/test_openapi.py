"""The OpenAPI document against the service: whatever it allows to be sent, the answer is one that it describes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from models.store import ArtifactStore
from service.app import create_app
from service.protocols.bodies import KINDS
from service.settings import Settings
from tests.examples import examples
from tests.service.doors import opened
from tests.service.fakes import publish_fake


@schemathesis.serializer(*(media_type for media_type in KINDS if media_type != "text/csv"))
def as_it_is(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bytes that hardly are what they are said to be."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


API = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KNOWN = {"name": "demo", "version": "1"}
PREDICTIONS = [path for path in API if path.endswith("predict") and "{label}" not in path]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("openapi") / "artifacts"
    publish_fake(ArtifactStore(root))
    with opened(ArtifactStore(root)) as door:
        yield "http://{}:{}".format(*door.address)


@API.parametrize()
@settings(
    max_examples=examples(10),
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_document_describes(case: schemathesis.Case, url: str) -> None:
    if len(case.path_parameters.get("name", "")) % 2:  # half of them ask the model that there is
        case.path_parameters.update({name: KNOWN[name] for name in KNOWN.keys() & case.path_parameters.keys()})
    case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)


@pytest.mark.parametrize("accept", ["application/json", *KINDS])
@pytest.mark.parametrize("path", PREDICTIONS)
def test_prediction_is_answered_as_the_document_says(path: str, accept: str, url: str) -> None:
    operation = API[path]["POST"]
    case = operation.Case(
        path_parameters=KNOWN, body={"instances": [[1, 2]]}, media_type="application/json", headers={"accept": accept}
    )
    response = case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)
    assert response.status_code == 200
    is_native = not path.startswith("/v1/")
    assert response.headers["content-type"][0].partition(";")[0] == (accept if is_native else "application/json")

"""The OpenAPI document against a service: whatever it allows to be sent, the answer is one that it describes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from models.store import ArtifactStore
from service.protocols.bodies import KINDS
from tests.examples import examples
from tests.service.fakes import publish_fake
from tests.service.processes import FAKE, ServerProcess

pytestmark = pytest.mark.slow

JSON = "application/json"
MODELS = {
    "demo": "echo-float32",
    "gaps": "gaps",  # several inputs, among them integers, strings and missing values
    "ids": "ids",
    "labelled": "classify",
    "spare": "echo-bool",  # is unloaded: what comes and goes by request
    "words": "words",
    "images": "images",
    "roots": "roots",  # of negative numbers are none that JSON can carry
}
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CHECKS_OF_TOKENS = [check for check in CHECKS if check is not response_schema_conformance]
FUZZ = settings(
    max_examples=examples(10),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer(*(media_type for media_type in KINDS if media_type != "text/csv"))
def as_it_is(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Bytes that hardly are what they are said to be."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    store = ArtifactStore(tmp_path_factory.mktemp("openapi") / "artifacts")
    for name, kind in MODELS.items():
        publish_fake(store, name, kind)
    publish_fake(store, "demo", "echo-float64")
    store.label("demo", "stable", 1)
    server = ServerProcess(FAKE, "--artifacts", str(store.root), "--default-model", "demo", "--control-api")
    assert server.wait_ready().client.post("/v2/repository/models/spare/unload").status_code == 200
    yield server
    server.kill()


@pytest.fixture(scope="module")
def url(server: ServerProcess) -> str:
    return "http://{}:{}".format(*server.address)


@pytest.fixture(scope="module")
def document(server: ServerProcess) -> dict[str, Any]:
    found: dict[str, Any] = server.client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def everything(document: dict[str, Any]) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_dict(document)


@pytest.fixture(scope="module")
def sound_rows(document: dict[str, Any]) -> schemathesis.BaseSchema:
    """What our own protocol takes as JSON, and nothing else, of each model that answers it all.

    The lengths of `images` must agree.
    """
    own = {path: item for path, item in document["paths"].items() if path.endswith("/predict") and "{" not in path}
    able = {path: own[path] for path in own if not {"images", "roots"} & set(path.split("/"))}
    narrow = copy.deepcopy({**document, "paths": able})
    for item in narrow["paths"].values():
        item["post"]["parameters"] = []
        item["post"]["requestBody"]["content"] = {JSON: item["post"]["requestBody"]["content"][JSON]}
    config = schemathesis.Config.from_dict({"generation": {"mode": "positive", "allow-x00": False}})
    return schemathesis.openapi.from_dict(narrow, config=config)


def cases(operation: schemathesis.APIOperation, mode: GenerationMode) -> SearchStrategy[schemathesis.Case]:
    found: SearchStrategy[schemathesis.Case] = operation.as_strategy(generation_mode=mode)
    return found


def of_what_there_is(case: schemathesis.Case) -> schemathesis.Case:
    """The case, which in half of all cases asks for what there is."""
    if len(str(case.path_parameters.get("name", ""))) % 2:
        known = {"name": "spare" if "/repository/" in case.path else "demo", "version": "2", "label": "stable"}
        case.path_parameters.update({name: known[name] for name in known.keys() & case.path_parameters.keys()})
    return case


def says_501(case: schemathesis.Case, response: schemathesis.Response) -> bool:
    """Whether it asked for what the document says is not offered there."""
    return response.status_code == 501 and "501" in case.operation.definition.raw["responses"]


def has_tokens(response: schemathesis.Response) -> bool:
    """Whether numbers are written as TensorFlow Serving writes NaN, which JSON Schema cannot describe."""
    return "/v1/" in response.request.url and response.status_code == 200 and "NaN" in response.text


def with_integers(value: Any) -> Any:
    """The same, but 65 where there is 65.0: to JSON Schema both are integers, to us and most parsers one is."""
    if isinstance(value, dict):
        return {key: with_integers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_integers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**64 else value


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_answer_is_one_that_the_document_describes(
    everything: schemathesis.BaseSchema, mode: GenerationMode, url: str, subtests: pytest.Subtests
) -> None:
    for operation in [found.ok() for found in everything.get_all_operations()]:

        @FUZZ
        @given(cases(operation, mode))
        def ask(case: schemathesis.Case) -> None:
            response = of_what_there_is(case).call(base_url=url, timeout=30)
            case.validate_response(response, checks=CHECKS_OF_TOKENS if has_tokens(response) else CHECKS)
            assert response.status_code < 500 or says_501(case, response), response.text

        with subtests.test(operation.label):
            try:
                ask()
            except Unsatisfiable:  # there is nothing in it that could be wrong
                assert mode is GenerationMode.NEGATIVE
                assert not operation.body


def test_rows_that_the_document_allows_are_answered(
    sound_rows: schemathesis.BaseSchema, url: str, subtests: pytest.Subtests
) -> None:
    for operation in [found.ok() for found in sound_rows.get_all_operations()]:

        @FUZZ
        @given(cases(operation, GenerationMode.POSITIVE))
        def ask(case: schemathesis.Case) -> None:
            case.body = with_integers(case.body)
            response = case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)
            assert response.status_code == 200, response.text

        with subtests.test(operation.label):
            ask()


@pytest.mark.parametrize("accept", [JSON, *KINDS])
def test_form_that_the_document_offers_is_answered(document: dict[str, Any], accept: str, url: str) -> None:
    for path in (
        "/predict",
        "/models/demo/predict",
        "/models/demo/versions/2/predict",
        "/models/demo/labels/stable/predict",
    ):
        operation = schemathesis.openapi.from_dict(document)[path]["POST"]
        case = operation.Case(body={"instances": [[1, 2]]}, media_type=JSON, headers={"accept": accept})
        response = case.call_and_validate(base_url=url, checks=CHECKS, timeout=30)
        assert (response.status_code, response.headers["content-type"][0].partition(";")[0]) == (200, accept)

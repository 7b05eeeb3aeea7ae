"""A client that `openapi-python-client` makes of the server's OpenAPI document."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from importlib import import_module
from typing import Any

import pytest

PACKAGE = "client_of_the_models"
PROTOCOLS = [("predict", "Predict"), ("infer", "Infer"), ("tfs_predict", "TfsPredict")]


@pytest.fixture(scope="module")
def schemas(address: str) -> dict[str, Any]:
    """The document's schemas, by name."""
    with urllib.request.urlopen(f"http://{address}/openapi.json") as answer:
        found: dict[str, Any] = json.load(answer)["components"]["schemas"]
    return found


@pytest.fixture(scope="module")
def generated(address: str, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """What the generator said, whose package can be imported from here on."""
    folder = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    flags = ["--url", f"http://{address}/openapi.json", "--output-path", folder / PACKAGE]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=True)
    sys.path.insert(0, str(folder))
    return done


@pytest.fixture(scope="module")
def client(generated: subprocess.CompletedProcess[str], address: str) -> Any:
    return import_module(PACKAGE).Client(f"http://{address}", raise_on_unexpected_status=True)


def asked(client: Any, model: str, verb: str, body: Any) -> Any:
    """The typed answer of a model."""
    calls = import_module(f"{PACKAGE}.api.model_{model}.{model}_{verb}")
    return calls.sync(client=client, body=body)


@pytest.mark.parametrize(("verb", "word"), PROTOCOLS)
@pytest.mark.parametrize("model", ["alike", "classify", "combine", "grades", "ids", "words"])
def test_golden_row_gets_its_golden_answer(
    client: Any, schemas: dict[str, Any], model: str, verb: str, word: str
) -> None:
    body = getattr(import_module(f"{PACKAGE}.models"), f"{model.title()}{word}Request")
    answer = asked(client, model, verb, body.from_dict(schemas[f"{model}.{word}Request"]["examples"][0]))
    assert type(answer).__name__ == f"{model.title()}{word}Response"
    assert answer.to_dict() == schemas[f"{model}.{word}Response"]["examples"][0]


def test_row_and_answer_have_the_names_of_the_signature(client: Any) -> None:
    models = import_module(f"{PACKAGE}.models")
    row = models.CombinePredictRequestInstancesItem(amounts=[9.0, 8.0], city="Łódź")
    answer = asked(client, "combine", "predict", models.CombinePredictRequest(instances=[row]))
    (found,) = answer.predictions
    assert (found.total, found.is_large, found.greeting) == (34.0, True, "to Łódź")


def test_refusal_is_typed_too(client: Any) -> None:
    models = import_module(f"{PACKAGE}.models")
    answer = asked(client, "ids", "predict", models.IdsPredictRequest(instances=[-1]))
    assert isinstance(answer, models.ErrorResponse)
    assert "must hold integers from" in answer.error


def test_generator_leaves_out_nothing_but_forms_of_body_that_it_does_not_know(
    generated: subprocess.CompletedProcess[str],
) -> None:
    said = generated.stdout + generated.stderr
    warnings = re.findall(r"^WARNING parsing .*\n\n(.*)$", said, flags=re.MULTILINE)
    assert len(warnings) == said.count("WARNING")
    assert [line for line in warnings if not line.startswith("Unsupported content type ")] == []

"""TensorFlow Serving's clients, as they are published, against a server process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ovmsclient
import pytest
import requests
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

from models.store import ArtifactStore
from tests.service.doors import opened
from tests.service.fakes import publish_fake

MODELS = ("half_plus_two", "scale", "combine", "classify")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root: Path = tmp_path_factory.mktemp("tfs") / "artifacts"
    store = ArtifactStore(root)
    for kind in MODELS:
        publish_fake(store, kind, kind)
    with opened(store) as door:
        yield "{}:{}".format(*door.address)


@pytest.fixture(scope="module")
def client(address: str) -> ovmsclient.HttpClient:
    return ovmsclient.make_http_client(address)


def test_documented_requests_are_answered_as_documented(address: str) -> None:
    url = f"http://{address}/v1/models/half_plus_two"
    # As `curl -d` sends it: the body is called a form.
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = requests.post(f"{url}:predict", data='{"instances": [1.0,2.0,5.0]}', headers=headers, timeout=30)
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    answer = requests.post(f"{url}:regress", json={"examples": [{"x": 1.0}, {"x": 2.0}]}, timeout=30)
    assert answer.json() == {"results": [2.5, 3.0]}
    assert requests.get(url, timeout=30).json()["model_version_status"] == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]


def test_ovmsclient_predicts(client: ovmsclient.HttpClient) -> None:
    answer = client.predict({"x": np.array([[1, 2], [3, 4]], np.float32)}, "scale")
    assert answer.tolist() == [[2, 4], [6, 8]]
    answer = client.predict({"x": [[1.0, 2.0]]}, "scale", 1)
    assert answer.tolist() == [[2, 4]]


def test_ovmsclient_gives_several_inputs_and_gets_several_outputs(client: ovmsclient.HttpClient) -> None:
    inputs = {"amounts": np.array([[1, 2]], np.float32), "city": [b"Graz"]}
    answer = client.predict(inputs, "combine")
    assert {name: values.tolist() for name, values in answer.items()} == {
        "total": [6.0],
        "is_large": [False],
        "greeting": ["to Graz"],
    }


def test_ovmsclient_reads_status_and_metadata(client: ovmsclient.HttpClient) -> None:
    assert client.get_model_status("scale") == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert client.get_model_metadata("scale", 1) == {
        "model_version": 1,
        "inputs": {"x": {"shape": [-1, 2], "dtype": "DT_FLOAT"}},
        "outputs": {"y": {"shape": [-1, 2], "dtype": "DT_FLOAT"}},
    }


def test_ovmsclient_understands_the_errors(client: ovmsclient.HttpClient) -> None:
    with pytest.raises(ModelNotFoundError, match="Could not find any versions of model other"):
        client.get_model_status("other")
    with pytest.raises(ModelNotFoundError, match="Servable not found for request"):
        client.predict({"x": [[1.0, 2.0]]}, "other")
    with pytest.raises(InvalidInputError, match=r"must have shape \(rows, 2\)"):
        client.predict({"x": [[1.0, 2.0, 3.0]]}, "scale")


def test_kserve_v1_is_asked_at_the_same_paths(address: str) -> None:
    url = f"http://{address}"
    assert requests.get(f"{url}/", timeout=30).json() == {"status": "alive"}
    assert requests.get(f"{url}/v1/models", timeout=30).json() == {"models": sorted(MODELS)}
    ready = requests.get(f"{url}/v1/models/scale", timeout=30).json()
    assert (ready["name"], ready["ready"]) == ("scale", True)
    answer = requests.post(f"{url}/v1/models/scale:predict", json={"instances": [[1, 2]]}, timeout=30)
    assert answer.json() == {"predictions": [[2.0, 4.0]]}

"""Over gRPC; over HTTP, `tests/service/protocols/test_tfs_clients.py` asks by the same client."""

from __future__ import annotations

from typing import Any

import numpy as np
import ovmsclient
import pytest
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError


@pytest.fixture
def client(grpc_address: str) -> Any:
    return ovmsclient.make_grpc_client(grpc_address)


def test_predict(client: Any) -> None:
    answer = client.predict({"x": np.array([[1, 2], [3, 4]], np.float32)}, "scale")
    assert answer.tolist() == [[2, 4], [6, 8]]
    assert client.predict({"x": [[1.0, 2.0]]}, "scale", 1).tolist() == [[2, 4]]


def test_several_inputs_and_outputs(client: Any) -> None:
    answer = client.predict({"amounts": np.array([[1, 2]], np.float32), "city": [b"Graz"]}, "combine")
    assert answer["total"].tolist() == [6.0]
    assert answer["greeting"].tolist() == [b"to Graz"]


def test_status_and_metadata(client: Any) -> None:
    assert client.get_model_status("scale") == {1: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert client.get_model_metadata("scale", 1) == {
        "model_version": 1,
        "inputs": {"x": {"shape": [-1, 2], "dtype": "DT_FLOAT"}},
        "outputs": {"y": {"shape": [-1, 2], "dtype": "DT_FLOAT"}},
    }


def test_errors_are_read_by_the_client(client: Any) -> None:
    with pytest.raises(ModelNotFoundError, match="Could not find any versions of model other"):
        client.get_model_status("other")
    with pytest.raises(ModelNotFoundError, match="Servable not found for request"):
        client.predict({"x": [[1.0, 2.0]]}, "other")
    with pytest.raises(InvalidInputError, match=r"must have shape \(rows, 2\)"):
        client.predict({"x": [[1.0, 2.0, 3.0]]}, "scale")


def test_client_has_no_other_calls_than_those_asked_here(client: Any) -> None:
    calls = {name for name in dir(client) if not name.startswith("_")}
    assert {name for name in calls if callable(getattr(client, name))} == {
        "get_model_metadata",
        "get_model_status",
        "predict",
    }

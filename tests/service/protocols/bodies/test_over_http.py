from __future__ import annotations

import io
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from tests.service.conftest import Serve
from tests.service.fakes import publish_fake

ROWS = np.array([[1, 2], [0.5, -3]], np.float32)


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(**values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **values)
    return file.getvalue()


def arrow(values: np.ndarray) -> bytes:
    table = pa.table({"x": pa.array(values.tolist(), pa.list_(pa.float64()))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


BODIES = {
    "application/x-npy": npy(ROWS.astype(np.float64)),
    "application/x-npz": npz(x=ROWS),
    "text/csv": b"x[1],x[0]\r\n2,1\r\n-3,0.5\r\n",
    "application/vnd.apache.arrow.stream": arrow(ROWS),
    "application/msgpack": msgpack.packb({"instances": ROWS.tolist()}),
}


def read(media_type: str, content: bytes) -> Any:
    """The rows of an answer, by the libraries that people have."""
    match media_type:
        case "application/x-npy":
            return np.load(io.BytesIO(content), allow_pickle=False).tolist()
        case "application/x-npz":
            return np.load(io.BytesIO(content), allow_pickle=False)["y"].tolist()
        case "text/csv":
            return np.loadtxt(io.BytesIO(content), delimiter=",", skiprows=1).tolist()
        case "application/vnd.apache.arrow.stream":
            return pa.ipc.open_stream(content).read_all().column("y").to_pylist()
        case _:
            return msgpack.unpackb(content)["predictions"]


@pytest.mark.parametrize("media_type", BODIES)
def test_body_is_taken_and_answered_in_json(client: TestClient, media_type: str) -> None:
    response = client.post("/predict", content=BODIES[media_type], headers={"content-type": media_type})
    assert response.json() == {"predictions": (ROWS * 2).tolist(), "model": "demo", "version": 1}


@pytest.mark.parametrize("media_type", BODIES)
def test_answer_has_the_form_that_is_accepted(client: TestClient, media_type: str) -> None:
    response = client.post("/predict", json={"instances": ROWS.tolist()}, headers={"accept": media_type})
    assert response.headers["content-type"].partition(";")[0] == media_type
    assert response.headers["x-model-version"] == "1"
    assert read(media_type, response.content) == (ROWS * 2).tolist()


@pytest.mark.parametrize("media_type", BODIES)
def test_answer_in_another_form_carries_what_json_cannot(client: TestClient, media_type: str) -> None:
    body, headers = npy(np.array([[np.nan, -np.inf]], np.float32)), {"content-type": "application/x-npy"}
    assert client.post("/predict", content=body, headers=headers).status_code == 422
    response = client.post("/predict", content=body, headers={**headers, "accept": media_type})
    np.testing.assert_array_equal(np.reshape(read(media_type, response.content), (1, 2)), [[np.nan, -np.inf]])


def test_table_in_and_table_out_with_several_columns(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "demo", "combine")
    body = 'city,amounts[0],amounts[1]\n"Graz, Linz",1.5,2\nŁódź,9,8\n'
    headers = {"content-type": "text/csv; charset=utf-8", "accept": "text/csv"}
    response = serve().post("/predict", content=body.encode(), headers=headers)
    assert response.text == 'total,is_large,greeting\r\n7.0,false,"to Graz, Linz"\r\n34.0,true,to Łódź\r\n'


def test_labels_come_as_two_columns(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "demo", "classify")
    rows = {"instances": [[0, 0, 20], [20, 0, 0]]}
    response = serve().post("/predict?labels=true", json=rows, headers={"accept": "text/csv"})
    assert response.text == "label,probability\r\ncat,1.0\r\nant,1.0\r\n"


def test_labels_do_not_go_into_one_array(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "demo", "classify")
    rows = {"instances": [[0, 0, 20]]}
    response = serve().post("/predict?labels=true", json=rows, headers={"accept": "application/x-npy"})
    message = "application/x-npy holds one array, and these are 2. Use application/x-npz."
    assert (response.status_code, response.json()["error"]) == (400, message)


@pytest.mark.parametrize(
    ("kind", "headers", "message"),
    [
        ("combine", {"content-type": "application/x-npy"}, "application/x-npy holds one array, and these are 2."),
        ("combine", {"accept": "application/x-npy"}, "application/x-npy holds one array, and these are 3."),
        (
            "images",
            {"accept": "text/csv"},
            "text/csv holds a value or a list of fixed length a row, and `y` has neither.",
        ),
        ("scale", {"content-type": "application/x-npy"}, "Input `x` is not a .npy file, as numpy.save writes it."),
        ("scale", {"content-type": "text/csv"}, "The names must be `x[0]`, `x[1]`. Received: `{}`."),
    ],
)
def test_what_does_not_fit_is_refused(
    store: ArtifactStore, serve: Serve, kind: str, headers: dict[str, str], message: str
) -> None:
    publish_fake(store, "demo", kind)
    response = serve().post("/predict", content=b"{}", headers=headers)
    assert response.status_code == 400
    assert response.json()["error"].startswith(message)


def test_shape_of_an_array_is_checked_as_any_other(client: TestClient) -> None:
    headers = {"content-type": "application/x-npy"}
    for shape in ((2, 3), (2,), ()):
        response = client.post("/predict", content=npy(np.ones(shape, np.float32)), headers=headers)
        assert response.status_code == 400
        assert response.json()["error"].startswith(f"Input `x` must have shape (rows, 2). Received: shape {shape}.")

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Query
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from service import errors
from service.errors import (
    InvalidRequest,
    NotFound,
    NotReady,
    PayloadTooLarge,
    ServiceError,
    TooManyValues,
    UnsupportedMedia,
)

KINDS = {kind.__name__: kind for kind in (ServiceError, *ServiceError.__subclasses__())}


@pytest.fixture
def client() -> Iterator[TestClient]:
    """An application that fails in the way its path says."""
    app = FastAPI()
    errors.install(app)

    @app.get("/raise/{kind}")
    async def fail(kind: str, count: int = Query(1)) -> None:
        if "\n" in kind:
            raise NotReady(f"No `{kind}`.")
        raise KINDS[kind]("what was wrong")

    @app.get("/leave")
    async def leave() -> None:
        raise ClientDisconnect

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ServiceError, 500),
        (InvalidRequest, 400),
        (NotFound, 404),
        (PayloadTooLarge, 413),
        (TooManyValues, 413),
        (UnsupportedMedia, 415),
        (NotReady, 503),
    ],
)
def test_every_error_has_its_status_and_one_form(client: TestClient, kind: type[ServiceError], status: int) -> None:
    response = client.get(f"/raise/{kind.__name__}")
    assert (response.status_code, response.json()) == (status, {"error": "what was wrong"})
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("kind", "header", "value"), [(NotReady, "retry-after", "1"), (PayloadTooLarge, "connection", "close")]
)
def test_error_says_what_the_client_should_do_next(
    client: TestClient, kind: type[ServiceError], header: str, value: str
) -> None:
    assert client.get(f"/raise/{kind.__name__}").headers[header] == value


def test_unknown_page_is_404_and_points_to_the_docs(client: TestClient) -> None:
    response = client.get("/nowhere", headers={"host": "["})
    assert response.status_code == 404
    assert response.json() == {"error": "There is nothing at /nowhere. GET /docs lists what there is."}


def test_wrong_method_is_405_and_names_the_right_one(client: TestClient) -> None:
    response = client.delete("/raise/NotFound")
    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert response.json() == {"error": "/raise/NotFound takes GET. Received: DELETE."}


def test_parameter_of_another_type_is_400_and_named(client: TestClient) -> None:
    response = client.get("/raise/NotFound?count=many")
    assert response.status_code == 400
    assert response.json()["error"].startswith("Parameter `count`: Input should be a valid integer")
    assert response.json()["error"].endswith("Received: many.")


def test_unforeseen_error_is_500_and_says_nothing_of_itself(client: TestClient) -> None:
    response = client.get("/raise/anything-else")
    assert response.status_code == 500
    assert response.json() == {"error": "The service failed on this request. Its log says why."}


def test_our_faults_are_logged_in_one_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="service"):
        client.get("/raise/NotReady")
        client.get("/raise/NotFound")
    assert caplog.messages == ["GET '/raise/NotReady': 503 'what was wrong'"]


def test_line_break_in_a_path_makes_no_second_line_in_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="service.errors")
    client.get("/raise/a%0AERROR forged: 1")
    assert caplog.messages == [r"GET '/raise/a\nERROR forged: 1': 503 'No `a\nERROR forged: 1`.'"]


def test_client_that_leaves_is_no_fault_of_ours(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    assert client.get("/leave").status_code == 499
    assert caplog.messages == []

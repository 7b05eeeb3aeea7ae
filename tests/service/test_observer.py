from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.exchange import RequestIds
from tests.service.fakes import publish_fake

Serve = Callable[..., TestClient]

BODY = {"instances": [[1, 2], [3, 4]]}


@pytest.fixture
def logged(store: ArtifactStore, serve: Serve, caplog: pytest.LogCaptureFixture) -> Callable[..., TestClient]:
    """The application with an access log; what the start logged is forgotten."""

    def start(kind: str = "scale", *, access_log: bool = True) -> TestClient:
        publish_fake(store, kind=kind)
        client = serve(access_log=access_log)
        caplog.set_level(logging.INFO)
        caplog.clear()
        return client

    return start


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "service.access"]


@pytest.mark.parametrize("path", ["/health/live", "/nowhere", "/models/none/predict"])
def test_every_answer_has_an_id_and_no_two_the_same(client: TestClient, path: str) -> None:
    ids = {client.get(path).headers["x-request-id"] for _ in range(10)}
    assert len(ids) == 10


def test_sane_id_of_the_client_comes_back(client: TestClient) -> None:
    headers = {"x-request-id": "0b3f:trace/7+A=="}
    assert client.post("/predict", json=BODY, headers=headers).headers["x-request-id"] == "0b3f:trace/7+A=="


@pytest.mark.parametrize("header", [b"", b"a" * 129, b"two words", b"a\tb", b"\xff", b'"', b"<script>"])
def test_id_that_is_not_sane_is_replaced(header: bytes) -> None:
    ids = RequestIds()
    assert ids.choose(header) not in {header, ids.choose(header)}


def test_answer_to_our_own_failure_has_the_id_of_the_log(
    logged: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = logged("broken")
    response = client.post("/predict", json={"instances": [[500, 1]]}, headers={"x-request-id": "find-me"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "find-me")
    assert access_lines(caplog)[0].startswith("POST '/predict' status=500 ms=")


def test_request_has_one_line_without_its_rows(
    logged: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    logged().post("/predict?token=secret", json={"instances": [[1234.5, 2], [3, 4]]})
    (line,) = access_lines(caplog)
    assert line.startswith("POST '/predict' status=200 ms=")
    assert line.endswith(" model=demo version=1 rows=2")
    assert "1234" not in line
    assert "secret" not in line


def test_refused_request_has_one_line_that_says_why(
    logged: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    logged().post("/models/a%0Ab/predict", json=BODY)
    (line,) = access_lines(caplog)
    assert line.startswith(r"POST '/models/a\nb/predict' status=404 ms=")
    assert line.endswith(r"error='There is no model `a\nb`. Models: demo.'")


def test_without_an_access_log_only_refusals_are_lines_and_only_at_level_debug(
    logged: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = logged(access_log=False)
    client.post("/predict", json=BODY)
    client.post("/predict", json={})
    assert access_lines(caplog) == []
    caplog.set_level(logging.DEBUG, "service.access")
    client.post("/predict", json=BODY)
    client.post("/predict", json={})
    assert [line.split(" ms=")[0] for line in access_lines(caplog)] == ["POST '/predict' status=400"]

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.families import FAMILIES
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

BODY = {"instances": [[1, 2], [3, 4]]}


def samples(client: TestClient) -> Samples:
    families = parse_text(client.get("/metrics").text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def sample(client: TestClient, name: str, **labels: str) -> float | None:
    return samples(client).get((name, tuple(sorted(labels.items()))))


def test_page_is_prometheus_text_or_openmetrics_as_asked(client: TestClient) -> None:
    client.post("/predict", json=BODY)
    text = client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=")
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    openmetrics = client.get("/metrics", headers=accept)
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")
    names = [
        {family.name for family in parsed} for parsed in (parse_text(text.text), parse_openmetrics(openmetrics.text))
    ]
    assert {"layerserve_requests", "layerserve_request_seconds"} <= names[0] & names[1]


def test_request_is_on_the_page_with_its_phases(client: TestClient) -> None:
    client.post("/predict", json=BODY)
    found = samples(client)
    model = (("model", "demo"), ("version", "1"))
    native = (("model", "demo"), ("protocol", "native"), ("version", "1"))
    assert found["layerserve_requests_total", (*native[:2], ("status", "200"), native[2])] == 1
    assert found["layerserve_request_seconds_count", native] == 1
    assert found["layerserve_batch_rows_sum", model] == 2
    for phase in ("queue", "run"):
        assert found["layerserve_batch_seconds_count", (model[0], ("phase", phase), model[1])] == 1
    for phase in ("decode", "encode"):
        labels = (native[0], ("phase", phase), *native[1:])
        assert 0 < found["layerserve_codec_seconds_sum", labels] < found["layerserve_request_seconds_sum", native]


@pytest.mark.parametrize(
    ("path", "body", "model", "version", "status"),
    [
        ("/predict", {"instances": [[1]]}, "demo", "1", "400"),
        ("/models/demo/predict", {"rows": []}, "demo", "1", "400"),
        ("/models/made-up-by-a-client/predict", BODY, "", "", "404"),
        ("/models/demo/versions/9/predict", BODY, "", "", "404"),
    ],
)
def test_refused_request_is_counted_under_a_model_that_exists_or_none(
    client: TestClient, path: str, body: object, model: str, version: str, status: str
) -> None:
    client.post(path, json=body)
    labels = {"model": model, "version": version, "protocol": "native", "status": status}
    assert sample(client, "layerserve_requests_total", **labels) == 1


def test_failure_of_the_model_is_counted_as_500(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, kind="broken")
    client = serve()
    assert client.post("/predict", json={"instances": [[500, 1]]}).status_code == 500
    labels = {"model": "demo", "version": "1", "protocol": "native", "status": "500"}
    assert sample(client, "layerserve_requests_total", **labels) == 1


def test_what_is_no_inference_is_not_counted(client: TestClient) -> None:
    client.get("/models")
    client.get("/nowhere")
    assert not [name for name, _ in samples(client) if name == "layerserve_requests_total"]


def test_state_of_the_models_is_on_the_page(client: TestClient) -> None:
    found = samples(client)
    assert found["layerserve_ready", ()] == found["layerserve_workers", ()] == 1
    assert found["layerserve_model_ready", (("model", "demo"),)] == 1
    assert found["layerserve_model_info", (("model", "demo"), ("runtime", "fake"), ("version", "1"))] == 1
    assert found["layerserve_queue_rows", (("model", "demo"), ("version", "1"))] == 0
    assert found["layerserve_golden_max_abs_error", (("model", "demo"), ("version", "1"))] == 0


def test_swap_shows_the_drift_of_the_new_version(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store, factor=2.5)
    wait_until(lambda: sample(client, "layerserve_model_info", model="demo", version="2", runtime="fake") == 1)
    # The old version's golden rows hold 3.0 at most, which the new one multiplies by 2.5 instead of 2.
    assert sample(client, "layerserve_drift_max_abs_error", model="demo", version="2", replaced="1") == 1.5
    assert sample(client, "layerserve_model_info", model="demo", version="1", runtime="fake") is None


def test_refused_version_is_on_the_page(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store, factor=3, golden_factor=4)
    wait_until(lambda: sample(client, "layerserve_loads_total", model="demo", version="2", result="refused") == 1)
    assert sample(client, "layerserve_loads_total", model="demo", version="1", result="ok") == 1


def test_rows_that_wait_are_counted(store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes) -> None:
    publish_fake(store)
    client = serve(max_batch_size=2)
    runtimes.loaded[0].hold()
    requests = 2 * (os.cpu_count() or 1) + 2
    with ThreadPoolExecutor(requests) as pool:
        answers = [pool.submit(client.post, "/predict", json=BODY) for _ in range(requests)]
        wait_until(lambda: (sample(client, "layerserve_queue_rows", model="demo", version="1") or 0) >= 2)
        runtimes.loaded[0].release()
        assert [answer.result().status_code for answer in answers] == [200] * requests
    assert sample(client, "layerserve_queue_rows", model="demo", version="1") == 0


def test_page_holds_only_metrics_of_the_table(client: TestClient) -> None:
    client.post("/predict", json=BODY)
    names = {family.name for family in parse_text(client.get("/metrics").text)}
    assert names <= {name.removesuffix("_total") for name in FAMILIES}

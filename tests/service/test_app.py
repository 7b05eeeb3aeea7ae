from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]

BODY = {"instances": [[1, 2]]}


def version(client: TestClient) -> int:
    served: int = client.post("/predict", json=BODY).json()["version"]
    return served


def test_new_version_is_served_without_a_restart(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store, factor=5)
    wait_until(lambda: version(client) == 2)
    assert client.post("/predict", json=BODY).json()["predictions"] == [[5.0, 10.0]]


def test_pin_and_unpin_are_obeyed_without_a_restart(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store)
    wait_until(lambda: version(client) == 2)
    store.pin("demo", 1)
    wait_until(lambda: version(client) == 1)
    store.unpin("demo")
    wait_until(lambda: version(client) == 2)


def test_refused_version_is_reported_while_the_old_one_answers(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store, factor=3, golden_factor=4)
    wait_until(lambda: client.get("/models/demo").json()["problem"] != "")
    details = client.get("/models/demo").json()
    assert details["problem"].startswith("Version 2 cannot be served: The golden answers are not reproduced:")
    assert [item["state"] for item in details["versions"]] == ["READY", "UNAVAILABLE"]
    assert (version(client), client.get("/health/ready").status_code) == (1, 200)


def test_model_published_after_the_start_makes_the_service_ready(store: ArtifactStore, serve: Serve) -> None:
    client = serve(wait=False)
    wait_until(lambda: client.get("/health/ready").json() == {"error": "No model is published."})
    assert client.post("/predict", json=BODY).json() == {"error": "No model is published."}
    publish_fake(store)
    wait_until(lambda: client.get("/health/ready").status_code == 200)


def test_removed_model_is_404(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, "stays")
    publish_fake(store, "goes")
    client = serve()
    shutil.rmtree(store.root / "goes")
    wait_until(lambda: client.post("/models/goes/predict", json=BODY).status_code == 404)
    assert client.get("/models/goes").json() == {"error": "There is no model `goes`. Models: stays."}


def test_service_goes_on_answering_when_the_folder_is_gone(store: ArtifactStore, client: TestClient) -> None:
    store.root.rename(store.root.with_name("elsewhere"))
    assert client.get("/health/ready").status_code == 200
    assert version(client) == 1


def test_every_answer_during_swaps_is_exactly_one_versions(store: ArtifactStore, client: TestClient) -> None:
    def ask(_: int) -> bool:
        response = client.post("/predict", json=BODY)
        body = response.json()
        factor = body["version"] + 1.0
        return response.status_code == 200 and body["predictions"] == [[factor, 2 * factor]]

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(ask, 0) for _ in range(50)]
        for factor in range(3, 23):
            publish_fake(store, factor=factor)
            answers += [pool.submit(ask, factor) for _ in range(10)]
        wait_until(lambda: version(client) == 21)
        assert [answer.result() for answer in answers] == [True] * 250


def test_stop_closes_the_models(store: ArtifactStore, runtimes: FakeRuntimes) -> None:
    publish_fake(store)
    app = create_app(Settings(artifacts=store.root), load_runtime=runtimes.load)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1]


def test_request_in_flight_is_answered_by_the_version_that_took_it(
    store: ArtifactStore, client: TestClient, runtimes: FakeRuntimes
) -> None:
    old = runtimes.loaded[0]
    old.hold()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, "/predict", json=BODY)
        assert old.started.wait(10)
        publish_fake(store, factor=7)
        wait_until(lambda: client.get("/models").json()["models"][0]["version"] == 2)
        assert old.times_closed == 0
        old.release()
        assert answer.result().json() == {"predictions": [[2.0, 4.0]], "model": "demo", "version": 1}
    assert old.closed.wait(10)


def test_version_asked_for_by_number_is_never_answered_by_another(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store)
    wait_until(lambda: version(client) == 2)
    response = client.post("/models/demo/versions/1/predict", json=BODY)
    assert (response.status_code, response.json()) == (
        404,
        {"error": "Version 1 of `demo` is not served. Served: 2. Published: 1, 2."},
    )


def test_application_without_a_runtime_of_its_own_loads_keras(store: ArtifactStore) -> None:
    publish_fake(store)  # whose file is none of Keras's, as the Keras runtime will say
    with TestClient(create_app(Settings(artifacts=store.root))) as client:
        wait_until(lambda: "being loaded" not in client.get("/health/ready").json()["error"], seconds=60)
        assert "`model.keras` is not a whole .keras file" in client.get("/health/ready").json()["error"]


def test_model_shows_what_was_found_of_each_runtime(client: TestClient) -> None:
    chosen, other = client.get("/models/demo").json()["runtimes"]
    assert (chosen["runtime"], chosen["is_chosen"], chosen["agrees"]) == ("fake", True, True)
    assert (chosen["microseconds"], chosen["threads"], chosen["reason"]) == ({"1": 2.5}, 1, "")
    assert (other["agrees"], other["microseconds"]) == (None, None)
    assert other["reason"] == "There is no model.onnx."

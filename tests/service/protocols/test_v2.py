from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.v2_client import HEADER, arrays, as_json, binary_body, tensor
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]

INFER = "/v2/models/demo/infer"
ROWS = np.array([[1, 2], [3, 4]], np.float32)
REQUEST = {"inputs": [as_json("x", ROWS)]}


@pytest.fixture
def client_of(store: ArtifactStore, serve: Serve) -> Callable[..., TestClient]:
    """The application with one model, `demo`, of the kind asked for."""

    def start(kind: str, **settings: Any) -> TestClient:
        publish_fake(store, kind=kind)
        return serve(**settings)

    return start


def answer(client: TestClient, content: Any = REQUEST, path: str = INFER) -> dict[str, Any]:
    response = client.post(path, json=content)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json"), response.text
    body: dict[str, Any] = response.json()
    return body


def error(response: httpx.Response, status: int = 400) -> str:
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text
    message: str = response.json()["error"]
    return message


def ask(client: TestClient, inputs: list[dict[str, Any]], **content: Any) -> httpx.Response:
    return client.post(INFER, json={"inputs": inputs, **content})


def test_server_says_its_name_and_extensions(client: TestClient) -> None:
    body = client.get("/v2").json()
    assert (body["name"], "binary_tensor_data" in body["extensions"]) == ("layerserve", True)
    assert list(body) == ["name", "version", "extensions"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_answers_as_both_kinds_of_clients_expect(client: TestClient, path: str) -> None:
    assert client.get(path).json() == {"live": True, "ready": True}


def test_unready_server_is_503_and_still_live(serve: Serve) -> None:
    client = serve(wait=False)
    wait_until(lambda: client.get("/v2/health/ready").json() == {"error": "No model is published."})
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/demo", "/v2/models/demo/versions/1"])
def test_model_describes_its_tensors(client_of: Callable[..., TestClient], path: str) -> None:
    assert client_of("combine").get(path).json() == {
        "name": "demo",
        "versions": ["1"],
        "platform": "layerserve_fake",
        "inputs": [
            {"name": "amounts", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "city", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "total", "datatype": "FP32", "shape": [-1]},
            {"name": "is_large", "datatype": "BOOL", "shape": [-1]},
            {"name": "greeting", "datatype": "BYTES", "shape": [-1]},
        ],
    }


def test_config_leaves_out_the_rows_and_names_types_as_triton_does(client_of: Callable[..., TestClient]) -> None:
    config = client_of("combine", max_batch_size=8, max_queue_delay_ms=1.5).get("/v2/models/demo/config").json()
    assert config["input"][1] == {"name": "city", "data_type": "TYPE_STRING", "dims": []}
    assert config["input"][0] == {"name": "amounts", "data_type": "TYPE_FP32", "dims": [2]}
    assert (config["max_batch_size"], config["dynamic_batching"]) == (8, {"max_queue_delay_microseconds": 1500})


@pytest.mark.parametrize("path", ["/v2/models/demo/ready", "/v2/models/demo/versions/1/ready"])
def test_model_that_serves_is_ready(client: TestClient, path: str) -> None:
    assert client.get(path).json() == {"name": "demo", "ready": True}


@pytest.mark.parametrize("suffix", ["", "/ready", "/config", "/stats"])
def test_unknown_model_and_version_are_404(client: TestClient, suffix: str) -> None:
    assert error(client.get(f"/v2/models/nobody{suffix}"), 404) == "There is no model `nobody`. Models: demo."
    assert "Version 2 of `demo` is not served." in error(client.get(f"/v2/models/demo/versions/2{suffix}"), 404)
    assert "`demo` has no label `x`." in error(client.get(f"/v2/models/demo/versions/x{suffix}"), 404)
    message = "A version is a number or a label. Received: '0'."
    assert error(client.get(f"/v2/models/demo/versions/0{suffix}"), 404) == message


def test_models_are_listed(client: TestClient) -> None:
    assert client.get("/v2/models").json() == {"models": ["demo"]}


def test_wrong_method_is_405_and_unknown_path_404(client: TestClient) -> None:
    assert error(client.get(INFER), 405) == "/v2/models/demo/infer takes POST. Received: GET."
    assert "There is nothing at /v2/nothing." in error(client.get("/v2/nothing"), 404)


@pytest.mark.parametrize("path", [INFER, "/v2/models/demo/versions/1/infer"])
def test_flat_data_is_answered_flat_with_model_and_version(client: TestClient, path: str) -> None:
    assert answer(client, path=path) == {
        "model_name": "demo",
        "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]}],
    }


def test_nested_data_is_answered_like_flat(client: TestClient) -> None:
    assert answer(client, {"inputs": [tensor("x", ROWS, data=ROWS.tolist())]}) == answer(client)


def test_single_value_a_row_may_have_an_axis_of_its_own(client_of: Callable[..., TestClient]) -> None:
    inputs = {"amounts": ROWS, "city": np.array([["Oslo"], ["Łódź"]])}
    body, headers = binary_body(inputs)
    client = client_of("combine")
    nested = [as_json("amounts", ROWS), tensor("city", inputs["city"], data=[["Oslo"], ["Łódź"]])]
    for response in (client.post(INFER, content=body, headers=headers), client.post(INFER, json={"inputs": nested})):
        assert arrays(response)["greeting"].tolist() == ["to Oslo", "to Łódź"]
    assert "must have shape (rows,)" in error(
        client.post(INFER, json={"inputs": [nested[0], as_json("city", np.array([["a", "b"], ["c", "d"]]))]})
    )


@pytest.mark.parametrize("identity", ["7", "", "Łódź \0"])
def test_id_is_echoed(client: TestClient, identity: str) -> None:
    assert answer(client, {"id": identity, **REQUEST})["id"] == identity


def test_body_of_any_media_type_is_read(client: TestClient) -> None:
    response = client.post(INFER, content=json.dumps(REQUEST), headers={"content-type": "text/plain"})
    assert response.status_code == 200


def test_null_is_as_if_it_were_not_there(client: TestClient) -> None:
    unset = {"id": None, "parameters": None, "outputs": None}  # as many serializers write what is not set
    inputs = [{**as_json("x", ROWS), "parameters": None}]
    assert answer(client, {"inputs": inputs, **unset}) == answer(client)
    body, headers = binary_body({"x": ROWS}, outputs=None)
    body = body.replace(b'"parameters"', b'"data": null, "parameters"')
    headers[HEADER] = str(int(headers[HEADER]) + len(b'"data": null, '))
    assert arrays(client.post(INFER, content=body, headers=headers))["y"].tolist() == (ROWS * 2).tolist()


def test_outputs_come_as_they_were_asked_for(client_of: Callable[..., TestClient]) -> None:
    inputs = [as_json("city", np.array(["Oslo"])), as_json("amounts", ROWS[:1])]
    client = client_of("combine")
    outputs = [{"name": "greeting"}, {"name": "total"}]
    found = answer(client, {"inputs": inputs, "outputs": outputs})["outputs"]
    assert [(item["name"], item["data"]) for item in found] == [("greeting", ["to Oslo"]), ("total", [6.0])]
    assert [item["name"] for item in answer(client, {"inputs": inputs})["outputs"]] == ["total", "is_large", "greeting"]


def test_output_may_be_binary_beside_one_that_is_not(client_of: Callable[..., TestClient]) -> None:
    body, headers = binary_body(
        {"amounts": ROWS, "city": np.array(["Oslo", "Łódź"])},
        outputs=[{"name": "total"}, {"name": "greeting", "parameters": {"binary_data": True}}],
    )
    response = client_of("combine").post(INFER, content=body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    assert arrays(response)["greeting"].tolist() == ["to Oslo", "to Łódź"]
    assert arrays(response)["total"].tolist() == [6.0, 14.0]


def test_output_may_be_json_where_the_others_are_binary(client: TestClient) -> None:
    body, headers = binary_body(
        {"x": ROWS},
        parameters={"binary_data_output": True},
        outputs=[{"name": "y", "parameters": {"binary_data": False}}],
    )
    response = client.post(INFER, content=body, headers=headers)
    assert HEADER not in response.headers
    assert response.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0]


def test_raw_body_is_the_one_input_in_one_row(client: TestClient) -> None:
    response = client.post(INFER, content=ROWS[:1].tobytes(), headers={HEADER: "0"})
    assert arrays(response)["y"].tolist() == [[2.0, 4.0]]


def test_raw_body_tells_the_one_free_size(client_of: Callable[..., TestClient]) -> None:
    values = np.arange(6, dtype=np.float32)
    response = client_of("images").post(INFER, content=values.tobytes(), headers={HEADER: "0"})
    assert arrays(response)["y"].shape == (1, 3, 2, 1)


@pytest.mark.parametrize("text", ["", "Łódź", "\0\0\0\4four"])
def test_raw_body_is_one_string_without_its_length(client_of: Callable[..., TestClient], text: str) -> None:
    response = client_of("scalar-string").post(INFER, content=text.encode(), headers={HEADER: "0"})
    assert arrays(response)["y"].tolist() == [text]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("combine", "A raw body needs a model of one input with at most one free size."),
        ("cube-int8", "A raw body needs a model of one input with at most one free size."),
        ("words", "A raw body is one string, and the model takes others a row."),
        ("scalar-string", "Input `x` must hold strings in UTF-8."),
        ("wide", "Input `x` of shape [1, 500] must have 2000 bytes. Received: 8."),
        ("images", "Input `x` of shape [1, 0, 2, 1] must have 0 bytes. Received: 7."),
    ],
)
def test_raw_body_that_tells_no_tensor_is_refused(
    client_of: Callable[..., TestClient], kind: str, message: str
) -> None:
    content = {"images": b"1234567", "scalar-string": b"\xff"}.get(kind, b"12345678")
    assert error(client_of(kind).post(INFER, content=content, headers={HEADER: "0"})).startswith(message)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_are_compressed_both_ways(client: TestClient, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    rows = np.arange(2000, dtype=np.float32).reshape(-1, 2)
    body, headers = binary_body({"x": rows}, parameters={"binary_data_output": True})
    headers |= {"content-encoding": encoding, "accept-encoding": encoding}
    response = client.post(INFER, content=compress(body), headers=headers)
    assert response.headers["content-encoding"] == encoding
    np.testing.assert_array_equal(arrays(response)["y"], rows * 2)


@pytest.mark.parametrize(
    ("header", "encoding"),
    [
        ("identity", None),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=x", None),
        ("deflate;q=0.5, gzip", "gzip"),
        ("gzip;q=0.2, deflate;q=0.5", "deflate"),
    ],
)
def test_answer_is_compressed_as_the_client_likes_best(client: TestClient, header: str, encoding: str | None) -> None:
    content = json.dumps({"inputs": [as_json("x", np.ones((200, 2), np.float32))]})
    response = client.post(INFER, content=content, headers={"accept-encoding": header})
    assert response.headers.get("content-encoding") == encoding


def test_short_answer_is_not_compressed(client: TestClient) -> None:
    response = client.post(INFER, json=REQUEST, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in response.headers


def test_classes_come_best_first_with_their_labels(client_of: Callable[..., TestClient]) -> None:
    features = np.array([[0, 1, 3], [0, 0, 0]], np.float32)
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    found = answer(client_of("classify"), {"inputs": [as_json("features", features)], "outputs": outputs})["outputs"]
    assert (found[0]["datatype"], found[0]["shape"]) == ("BYTES", [2, 2])
    assert found[0]["data"] == ["0.979629:2:cat", "0.017943:1:bee", "0.333333:0:ant", "0.333333:1:bee"]


def test_more_classes_than_there_are_give_all_without_labels_too(client_of: Callable[..., TestClient]) -> None:
    outputs = [{"name": "y", "parameters": {"classification": 9}}]
    inputs = [as_json("x", np.array([[-3, 7]], np.int32))]
    assert answer(client_of("counts"), {"inputs": inputs, "outputs": outputs})["outputs"][0]["data"] == ["7:1", "-3:0"]


def test_classes_of_no_rows_are_none(client_of: Callable[..., TestClient]) -> None:
    outputs = [{"name": "y", "parameters": {"classification": 1}}]
    inputs = [as_json("x", np.zeros((0, 2), np.int32))]
    found = answer(client_of("counts"), {"inputs": inputs, "outputs": outputs})["outputs"][0]
    assert (found["datatype"], found["shape"], found["data"]) == ("BYTES", [0, 1], [])


def test_output_without_classes_is_refused(client_of: Callable[..., TestClient]) -> None:
    client = client_of("scalars")
    response = ask(client, [as_json("x", ROWS[0])], outputs=[{"name": "y", "parameters": {"classification": 1}}])
    assert error(response) == "Output `y` has no classes: it must be numbers, several a row."


@pytest.mark.parametrize(("timeout", "status"), [(1, 504), ("1", 504), (0, 200), (10**18, 200)])
def test_timeout_in_microseconds_is_the_requests(
    client: TestClient, runtimes: FakeRuntimes, timeout: int | str, status: int
) -> None:
    response = client.post(INFER, json={**REQUEST, "parameters": {"timeout": timeout}})
    assert response.status_code == status


def test_no_rows_are_answered_without_a_run(client: TestClient, runtimes: FakeRuntimes) -> None:
    times_started = runtimes.loaded[0].times_started
    output = answer(client, {"inputs": [as_json("x", ROWS[:0])]})["outputs"][0]
    assert output == {"name": "y", "datatype": "FP32", "shape": [0, 2], "data": []}
    assert runtimes.loaded[0].times_started == times_started


def test_no_rows_of_a_wrong_shape_are_refused(client: TestClient) -> None:
    response = ask(client, [as_json("x", np.zeros((0, 3), np.float32))])
    assert error(response) == "Input `x` must have shape (rows, 2). Received: shape (0, 3)."


def test_nan_is_null_in_json_and_infinity_must_be_asked_for_in_bytes(client_of: Callable[..., TestClient]) -> None:
    client = client_of("cube-float64")
    values = np.array([np.nan, 1.0]).reshape(2, 1, 1, 1, 1)
    body, headers = binary_body({"x": values})
    assert client.post(INFER, content=body, headers=headers).json()["outputs"][0]["data"] == [None, 1.0]
    body, headers = binary_body({"x": values * np.inf})
    assert error(client.post(INFER, content=body, headers=headers), 422) == (
        "Output `y` holds Infinity in 1 of 2 rows, which JSON cannot carry. Ask for the output as bytes: `binary_data`."
    )


def test_statistics_count_rows_runs_and_failures(client: TestClient) -> None:
    answer(client)
    ask(client, [])
    found = client.get("/v2/models/demo/stats").json()["model_stats"][0]
    assert (found["name"], found["version"], found["inference_count"], found["execution_count"]) == ("demo", "1", 2, 1)
    counts = {name: value["count"] for name, value in found["inference_stats"].items()}
    assert (counts["success"], counts["queue"], counts["compute_infer"], counts["fail"]) == (1, 1, 1, 1)
    assert (found["batch_stats"][0]["batch_size"], found["last_inference"] > 0) == (2, True)


def test_requests_are_counted_as_this_protocols(client: TestClient) -> None:
    answer(client)
    assert 'protocol="v2"' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/v2/models/stats", "/v2/models/demo/versions/1/stats"])
def test_statistics_are_there_for_all_and_for_one(client: TestClient, path: str) -> None:
    assert [item["name"] for item in client.get(path).json()["model_stats"]] == ["demo"]


def test_index_lists_versions_with_their_state(store: ArtifactStore, client: TestClient) -> None:
    publish_fake(store, factor=3, golden_factor=4)
    wait_until(lambda: client.post("/v2/repository/index").json()[-1]["state"] == "UNAVAILABLE")
    good, bad = client.post("/v2/repository/index").json()
    assert good == {"name": "demo", "version": "1", "state": "READY", "reason": ""}
    assert (bad["state"], bad["reason"][:42]) == ("UNAVAILABLE", "The golden answers are not reproduced: out")
    assert client.post("/v2/repository/index", json={"ready": True}).json() == [good]
    assert error(client.post("/v2/repository/index", json={"ready": 1})).startswith("`ready` must be true or false.")


@pytest.mark.parametrize("action", ["load", "unload"])
def test_loading_by_request_is_off_unless_it_is_set(client: TestClient, action: str) -> None:
    message = error(client.post(f"/v2/repository/models/demo/{action}"), 403)
    assert message.endswith("Start the service with LAYERSERVE_CONTROL_API=true.")


def test_load_serves_a_new_version_before_it_answers(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    client = serve(control_api=True, reload_interval=3600)
    publish_fake(store, factor=5)
    assert client.post("/v2/repository/models/demo/load").status_code == 200
    assert answer(client)["model_version"] == "2"


def test_load_of_a_version_that_cannot_serve_says_why(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    client = serve(control_api=True, reload_interval=3600)
    publish_fake(store, factor=3, golden_factor=4)
    message = error(client.post("/v2/repository/models/demo/load"))
    assert message.startswith("Version 2 cannot be served: The golden answers are not reproduced")
    assert answer(client)["model_version"] == "1"


def test_unloaded_model_stays_unloaded_until_it_is_loaded(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    client = serve(control_api=True)
    assert client.post("/v2/repository/models/demo/unload", json={"parameters": {}}).content == b""
    publish_fake(store, factor=5)
    assert error(client.post(INFER, json=REQUEST), 503) == (
        "`demo` has been unloaded. Load it again, or restart the service."
    )
    index = client.post("/v2/repository/index").json()
    assert index == [{"name": "demo", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
    assert client.post("/v2/repository/models/demo/load").status_code == 200
    assert answer(client)["model_version"] == "2"


def test_model_is_unloaded_once_its_requests_are_answered(
    store: ArtifactStore, serve: Serve, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    client = serve(control_api=True)
    runtime = runtimes.loaded[0]
    runtime.hold()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, INFER, json=REQUEST)
        assert runtime.started.wait(10)
        assert client.post("/v2/repository/models/demo/unload").status_code == 200
        assert not runtime.times_closed
        runtime.release()
        assert waiting.result().status_code == 200
    assert runtime.closed.wait(10)


@pytest.mark.parametrize("action", ["load", "unload"])
def test_unknown_model_is_neither_loaded_nor_unloaded(store: ArtifactStore, serve: Serve, action: str) -> None:
    publish_fake(store)
    client = serve(control_api=True)
    assert error(client.post(f"/v2/repository/models/nobody/{action}"), 404).startswith("There is no model `nobody`.")


def test_files_and_configurations_are_not_loaded(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store)
    content = {"parameters": {"config": "{}", "file:1/model.keras": "QUFBQQ=="}}
    response = serve(control_api=True).post("/v2/repository/models/demo/load", json=content)
    assert error(response, 501) == "A model is loaded as it was published. Load it without parameters."


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/demo/trace/setting",
        "/v2/systemsharedmemory/status",
        "/v2/cudasharedmemory/region/r/register",
    ],
)
def test_what_is_not_offered_is_501(client: TestClient, method: str, path: str) -> None:
    assert "not s" in error(
        client.request(method, path, json={"log_file": "/tmp/x"} if method == "POST" else None), 501
    )


def test_label_stands_in_the_place_of_a_version(store: ArtifactStore, serve: Serve) -> None:
    publish_fake(store, factor=3)
    publish_fake(store)
    store.label("demo", "stable", 1)
    client = serve()
    path = "/v2/models/demo/versions/stable"
    wait_until(lambda: client.get(f"{path}/ready").status_code == 200)
    found = answer(client, path=f"{path}/infer")
    assert (found["model_version"], found["outputs"][0]["data"]) == ("1", [3, 6, 9, 12])
    assert client.get(f"{path}/config").json()["version_policy"] == {"specific": {"versions": [1]}}
    (statistics,) = client.get(f"{path}/stats").json()["model_stats"]
    assert (statistics["version"], statistics["inference_count"]) == ("1", 2)


def test_metadata_lists_every_version_that_may_be_asked(store: ArtifactStore, serve: Serve) -> None:
    for _ in range(4):
        publish_fake(store)
    client = serve(versions="2", labels="demo@old=1")
    wait_until(lambda: client.get("/v2/models/demo").json()["versions"] == ["1", "3", "4"])
    assert client.get("/v2/models/demo/versions/old").json()["versions"] == ["1", "3", "4"]


def test_header_limits_the_time_as_the_parameter_does(client: TestClient, runtimes: FakeRuntimes) -> None:
    runtimes.loaded[0].hold()
    for header, microseconds in (("20", 10**7), ("10000", 20_000)):
        content = {**REQUEST, "parameters": {"timeout": microseconds}}
        response = client.post(INFER, json=content, headers={"X-Request-Timeout-Ms": header})
        assert error(response, 504) == "The request was not answered within 20 ms."
    message = error(client.post(INFER, json=REQUEST, headers={"X-Request-Timeout-Ms": "0"}))
    assert message.startswith("`X-Request-Timeout-Ms` must be a whole number of milliseconds")

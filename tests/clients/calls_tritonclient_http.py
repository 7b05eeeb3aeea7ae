from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

CLIENTS = [triton.InferenceServerClient, triton_aio.InferenceServerClient]
ROWS = np.array([[1, 2], [3, 4]], np.float32)
DTYPES = ["bool", *[f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]]
DTYPES += ["float16", "float32", "float64"]


@pytest.fixture
def client(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(name: str, values: np.ndarray, *, binary: bool = True) -> triton.InferInput:
    item = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    item.set_data_from_numpy(values, binary_data=binary)
    return item


def asked(kind: Any, address: str, call: Callable[[Any], Any]) -> Any:
    """What a call answers, by the client that waits for it or by the one of asyncio."""
    if kind is triton.InferenceServerClient:
        with kind(address) as client:
            return call(client)

    async def ask() -> Any:
        async with kind(address) as client:
            return await call(client)

    return asyncio.run(ask())


ANSWERED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "is_server_live": (lambda client: client.is_server_live(), lambda found: found is True),
    "is_server_ready": (lambda client: client.is_server_ready(), lambda found: found is True),
    "is_model_ready": (lambda client: client.is_model_ready("scale", "1"), lambda found: found is True),
    "get_server_metadata": (
        lambda client: client.get_server_metadata(),
        lambda found: "binary_tensor_data" in found["extensions"],
    ),
    "get_model_metadata": (
        lambda client: client.get_model_metadata("scale", "1"),
        lambda found: found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    ),
    "get_model_config": (
        lambda client: client.get_model_config("scale", "1"),
        lambda found: found["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [2]}],
    ),
    "get_inference_statistics": (
        lambda client: client.get_inference_statistics("scale", "1"),
        lambda found: [item["name"] for item in found["model_stats"]] == ["scale"],
    ),
    "get_model_repository_index": (
        lambda client: client.get_model_repository_index(),
        lambda found: {"name": "scale", "version": "1", "state": "READY", "reason": ""} in found,
    ),
    "infer": (
        lambda client: client.infer("scale", [tensor("x", ROWS)], model_version="1", headers={"a": "b"}, timeout=10**7),
        lambda found: found.as_numpy("y").tolist() == (ROWS * 2).tolist(),
    ),
}
NOT_OFFERED: dict[str, Callable[[Any], Any]] = {
    "get_trace_settings": lambda client: client.get_trace_settings(),
    "update_trace_settings": lambda client: client.update_trace_settings("scale", {"trace_file": "/tmp/x"}),
    "get_log_settings": lambda client: client.get_log_settings(),
    "update_log_settings": lambda client: client.update_log_settings({"log_file": "/tmp/x"}),
    "get_system_shared_memory_status": lambda client: client.get_system_shared_memory_status(),
    "register_system_shared_memory": lambda client: client.register_system_shared_memory("r", "/r", 8),
    "unregister_system_shared_memory": lambda client: client.unregister_system_shared_memory("r"),
    "get_cuda_shared_memory_status": lambda client: client.get_cuda_shared_memory_status(),
    "register_cuda_shared_memory": lambda client: client.register_cuda_shared_memory("r", b"r", 0, 8),
    "unregister_cuda_shared_memory": lambda client: client.unregister_cuda_shared_memory("r"),
}
ELSEWHERE = {"async_infer", "generate_request_body", "load_model", "parse_response_body", "unload_model"}
"""Asked in a test of their own."""
OF_THE_CLIENT = {"close", "plugin", "register_plugin", "unregister_plugin"}
"""What asks no server."""


@pytest.mark.parametrize("kind", CLIENTS)
def test_each_call_that_the_client_has_is_asked_here(kind: type) -> None:
    calls = {name for name in dir(kind) if not name.startswith("_")}
    assert calls - ANSWERED.keys() - NOT_OFFERED.keys() - ELSEWHERE - OF_THE_CLIENT == set()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", ANSWERED)
def test_call_is_answered(address: str, kind: type, name: str) -> None:
    call, is_right = ANSWERED[name]
    assert is_right(asked(kind, address, call))


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", NOT_OFFERED)
def test_what_is_not_offered_says_so(address: str, kind: type, name: str) -> None:
    with pytest.raises(InferenceServerException, match=r"\[501\]"):
        asked(kind, address, NOT_OFFERED[name])


def test_unknown_model_is_not_ready(client: triton.InferenceServerClient) -> None:
    assert not client.is_model_ready("nobody")


def test_parameters_of_sequences_and_others_are_taken(client: triton.InferenceServerClient) -> None:
    sequence = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 1}
    inputs = [tensor("x", ROWS)]
    result = client.infer("scale", inputs, query_params={"a": "b"}, parameters={"of_mine": "c"}, **sequence)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False])
def test_infer(client: triton.InferenceServerClient, binary_input: bool, binary_output: bool) -> None:
    outputs = [triton.InferRequestedOutput("y", binary_data=binary_output)]
    result = client.infer("scale", [tensor("x", ROWS, binary=binary_input)], outputs=outputs, request_id="7")
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 100])
def test_every_datatype(client: triton.InferenceServerClient, dtype: str, rows: int) -> None:
    values = np.arange(rows).astype(dtype)
    np.testing.assert_array_equal(client.infer(f"scalar-{dtype}", [tensor("x", values)]).as_numpy("y"), values)


def test_bfloat16_is_taken_where_float32_is(client: triton.InferenceServerClient) -> None:
    values = np.array([0.1, -2.5], ml_dtypes.bfloat16)
    answer = client.infer("scalar-float32", [tensor("x", values)]).as_numpy("y")
    np.testing.assert_array_equal(answer, values.astype(np.float32))


@pytest.mark.parametrize("binary", [True, False])
def test_strings(client: triton.InferenceServerClient, binary: bool) -> None:
    texts = np.array([["alpha", "βeta"], ["", "x" * 1000]], dtype=object)
    answer = client.infer("words", [tensor("x", texts, binary=binary)]).as_numpy("y")
    assert [text.decode() for text in answer.ravel()] == texts.ravel().tolist()


def test_nan_and_infinity_in_json(client: triton.InferenceServerClient) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    answer = client.infer("scalar-float32", [tensor("x", values, binary=False)]).as_numpy("y")
    np.testing.assert_array_equal(answer, values)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    rows = np.random.default_rng(0).random((1000, 2), np.float32)
    result = client.infer(
        "scale",
        [tensor("x", rows)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    np.testing.assert_array_equal(result.as_numpy("y"), rows * 2)


def test_classification(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
    features = tensor("features", np.array([[0, 1, 3]], np.float32))
    answer = client.infer("classify", [features], outputs=outputs).as_numpy("probabilities")
    assert answer.tolist() == [[b"0.979629:2:cat", b"0.017943:1:bee"]]


def test_asynchronous_inference(client: triton.InferenceServerClient) -> None:
    waiting = [client.async_infer("scale", [tensor("x", ROWS * factor)]) for factor in range(4)]
    for factor, request in enumerate(waiting):
        np.testing.assert_array_equal(request.get_result().as_numpy("y"), ROWS * factor * 2)


def test_bodies_made_and_read_apart_from_the_client(client: triton.InferenceServerClient) -> None:
    body, length = client.generate_request_body([tensor("x", ROWS)])
    response = client._post("v2/models/scale/infer", body, {"Inference-Header-Content-Length": str(length)}, None)
    header = int(response.get("Inference-Header-Content-Length"))
    result = client.parse_response_body(response.read(), header_length=header)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)


def test_errors_are_read_by_the_client(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"\[400\] Input `x` must be FP32. Received: INT32."):
        client.infer("scale", [tensor("x", ROWS.astype(np.int32))])
    with pytest.raises(InferenceServerException, match=r"\[404\] There is no model `nobody`"):
        client.get_model_metadata("nobody")
    with pytest.raises(InferenceServerException, match=r"\[504\] The request was not answered within"):
        client.infer("scale", [tensor("x", ROWS)], timeout=1)


def test_statistics(client: triton.InferenceServerClient) -> None:
    client.infer("counts", [tensor("x", np.ones((3, 2), np.int32))])
    found = client.get_inference_statistics("counts")["model_stats"][0]
    assert (found["inference_count"], found["execution_count"]) == (3, 1)
    assert len(client.get_inference_statistics()["model_stats"]) > 1


def test_repository(client: triton.InferenceServerClient) -> None:
    assert {"name": "ids", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()
    client.unload_model("ids", unload_dependents=True)
    assert not client.is_model_ready("ids")
    client.load_model("ids")
    assert client.is_model_ready("ids")


def test_repository_by_asyncio(address: str) -> None:
    async def calls() -> None:
        async with triton_aio.InferenceServerClient(address) as client:
            await client.unload_model("ids")
            assert not await client.is_model_ready("ids")
            await client.load_model("ids")
            assert await client.is_model_ready("ids")

    asyncio.run(calls())


@pytest.mark.parametrize("kind", CLIENTS)
def test_model_is_loaded_as_it_was_published(address: str, kind: type) -> None:
    with pytest.raises(InferenceServerException, match=r"\[501\]"):
        asked(kind, address, lambda client: client.load_model("scale", config="{}"))


def test_tensor_in_shared_memory_is_refused(client: triton.InferenceServerClient) -> None:
    shared = tensor("x", ROWS)
    shared.set_shared_memory("r", 16)
    with pytest.raises(InferenceServerException, match=r"\[501\] Shared memory is not supported."):
        client.infer("scale", [shared])


def test_compressed_answer_by_asyncio(address: str) -> None:
    rows = np.random.default_rng(0).random((1000, 2), np.float32)  # whose answer comes compressed
    result = asked(CLIENTS[1], address, lambda client: client.infer("scale", [tensor("x", rows)]))
    np.testing.assert_array_equal(result.as_numpy("y"), rows * 2)


def test_error_by_asyncio(address: str) -> None:
    with pytest.raises(InferenceServerException, match=r"\[404\]"):
        asked(CLIENTS[1], address, lambda client: client.infer("nobody", [tensor("x", ROWS)]))

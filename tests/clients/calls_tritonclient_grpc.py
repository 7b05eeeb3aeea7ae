from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

CLIENTS = [triton.InferenceServerClient, triton_aio.InferenceServerClient]
ROWS = np.array([[1, 2], [3, 4]], np.float32)
DTYPES = ["bool", *[f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]]
DTYPES += ["float16", "float32", "float64"]


@pytest.fixture
def client(grpc_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address) as client:
        yield client


def tensor(name: str, values: np.ndarray) -> triton.InferInput:
    item = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    item.set_data_from_numpy(values)
    return item


def asked(kind: Any, grpc_address: str, call: Callable[[Any], Any]) -> Any:
    """What a call answers, by the client that waits for it or by the one of asyncio."""
    if kind is triton.InferenceServerClient:
        with kind(grpc_address) as client:
            return call(client)

    async def ask() -> Any:
        async with kind(grpc_address) as client:
            return await call(client)

    return asyncio.run(ask())


ANSWERED: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bool]]] = {
    "is_server_live": (lambda client: client.is_server_live(), lambda found: found is True),
    "is_server_ready": (lambda client: client.is_server_ready(), lambda found: found is True),
    "is_model_ready": (lambda client: client.is_model_ready("scale", "1"), lambda found: found is True),
    "get_server_metadata": (
        lambda client: client.get_server_metadata(as_json=True),
        lambda found: "model_repository" in found["extensions"],
    ),
    "get_model_metadata": (
        lambda client: client.get_model_metadata("scale", "1"),
        lambda found: (found.inputs[0].datatype, list(found.inputs[0].shape)) == ("FP32", [-1, 2]),
    ),
    "get_model_config": (
        lambda client: client.get_model_config("scale", "1"),
        lambda found: (found.config.name, list(found.config.input[0].dims)) == ("scale", [2]),
    ),
    "get_inference_statistics": (
        lambda client: client.get_inference_statistics("scale", "1"),
        lambda found: [item.name for item in found.model_stats] == ["scale"],
    ),
    "get_model_repository_index": (
        lambda client: client.get_model_repository_index(),
        lambda found: ("scale", "1", "READY") in [(item.name, item.version, item.state) for item in found.models],
    ),
    "infer": (
        lambda client: client.infer("scale", [tensor("x", ROWS)], model_version="1", timeout=10**7, client_timeout=30),
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
    "register_cuda_shared_memory": lambda client: client.register_cuda_shared_memory("r", b"cg==", 0, 8),
    "unregister_cuda_shared_memory": lambda client: client.unregister_cuda_shared_memory("r"),
}
ELSEWHERE = {
    "async_infer",
    "async_stream_infer",
    "load_model",
    "start_stream",
    "stop_stream",
    "stream_infer",
    "unload_model",
}
"""Asked in a test of their own."""
OF_THE_CLIENT = {"close", "plugin", "register_plugin", "unregister_plugin"}
"""What asks no server."""


@pytest.mark.parametrize("kind", CLIENTS)
def test_each_call_that_the_client_has_is_asked_here(kind: type) -> None:
    calls = {name for name in dir(kind) if not name.startswith("_")}
    assert calls - ANSWERED.keys() - NOT_OFFERED.keys() - ELSEWHERE - OF_THE_CLIENT == set()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", ANSWERED)
def test_call_is_answered(grpc_address: str, kind: type, name: str) -> None:
    call, is_right = ANSWERED[name]
    assert is_right(asked(kind, grpc_address, call))


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("name", NOT_OFFERED)
def test_what_is_not_offered_says_so(grpc_address: str, kind: type, name: str) -> None:
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        asked(kind, grpc_address, NOT_OFFERED[name])


def test_unknown_model_is_not_ready(client: triton.InferenceServerClient) -> None:
    assert not client.is_model_ready("nobody")


def test_parameters_of_sequences_and_others_are_taken(client: triton.InferenceServerClient) -> None:
    sequence = {"sequence_id": 7, "sequence_start": True, "sequence_end": True, "priority": 1}
    result = client.infer("scale", [tensor("x", ROWS)], headers={"a": "b"}, parameters={"of_mine": "c"}, **sequence)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [0, 1, 100])
def test_every_datatype(client: triton.InferenceServerClient, dtype: str, rows: int) -> None:
    values = np.arange(rows).astype(dtype)
    np.testing.assert_array_equal(client.infer(f"scalar-{dtype}", [tensor("x", values)]).as_numpy("y"), values)


def test_bfloat16_is_taken_where_float32_is(client: triton.InferenceServerClient) -> None:
    values = np.array([0.1, -2.5], ml_dtypes.bfloat16)
    answer = client.infer("scalar-float32", [tensor("x", values)]).as_numpy("y")
    np.testing.assert_array_equal(answer, values.astype(np.float32))


def test_strings(client: triton.InferenceServerClient) -> None:
    texts = np.array([["alpha", "βeta"]], dtype=object)
    answer = client.infer("words", [tensor("x", texts)], request_id="7")
    assert [text.decode() for text in answer.as_numpy("y").ravel()] == texts.ravel().tolist()
    assert answer.get_response().id == "7"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    result = client.infer("scale", [tensor("x", ROWS)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)


def test_classification(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
    features = tensor("features", np.array([[0, 1, 3]], np.float32))
    answer = client.infer("classify", [features], outputs=outputs).as_numpy("probabilities")
    assert answer.tolist() == [[b"0.979629:2:cat", b"0.017943:1:bee"]]


def test_asynchronous_inference(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.async_infer("scale", [tensor("x", ROWS)], callback=lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=30)
    np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)
    assert error is None


def test_streaming(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for factor in range(3):
        inputs = [tensor("x", ROWS * factor)]
        client.async_stream_infer("scale", inputs, request_id=str(factor), enable_empty_final_response=True)
    client.async_stream_infer("scale", [tensor("x", ROWS.astype(np.int32))])
    for factor in range(3):
        result, error = answers.get(timeout=30)
        np.testing.assert_array_equal(result.as_numpy("y"), ROWS * factor * 2)
        assert (error, result.get_response().id) == (None, str(factor))
        assert result.get_response().parameters["triton_final_response"].bool_param
    assert "Input `x` must be FP32" in str(answers.get(timeout=30)[1])
    client.stop_stream()


def test_errors_are_read_by_the_client(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=r"INVALID_ARGUMENT\] Input `x` must be FP32"):
        client.infer("scale", [tensor("x", ROWS.astype(np.int32))])
    with pytest.raises(InferenceServerException, match=r"NOT_FOUND\] There is no model `nobody`"):
        client.get_model_metadata("nobody")
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        client.infer("scale", [tensor("x", ROWS)], timeout=1)


def test_repository(client: triton.InferenceServerClient) -> None:
    client.unload_model("ids", unload_dependents=True)
    assert not client.is_model_ready("ids")
    client.load_model("ids")
    assert client.is_model_ready("ids")


def test_repository_by_asyncio(grpc_address: str) -> None:
    async def calls() -> None:
        async with triton_aio.InferenceServerClient(grpc_address) as client:
            await client.unload_model("ids")
            assert not await client.is_model_ready("ids")
            await client.load_model("ids")
            assert await client.is_model_ready("ids")

    asyncio.run(calls())


@pytest.mark.parametrize("kind", CLIENTS)
def test_model_is_loaded_as_it_was_published(grpc_address: str, kind: type) -> None:
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        asked(kind, grpc_address, lambda client: client.load_model("scale", config="{}"))


def test_tensor_in_shared_memory_is_refused(client: triton.InferenceServerClient) -> None:
    shared = tensor("x", ROWS)
    shared.set_shared_memory("r", 16)
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        client.infer("scale", [shared])


def test_streaming_by_asyncio(grpc_address: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for factor in range(3):
            yield {"model_name": "scale", "inputs": [tensor("x", ROWS * factor)]}

    async def calls() -> None:
        async with triton_aio.InferenceServerClient(grpc_address) as client:
            factor = 0
            async for answer, error in client.stream_infer(requests()):
                assert error is None
                np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * factor * 2)
                factor += 1
            assert factor == 3

    asyncio.run(calls())

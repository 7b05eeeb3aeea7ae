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


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("scale", "1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata(as_json=True)["name"] == "layerserve"
    assert client.get_model_metadata("scale").inputs[0].datatype == "FP32"
    assert client.get_model_config("scale").config.name == "scale"


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


def test_statistics_and_repository(client: triton.InferenceServerClient) -> None:
    assert client.get_inference_statistics("scale").model_stats[0].name == "scale"
    assert "ids" in [item.name for item in client.get_model_repository_index().models]
    client.unload_model("ids")
    assert not client.is_model_ready("ids")
    client.load_model("ids")
    assert client.is_model_ready("ids")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.get_trace_settings(),
        lambda client: client.update_trace_settings("scale", {"trace_file": "/tmp/x"}),
        lambda client: client.get_log_settings(),
        lambda client: client.update_log_settings({"log_file": "/tmp/x"}),
        lambda client: client.get_system_shared_memory_status(),
        lambda client: client.register_system_shared_memory("r", "/r", 8),
        lambda client: client.unregister_system_shared_memory(),
        lambda client: client.get_cuda_shared_memory_status(),
        lambda client: client.unregister_cuda_shared_memory(),
        lambda client: client.load_model("scale", config="{}"),
    ],
)
def test_what_is_not_offered_says_so(
    client: triton.InferenceServerClient, call: Callable[[triton.InferenceServerClient], object]
) -> None:
    with pytest.raises(InferenceServerException, match="UNIMPLEMENTED"):
        call(client)


def test_asyncio_client(grpc_address: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for factor in range(3):
            yield {"model_name": "scale", "inputs": [tensor("x", ROWS * factor)]}

    async def calls() -> None:
        async with triton_aio.InferenceServerClient(grpc_address) as client:
            assert await client.is_server_ready()
            result = await client.infer("scale", [tensor("x", ROWS)])
            np.testing.assert_array_equal(result.as_numpy("y"), ROWS * 2)
            factor = 0
            async for answer, error in client.stream_infer(requests()):
                assert error is None
                np.testing.assert_array_equal(answer.as_numpy("y"), ROWS * factor * 2)
                factor += 1
            assert factor == 3

    asyncio.run(calls())

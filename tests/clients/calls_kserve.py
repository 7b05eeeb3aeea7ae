from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.errors import UnsupportedProtocol

ROWS = np.array([[1, 2], [3, 4]], np.float32)


def call(action: Callable[[InferenceRESTClient], Awaitable[None]], protocol: str = "v2") -> None:
    async def run() -> None:
        async with InferenceRESTClient(RESTConfig(protocol=protocol)) as client:
            await action(client)

    asyncio.run(run())


def request(values: np.ndarray, *, binary: bool) -> InferRequest:
    tensor = InferInput("x", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest("scale", [tensor], request_id="7", parameters={"binary_data_output": binary})


def test_health(address: str) -> None:
    async def action(client: InferenceRESTClient) -> None:
        assert await client.is_server_live(f"http://{address}")
        assert await client.is_server_ready(f"http://{address}")
        assert await client.is_model_ready(f"http://{address}", "scale")
        assert not await client.is_model_ready(f"http://{address}", "nobody")

    call(action)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 500])
def test_infer(address: str, binary: bool, rows: int) -> None:
    values = np.resize(ROWS, (rows, 2))

    async def action(client: InferenceRESTClient) -> None:
        response = await client.infer(f"http://{address}", request(values, binary=binary), model_name="scale")
        np.testing.assert_array_equal(response.outputs[0].as_numpy(), values * 2)
        assert (response.id, response.model_name) == ("7", "scale")

    call(action)


def test_nan_in_json_is_read_as_nan(address: str) -> None:
    values = np.array([[np.nan, 1]], np.float32)
    sent = request(values, binary=True)
    sent.parameters = {"binary_data_output": False}

    async def action(client: InferenceRESTClient) -> None:
        response = await client.infer(f"http://{address}", sent, model_name="scale")
        np.testing.assert_array_equal(np.array(response.outputs[0].data, np.float32), [np.nan, 2])

    call(action)


def test_error_is_read_by_the_client(address: str) -> None:
    async def action(client: InferenceRESTClient) -> None:
        sent = request(np.ones((1, 3), np.float32), binary=False)
        with pytest.raises(httpx.HTTPStatusError, match=r"Input `x` must have shape \(rows, 2\)"):
            await client.infer(f"http://{address}", sent, model_name="scale")

    call(action)


def test_v1(address: str) -> None:
    async def action(client: InferenceRESTClient) -> None:
        url = f"http://{address}"
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, "scale")
        answer = await client.infer(url, {"instances": ROWS.tolist()}, model_name="scale")
        assert answer == {"predictions": (ROWS * 2).tolist()}
        answer = await client.infer(f"{url}/v1/models/scale:predict", {"instances": [[1, 2]]}, is_graph_endpoint=True)
        assert answer == {"predictions": [[2, 4]]}

    call(action, "v1")


def test_errors_of_v1_are_read_by_the_client(address: str) -> None:
    async def action(client: InferenceRESTClient) -> None:
        url = f"http://{address}"
        with pytest.raises(httpx.HTTPStatusError, match="Servable not found for request: Latest"):
            await client.infer(url, {"instances": [[1, 2]]}, model_name="nobody")
        with pytest.raises(httpx.HTTPStatusError, match="Could not find any versions of model nobody"):
            await client.is_model_ready(url, "nobody")
        with pytest.raises(httpx.HTTPStatusError, match="Malformed request: POST /v1/models/scale:explain"):
            await client.explain(url, "scale", {"instances": [[1, 2]]})  # there are no explainers here
        with pytest.raises(UnsupportedProtocol):
            await client.is_server_ready(url)  # the client itself refuses it for v1

    call(action, "v1")


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (InferenceRESTClient, {"explain", "infer", "is_model_ready", "is_server_live", "is_server_ready"}),
        (InferenceGRPCClient, {"infer", "is_model_ready", "is_server_live", "is_server_ready"}),
    ],
)
def test_client_has_no_other_calls_than_those_asked_here(kind: type, calls: set[str]) -> None:
    assert {name for name in dir(kind) if not name.startswith("_")} - {"close"} == calls


@pytest.mark.parametrize("binary", [True, False])
def test_grpc(grpc_address: str, binary: bool) -> None:
    async def calls() -> None:
        async with InferenceGRPCClient(grpc_address) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("scale")
            response = await client.infer(request(ROWS, binary=binary))
            np.testing.assert_array_equal(response.outputs[0].as_numpy(), ROWS * 2)
            assert response.id == "7"

    asyncio.run(calls())

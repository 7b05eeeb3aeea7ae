"""What the metrics and the log tell of calls over gRPC."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from starlette.testclient import TestClient
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from models.store import ArtifactStore
from service.runtimes.cores import available_cores
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.test_metrics_page import sample, samples
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]

LARGEST = 10_000
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def client(store: ArtifactStore, serve: Serve, grpc_port: int, caplog: pytest.LogCaptureFixture) -> TestClient:
    publish_fake(store, kind="broken")
    client = serve(grpc_port=grpc_port, access_log=True, max_body_bytes=LARGEST)
    caplog.set_level(logging.INFO)
    caplog.clear()
    return client


@pytest.fixture
def channel(client: TestClient, grpc_port: int) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


def request(*values: float, model: str = "demo") -> Any:
    asked = messages.ModelInferRequest(model_name=model)
    row = values or (1, 2)
    asked.inputs.add(name="x", datatype="FP32", shape=[len(row) // 2, 2]).contents.fp32_contents.extend(row)
    return asked


def counted(client: TestClient, status: int, *, model: str = "demo", version: str = "1") -> float | None:
    labels = {"model": model, "version": version, "protocol": "v2-grpc", "status": str(status)}
    return sample(client, "layerserve_requests_total", **labels)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "service.access"]


def test_answered_call_is_counted_with_its_times(client: TestClient, stub: Any) -> None:
    stub.ModelInfer(request())
    assert counted(client, 200) == 1
    labels = {"model": "demo", "version": "1", "protocol": "v2-grpc"}
    assert sample(client, "layerserve_request_seconds_count", **labels) == 1
    for phase in ("decode", "encode"):
        assert (sample(client, "layerserve_codec_seconds_sum", **labels, phase=phase) or 0) > 0


def test_refused_calls_are_counted_by_the_status_that_http_would_have(client: TestClient, stub: Any) -> None:
    for asked in (request(1, 2, 3), request(model="nobody"), request(500, 1)):
        with pytest.raises(grpc.RpcError):
            stub.ModelInfer(asked)
    assert (counted(client, 400), counted(client, 500)) == (1, 1)
    assert counted(client, 404, model="", version="") == 1


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip])
def test_message_that_is_too_large_is_counted_and_logged(
    client: TestClient, stub: Any, caplog: pytest.LogCaptureFixture, compression: grpc.Compression | None
) -> None:
    with pytest.raises(grpc.RpcError, match="larger than max"):
        stub.ModelInfer(request(*[0] * LARGEST), compression=compression)
    wait_until(lambda: counted(client, 413, model="", version="") == 1)
    line = access_lines(caplog)[0]
    assert line.startswith(f"gRPC '{INFER}' status=413 ")
    assert line.endswith("error='There must be a message of at most 10000 bytes. Received: none, or more.'")
    stub.ServerLive(messages.ServerLiveRequest())  # by when whatever the call left has been logged
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_message_that_is_too_large_for_a_method_that_infers_nothing_is_not_counted(
    client: TestClient, stub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError, match="larger than max"):
        stub.ModelMetadata(messages.ModelMetadataRequest(name="x" * LARGEST))
    wait_until(lambda: len(access_lines(caplog)) == 1)
    assert not [name for name, _ in samples(client) if name == "layerserve_requests_total"]


def test_call_without_a_message_is_refused(client: TestClient, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError, match="There must be a message of at most 10000 bytes") as refused:
        channel.stream_unary(INFER)(iter([]))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert counted(client, 413, model="", version="") == 1


def test_time_that_is_over_before_the_message_has_come_is_no_large_message(
    client: TestClient, channel: grpc.Channel
) -> None:
    never: queue.Queue[bytes | None] = queue.Queue()
    with pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(INFER)(iter(never.get, None), timeout=0.2)
    never.put(None)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: counted(client, 504, model="", version="") == 1)


def test_bytes_that_are_no_message_are_the_callers_mistake(client: TestClient, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError, match="not of the type that the method takes") as refused:
        channel.unary_unary(INFER)(b"\xff")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert counted(client, 400, model="", version="") == 1


def test_each_request_of_a_stream_is_counted(client: TestClient, stub: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = list(stub.ModelStreamInfer(iter([request(), request(model="nobody"), request(1, 2, 3, 4)])))
    assert [bool(answer.error_message) for answer in answers] == [False, True, False]
    assert (counted(client, 200), counted(client, 404, model="", version="")) == (2, 1)
    assert [line.split(" ms=")[0] for line in access_lines(caplog)[:3]] == [
        f"gRPC '/inference.GRPCInferenceService/ModelStreamInfer' status={status}" for status in (200, 404, 200)
    ]


def test_calls_that_infer_nothing_have_a_line_and_no_count(
    client: TestClient, stub: Any, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stub.ModelMetadata(messages.ModelMetadataRequest(name="demo"))
    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    with pytest.raises(grpc.RpcError):
        stub.LogSettings(messages.LogSettingsRequest())
    assert [line.split(" ms=")[0] for line in access_lines(caplog)] == [
        "gRPC '/inference.GRPCInferenceService/ModelMetadata' status=200",
        "gRPC '/grpc.health.v1.Health/Check' status=200",
        "gRPC '/inference.GRPCInferenceService/LogSettings' status=501",
    ]
    assert not [name for name, _ in samples(client) if name == "layerserve_requests_total"]


def test_line_tells_who_answered_and_why_not(stub: Any, caplog: pytest.LogCaptureFixture) -> None:
    stub.ModelInfer(request(1, 2, 3, 4))
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(model="a\nb"))
    answered, refused = access_lines(caplog)
    assert answered.startswith("gRPC '/inference.GRPCInferenceService/ModelInfer' status=200 ms=")
    assert answered.endswith(" model=demo version=1 rows=2")
    assert refused.endswith(r"error='There is no model `a\nb`. Models: demo.'")


@pytest.mark.parametrize("values", [(1, 2), (500, 1)])
def test_id_of_the_call_comes_back_whatever_the_answer(stub: Any, values: tuple[float, ...]) -> None:
    call = stub.ModelInfer.future(request(*values), metadata=[("x-request-id", "find-me")])
    assert (call.exception() is None) == (values == (1, 2))
    assert dict(call.trailing_metadata())["x-request-id"] == "find-me"


def test_ids_that_nobody_gave_differ(stub: Any) -> None:
    ids = {dict(stub.ModelInfer.with_call(request())[1].trailing_metadata())["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_failure_of_the_model_is_logged_with_its_traceback(stub: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(500, 1))
    (record,) = [record for record in caplog.records if record.name == "service.grpc_calls"]
    assert record.exc_info is not None
    assert "out of memory" in str(record.exc_info[1])


def test_callers_who_leave_and_those_whose_time_is_up_are_told_apart(
    client: TestClient, stub: Any, runtimes: FakeRuntimes
) -> None:
    runtime = runtimes.loaded[0]
    runtime.hold()
    started = runtime.times_started + available_cores()
    running = [stub.ModelInfer.future(request()) for _ in range(available_cores())]
    wait_until(lambda: runtime.times_started == started)
    leaving = stub.ModelInfer.future(request())
    wait_until(lambda: sample(client, "layerserve_queue_rows", model="demo", version="1") == 1)
    leaving.cancel()
    wait_until(lambda: counted(client, 499) == 1)
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(request(), timeout=0.2)
    wait_until(lambda: counted(client, 504) == 1)
    assert counted(client, 499) == 1
    runtime.release()
    assert all(call.result() for call in running)

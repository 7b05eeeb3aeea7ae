from __future__ import annotations

import queue
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

import service.settings
from models.store import ArtifactStore
from service.settings import Settings
from tests.service.fakes import publish_fake
from tests.service.processes import FAKE, ServerProcess, command, environment
from tests.service.waiting import wait_until

slow = pytest.mark.slow


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        found: int = probe.getsockname()[1]
    return found


@pytest.fixture
def start(store: ArtifactStore, port: int) -> Iterator[Callable[..., ServerProcess]]:
    publish_fake(store)
    with ExitStack() as stack:

        def run(*flags: str) -> ServerProcess:
            server = ServerProcess(FAKE, "--artifacts", str(store.root), "--grpc-port", str(port), *flags)
            stack.callback(server.kill)
            return server.wait_ready()

        yield run


def request(identity: str) -> messages.ModelInferRequest:
    asked = messages.ModelInferRequest(model_name="demo", id=identity)
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    return asked


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@slow
def test_stream_in_flight_is_finished_after_sigterm(start: Callable[..., ServerProcess], port: int) -> None:
    server = start()
    asked: queue.Queue[messages.ModelInferRequest | None] = queue.Queue()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        asked.put(request("1"))
        assert next(answers).infer_response.id == "1"
        server.send(signal.SIGTERM)
        wait_until(lambda: not accepts(port))
        asked.put(request("2"))
        assert next(answers).infer_response.id == "2"
        asked.put(None)
        assert list(answers) == []
    assert server.exit_code() == 0
    assert "Traceback" not in server.log


@slow
def test_stream_that_does_not_end_is_left_behind(start: Callable[..., ServerProcess], port: int) -> None:
    server = start("--drain-timeout", "0.5")
    asked: queue.Queue[messages.ModelInferRequest | None] = queue.Queue()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        asked.put(request("1"))
        assert next(answers).infer_response.id == "1"
        server.send(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            next(answers)
        asked.put(None)
    assert server.exit_code() == 0


@slow
def test_health_says_no_while_the_service_drains(start: Callable[..., ServerProcess], port: int) -> None:
    server = start("--drain-delay", "600")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        server.send(signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len(GRPCInferenceServiceStub(channel).ModelInfer(request("1")).outputs) == 1


@slow
def test_port_that_is_taken_is_an_error(store: ArtifactStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(FAKE, "--port", "0", "--artifacts", str(store.root), "--grpc-port", str(port)),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert f"Cannot listen on 127.0.0.1:{port} for gRPC. Choose another: --grpc-port 9001." in done.stderr
    assert "Application startup failed" in done.stderr


def test_missing_packages_are_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.settings, "find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"pip install 'layerserve\[grpc\]'. Received: 9001"):
        Settings(grpc_port=9001)
    assert Settings(grpc_port=0).grpc_port == 0

from __future__ import annotations

import logging
import queue
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

import service.settings
from models.store import ArtifactStore
from service.app import create_app
from service.server import Server, listen
from service.settings import Settings
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.processes import FAKE, REAL, ServerProcess, command, environment
from tests.service.waiting import wait_until

slow = pytest.mark.slow


@pytest.fixture
def start(store: ArtifactStore, grpc_port: int) -> Iterator[Callable[..., ServerProcess]]:
    publish_fake(store)
    with ExitStack() as stack:

        def run(*flags: str, certificate: Path | None = None) -> ServerProcess:
            ports = ("--grpc-port", str(grpc_port))
            server = ServerProcess(FAKE, "--artifacts", str(store.root), *ports, *flags, certificate=certificate)
            stack.callback(server.kill)
            return server.wait_ready()

        yield run


def request(identity: str) -> messages.ModelInferRequest:
    asked = messages.ModelInferRequest(model_name="demo", id=identity)
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    return asked


def tensor() -> InferInput:
    return InferInput("x", [1, 2], "FP32").set_data_from_numpy(np.array([[1, 2]], np.float32))


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@slow
def test_stream_in_flight_is_finished_after_sigterm(start: Callable[..., ServerProcess], grpc_port: int) -> None:
    server = start()
    asked: queue.Queue[messages.ModelInferRequest | None] = queue.Queue()
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        asked.put(request("1"))
        assert next(answers).infer_response.id == "1"
        server.send(signal.SIGTERM)
        wait_until(lambda: not accepts(grpc_port))
        asked.put(request("2"))
        assert next(answers).infer_response.id == "2"
        asked.put(None)
        assert list(answers) == []
    assert server.exit_code() == 0
    assert "Traceback" not in server.log


@slow
def test_stream_that_does_not_end_is_left_behind(start: Callable[..., ServerProcess], grpc_port: int) -> None:
    server = start("--drain-timeout", "0.5")
    asked: queue.Queue[messages.ModelInferRequest | None] = queue.Queue()
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        answers = GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(asked.get, None))
        asked.put(request("1"))
        assert next(answers).infer_response.id == "1"
        server.send(signal.SIGTERM)
        with pytest.raises(grpc.RpcError):
            next(answers)
        asked.put(None)
    assert server.exit_code() == 0


@slow
def test_those_who_watch_the_health_do_not_hold_up_the_end(start: Callable[..., ServerProcess], grpc_port: int) -> None:
    server = start("--drain-timeout", "600")
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        server.send(signal.SIGTERM)
        assert [answer.status for answer in watched] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert server.exit_code() == 0


@slow
def test_health_says_no_while_the_service_drains(start: Callable[..., ServerProcess], grpc_port: int) -> None:
    server = start("--drain-delay", "600")
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        watched = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        server.send(signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert len(GRPCInferenceServiceStub(channel).ModelInfer(request("1")).outputs) == 1


@slow
@pytest.mark.parametrize("flags", [(), ("--workers", "2"), ("--reuse-port",)])
def test_port_that_is_taken_is_one_line_and_exit_1(store: ArtifactStore, flags: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(REAL, "--port", "0", "--artifacts", str(store.root), "--grpc-port", str(port), *flags),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
    reason = f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another: --grpc-port 9001."
    assert (done.stderr, done.returncode) == (f"python -m service: {reason}\n", 1)


def test_port_that_is_taken_meanwhile_is_one_line(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(artifacts=store.root, port=0, grpc_port=port)
        server = Server(create_app(settings, load_runtime=FakeRuntimes().load), settings)
        with listen(settings) as listener, pytest.raises(SystemExit):
            server.run(sockets=[listener])
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    reason = f"Cannot listen on 127.0.0.1:{port} for gRPC. Choose another: --grpc-port 9001."
    assert errors == [reason, "Application startup failed. Exiting."]


@slow
def test_certificate_of_http_is_that_of_grpc(
    start: Callable[..., ServerProcess], grpc_port: int, certificate: dict[str, Path]
) -> None:
    chain, key = certificate["tls_certificate"], certificate["tls_key"]
    start("--tls-certificate", str(chain), "--tls-key", str(key), certificate=chain)
    with InferenceServerClient(f"127.0.0.1:{grpc_port}", ssl=True, root_certificates=str(chain)) as client:
        assert client.is_server_ready()
        assert client.infer("demo", [tensor()]).as_numpy("y").tolist() == [[2, 4]]
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel, pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(request("1"))


@slow
def test_key_may_be_in_the_file_of_the_certificate(
    start: Callable[..., ServerProcess], grpc_port: int, certificate: dict[str, Path], tmp_path: Path
) -> None:
    chain, both = certificate["tls_certificate"], tmp_path / "both.pem"
    both.write_bytes(certificate["tls_key"].read_bytes() + chain.read_bytes())
    start("--tls-certificate", str(both), certificate=chain)
    credentials = grpc.ssl_channel_credentials(chain.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{grpc_port}", credentials) as channel:
        assert GRPCInferenceServiceStub(channel).ModelInfer(request("7")).id == "7"


@slow
def test_workers_share_the_port_and_the_metrics(start: Callable[..., ServerProcess], grpc_port: int) -> None:
    server = start("--workers", "2", "--access-log")
    wait_until(lambda: server.log.count("Serving gRPC") == 2)
    answered = 0
    while not all(f"worker {number} service.access: gRPC '/inference" in server.log for number in range(2)):
        # Each connection goes to one of the workers, and channels with the same options would share one.
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}", options) as channel:
            answered += len(GRPCInferenceServiceStub(channel).ModelInfer(request("1")).outputs)
    labels = 'model="demo",protocol="v2-grpc",status="200",version="1"'
    counted = f"layerserve_requests_total{{{labels}}} {answered}.0"
    wait_until(lambda: (page := server.get("/metrics")) is not None and counted in page.text)
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert "Traceback" not in server.log


def test_missing_packages_are_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.settings, "find_spec", lambda name: None)
    with pytest.raises(ValidationError, match=r"pip install 'layerserve\[grpc\]'. Received: 9001"):
        Settings(grpc_port=9001)
    assert Settings(grpc_port=0).grpc_port == 0

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from models.store import ArtifactStore
from service.server import Server, listen
from service.settings import Settings
from tests.service.fakes import publish_fake
from tests.service.processes import (
    FAKE,
    REAL,
    ROOT,
    Connection,
    ServerProcess,
    Servers,
    command,
    environment,
    post,
    post_head,
)
from tests.service.waiting import wait_until

slow = pytest.mark.slow
Start = Callable[..., ServerProcess]

BODY = b'{"instances":[[1,2]]}'
PREDICTIONS = [[2.0, 4.0]]


@pytest.fixture
def start(store: ArtifactStore) -> Iterator[Start]:
    """Starts server processes on the test's store, and ends them."""
    servers = Servers(store)
    yield servers
    servers.kill()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that all tests below share; its model fails on rows that begin with 500 and hangs on 999."""
    store = ArtifactStore(tmp_path_factory.mktemp("shared"))
    publish_fake(store, kind="broken")
    server = ServerProcess(FAKE, "--artifacts", str(store.root), "--max-body-bytes", "1000")
    try:
        yield server.wait_ready()
    finally:
        server.kill()


def wait_for_half(server: ServerProcess) -> Connection:
    """A request whose body is still to come, but which the application has begun to handle."""
    connection = server.connect()
    connection.send(post_head(len(BODY), b"Expect: 100-continue"))
    assert connection.read_answer()[0] == 100
    return connection


def finish(connection: Connection) -> tuple[int, object]:
    connection.send(BODY)
    status, _, body = connection.read_answer()
    return status, json.loads(body).get("predictions")


def run_to_end(*flags: str, **variables: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        command(REAL, *flags),
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def test_listener_takes_a_free_port_for_0() -> None:
    with listen(Settings(port=0)) as first, listen(Settings(port=0)) as second:
        assert first.getsockname()[1] != second.getsockname()[1]


def test_listener_takes_an_ipv6_address() -> None:
    with listen(Settings(host="::1", port=0)) as listener:
        assert listener.family == socket.AF_INET6


def test_port_in_use_is_named_with_the_way_out() -> None:
    with listen(Settings(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use") as caught:
            listen(Settings(port=port))
    assert str(caught.value).startswith(f"Cannot listen on 127.0.0.1 port {port}: ")
    assert str(caught.value).endswith("Choose another: --port 9000.")


@pytest.mark.parametrize("reuse", [(False, True), (True, False)])
def test_port_is_shared_only_where_both_say_so(reuse: tuple[bool, bool]) -> None:
    first, second = reuse
    with listen(Settings(port=0, reuse_port=first)) as taken, pytest.raises(OSError, match="Address already in use"):
        listen(Settings(port=taken.getsockname()[1], reuse_port=second))


def test_shared_port_gets_no_connection_before_its_service_is_ready() -> None:
    with listen(Settings(port=0, reuse_port=True)) as first:
        port = first.getsockname()[1]
        with listen(Settings(port=port, reuse_port=True)) as second:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            second.listen()
            socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.anyio
async def test_connection_that_nobody_has_accepted_is_answered_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # The watchdog outlives the test, and would end pytest's process.
    monkeypatch.setattr("service.server._end_now", lambda *_: None)
    settings = Settings(port=0)
    listener, server = listen(settings), Server(FastAPI(), settings)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listener])
    # The kernel connects them by itself; the event loop gets no turn before the server is told to end.
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n")
    await server.shutdown([listener])
    for client in clients:
        with client, client.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert b"connection: close" in head
        assert body == b'{"detail":"Not Found"}'


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("request_", "has_left"),
    [(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n", True), (b"GET /waits HTTP/1.1\r\n", False)],
)
async def test_request_left_behind_is_known_and_half_a_request_is_none(
    monkeypatch: pytest.MonkeyPatch, request_: bytes, has_left: bool
) -> None:
    monkeypatch.setattr("service.server._end_now", lambda *_: None)  # as above
    app, settings = FastAPI(), Settings(port=0, drain_timeout=0)

    @app.get("/waits")
    async def wait() -> None:
        await asyncio.Event().wait()

    listener, server = listen(settings), Server(app, settings)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listener])
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(request_)
        while not any(connection.steps for connection in server.server_state.connections):
            await asyncio.sleep(0)
        await server.shutdown([listener])
    assert server.has_left is has_left


@pytest.mark.anyio
async def test_stranger_whom_nobody_has_accepted_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, certificate: dict[str, Path]
) -> None:
    monkeypatch.setattr("service.server._end_now", lambda *_: None)  # as above
    settings = Settings(port=0, **certificate)
    listener, server = listen(settings), Server(FastAPI(), settings)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup([listener])
    silent, plain, gone, client = [socket.create_connection(listener.getsockname()) for _ in range(4)]
    plain.sendall(b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n")
    gone.close()
    answer = asyncio.create_task(asyncio.to_thread(ask_over_tls, client, certificate["tls_certificate"]))
    await server.shutdown([listener])
    assert (await answer).startswith(b"HTTP/1.1 404 ")
    for stranger in (silent, plain):
        stranger.close()


def ask_over_tls(client: socket.socket, certificate: Path) -> bytes:
    context = ssl.create_default_context(cafile=certificate)
    with context.wrap_socket(client, server_hostname="localhost") as encrypted:
        encrypted.sendall(b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n")
        return encrypted.recv(1000)


def test_host_that_is_none_is_named() -> None:
    with pytest.raises(OSError, match=r"^`host` must be an address of this machine. Received: no.such.host.invalid$"):
        listen(Settings(host="no.such.host.invalid", port=0))


@slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_certificate_that_is_not_there_is_one_line_and_exit_1(workers: str) -> None:
    code, lines = run_to_end("--port", "0", "--workers", workers, "--tls-certificate", "/nowhere/chain.pem")
    assert (code, len(lines)) == (1, 1), lines
    assert "Received: /nowhere/chain.pem and no key: No such file or directory." in lines[0]


def test_no_connection_becomes_a_websocket_whatever_is_installed() -> None:
    assert Server(FastAPI(), Settings()).config.ws == "none"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_before_the_application_has_started_is_no_error(number: signal.Signals) -> None:
    server = Server(FastAPI(), Settings())
    with server.capture_signals():
        signal.raise_signal(number)
    assert not server.force_exit


@slow
def test_port_in_use_is_one_line_and_exit_1() -> None:
    with listen(Settings(port=0)) as taken:
        code, lines = run_to_end("--port", str(taken.getsockname()[1]))
    assert (code, len(lines)) == (1, 1)
    assert lines[0].startswith("python -m service: Cannot listen on 127.0.0.1 port")


@slow
def test_wrong_flag_is_one_line_and_exit_2() -> None:
    code, lines = run_to_end("--prot", "1")
    assert (code, lines) == (2, ["python -m service: unrecognized arguments: --prot 1. Try python -m service --help."])


@slow
def test_port_comes_from_the_environment(start: Start) -> None:
    with listen(Settings(port=0)) as listener:
        port = listener.getsockname()[1]
    server = start(module=REAL, LAYERSERVE_PORT=str(port))
    assert server.address[1] == port
    assert server.client.get("/health/live").status_code == 200
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_is_in_flight_and_exits_0(
    store: ArtifactStore, start: Start, number: signal.Signals
) -> None:
    publish_fake(store)
    server = start().wait_ready()
    with wait_for_half(server) as request:
        server.send(number)
        wait_until(lambda: server.ask("/health/live") == 0)
        assert finish(request) == (200, PREDICTIONS)
    assert server.exit_code() == 0
    assert "Traceback" not in server.log


@slow
def test_drain_delay_goes_on_accepting_while_ready_says_no(store: ArtifactStore, start: Start) -> None:
    publish_fake(store)
    server = start("--drain-delay", "600").wait_ready()
    server.send(signal.SIGTERM)
    wait_until(lambda: server.ask("/health/ready") == 503)
    assert server.client.get("/health/ready").json() == {"error": "The service is shutting down."}
    assert server.client.post("/predict", content=BODY).json()["predictions"] == PREDICTIONS
    assert server.client.get("/health/live").status_code == 200
    server.send(signal.SIGTERM)
    assert server.exit_code(seconds=5) == 128 + signal.SIGTERM


@slow
def test_answers_while_draining_close_their_connections(store: ArtifactStore, start: Start) -> None:
    publish_fake(store)
    server = start("--drain-delay", "600").wait_ready()
    with server.connect() as connection:
        connection.send(post(BODY))
        assert "connection" not in connection.read_answer()[1]
        server.send(signal.SIGTERM)
        wait_until(lambda: server.client.get("/health/live").headers.get("connection") == "close")
        connection.send(post(BODY))
        status, headers, _ = connection.read_answer()
        assert (status, headers["connection"]) == (200, "close")
        assert connection.is_at_end()


@slow
def test_service_takes_over_a_shared_port_once_it_is_ready(store: ArtifactStore, start: Start) -> None:
    publish_fake(store)
    old = start("--reuse-port").wait_ready()
    flags = ("--reuse-port", "--port", str(old.address[1]))
    new = start(*flags)  # which waits until it listens
    assert "Not listening yet: The models are being loaded." in new.log
    old.send(signal.SIGTERM)
    assert old.exit_code() == 0
    assert new.client.post("/predict", content=BODY).json()["predictions"] == PREDICTIONS


@slow
def test_drain_delay_ends_by_itself(start: Start) -> None:
    server = start("--drain-delay", "0.5")
    server.send(signal.SIGTERM)
    assert server.exit_code(seconds=5) == 0


@slow
def test_second_signal_drops_a_request_that_is_still_coming_in(store: ArtifactStore, start: Start) -> None:
    publish_fake(store)
    server = start("--drain-timeout", "600").wait_ready()
    with wait_for_half(server):
        server.send(signal.SIGTERM)
        wait_until(lambda: server.ask("/health/live") == 0)
        server.send(signal.SIGTERM)
        assert server.exit_code(seconds=5) == 128 + signal.SIGTERM


@slow
@pytest.mark.parametrize(("timeout", "signals", "code"), [("600", 2, 128 + signal.SIGTERM), ("0", 1, 1)])
def test_model_that_hangs_does_not_hold_up_the_end(
    store: ArtifactStore, start: Start, timeout: str, signals: int, code: int
) -> None:
    publish_fake(store, kind="broken")
    server = start("--drain-timeout", timeout).wait_ready()
    with server.connect() as request:
        request.send(post(b'{"instances":[[999,1]]}'))
        wait_until(lambda: "hanging" in server.log)
        for _ in range(signals):
            server.send(signal.SIGTERM)
            wait_until(lambda: server.ask("/health/live") == 0)
        assert server.exit_code(seconds=10) == code


@slow
def test_sighup_looks_at_the_folder_at_once(store: ArtifactStore, start: Start) -> None:
    publish_fake(store)
    server = start("--reload-interval", "3600").wait_ready()
    publish_fake(store)
    server.send(signal.SIGHUP)
    wait_until(lambda: server.client.get("/models/demo").json()["version"] == 2)


@slow
def test_connection_is_kept_for_the_next_request(broken: ServerProcess) -> None:
    with broken.connect() as connection:
        for _ in range(3):
            connection.send(post(BODY))
            assert connection.read_answer()[0] == 200


@slow
def test_pipelined_requests_are_answered_in_order(broken: ServerProcess) -> None:
    bodies = [b'{"instances":[[%d,1]]}' % value for value in range(1, 6)]
    with broken.connect() as connection:
        connection.send(*map(post, bodies))
        answers = [json.loads(connection.read_answer()[2])["predictions"] for _ in bodies]
    assert answers == [[[2.0 * value, 2.0]] for value in range(1, 6)]


@slow
def test_error_leaves_the_connection_usable(broken: ServerProcess) -> None:
    with broken.connect() as connection:
        connection.send(post(b"{"), post(BODY, b"Content-Type: text/plain"), post(BODY))
        assert [connection.read_answer()[0] for _ in range(3)] == [400, 415, 200]


@slow
def test_client_that_hangs_up_is_no_error_in_the_log(broken: ServerProcess) -> None:
    with wait_for_half(broken):
        pass
    with broken.connect() as connection:
        connection.send(post(BODY))
    wait_until(lambda: broken.client.post("/predict", content=BODY).status_code == 200)
    assert "ClientDisconnect" not in broken.log


@slow
@pytest.mark.parametrize("garbage", [b"\x00\xff\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"POST /predict HTTP/9\r\n\r\n"])
def test_garbage_is_refused_and_the_server_lives(broken: ServerProcess, garbage: bytes) -> None:
    with broken.connect() as connection:
        connection.send(garbage)
        assert connection.read_answer()[0] == 400
        assert connection.is_at_end()
    assert broken.client.post("/predict", content=BODY).status_code == 200


@slow
def test_huge_body_is_413_before_it_is_sent(broken: ServerProcess) -> None:
    with broken.connect() as connection:
        connection.send(post_head(10**12))
        status, headers, body = connection.read_answer()
        assert (status, headers["connection"]) == (413, "close")
        assert json.loads(body) == {"error": "The body may have at most 1000 bytes. Send fewer rows at a time."}
        assert connection.is_at_end()


@slow
def test_endless_body_is_413_before_it_ends(broken: ServerProcess) -> None:
    with broken.connect() as connection:
        head = b"POST /predict HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.send(head, b"3e8\r\n", b" " * 1000, b"\r\n1\r\n \r\n")
        assert connection.read_answer()[0] == 413
        assert connection.is_at_end()


@slow
def test_failure_of_the_model_has_its_traceback_in_the_log_only(broken: ServerProcess) -> None:
    response = broken.client.post("/predict", json={"instances": [[500, 1]]})
    assert response.status_code == 500
    assert response.json() == {"error": "The service failed on this request. Its log says why."}
    wait_until(lambda: "RuntimeError: out of memory in /srv/secret/kernel.cc" in broken.log)


@slow
def test_many_clients_at_once_are_all_answered(broken: ServerProcess) -> None:
    def ask(value: int) -> object:
        return broken.client.post("/predict", json={"instances": [[value, 1]]}).json()["predictions"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(1, 200)))
    assert answers == [[[2.0 * value, 2.0]] for value in range(1, 200)]


@slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("output", [">&-", "2>&-", ">/dev/full 2>/dev/full"])
def test_service_that_may_write_nowhere_serves_and_ends_with_0(tmp_path: Path, output: str, workers: str) -> None:
    with listen(Settings(port=0)) as listener:
        port = listener.getsockname()[1]
    serve = command(REAL, "--port", str(port), "--workers", workers, "--artifacts", str(tmp_path))
    process = subprocess.Popen(["sh", "-c", f'exec "$@" {output}', "sh", *serve], cwd=ROOT, env=environment())
    try:
        wait_until(lambda: process.poll() is not None or is_alive(port))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()


def is_alive(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health/live", trust_env=False).status_code == 200
    return False


OVERLOOKED = """
import gc, os, signal
from contextlib import asynccontextmanager
from fastapi import FastAPI
from service.launch import launch
from service.settings import Settings

@asynccontextmanager
async def lifespan(app):
    print(gc.get_freeze_count(), len(gc.get_objects()))
    os.kill(os.getpid(), signal.SIGTERM)
    yield {}

launch(Settings(port=0), lambda settings, worker: FastAPI(lifespan=lifespan))
"""


@slow
def test_what_has_been_imported_is_overlooked_by_the_collector() -> None:
    done = subprocess.run([sys.executable, "-c", OVERLOOKED], cwd=ROOT, capture_output=True, text=True, check=True)
    overlooked, looked_at = map(int, done.stdout.split())
    assert overlooked > 20 * looked_at


def test_signal_that_interrupts_a_line_of_the_log_writes_none_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server = Server(FastAPI(), Settings())
    server.config.load()
    server.handle_exit(signal.SIGTERM, None)
    assert caplog.messages == []
    assert asyncio.run(server.on_tick(1))
    assert caplog.messages == ["SIGTERM: finishing what is in flight."]

"""Several workers: real processes, real signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.store import ArtifactStore
from service import supervisor
from service.server import bind_shared, check_grpc_port, listen, reserve
from service.settings import Settings
from tests.service.fakes import publish_fake
from tests.service.processes import ServerProcess, Servers, post_head
from tests.service.waiting import wait_until

slow = pytest.mark.slow

BODY = {"instances": [[1, 2]]}
PREDICTIONS = [[2.0, 4.0]]


@pytest.fixture
def start(store: ArtifactStore) -> Iterator[Servers]:
    publish_fake(store)
    servers = Servers(store)
    yield servers
    servers.kill()


def wait_for_workers(server: ServerProcess, number: int = 2) -> list[int]:
    """The process ids of the workers, once `number` of them are there and ready."""
    wait_until(
        lambda: (metric(server, "layerserve_workers"), metric(server, "layerserve_ready")) == (number, 1), seconds=60
    )
    return workers_of(server)


def workers_of(server: ServerProcess) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in children.read_text().split()]


def metric(server: ServerProcess, name: str) -> float:
    """The sum of a metric's series; -1 where nobody answers."""
    page = server.get("/metrics")
    if page is None:
        return -1.0
    families = text_string_to_metric_families(page.text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def is_alive(pid: int) -> bool:
    """Whether anything is left of a process; its sockets stay open until the last of its threads has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "\nState:\tZ" not in status or "\nThreads:\t1\n" not in status


def test_reserved_port_is_shared_by_those_that_bind_it_so_and_by_nobody_else() -> None:
    with reserve(Settings(port=0)) as holder:
        settings = Settings(port=holder.getsockname()[1])
        with bind_shared(settings, settings.port) as first, bind_shared(settings, settings.port) as second:
            first.listen()
            second.listen()
            for take in (listen, reserve):
                with pytest.raises(OSError, match=r"^Cannot listen on 127.0.0.1 port \d+: Address already in use"):
                    take(settings)


def test_reserved_port_sends_nobody_to_the_process_that_holds_it() -> None:
    with reserve(Settings(port=0)) as holder, pytest.raises(ConnectionRefusedError):
        socket.create_connection(holder.getsockname())


def test_port_for_grpc_is_held_for_the_workers_and_for_nobody_else(grpc_port: int) -> None:
    settings = Settings(grpc_port=grpc_port)
    with supervisor.hold_grpc_port(settings), pytest.raises(OSError, match="Address already in use"):
        check_grpc_port(settings)
    check_grpc_port(settings)


@slow
def test_workers_answer_on_one_port_and_end_with_0(start: Servers) -> None:
    server = start("--workers", "2")
    workers = wait_for_workers(server)
    assert len(workers) == 2
    response = server.post("/predict", BODY)
    assert response is not None
    assert response.json()["predictions"] == PREDICTIONS
    server.send(signal.SIGTERM)
    assert server.exit_code() == 0
    assert not any(map(is_alive, workers))
    assert re.findall("Listening on", server.log) == ["Listening on"]
    assert "Traceback" not in server.log


@slow
def test_page_of_any_worker_shows_the_requests_of_all(start: Servers) -> None:
    server = start("--workers", "2", "--access-log")
    wait_for_workers(server)
    while not all(f"worker {number} service.access: POST" in server.log for number in range(2)):
        server.post("/predict", BODY)
    sent = server.log.count("POST '/predict'")
    wait_until(lambda: metric(server, "layerserve_requests_total") == sent)
    pages = [metric(server, "layerserve_requests_total") for _ in range(10)]
    assert pages == [sent] * 10


@slow
def test_killed_worker_is_replaced_and_the_others_answer_meanwhile(start: Servers) -> None:
    server = start("--workers", "2")
    first, second = wait_for_workers(server)
    assert metric(server, "layerserve_worker_restarts_total") == 0
    server.post("/predict", BODY)
    wait_until(lambda: metric(server, "layerserve_requests_total") == 1)
    wait_until(lambda: all(metric(server, "layerserve_requests_total") == 1 for _ in range(5)))
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    while first in (found := wait_for_workers(server)) or len(found) < 2:
        pass
    assert second in found
    assert len(re.findall(r"Worker \d ended with SIGKILL; another takes its place\.", server.log)) == 1
    assert metric(server, "layerserve_worker_restarts_total") == 1
    answers = [server.post("/predict", BODY) for _ in range(20)]
    assert [answer and answer.status_code for answer in answers] == [200] * 20
    wait_until(lambda: metric(server, "layerserve_requests_total") == 21)


@slow
def test_nobody_is_refused_while_a_worker_is_replaced(start: Servers) -> None:
    server = start("--workers", "2")
    first, _ = wait_for_workers(server)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    statuses = []
    while "another takes its place" not in server.log or metric(server, "layerserve_workers") < 2:
        answer = server.post("/predict", BODY)
        statuses.append(answer and answer.status_code)
    assert set(statuses) == {200}


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_the_worker_finish_what_is_in_flight(start: Servers, number: signal.Signals) -> None:
    server = start("--workers", "2")
    wait_for_workers(server)
    with server.connect() as request:
        request.send(post_head(21, b"Expect: 100-continue"))
        assert request.read_answer()[0] == 100
        server.send(number)
        wait_until(lambda: server.ask("/health/live") == 0)
        request.send(b'{"instances":[[1,2]]}')
        assert request.read_answer()[0] == 200
    assert server.exit_code() == 0


@slow
@pytest.mark.parametrize(("last", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_worker_that_drains_already_finishes_whatever_comes_from_above(
    start: Servers, last: signal.Signals, code: int
) -> None:
    server = start("--workers", "2")
    workers = wait_for_workers(server)
    with server.connect() as request:
        request.send(post_head(21, b"Expect: 100-continue"))
        assert request.read_answer()[0] == 100
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: server.log.count("SIGTERM: finishing what is in flight.") == 2)
        server.send(last)
        wait_until(lambda: last is signal.SIGTERM or server.process.poll() is not None)
        request.send(b'{"instances":[[1,2]]}')
        assert request.read_answer()[0] == 200
    assert server.exit_code() == code
    wait_until(lambda: not any(map(is_alive, workers)))


@slow
def test_second_signal_ends_all_at_once(start: Servers) -> None:
    server = start("--workers", "2", "--drain-delay", "600")
    workers = wait_for_workers(server)
    server.send(signal.SIGTERM)
    wait_until(lambda: server.ask("/health/ready") == 503)
    server.send(signal.SIGTERM)
    assert server.exit_code(seconds=10) == 128 + signal.SIGTERM
    assert not any(map(is_alive, workers))


@slow
def test_sighup_reaches_every_worker(store: ArtifactStore, start: Servers) -> None:
    server = start("--workers", "2", "--reload-interval", "3600")
    wait_for_workers(server)
    publish_fake(store)
    server.send(signal.SIGHUP)
    wait_until(lambda: server.log.count("demo@2 is served") == 2)


@slow
def test_workers_end_when_the_process_above_them_is_killed_and_leave_nothing(start: Servers, tmp_path: Path) -> None:
    server = start("--workers", "2", TMPDIR=str(tmp_path))
    workers = wait_for_workers(server)
    assert len(list(tmp_path.glob("layerserve-*/*.json"))) == 3
    server.send(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)))
    assert not list(tmp_path.glob("layerserve-*"))


@slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_service_that_is_told_to_end_leaves_nothing(start: Servers, tmp_path: Path, number: signal.Signals) -> None:
    server = start("--workers", "2", TMPDIR=str(tmp_path))
    wait_for_workers(server)
    server.send(number)
    assert server.exit_code() == 0
    assert not list(tmp_path.glob("layerserve-*"))


@slow
def test_port_in_use_is_one_line_and_exit_1() -> None:
    with listen(Settings(port=0)) as taken, pytest.raises(OSError, match=r"^Cannot listen on"):
        supervisor.supervise([sys.executable], Settings(port=taken.getsockname()[1], workers=2))


@slow
def test_worker_that_never_starts_ends_the_service(caplog: pytest.LogCaptureFixture) -> None:
    command = [sys.executable, "-c", "raise SystemExit(7)"]
    assert supervisor.supervise(command, Settings(port=0, workers=2), first_delay=0.01) == 3
    assert caplog.messages.count("Worker 0 ended with exit code 7; another takes its place.") >= 1
    assert any(message.endswith("failed to start 5 times in a row: giving up.") for message in caplog.messages)


@slow
def test_command_that_does_not_exist_ends_the_service() -> None:
    assert supervisor.supervise(["/no/such/program"], Settings(port=0, workers=1), first_delay=0.01) == 3

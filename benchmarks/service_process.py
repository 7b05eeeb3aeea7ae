"""A service that a benchmark starts, what its process uses, and a plain HTTP/1.1 connection to it. Linux only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 120.0
_LISTENING = "0A"


class Service:
    """`python -m service` as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/health/ready", timeout=30).close()
        except (urllib.error.URLError, OSError):
            return False
        return True

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def memory_mib(self) -> float:
        return memory_mib(self.process.pid)


@contextlib.contextmanager
def running(
    *flags: str,
    log: Path,
    port: int = 0,
    cores: set[int] | None = None,
    python: str = sys.executable,
    module: str = "service",
) -> Iterator[Service]:
    """Starts a service, gives it once it is ready, and stops it.

    Args:
        flags: Of `python -m service`.
        log: Where its log goes, at the end of what the file holds.
        port: 0 for a free one.
        cores: Those that it may use; by default all of this process.
        python: The interpreter that runs it.
        module: Another one that takes the same flags.

    Raises:
        SystemExit: it ends before it is ready.
    """
    port = port or free_port()
    with started(python, "-m", module, "--port", str(port), *flags, log=log, cores=cores) as process:
        service = Service(process, port)
        # Another process may serve the same port, as in a rolling restart, and would answer that it is ready.
        wait_until(lambda: _listens(process.pid, port) and service.is_ready(), process, log)
        yield service


@contextlib.contextmanager
def started(*command: str, log: Path, cores: set[int] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process, on some cores or on all of this one's, that is told to end afterwards."""
    own = os.sched_getaffinity(0)
    with log.open("ab") as file:
        os.sched_setaffinity(0, own if cores is None else cores)
        try:
            process = subprocess.Popen(command, stderr=file)
        finally:
            os.sched_setaffinity(0, own)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Raises: SystemExit: the process ends before it is ready, or is not after two minutes."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_ready():
        if process.poll() is not None:
            raise SystemExit(f"A server ended before it was ready: {process.args!r}\n{log.read_text()}")
        if time.monotonic() > deadline:
            raise SystemExit(f"A server was not ready within {_PATIENCE_SECONDS:g} s: {process.args!r}")
        time.sleep(_POLL_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    return sum(map(_resident_kib, [pid, *_children(pid)])) / 1024


def open_sockets(pid: int) -> list[str]:
    """The inode of each socket that a process has open, for each file descriptor."""
    links = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(descriptor.readlink()))
    return [link[len("socket:[") : -1] for link in links if link.startswith("socket:[")]


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used of the processor, user and system."""
    stats = [Path(f"/proc/{each}/stat").read_text() for each in [pid, *_children(pid)]]
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


class Connection:
    """One keep-alive connection; opens anew where the server has closed it after an answer, as it may."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer.

        Raises:
            OSError, EOFError: the connection broke before a whole answer came.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), headers, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


def post(path: str, content: Any) -> bytes:
    """A JSON request as bytes."""
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def train_digits(artifacts: Path, *flags: str) -> None:
    """Publishes the next version of `digits`."""
    command = [sys.executable, "-m", "export", "train", "--artifacts", str(artifacts), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _listens(pid: int, port: int) -> bool:
    """Whether a process or its children listen on a port of IPv4."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {each[9] for each in sockets if each[3] == _LISTENING and int(each[1].rpartition(":")[2], 16) == port}
    with contextlib.suppress(OSError):  # it has ended
        return any(not listening.isdisjoint(open_sockets(each)) for each in [pid, *_children(pid)])
    return False


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    direct = [int(child) for child in text.split()]
    return [*direct, *(pid for child in direct for pid in _children(child))]


def _resident_kib(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) if found else 0

"""Server processes, and plain sockets to talk to them as no polite client would."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from models.store import ArtifactStore
from tests.service.waiting import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
REAL, FAKE = "service", "tests.service.fake_server"


def command(module: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", module, *flags]


def environment(**variables: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("LAYERSERVE_")}
    return {**ours, "PYTHONPATH": str(ROOT), **variables}


class ServerProcess:
    """A server on a free port. Its log is read as it comes; `certificate` is that of one that serves HTTPS."""

    def __init__(
        self, module: str, *flags: str, cwd: Path = ROOT, certificate: Path | None = None, **variables: str
    ) -> None:
        port = [] if "LAYERSERVE_PORT" in variables else ["--port", "0"]
        self.process = subprocess.Popen(
            command(module, *port, *flags), cwd=cwd, env=environment(**variables), stderr=subprocess.PIPE, text=True
        )
        self._lines: list[str] = []
        self._listens = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._listens.wait(120)
        found = re.search(r"Listening on (https?)://(.+):(\d+)", self.log)
        if found is None:
            self.process.kill()  # nobody else could
            pytest.fail(f"The server does not listen:\n{self.log}")
        self.address = (found[2], int(found[3]))
        self._url = f"{found[1]}://{found[2]}:{found[3]}"
        self._verify = ssl.create_default_context(cafile=certificate) if certificate else False
        self.client = httpx.Client(base_url=self._url, timeout=120, trust_env=False, verify=self._verify)

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def wait_ready(self) -> ServerProcess:
        wait_until(lambda: self.ask("/health/ready") == 200, seconds=120)
        return self

    def ask(self, path: str) -> int:
        """The status of a GET over a connection of its own; 0 where nobody listens."""
        try:
            return httpx.get(self._url + path, trust_env=False, verify=self._verify).status_code
        except httpx.TransportError:
            return 0

    def get(self, path: str) -> httpx.Response | None:
        """The answer over a connection of its own; None where the connection broke."""
        try:
            return httpx.get(self._url + path, trust_env=False, verify=self._verify)
        except httpx.TransportError:
            return None

    def post(self, path: str, document: object) -> httpx.Response | None:
        """The answer over a connection of its own; None where the connection broke."""
        try:
            return httpx.post(self._url + path, json=document, trust_env=False, verify=self._verify)
        except httpx.TransportError:
            return None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, *, seconds: float = 15) -> int:
        code = self.process.wait(seconds)
        self._reader.join()
        return code

    def kill(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.exit_code()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def connect(self) -> Connection:
        return Connection(self.address)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)
            if "Listening on" in line:
                self._listens.set()
        self._listens.set()


class Servers:
    """Starts server processes on one store, and ends them."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._started: list[ServerProcess] = []

    def __call__(self, *flags: str, module: str = FAKE, **variables: str) -> ServerProcess:
        self._started.append(ServerProcess(module, "--artifacts", str(self._store.root), *flags, **variables))
        return self._started[-1]

    def kill(self) -> None:
        for server in self._started:
            server.kill()


class Connection:
    """One TCP connection, used byte by byte."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=120)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, self._file.read(int(headers.get("content-length", 0)))

    def is_at_end(self) -> bool:
        return self._file.read(1) == b""


def post(body: bytes, *headers: bytes, path: bytes = b"/predict") -> bytes:
    """A request as bytes; its body may be sent later by asking for `post_head`."""
    return post_head(len(body), *headers, path=path) + body


def post_head(length: int, *headers: bytes, path: bytes = b"/predict") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: test", b"Content-Length: %d" % length, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"

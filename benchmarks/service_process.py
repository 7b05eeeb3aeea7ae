"""A service that a benchmark starts, and a plain HTTP/1.1 connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
        """Resident memory of the process and its children."""
        return sum(map(_resident_kib, [self.process.pid, *_children(self.process.pid)])) / 1024


@contextlib.contextmanager
def running(*flags: str, log: Path, port: int = 0) -> Iterator[Service]:
    """Starts a service, gives it once it is ready, and stops it.

    Raises:
        SystemExit: it ends before it is ready.
    """
    with log.open("wb") as file:
        command = [sys.executable, "-m", "service", "--port", str(port), *flags]
        process = subprocess.Popen(command, stderr=file)
    try:
        service = Service(process, _port(process, log))
        while not service.is_ready():
            _check_alive(process, log)
            _pause()
        yield service
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


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


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    while not (found := re.search(r"Listening on http://[^ ]+:(\d+)", log.read_text())):
        _check_alive(process, log)
        _pause()
    return int(found[1])


def _check_alive(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise SystemExit(f"The service ended before it was ready:\n{log.read_text()}")


def _pause() -> None:
    time.sleep(0.05)


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

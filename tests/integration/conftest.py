"""A digits version trained by the real command, and a real server process to ask it through."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
_LISTENING = re.compile(r"Listening on (http://\S+)")
_TIMEOUT_SECONDS = 120


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs one of our programs as a user would."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )


class ServerProcess:
    """`python -m service` on a free port. The log is kept in `log`."""

    def __init__(self, artifacts: Path, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "--artifacts", str(artifacts), "--port", "0", *arguments],
                cwd=ROOT,
                env={**os.environ, **environment},
                stderr=output,
            )
        self._wait_for(lambda: _LISTENING.search(self.log.read_text()) is not None)
        found = _LISTENING.search(self.log.read_text())
        assert found is not None
        self.client = httpx.Client(base_url=found[1], timeout=_TIMEOUT_SECONDS)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self) -> None:
        self._wait_for(lambda: self.client.get("/health/ready").status_code == 200)

    def wait_until(self, condition: Callable[[dict[str, Any]], bool], name: str = "digits") -> dict[str, Any]:
        """Asks for `GET /models/{name}` until `condition` holds for the answer, and gives the answer."""
        answer: dict[str, Any] = {}

        def holds() -> bool:
            answer.clear()
            answer.update(self.client.get(f"/models/{name}").json())
            return condition(answer)

        self._wait_for(holds)
        return answer

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Polls; ends the test with the log if the server dies first, or nothing comes of it for minutes."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not condition():
            if self.process.poll() is not None:
                pytest.fail(f"The server ended with {self.process.returncode}:\n{self.log.read_text()}")
            if time.monotonic() > deadline:
                pytest.fail(f"It did not happen within {_TIMEOUT_SECONDS} s:\n{self.log.read_text()}")
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Starts server processes that are ended with the test."""
    started: list[ServerProcess] = []

    def start(artifacts: Path, *arguments: str, **environment: str) -> ServerProcess:
        log = tmp_path / f"server-{len(started)}.log"
        started.append(ServerProcess(artifacts, log, *arguments, **environment))
        return started[-1]

    yield start
    for server in started:
        server.__exit__(None, None, None)

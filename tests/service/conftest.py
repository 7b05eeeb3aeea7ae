"""Parts that the service's tests share: an empty store, fake runtimes, and the application around them."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

Serve = Callable[..., TestClient]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("LAYERSERVE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts-of-the-test")


@pytest.fixture
def runtimes() -> FakeRuntimes:
    return FakeRuntimes()


@pytest.fixture
def serve(store: ArtifactStore, runtimes: FakeRuntimes) -> Iterator[Serve]:
    """Starts the application; unless told otherwise, waits until it is ready."""
    with ExitStack() as stack:

        def start(*, wait: bool = True, **settings: Any) -> TestClient:
            values = {"artifacts": store.root, "reload_interval": 0.01, **settings}
            app = create_app(Settings(**values), load_runtime=runtimes.load)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            if wait:
                wait_until(lambda: client.get("/health/ready").status_code == 200)
            return client

        yield start
        runtimes.may_load.set()
        for runtime in runtimes.loaded:
            runtime.release()


@pytest.fixture
def client(store: ArtifactStore, serve: Serve) -> TestClient:
    """The application with one model, `demo`, that doubles two numbers."""
    publish_fake(store)
    return serve()


@pytest.fixture
def grpc_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Path]:
    """A certificate of this machine that signs itself, as the settings name its files."""
    files = {"tls_key": tmp_path / "key.pem", "tls_certificate": tmp_path / "certificate.pem"}
    ask = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    outputs = ["-keyout", str(files["tls_key"]), "-out", str(files["tls_certificate"])]
    subprocess.run([*ask.split(), *names, *outputs], check=True, capture_output=True)
    return files

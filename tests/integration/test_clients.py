"""The clients of other servers, as they are published, call ours; what they call is in `tests/clients/`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.store import ArtifactStore
from tests.service.fakes import DTYPES, publish_fake
from tests.service.processes import FAKE, ROOT, ServerProcess

CLIENTS = ROOT / "tests" / "clients"


@pytest.fixture(scope="module")
def client_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that has the clients: LAYERSERVE_TEST_CLIENTS names one, else it is made here."""
    if python := os.environ.get("LAYERSERVE_TEST_CLIENTS"):
        return python
    folder = tmp_path_factory.mktemp("clients") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, "--group", "clients"], cwd=ROOT, check=True)
    return python


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    for kind in ("scale", "classify", "words", "counts", "ids", *[f"scalar-{dtype}" for dtype in DTYPES]):
        publish_fake(store, kind, kind)
    server = ServerProcess(FAKE, "--artifacts", str(store.root), "--control-api").wait_ready()
    yield server
    server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("calls", sorted(path.name for path in CLIENTS.glob("calls_*.py")))
def test_client_works_as_it_is(server: ServerProcess, client_python: str, tmp_path: Path, calls: str) -> None:
    host, port = server.address
    command = [client_python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, CLIENTS / calls]
    environment = {**os.environ, "TEST_ADDRESS": f"{host}:{port}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

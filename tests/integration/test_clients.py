"""The clients of other servers, as they are published, call ours; what they call is in `tests/clients/`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.store import ArtifactStore
from tests.service.fakes import DTYPES, publish_fake
from tests.service.processes import FAKE, ROOT, ServerProcess

CALLS = ROOT / "tests" / "clients"
# They need older packages than the service does, and each other than the next (ml-dtypes, protobuf, starlette), so uv
# makes an environment of its own for each, and keeps it in its cache.
CLIENTS = {
    "calls_generated.py": "openapi-python-client>=0.29",
    "calls_kserve.py": "kserve>=0.21",
    "calls_mlserver.py": "mlserver>=1.7.1",
    "calls_ovmsclient.py": "ovmsclient>=2023.1",
    "calls_tensorflow_serving_api.py": "tensorflow-serving-api>=2.21",
    "calls_tritonclient_grpc.py": "tritonclient[grpc]>=2.73",
    "calls_tritonclient_http.py": "tritonclient[http]>=2.73",
}


@pytest.fixture(scope="module")
def grpc_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, grpc_port: int) -> Iterator[ServerProcess]:
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    for kind in (
        "alike",
        "grades",
        "scale",
        "classify",
        "combine",
        "words",
        "counts",
        "ids",
        *[f"scalar-{dtype}" for dtype in DTYPES],
    ):
        publish_fake(store, kind, kind)
    server = ServerProcess(
        FAKE,
        "--artifacts",
        str(store.root),
        "--control-api",
        "--grpc-port",
        str(grpc_port),
        "--labels",
        "scale@stable=1",
    )
    server.wait_ready()
    yield server
    server.kill()


def test_every_file_of_calls_names_its_client() -> None:
    assert sorted(CLIENTS) == sorted(path.name for path in CALLS.glob("calls_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("calls", CLIENTS)
def test_client_works_as_it_is(server: ServerProcess, grpc_port: int, tmp_path: Path, calls: str) -> None:
    host, port = server.address
    uv = [sys.executable, "-m", "uv", "run", "--quiet", "--no-project", "--python", sys.executable]
    # Nothing of ours is imported there: a client's environment lacks our packages.
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--confcutdir={CALLS}"]
    pytest_run = ["python", "-m", "pytest", *options, CALLS / calls]
    addresses = {"TEST_ADDRESS": f"{host}:{port}", "TEST_GRPC_ADDRESS": f"{host}:{grpc_port}"}
    environment = {**os.environ, **addresses, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*uv, "--with", CLIENTS[calls], "--with", "pytest", *pytest_run],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

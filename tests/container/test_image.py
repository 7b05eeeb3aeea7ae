"""The built image, run as production would: read-only, no capabilities, no root, little memory.

LAYERSERVE_TEST_IMAGE names the image, LAYERSERVE_TEST_DOCKER the client (default `docker`).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

IMAGE = os.environ.get("LAYERSERVE_TEST_IMAGE", "")
DOCKER = shlex.split(os.environ.get("LAYERSERVE_TEST_DOCKER", "docker"))
LOCKED_DOWN = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "2g"]
STOP_SECONDS = 10

pytestmark = [
    pytest.mark.container,
    pytest.mark.skipif(not IMAGE, reason="LAYERSERVE_TEST_IMAGE names no image"),
]


def docker(*arguments: str) -> str:
    done = subprocess.run([*DOCKER, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., str]]:
    """Starts containers that are removed with the module; gives their ids."""
    started: list[str] = []

    def run(*arguments: str) -> str:
        started.append(docker("run", "--detach", *LOCKED_DOWN, "--publish", "127.0.0.1::8000", *arguments, IMAGE))
        return started[-1]

    yield run
    for container in started:
        docker("rm", "--force", container)


@pytest.fixture(scope="module")
def container(start: Callable[..., str]) -> str:
    return start()


@contextmanager
def client_of(container: str) -> Iterator[httpx.Client]:
    """A client of the container, once it is ready."""
    address = docker("port", container, "8000").splitlines()[0]
    with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        wait_until_ready(container, client)
        yield client


def wait_until_ready(container: str, client: httpx.Client) -> None:
    while docker("inspect", "--format", "{{.State.Running}}", container) == "true":
        try:
            answer = client.get("/health/ready")
            if answer.status_code == 200:
                return
            if "cannot be served" in answer.text:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    pytest.fail(docker("logs", container))


def test_locked_down_container_answers_a_prediction(container: str) -> None:
    with client_of(container) as client:
        example = client.get("/models/digits").json()["example"]
        answer = client.post("/predict", json=example["request"])
    assert answer.status_code == 200
    assert answer.json()["predictions"][0] == pytest.approx(example["response"]["predictions"][0], abs=1e-5)


def test_grpc_is_served_where_its_port_is_set(start: Callable[..., str]) -> None:
    container = start("--env", "LAYERSERVE_GRPC_PORT=8001", "--publish", "127.0.0.1::8001")
    with client_of(container) as client:
        example = client.get("/models/digits").json()["example"]
    rows = np.array(example["request"]["instances"], np.float32)
    address = docker("port", container, "8001").splitlines()[0]
    with InferenceServerClient(address) as grpc:
        (spec,) = grpc.get_model_metadata("digits").inputs
        tensor = InferInput(spec.name, list(rows.shape), "FP32").set_data_from_numpy(rows)
        (output,) = grpc.get_model_metadata("digits").outputs
        answer = grpc.infer("digits", [tensor]).as_numpy(output.name)
    np.testing.assert_allclose(answer, example["response"]["predictions"], atol=1e-5)


def test_server_runs_as_process_one_without_root_or_capabilities(container: str) -> None:
    script = (
        "import os, json, pathlib;"
        "status = dict(line.split(':', 1) for line in pathlib.Path('/proc/1/status').read_text().splitlines());"
        "print(json.dumps([os.stat('/proc/1').st_uid, int(status['CapEff'], 16),"
        " pathlib.Path('/proc/1/cmdline').read_bytes().split(bytes(1))[:3] == [b'python', b'-m', b'service']]))"
    )
    assert json.loads(docker("exec", container, "python", "-c", script)) == [10001, 0, True]


def test_image_holds_no_build_tools_caches_or_training_packages(container: str) -> None:
    script = (
        "import importlib.util, pathlib, shutil;"
        "print([n for n in ('gcc', 'cc', 'make', 'strip', 'git') if shutil.which(n)],"
        " [n for n in ('pip', 'sklearn', 'pytest', 'export') if importlib.util.find_spec(n)],"
        " [str(p) for p in map(pathlib.Path, ('/root/.cache', '/tmp/serve.txt')) if p.exists()])"
    )
    assert docker("exec", "--user", "0", container, "python", "-c", script) == "[] [] []"


def test_health_check_reports_healthy(container: str) -> None:
    with client_of(container):
        check = json.loads(docker("inspect", "--format", "{{json .Config.Healthcheck.Test}}", container))
    assert check[0] == "CMD"
    docker("exec", container, *check[1:])


def test_mounted_versions_replace_the_built_in_one(start: Callable[..., str], tmp_path: Path) -> None:
    source = start()
    docker("cp", f"{source}:/artifacts", str(tmp_path / "artifacts"))
    (tmp_path / "artifacts" / "digits" / "pin.json").write_text('{"version": 1}')
    container = start("--volume", f"{tmp_path / 'artifacts'}:/artifacts:ro")
    with client_of(container) as client:
        assert client.get("/models").json()["default"] == "digits"
    mounts = json.loads(docker("inspect", "--format", "{{json .Mounts}}", container))
    assert [mount["Destination"] for mount in mounts] == ["/artifacts"]


def test_docker_stop_ends_the_server_with_zero_in_time(start: Callable[..., str]) -> None:
    container = start()
    with client_of(container):
        pass
    docker("stop", "--time", str(STOP_SECONDS), container)  # after that time Docker kills, which gives 137
    assert docker("inspect", "--format", "{{.State.ExitCode}}", container) == "0"

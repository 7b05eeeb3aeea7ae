"""An export may be killed at any moment: what is readable afterwards is whole, and what was there is untouched."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.golden import read_golden
from models.store import ArtifactStore
from tests.integration.conftest import ROOT

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("LAYERSERVE_TEST_KILLS", "4"))


def test_export_killed_at_random_moments_leaves_only_whole_versions(digits: Path, tmp_path: Path) -> None:
    artifacts = shutil.copytree(digits, tmp_path / "artifacts")
    begin = time.monotonic()
    (tmp_path / "tmp").mkdir()
    export(artifacts).wait()
    duration = time.monotonic() - begin
    moments = random.Random(0)
    for _ in range(NUM_KILLS):
        process = export(artifacts)
        try:
            process.wait(moments.uniform(0.2, 1.05) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
        check_store(artifacts)
    assert export(artifacts).wait() == 0
    assert not list((artifacts / "digits").glob(".staging-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_export_that_is_told_to_end_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "tmp").mkdir()
    process = export(tmp_path / "artifacts", stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert any(line.startswith(b"Trained ") for line in process.stdout)  # what follows is the proof
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "artifacts" / "digits").exists()


def export(artifacts: Path, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """A whole export with little training, in a process group of its own with its fresh process.

    Its temporary files are beside the artifacts: what is killed leaves some.
    """
    arguments = ["--epochs", "1", "--formats", "onnx", "--artifacts", str(artifacts)]
    command = [sys.executable, "-m", "export", "train", *arguments]
    own = {**os.environ, "TMPDIR": str(artifacts.parent / "tmp")}
    return subprocess.Popen(command, cwd=ROOT, env=own, stderr=subprocess.DEVNULL, stdout=stdout, process_group=0)


def check_store(artifacts: Path) -> None:
    store = ArtifactStore(artifacts)
    versions = store.versions("digits")
    assert versions == list(range(1, len(versions) + 1))
    for version in versions:
        artifact = store.open("digits", version)
        artifact.verify_files()
        read_golden(artifact)

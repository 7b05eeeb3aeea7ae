"""Ways to break an export: nothing is half-published, one plain line says why, and the exit code is not 0."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.store import ArtifactStore
from tests.integration.conftest import ROOT

pytestmark = pytest.mark.slow

CONVERTED = "saved_model,onnx"
MODEL = ROOT / "tests" / "export" / "keras2" / "sequential.h5"

# Runs the real command; at the first audit event that holds the text `MOMENT`, `harm` is done.
COMMAND = """
import os, resource, shutil, signal, sys
from pathlib import Path

from export.__main__ import Export
from models.command_line import main

EVENTS = ("open", "os.mkdir", "os.rename", "subprocess.Popen")
folder = Path(sys.argv[1])
is_done = False

def remove_staging():
    shutil.rmtree(next(path for path in folder.glob("old/.staging-*") if path.is_dir()))

def harm():
    {harm}

def watch(event, arguments):
    global is_done
    if not is_done and event in EVENTS and {moment!r} in f"{{event}} {{arguments[:2]}}":
        is_done = True
        harm()

if {moment!r}:
    sys.addaudithook(watch)
else:
    harm()
sys.exit(main(Export, ["publish", {model!r}, "--name", "old", "--formats", {formats!r}, *sys.argv[2:]]))
"""


def start(
    artifacts: Path, *arguments: str, harm: str = "pass", moment: str = "", formats: str = "keras"
) -> subprocess.Popen[str]:
    script = COMMAND.format(harm=harm, moment=moment, model=str(MODEL), formats=formats)
    return subprocess.Popen(
        [sys.executable, "-c", script, str(artifacts), "--artifacts", str(artifacts), *arguments],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("LAYERSERVE_")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check_refused(process: subprocess.Popen[str], artifacts: Path, message: str, code: int = 1) -> None:
    _, errors = process.communicate()
    assert process.returncode == code, errors
    lines = errors.strip().splitlines()
    assert lines[-1].startswith("python -m export: ")
    assert re.search(message, lines[-1]), lines[-1]
    assert "Traceback" not in errors
    store = ArtifactStore(artifacts)
    assert [store.versions(name) for name in store.names()] == []


@pytest.mark.parametrize(
    ("harm", "moment", "message"),
    [
        (
            "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))",
            "model.keras",
            "File too large|not the one that was",
        ),
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))", "export.convert", "File too large"),
        ("remove_staging()", "golden.npz", "No such file or directory"),
        ("remove_staging()", "manifest.json", "No such file or directory"),
        ("shutil.rmtree(folder / 'old'); (folder / 'old').touch()", "export.reload", "No such file|Not a directory"),
        ("shutil.rmtree(folder)", "export.reload", "No such file or directory"),
        ("folder.mkdir(); (folder / 'old').touch()", "", "File exists|Not a directory"),
        ("(folder / 'old').mkdir(parents=True); (folder / 'old' / '.lock').mkdir()", "", "Is a directory"),
    ],
    ids=[
        "no room for the model",
        "no room for another format",
        "staging folder removed early",
        "staging folder removed late",
        "model's folder replaced by a file",
        "artifacts removed",
        "model's folder is a file",
        "lock is a folder",
    ],
)
def test_broken_export_publishes_nothing(tmp_path: Path, harm: str, moment: str, message: str) -> None:
    artifacts = tmp_path / "artifacts"
    formats = CONVERTED if moment == "export.convert" else "keras"
    check_refused(start(artifacts, harm=harm, moment=moment, formats=formats), artifacts, message)


def test_interrupted_proof_publishes_nothing(tmp_path: Path) -> None:
    process = start(tmp_path, harm="os.kill(os.getpid(), signal.SIGINT)", moment="export.reload", formats=CONVERTED)
    check_refused(process, tmp_path, "interrupted", 130)
    assert not list(tmp_path.glob("old/.staging-*"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import os\nos._exit(0)\n", "A fresh process ended on the saved model without an answer"),
        ("import os\nos.kill(os.getpid(), 9)\n", "A fresh process failed on the saved model: exit code -9"),
        ("raise RuntimeError('it broke')\n", "it broke"),
    ],
)
def test_layers_that_end_the_fresh_process_publish_nothing(tmp_path: Path, source: str, message: str) -> None:
    guard = "import sys\nif 'export.reload' in str(sys.orig_argv):\n"
    (tmp_path / "breaking.py").write_text(guard + "".join(f"    {line}\n" for line in source.splitlines()))
    harm = f"sys.path.insert(0, {str(tmp_path)!r}); os.environ['PYTHONPATH'] = {str(tmp_path)!r}"
    process = start(tmp_path / "artifacts", "--layers", "breaking", harm=harm)
    check_refused(process, tmp_path / "artifacts", message)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small file system in memory, where the tests may."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / "mounted"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("only root may mount a file system, and not in every container")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", ["16k", "32k", "48k"])
def test_full_disk_publishes_nothing(mount: Callable[..., Path], size: str) -> None:
    folder = mount(size)
    process = start(folder, formats=CONVERTED)
    check_refused(process, folder, "No space left on device|not the one that was|errno = 28")


def test_read_only_disk_publishes_nothing(mount: Callable[..., Path]) -> None:
    folder = mount("1m")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    check_refused(start(folder), folder, "Read-only file system")


def test_two_exports_at_once_give_two_versions(tmp_path: Path) -> None:
    processes = [start(tmp_path), start(tmp_path)]
    results = [(*process.communicate(), process.returncode) for process in processes]
    assert [code for _, _, code in results] == [0, 0], results
    store = ArtifactStore(tmp_path)
    assert store.versions("old") == [1, 2]
    for version in (1, 2):
        store.open("old", version).verify_files()
    assert not list(tmp_path.glob("old/.staging-*"))


@pytest.mark.parametrize("moment", ["making-", "export.convert", "-P", "index.html", "os.rename"])
def test_export_killed_while_it_makes_the_formats_publishes_nothing(tmp_path: Path, moment: str) -> None:
    process = start(tmp_path, harm="os.kill(os.getpid(), signal.SIGKILL)", moment=moment, formats=CONVERTED)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert ArtifactStore(tmp_path).versions("old") == []

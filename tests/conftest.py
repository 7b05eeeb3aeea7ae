"""How the tests are dealt to the workers, what the workers share, and Ctrl-C where it was switched off."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = "output.txt"
# Slow files whose tests share no costly fixture. Each of their tests goes to whoever is free; the tests of any other
# file stay together, for its fixtures are made anew by each worker that needs them.
DEALT_OUT = {"tests/integration/test_broken_exports.py", "tests/test_docs.py"}


def pytest_configure() -> None:
    """A shell without job control starts what runs in its background deaf to Ctrl-C, and so all that this starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file in DEALT_OUT else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return _Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begins with the slow files where several workers run, so that none is busy long after the others are done."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _temporary_files_go_with_those_of_pytest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever tests kill leaves its temporary files; pytest removes its own folders some runs later."""
    folder = str(tmp_path_factory.mktemp("left-behind"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(autouse=True)
def _fast_tests_start_no_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps `make test-fast` fast."""
    if any(map(request.node.get_closest_marker, ("slow", "container"))):
        return
    start = subprocess.Popen.__init__

    def refuse(self: Any, command: Any, *arguments: Any, **options: Any) -> None:
        assert command[0] != sys.executable, "A test that starts a Python process must be marked `slow`."
        start(self, command, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with digits@1, trained by the command without arguments, whose output is kept beside it.

    The first worker that asks makes it for all. Tests that change a store copy it.
    """
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = root / "digits-for-all"
    artifacts = folder / "artifacts"
    with (root / "digits.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / OUTPUT).exists():
            command = [sys.executable, "-m", "export", "train", "--artifacts", str(artifacts)]
            ours = {name: value for name, value in os.environ.items() if not name.startswith("LAYERSERVE_")}
            done = subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, text=True, check=False)
            assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
            (folder / OUTPUT).write_text(done.stdout)
    return artifacts

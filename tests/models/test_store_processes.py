"""The store between processes: killed exports, running ones, and two at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact
from models.store import ArtifactStore

Publish = Callable[..., Artifact]
ROOT = Path(__file__).resolve().parents[2]

# Publishes copies of toy@1 by the store's own steps; the first argument is the root.
REPUBLISH = """
import shutil, sys
from pathlib import Path
from models.store import ArtifactStore

store = ArtifactStore(Path(sys.argv[1]))
first = store.open("toy", 1)

def republish():
    with store.stage("toy") as staging:
        for name in first.manifest.files:
            (staging / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(first.path / name, staging / name)
        store.publish(staging, first.manifest)
"""


def start(script: str, store: ArtifactStore, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", REPUBLISH + script, str(store.root), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def leftovers(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in (store.root / "toy").glob(".staging-*"))


@pytest.mark.slow
def test_leftovers_of_a_killed_export_are_swept(store: ArtifactStore, artifact: Artifact) -> None:
    process = start('with store.stage("toy"): print("staged", flush=True); input()', store)
    assert process.stdout is not None
    assert process.stdout.readline() == "staged\n"
    process.kill()
    process.communicate()
    assert len(leftovers(store)) == 2  # the folder and its lock
    with store.stage("toy") as staging:
        assert leftovers(store) == [staging.name, f"{staging.name}.lock"]


@pytest.mark.slow
def test_staging_of_a_running_export_is_left_alone(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    script = 'with store.stage("toy") as s: print("staged", flush=True); input(); store.publish(s, first.manifest)'
    process = start(script, store)
    assert process.stdout is not None
    assert process.stdout.readline() == "staged\n"
    publish_fake(store)
    process.communicate("\n")
    assert (process.returncode, store.versions("toy")) == (0, [1, 2, 3])


@pytest.mark.slow
def test_two_processes_publish_at_once_and_no_version_is_lost(store: ArtifactStore, artifact: Artifact) -> None:
    script = 'print("ready", flush=True); input()\nfor _ in range(25): republish()'
    processes = [start(script, store) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in processes] == ["", ""]
    assert store.versions("toy") == list(range(1, 52))
    for version in store.versions("toy"):
        store.open("toy", version).verify_files()


@pytest.mark.slow
def test_folder_that_comes_and_goes_loses_no_export(store: ArtifactStore, artifact: Artifact) -> None:
    script = """
from contextlib import suppress
print("ready", flush=True); input()
for _ in range(300):
    with suppress(KeyError), store.stage("new"): raise KeyError
"""
    processes = [start(script, store) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [(process.communicate()[0], process.returncode) for process in processes] == [("", 0)] * 3
    assert not list(store.root.glob("new/.staging-*"))


# Forks once for each file operation of a publication; each child kills itself (-9) at its one.
KILL_AT_EACH_MOMENT = """
import itertools, os, signal

MOMENTS = ("open", "os.", "shutil.", "fcntl.")

def killed_at(moment):
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    passed = itertools.count(1)
    def kill(event, arguments):
        if event.startswith(MOMENTS) and next(passed) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(kill)
    republish()
    os._exit(0)

before = {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
for moment in itertools.count(1):
    was_killed = killed_at(moment)
    for version in store.versions("toy"):
        store.open("toy", version).verify_files()
    assert before == {path: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    if not was_killed:
        break
print(moment)
"""


@pytest.mark.slow
def test_export_killed_at_any_moment_leaves_no_half_version(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    output, _ = start(KILL_AT_EACH_MOMENT, store).communicate()
    assert int(output) > 50  # moments
    publish_fake(store)
    assert leftovers(store) == []

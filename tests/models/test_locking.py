"""Locks of folders, and the folders that are made and removed under them."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from models.locking import LOCK, lock, locked, made_and_locked, remove_unused

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("hold", [locked, made_and_locked])
def test_lock_is_held_by_one_at_a_time(tmp_path: Path, hold: object) -> None:
    assert callable(hold)
    with hold(tmp_path), pytest.raises(BlockingIOError):
        lock(tmp_path / LOCK, fcntl.LOCK_NB)
    with locked(tmp_path):
        pass


def test_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    with made_and_locked(tmp_path / "a" / "b"):
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LOCK]


# Removes the folder when its lock is about to be opened, or when it has been opened and is about to be awaited.
REMOVED_MEANWHILE = """
import os, shutil, sys
from pathlib import Path
from models.locking import made_and_locked

folder, moments = Path(sys.argv[1]), [sys.argv[2]]
def remove(event, arguments):
    if event in moments and folder.exists():
        moments.clear()
        shutil.rmtree(folder)
sys.addaudithook(remove)
with made_and_locked(folder):
    print(os.listdir(folder), moments)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["open", "fcntl.flock"])
def test_folder_that_is_removed_meanwhile_is_made_anew(tmp_path: Path, moment: str) -> None:
    command = [sys.executable, "-c", REMOVED_MEANWHILE, str(tmp_path / "a"), moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{[LOCK]} []\n", "")


def test_folder_with_nothing_but_its_lock_is_removed(tmp_path: Path) -> None:
    with made_and_locked(tmp_path / "a"):
        pass
    remove_unused(tmp_path / "a")
    remove_unused(tmp_path / "a")  # which is gone
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_used_stays(tmp_path: Path) -> None:
    with made_and_locked(tmp_path / "a"):
        (tmp_path / "a" / "1").mkdir()
    remove_unused(tmp_path / "a")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [LOCK, "1"]

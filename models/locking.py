"""Locks between processes, and folders that are made and removed while others may want them. They need `flock`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".lock"


def lock(path: Path, flags: int = 0) -> int:
    """Waits for the lock on a file, which it makes if need be; gives the descriptor whose closing lets go of it.

    Raises:
        BlockingIOError: somebody has the lock, and the flags hold `fcntl.LOCK_NB`.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder that holds more than it."""
    descriptor = lock(folder / LOCK)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def made_and_locked(folder: Path) -> Iterator[None]:
    """Makes a folder where there is none, and holds its lock. Put something into it: `remove_unused` may come next."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = lock(folder / LOCK)
        except FileNotFoundError:  # it has been removed since
            continue
        if _is_at(descriptor, folder / LOCK):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def remove_unused(folder: Path) -> None:
    """Removes a folder that holds nothing but its lock."""
    with suppress(OSError), locked(folder):
        if [entry.name for entry in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to an open file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False

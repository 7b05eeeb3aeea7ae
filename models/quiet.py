"""Keeps TensorFlow's start-up chatter off the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def quiet_import() -> Iterator[None]:
    """Holds back what is written to standard error inside, and prints it only if the block fails.

    TensorFlow's C++ side writes to the file descriptor before its log level counts, so nothing else silences it.
    Set TF_CPP_MIN_LOG_LEVEL=0 to see everything.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with _scratch_file() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def _scratch_file() -> IO[bytes]:
    """A file that needs no folder to write to, where the system has such: a container's may all be read-only."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()

from __future__ import annotations

import ctypes
import platform
import re
from pathlib import Path

import pytest

from service.memory import give_back

_PIECES, _BYTES = 2000, 60 * 2**10


def resident_bytes() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 2**10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="Only glibc keeps what is freed.")
def test_free_memory_between_pieces_in_use_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [libc.malloc(_BYTES) for _ in range(_PIECES)]
    for piece in pieces:
        ctypes.memset(piece, 1, _BYTES)
    for piece in pieces[::2]:
        libc.free(piece)
    before = resident_bytes()
    give_back()
    assert before - resident_bytes() > _PIECES * _BYTES / 4
    for piece in pieces[1::2]:
        libc.free(piece)

"""Memory that a closed version has freed, given back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Returns the free pages of the C library's heaps.

    glibc has a heap for each thread, and keeps what lies free between pieces that are in use: over a hundred swaps
    under load that had come to several megabytes. Another C library, such as musl, has no such call and needs none.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)

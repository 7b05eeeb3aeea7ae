"""Strings as the runtimes' libraries give them, made into NumPy's own."""

from __future__ import annotations

import numpy as np


def readable(values: np.ndarray) -> np.ndarray:
    """Answers with their strings as NumPy's `str_`; all else as it came."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8")
    if values.dtype.kind != "O":
        return values
    texts = [item.decode() if isinstance(item, bytes) else str(item) for item in values.ravel()]
    return np.array(texts, dtype=np.str_).reshape(values.shape)

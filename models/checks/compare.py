"""Whether two sets of arrays are the same numbers, and the words for where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

EXACT = 0.0
LAST_BITS = 1e-5
"""The same arithmetic in another order or batch size. One layer was seen to move by 6e-7; sums over many more terms."""
OTHER_COMPILER = 1e-4
"""The same formula through another compiler, which may fuse, reorder and approximate."""


def difference(expected: Sequence[Any], received: Sequence[Any], tolerance: float) -> str | None:
    """Says how two lists of arrays differ, or None where they agree.

    Args:
        tolerance: Largest difference allowed, as a share of the largest finite value (at least of 1). Half-precision
            arrays are allowed their own resolution on top. NaN equals NaN. Other than floats must be equal.
    """
    if len(expected) != len(received):
        return f"{len(expected)} arrays became {len(received)}"
    for index, (left, right) in enumerate(zip(expected, received, strict=True)):
        found = _array_difference(np.asarray(left), np.asarray(right), tolerance)
        if found:
            return found if len(expected) == 1 else f"output {index}: {found}"
    return None


def _array_difference(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], tolerance: float) -> str | None:
    if left.shape != right.shape:
        return f"shape {left.shape} became {right.shape}"
    if left.dtype.kind in "OSUbiu":
        return None if np.array_equal(left.astype(str), right.astype(str)) else _first(left, right)
    resolution = 16 * float(np.finfo(left.dtype).eps) if left.dtype.itemsize == 2 and tolerance else 0.0
    return _float_difference(left.astype("float64"), right.astype("float64"), max(tolerance, resolution))


def _float_difference(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any], tolerance: float) -> str | None:
    finite = np.isfinite(left)
    if not np.array_equal(finite, np.isfinite(right)):
        return f"{int(np.sum(~finite))} non-finite numbers became {int(np.sum(~np.isfinite(right)))}"
    if not finite.any():
        return None
    error = float(np.max(np.abs(left[finite] - right[finite])))
    largest = float(np.max(np.abs(left[finite])))
    if error <= tolerance * max(1.0, largest):
        return None
    return f"the largest difference is {error:.2g}, on values up to {largest:.2g}"


def _first(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> str:
    where = tuple(int(axis[0]) for axis in np.nonzero(left.astype(str) != right.astype(str)))
    return f"{left[where]!r} became {right[where]!r}"

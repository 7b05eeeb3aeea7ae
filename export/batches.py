"""Training batches: shuffled within as many rows as memory may hold, the same ones for the same seed and epoch."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from export.datasets import Rows, concatenate

_POOL_ROWS = 262_144
_POOL_BYTES = 128 * 2**20


def batch_size_for(rows: int) -> int:
    """64 rows a step, and more where that would make many thousand steps an epoch; a power of two up to 4096."""
    return int(np.clip(2 ** int(np.log2(max(rows // 1000, 1))), 64, 4096))


def batches(stream: Iterator[Rows], batch_size: int, seed: tuple[int, ...]) -> Iterator[Rows]:
    """The rows of a stream once, shuffled, in batches of one size; only the last may be smaller."""
    random = np.random.default_rng(seed)
    pool: list[Rows] = []
    for rows in stream:
        pool.append(rows)
        if sum(map(len, pool)) >= _POOL_ROWS or sum(part.nbytes for part in pool) >= _POOL_BYTES:
            rest = yield from _whole_batches(concatenate(pool), batch_size, random)
            pool = [rest] if len(rest) else []
    if pool:
        rest = yield from _whole_batches(concatenate(pool), batch_size, random)
        if len(rest):
            yield rest


def _whole_batches(rows: Rows, batch_size: int, random: np.random.Generator) -> Generator[Rows, None, Rows]:
    order = random.permutation(len(rows))
    whole = len(rows) - len(rows) % batch_size
    for start in range(0, whole, batch_size):
        yield rows.take(order[start : start + batch_size])
    return rows.take(order[whole:])

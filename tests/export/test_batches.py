"""Training batches: every row once an epoch, in an order that only the seed decides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from export import batches as module
from export.batches import batch_size_for, batches
from export.datasets import Rows


def stream(count: int = 100, step: int = 7) -> Iterator[Rows]:
    for start in range(0, count, step):
        numbers = np.arange(start, min(start + step, count))
        yield Rows({"x": numbers.astype(np.float32)}, numbers)


@pytest.mark.parametrize("pool", [10, 1000])
def test_every_row_comes_once_in_batches_of_one_size(monkeypatch: pytest.MonkeyPatch, pool: int) -> None:
    monkeypatch.setattr(module, "_POOL_ROWS", pool)
    found = list(batches(stream(), 8, (0, 0)))
    assert [len(batch) for batch in found] == [8] * 12 + [4]
    assert sorted(np.concatenate([batch.targets for batch in found])) == list(range(100))


def test_inputs_and_targets_stay_together() -> None:
    for batch in batches(stream(), 8, (0, 0)):
        np.testing.assert_array_equal(batch.inputs["x"], batch.targets)


def test_order_is_the_seeds_alone() -> None:
    first, again, other = (
        [b.targets.tolist() for b in batches(stream(), 8, seed)] for seed in ((0, 1), (0, 1), (0, 2))
    )
    assert first == again != other


@pytest.mark.parametrize(("rows", "size"), [(1, 64), (1257, 64), (200_000, 128), (5_000_000, 4096), (10**9, 4096)])
def test_batches_grow_with_the_data(rows: int, size: int) -> None:
    assert batch_size_for(rows) == size

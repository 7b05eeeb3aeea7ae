"""The split: the right shares of every class, however the file is ordered, and the same on every machine."""

from __future__ import annotations

import numpy as np
import pytest

from export.splitting import Dealer, Part

CLASSES = np.random.default_rng(0).choice(3, size=1000, p=[0.7, 0.25, 0.05])


def dealer(seed: int = 0, num_classes: int = 3) -> Dealer:
    return Dealer(num_classes=num_classes, validation_fraction=0.1, test_fraction=0.2, seed=seed)


@pytest.mark.parametrize("classes", [CLASSES, np.sort(CLASSES)], ids=["mixed", "sorted"])
@pytest.mark.parametrize(("part", "share"), [(Part.TRAIN, 0.7), (Part.VALIDATION, 0.1), (Part.TEST, 0.2)])
def test_every_part_has_its_share_of_every_class(classes: np.ndarray, part: Part, share: float) -> None:
    parts = dealer().deal(classes)
    counts = np.bincount(classes[parts == part], minlength=3)
    np.testing.assert_allclose(counts, share * np.bincount(classes), atol=3)  # a row or two, in a finite run


def test_batches_are_dealt_as_all_rows_at_once() -> None:
    whole, streamed = dealer(), dealer()
    parts = np.concatenate([streamed.deal(CLASSES[start : start + 33]) for start in range(0, 1000, 33)])
    np.testing.assert_array_equal(parts, whole.deal(CLASSES))


def test_parts_are_these_on_every_machine() -> None:
    assert dealer(num_classes=1).deal(np.zeros(12, int)).tolist() == [0, 0, 0, 0, 1, 0, 0, 2, 0, 1, 0, 0]


def test_other_seed_gives_other_parts() -> None:
    assert (dealer(seed=1).deal(CLASSES) != dealer(seed=2).deal(CLASSES)).any()


def test_first_row_of_a_class_is_for_training() -> None:
    for seed in range(50):
        assert (dealer(seed).deal(np.arange(3)) == Part.TRAIN).all()


def test_split_does_not_depend_on_the_global_seed() -> None:
    parts = dealer().deal(CLASSES)
    np.random.seed(99)  # the one that must not matter
    np.testing.assert_array_equal(dealer().deal(CLASSES), parts)

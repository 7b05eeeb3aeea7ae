"""The digits, and a split that is the same on every call."""

from __future__ import annotations

import numpy as np
import pytest

from export.datasets import Dataset, Split, load_digits, split


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


@pytest.fixture(scope="module")
def parts(digits: Dataset) -> Split:
    return split(digits, validation_fraction=0.1, test_fraction=0.2, seed=0)


def numbered(digits: Dataset) -> Dataset:
    """The digits with each row's number in place of its pixels."""
    return Dataset("numbered", {"row": np.arange(digits.rows)}, digits.targets, digits.labels)


def test_digits_are_scans_of_8_by_8(digits: Dataset) -> None:
    features = digits.inputs["features"]
    assert (features.shape, features.dtype, digits.targets.dtype) == ((1797, 64), np.float32, np.int64)
    assert (features.min(), features.max()) == (0, 16)
    assert digits.labels == tuple("0123456789")


def test_record_holds_a_hash_of_the_content(digits: Dataset) -> None:
    changed = Dataset(digits.name, {"features": digits.inputs["features"] + 1}, digits.targets, digits.labels)
    assert digits.record() == load_digits().record()
    assert digits.record().sha256 != changed.record().sha256
    assert (digits.record().name, digits.record().rows) == ("digits", 1797)


def test_taking_rows_keeps_inputs_and_targets_together(digits: Dataset) -> None:
    taken = digits.take(np.array([5, 0]))
    assert taken.targets.tolist() == [5, 0]
    np.testing.assert_array_equal(taken.inputs["features"][1], digits.inputs["features"][0])


def test_parts_have_their_shares(parts: Split) -> None:
    assert (parts.train.rows, parts.validation.rows, parts.test.rows) == (1257, 180, 360)


def test_parts_share_no_row_and_lose_none(digits: Dataset) -> None:
    parts = split(numbered(digits), validation_fraction=0.1, test_fraction=0.2, seed=0)
    rows = np.concatenate([part.inputs["row"] for part in (parts.train, parts.validation, parts.test)])
    assert sorted(rows) == list(range(digits.rows))


def test_every_part_has_the_same_mix_of_classes(digits: Dataset, parts: Split) -> None:
    wanted = np.bincount(digits.targets) / digits.rows
    for part in (parts.train, parts.validation, parts.test):
        shares = np.bincount(part.targets) / part.rows
        np.testing.assert_allclose(shares, wanted, atol=1 / part.rows)  # a row more or less of a class


def test_same_seed_gives_the_same_parts(digits: Dataset, parts: Split) -> None:
    again = split(load_digits(), validation_fraction=0.1, test_fraction=0.2, seed=0)
    assert [part.record() for part in (again.train, again.validation, again.test)] == [
        part.record() for part in (parts.train, parts.validation, parts.test)
    ]


def test_split_does_not_depend_on_the_global_seed(digits: Dataset, parts: Split) -> None:
    np.random.seed(99)  # the one that must not matter
    again = split(digits, validation_fraction=0.1, test_fraction=0.2, seed=0)
    assert again.test.record() == parts.test.record()


def test_other_seed_gives_other_parts(digits: Dataset, parts: Split) -> None:
    other = split(digits, validation_fraction=0.1, test_fraction=0.2, seed=1)
    assert other.test.record() != parts.test.record()


def test_class_with_one_row_cannot_be_split() -> None:
    lonely = Dataset("lonely", {"x": np.arange(5)}, np.array([0, 0, 0, 0, 1]), ("a", "b"))
    with pytest.raises(ValueError, match="least populated class"):
        split(lonely, validation_fraction=0.2, test_fraction=0.2, seed=0)

"""Data sets: scikit-learn's and files, read in a stream, split once and for all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import datasets
from export.config import DataConfig
from export.datasets import Dataset, load_dataset
from export.splitting import Part

HOUSES = ["größe m²,city,garden,built,price"] + [
    f"{50 + n},{'Graz' if n % 2 else ''},{'true' if n % 3 else 'NA'},20{n % 20 + 10}-03-01,{n * 10.5}"
    for n in range(60)
]


@pytest.fixture
def houses(tmp_path: Path) -> Callable[..., Dataset]:
    """The data set of some CSV lines: `houses(lines, task=...)`."""

    def load(lines: list[str] = HOUSES, **options: Any) -> Dataset:
        path = tmp_path / "my houses.csv"
        path.write_text("\n".join(lines) + "\n")
        return load_dataset(DataConfig(data=str(path), **{"target": "price", **options}))

    return load


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(DataConfig())


def test_digits_are_scans_of_8_by_8(digits: Dataset) -> None:
    (feature,) = digits.problem.features
    assert (feature.name, feature.dtype, feature.shape) == ("features", "float32", (64,))
    assert digits.problem.labels == tuple("0123456789")
    assert (digits.columns[0].record().minimum, digits.columns[0].record().maximum) == (0, 16)


def test_digits_are_split_into_their_shares(digits: Dataset) -> None:
    assert digits.record.rows == sum(digits.sizes.values()) == 1797
    assert [len(digits.load(part)) for part in Part] == [digits.sizes[part] for part in Part] == [1259, 180, 358]


@pytest.mark.parametrize(
    ("name", "labels", "columns"),
    [
        ("wine", ("class_0", "class_1", "class_2"), 13),
        ("breast_cancer", ("benign", "malignant"), 30),
        ("iris", ("setosa", "versicolor", "virginica"), 4),
        ("diabetes", None, 10),
    ],
)
def test_other_shipped_sets_have_named_columns(name: str, labels: tuple[str, ...] | None, columns: int) -> None:
    dataset = load_dataset(DataConfig(data=name))
    assert (dataset.problem.name, dataset.problem.labels, len(dataset.problem.features)) == (name, labels, columns)


def test_hash_is_the_same_on_every_call(digits: Dataset) -> None:
    assert load_dataset(DataConfig()).record == digits.record


def test_file_becomes_features_with_types_and_gaps(houses: Callable[..., Dataset]) -> None:
    dataset = houses()
    assert [(f.name, f.type, f.dtype, f.nullable) for f in dataset.problem.features] == [
        ("größe m²", "number", "float32", False),
        ("city", "category", "string", True),
        ("garden", "boolean", "int8", True),
        ("built", "date", "string", False),
    ]
    assert (dataset.problem.name, dataset.problem.task) == ("my_houses", "regression")


def test_figures_are_those_of_the_training_rows_alone(houses: Callable[..., Dataset]) -> None:
    dataset = houses()
    rows = dataset.load(Part.TRAIN)
    assert float(dataset.problem.features[0].mean) == pytest.approx(rows.inputs["größe m²"].mean())
    assert dataset.problem.mean == pytest.approx(rows.targets.mean())
    assert dataset.problem.spread == pytest.approx(rows.targets.std())


def test_streamed_rows_are_those_in_memory(houses: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = houses()
    monkeypatch.setattr(datasets, "_CACHE_BYTES", 0)
    streamed = houses()
    for part in Part:
        first, second = in_memory.load(part), streamed.load(part)
        for name in first.inputs:
            np.testing.assert_array_equal(first.inputs[name], second.inputs[name])


def test_parts_share_no_row_and_lose_none(houses: Callable[..., Dataset]) -> None:
    dataset = houses()
    sizes = np.concatenate([dataset.load(part).inputs["größe m²"] for part in Part])
    assert sorted(sizes) == [50 + n for n in range(60)]


def test_row_without_target_is_left_out_and_told(houses: Callable[..., Dataset]) -> None:
    dataset = houses([*HOUSES, "1,Graz,true,2020-01-01,"])
    assert dataset.record.rows == 60
    assert "1 rows without `price` are left out." in dataset.notes


def test_uneven_classes_are_told(houses: Callable[..., Dataset]) -> None:
    dataset = houses(["x,price", *["1,yes"] * 96, *["2,no"] * 4])
    assert "Classes are uneven: 4 of 100 rows are 'no'; --balance makes classes count alike." in dataset.notes


def test_ignored_column_is_no_input(houses: Callable[..., Dataset]) -> None:
    dataset = houses(columns=("city=ignore",))
    assert "city" not in [feature.name for feature in dataset.problem.features]


def test_target_may_be_named_as_in_the_file(houses: Callable[..., Dataset]) -> None:
    assert houses(["x,km/h", *[f"{n},{n}.5" for n in range(20)]], target="km/h").target.column.name == "km_h"


def test_number_too_large_for_the_input_is_refused(houses: Callable[..., Dataset]) -> None:
    with pytest.raises(ValueError, match=r"^Column `x` must hold numbers that fit float32. It holds 1e\+300: mend it"):
        houses(["x,price", "1e300,1.5", *[f"{n},{n}.5" for n in range(20)]])


def test_two_hundred_columns_are_read(houses: Callable[..., Dataset]) -> None:
    names = [f"c{n}" for n in range(199)]
    lines = [",".join([*names, "price"]), *[",".join([str(n)] * 199 + [f"{n}.5"]) for n in range(20)]]
    assert len(houses(lines).problem.features) == 199


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (HOUSES, {"target": None}, r"^Say which column to predict: --target price. Columns: größe m², city, garden"),
        (HOUSES, {"target": "prize"}, r"^There is no column `prize` in my_houses to predict. Columns: größe m²"),
        (HOUSES, {"columns": ("zip=category",)}, r"^There is no column `zip`"),
        (HOUSES[:1], {}, r"^my_houses has column names and no rows"),
        (HOUSES, {"columns": ("price=category",)}, r"^`price` is the target, whose type is told by --task"),
        (
            ["x,price", *[f"{n},name {n}" for n in range(50)]],
            {},
            r"^my_houses has too few rows of each class.* 50 rows have 50 classes in `price`: name another --target$",
        ),
        (
            ["x,price", *[f"{n},{n}.5" for n in range(50)]],
            {"task": "classification"},
            r"classes in `price`: name another --target, or --task regression$",
        ),
        (HOUSES[:8], {}, r"^my_houses must have at least 10 rows with a target. Received: 7"),
        (["price", "1.5"], {}, r"^my_houses has no column beside the target"),
        (["x,price", *["1,a"] * 20], {}, r"^The target `price` must have different values. Every row has 'a'"),
    ],
)
def test_data_without_anything_to_learn_are_refused(
    houses: Callable[..., Dataset], lines: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        houses(lines, **options)

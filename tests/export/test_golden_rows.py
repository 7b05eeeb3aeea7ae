"""Golden rows: real ones, and the edges of what a model may be sent."""

from __future__ import annotations

import numpy as np
import pytest

from export.config import DataConfig
from export.datasets import Dataset, load_dataset
from export.golden_rows import golden_rows
from export.splitting import Part

LINES = ["number,city,flag,gap,kind,day,y"] + [
    f"{n + 1},{'ab'[n % 2]},{n % 3 == 0},{'' if n % 5 == 0 else 'true'},{n % 3 + 4},2020-01-0{n % 9 + 1},{n}.5"
    for n in range(100)
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("data") / "edges.csv"
    path.write_text("\n".join(LINES) + "\n")
    return load_dataset(DataConfig(data=str(path), target="y", columns=("kind=category",)))


def test_first_come_rows_spread_over_the_test_part(dataset: Dataset) -> None:
    test = dataset.load(Part.TEST).inputs["number"]
    assert golden_rows(dataset, count=3)["number"][:3].tolist() == [test[0], test[(len(test) - 1) // 2], test[-1]]


def test_edges_are_zero_smallest_largest_and_what_no_row_had(dataset: Dataset) -> None:
    train, edges = dataset.load(Part.TRAIN).inputs, {n: v[-4:].tolist() for n, v in golden_rows(dataset).items()}
    number = train["number"]
    assert edges["number"] == [0, number.min(), number.max(), pytest.approx(number.mean())]
    assert set(edges["city"]) == {"", "a", "b", "a value that no row had"}
    assert edges["flag"] == [False, False, True, True]
    assert edges["gap"] == [0, 0, -128, -128]
    assert edges["kind"][0] == 0
    assert edges["day"] == ["", "2020-01-01", "2020-01-09", "a value that no row had"]


def test_dtypes_are_the_inputs(dataset: Dataset) -> None:
    rows = golden_rows(dataset)
    assert {name: values.dtype.kind for name, values in rows.items()} == {
        "number": "f", "city": "U", "flag": "b", "gap": "i", "kind": "i", "day": "U",
    }  # fmt: skip
    assert rows["gap"].dtype == np.int8


def test_same_data_give_the_same_rows(dataset: Dataset) -> None:
    first, second = golden_rows(dataset), golden_rows(dataset)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])

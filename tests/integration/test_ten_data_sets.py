"""Ten data sets, from the file to answers over HTTP: raw rows give the metric that the manifest states."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as arrow_parquet
import pytest
from sklearn import datasets as shipped

from models.manifest import Manifest
from models.store import ArtifactStore
from tests.integration.conftest import ServerProcess

pytestmark = pytest.mark.slow

QUICK = ["--hidden-units", "32", "--dropout", "0", "--learning-rate", "0.01", "--batch-size", "32", "--epochs", "15"]
RANDOM = np.random.default_rng(20)
IN_ALL_FORMATS = ("houses", "codes", "arrays")


@dataclass(frozen=True)
class Sheet:
    """A data set as a client has it: rows as JSON values, in the order of the file, with their targets."""

    name: str
    names: list[str]
    rows: list[list[Any]]
    targets: list[Any]
    arguments: tuple[str, ...] = ()
    target: str = "target"

    @property
    def instances(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


def some(values: list[Any], missing: float) -> list[Any]:
    return [None if RANDOM.random() < missing else value for value in values]


def cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_csv(folder: Path, sheet: Sheet, headers: list[str], *, delimiter: str = ",", encoding: str = "utf-8") -> None:
    with (folder / f"{sheet.name}.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([*headers, sheet.target])
        writer.writerows([*map(cell, row), cell(y)] for row, y in zip(sheet.rows, sheet.targets, strict=True))


def houses(folder: Path) -> Sheet:
    """Every type, gaps in each, headers with spaces and umlauts; a regression."""
    count = 800
    size, city = (
        RANDOM.normal(100, 30, count).round(2).tolist(),
        RANDOM.choice(["Graz", "Zürich", "東京"], count).tolist(),
    )
    garden, year = (RANDOM.random(count) < 0.4).tolist(), RANDOM.integers(1950, 2024, count)
    built = [f"{y}-{m:02}-15" for y, m in zip(year, RANDOM.integers(1, 13, count), strict=True)]
    zone = RANDOM.integers(1, 6, count).tolist()
    bonus = {"Graz": 0, "Zürich": 300, "東京": 150}
    price = [
        round(3 * size[n] + bonus[city[n]] + 60 * garden[n] + 2 * (int(year[n]) - 1950) + 40 * (zone[n] % 3), 2)
        for n in range(count)
    ]
    columns = [some(size, 0.05), some(city, 0.05), some(garden, 0.05), some(built, 0.05), some(zone, 0.05)]
    names = ["größe m²", "Stadt, Land", "garden?", "built", "zone"]
    rows = [list(row) for row in zip(*columns, strict=True)]
    sheet = Sheet(
        "houses", names, rows, price, ("--data", str(folder / "houses.csv"), "--columns", "zone=category"), "Preis €"
    )
    write_csv(folder, sheet, names)
    return sheet


def single(folder: Path) -> Sheet:
    """One column, two classes."""
    x = RANDOM.normal(size=300).round(3).tolist()
    sheet = Sheet(
        "single",
        ["x"],
        [[v] for v in x],
        ["ja" if v > 0.3 else "nein" for v in x],
        ("--data", str(folder / "single.csv")),
    )
    write_csv(folder, sheet, ["x"])
    return sheet


def codes(folder: Path) -> Sheet:
    """Categories alone, five classes, semicolons, another encoding, headers that are empty or there twice."""
    colour = RANDOM.choice(["rot", "grün", "blau", "weiß"], 600).tolist()
    code = [f"{n:03}" for n in RANDOM.integers(0, 60, 600)]
    size = RANDOM.choice(["S", "M"], 600).tolist()
    targets = [
        f"Art {c[0]}{s}" if c in ("rot", "grün") else f"Art {int(k) % 2}"
        for c, k, s in zip(colour, code, size, strict=True)
    ]
    rows = [list(row) for row in zip(some(colour, 0.02), code, size, strict=True)]
    arguments = ("--data", str(folder / "codes.csv"), "--encoding", "latin-1")
    sheet = Sheet("codes", ["a", "a_2", "column_3"], rows, targets, arguments)
    write_csv(folder, sheet, ["a", "a", ""], delimiter=";", encoding="latin-1")
    return sheet


def wide(folder: Path) -> Sheet:
    """Two hundred columns with types of the file's own; integer classes."""
    numbers = RANDOM.normal(size=(500, 196)).astype(np.float32)
    flags = RANDOM.random((500, 2)) < 0.5
    days = (np.datetime64("2020-01-01") + RANDOM.integers(0, 1000, (500, 2))).astype(str)
    targets = (2 * (numbers[:, 0] + numbers[:, 1] > 0) + flags[:, 0]).astype(int).tolist()
    columns = [*(some(values.tolist(), 0.02) for values in numbers.T), *flags.T.tolist(), *days.T.tolist()]
    names = [f"c {n}" for n in range(200)]
    table = {name: pa.array(values) for name, values in zip(names, columns, strict=True)}
    table |= {name: table[name].cast(pa.date32()) for name in names[-2:]}
    arrow_parquet.write_table(pa.table({**table, "target": targets}), folder / "wide.parquet")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Sheet("wide", names, rows, targets, ("--data", str(folder / "wide.parquet")))


def arrays(folder: Path) -> Sheet:
    """A column of arrays and one of numbers; a regression, by the encoder."""
    images, weight = RANDOM.normal(size=(400, 3, 4)).astype(np.float32), RANDOM.integers(0, 9, 400)
    targets = (1000 + 50 * images[:, 0].sum(axis=1) + 20 * weight).astype(np.float32)
    np.savez(folder / "arrays.npz", image=images, weight=weight, target=targets)
    rows = [[image, number] for image, number in zip(images.tolist(), weight.tolist(), strict=True)]
    return Sheet(
        "arrays",
        ["image", "weight"],
        rows,
        targets.tolist(),
        ("--data", str(folder / "arrays.npz"), "--model", "encoder"),
    )


def scikit(name: str) -> Sheet:
    data = getattr(shipped, f"load_{name}")()
    values = data.data.astype(np.float32).tolist()
    is_digits, is_number = name == "digits", name == "diabetes"
    names = ["features"] if is_digits else [str(header).replace("/", "_") for header in data.feature_names]
    targets = data.target.tolist() if is_number else [str(data.target_names[index]) for index in data.target]
    return Sheet(name, names, [[row] for row in values] if is_digits else values, targets, ("--data", name))


SHEETS: dict[str, Callable[[Path], Sheet]] = {
    **{name: lambda _, name=name: scikit(name) for name in ("digits", "wine", "breast_cancer", "diabetes", "iris")},
    **{make.__name__: make for make in (houses, single, codes, wide, arrays)},
}  # fmt: skip


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sheet]:
    folder = tmp_path_factory.mktemp("data")
    return {name: make(folder) for name, make in SHEETS.items()}


@pytest.fixture(scope="module")
def store(sheets: dict[str, Sheet], tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """All ten, trained by the command's own code in this process, which spares ten starts of TensorFlow."""
    from export.__main__ import Export
    from models.command_line import main

    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    for sheet in sheets.values():
        formats = ["--formats", "saved_model,onnx,litert" if sheet.name in IN_ALL_FORMATS else "keras"]
        arguments = ["--target", sheet.target, "--artifacts", str(store.root), *formats, *QUICK, *sheet.arguments]
        assert main(Export, ["train", *arguments]) == 0, sheet.name
    return store


@pytest.fixture(scope="module")
def server(store: ArtifactStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(store.root, tmp_path_factory.mktemp("server") / "log") as process:
        for name in SHEETS:
            process.wait_until(lambda answer: answer.get("version") == 1, name)
        yield process


def held_out(sheet: Sheet, manifest: Manifest) -> np.ndarray:
    """The test rows, dealt as in the training but from the rows as the client has them."""
    from export.splitting import Dealer, Part

    labels = manifest.signature.labels
    classes = [labels.index(str(target)) for target in sheet.targets] if labels else [0] * len(sheet.targets)
    dealer = Dealer(num_classes=len(labels or "?"), validation_fraction=0.1, test_fraction=0.2, seed=0)
    return np.flatnonzero(dealer.deal(np.array(classes)) == Part.TEST)


@pytest.mark.parametrize("name", SHEETS)
def test_raw_rows_over_http_give_the_metric_of_the_manifest(
    name: str, sheets: dict[str, Sheet], store: ArtifactStore, server: ServerProcess
) -> None:
    sheet, manifest = sheets[name], store.open(name, 1).manifest
    chosen = held_out(sheet, manifest)
    instances, targets = sheet.instances, [sheet.targets[row] for row in chosen]
    query = "?labels=true" if manifest.signature.labels else ""
    response = server.client.post(
        f"/models/{name}/predict{query}", json={"instances": [instances[row] for row in chosen]}
    )
    assert response.status_code == 200, response.text
    answers, metrics = response.json()["predictions"], manifest.metrics
    if manifest.signature.labels:
        assert (
            np.mean([a["label"] == str(y) for a, y in zip(answers, targets, strict=True)]) == metrics["test_accuracy"]
        )
        assert metrics["test_accuracy"] > metrics["test_baseline_accuracy"] + 0.1
    else:
        rmse = math.sqrt(np.mean((np.array(answers) - np.array(targets)) ** 2))
        assert rmse == pytest.approx(metrics["test_rmse"], rel=1e-5)  # float32 in other batches
        assert metrics["test_rmse"] < 0.9 * metrics["test_baseline_rmse"]


@pytest.mark.parametrize("name", SHEETS)
def test_example_of_each_model_works_as_it_stands(name: str, server: ServerProcess) -> None:
    example = server.client.get(f"/models/{name}").json()["example"]
    answer = server.client.post(f"/models/{name}/predict", json=example["request"]).json()
    np.testing.assert_allclose(answer["predictions"], example["response"]["predictions"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["codes", "arrays"])
def test_each_format_is_proved(name: str, store: ArtifactStore) -> None:
    manifest = store.open(name, 1).manifest
    assert (list(manifest.formats), manifest.left_out) == (["keras", "saved_model", "onnx", "litert"], {})


def test_formats_that_hold_no_dates_say_so(store: ArtifactStore) -> None:
    manifest = store.open("houses", 1).manifest
    assert list(manifest.formats) == ["keras", "saved_model"]
    assert sorted(manifest.left_out) == ["litert", "onnx"]
    for title, reason in zip(("LiteRT", "ONNX"), (manifest.left_out["litert"], manifest.left_out["onnx"]), strict=True):
        assert reason.startswith(f"It cannot be written. {title} has no ")
        assert reason.endswith(" of the kind that the layer `date_parts_1` (DateParts) needs.")


def test_unknown_category_and_null_are_answered(server: ServerProcess) -> None:
    row = {"größe m²": None, "Stadt, Land": "Atlantis", "garden?": None, "built": "unknown", "zone": 99}
    response = server.client.post("/models/houses/predict", json={"instances": [row]})
    assert response.status_code == 200, response.text
    assert math.isfinite(response.json()["predictions"][0])


def test_null_where_nothing_was_missing_is_refused(server: ServerProcess) -> None:
    response = server.client.post("/models/single/predict", json={"instances": [{"x": None}]})
    assert (response.status_code, "must hold numbers. Row 0 holds null" in response.text) == (400, True)

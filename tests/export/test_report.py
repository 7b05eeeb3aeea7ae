"""The report: all that is known of a version on one page, which needs nothing else and runs nothing."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.datasets import Rows
from export.evaluation import Evaluator
from export.reexport import reexport
from export.report import render
from export.report_data import DATA, PAGE, LayerSummary, ReportData, read_data
from models.artifact import Artifact, ArtifactError
from models.golden import read_golden
from models.manifest import (
    Certificate,
    ColumnRecord,
    DatasetRecord,
    FormatRecord,
    LayerRecord,
    Manifest,
    OriginRecord,
    Signature,
    TensorSpec,
    TrainingRecord,
    VariableRecord,
)
from models.problem import Problem
from models.store import ArtifactStore

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script> & \"'"
VOID = {"meta", "img", "br"}
TRAINING = TrainingRecord(
    config={"epochs": 3, "columns": ["zip=category"]},
    dataset=DatasetRecord(name="houses", sha256="d" * 64, rows=4000),
    seed=7,
    metrics={"test_accuracy": 0.75, "test_loss": 0.5, "test_baseline_accuracy": 0.5, "test_baseline_loss": 0.7},
    task="classification",
    target="sold",
    columns=(
        ColumnRecord(name="area", header=" area", type="number", missing=3, minimum=20, maximum=350, mean=99.5),
        ColumnRecord(name="built", header="built", type="date", missing=0, minimum=-1, maximum=365, mean=31),
        ColumnRecord(name="city", header="city", type="category", missing=0, categories=17),
    ),
    history={"loss": (3.0, 2.0, 1.0), "validation_loss": (3.0, 1.0, 2.0), "validation_accuracy": (0.1, 0.8, 0.7)},
    notes=("Column `x` is constant and tells nothing.",),
)
MANIFEST = Manifest(
    name="houses",
    version=3,
    created_at=datetime(2026, 2, 3, 4, 5, tzinfo=UTC),
    signature=Signature(
        inputs=(TensorSpec(name="area", dtype="float32", shape=(None,), nullable=True),),
        outputs=(TensorSpec(name="probabilities", dtype="float32", shape=(None, 2)),),
        labels=("no", "yes"),
    ),
    formats={"keras": FormatRecord(path="model.keras", max_abs_error=2.5e-7, max_rel_error=3e-6, tolerance=1e-5)},
    left_out={"onnx": "It cannot be written. No such operator."},
    files={},
    training=TRAINING,
    layers={"my>Gate": LayerRecord(module="my_layers", source_sha256="e" * 64)},
    variables=(VariableRecord(name="gate/kernel", shape=(10, 300), dtype="float32"),),
    environment={"keras": "3.15.1"},
    certificate=Certificate(batch_safe=False, deterministic=True, finite=True, rows=8, reasons=("it peeks",)),
)
LAYERS = (LayerSummary(name="gate", kind="Gate", output="(*, 3)", parameters=3000, is_custom=True),)


class Page(HTMLParser):
    """A page's text, its elements' attributes, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += f"{data} " if self.open[-1:] != ["style"] else ""


def classified(labels: tuple[str, ...] = ("no", "yes"), **inputs: np.ndarray) -> ReportData:
    """The data of a classifier that errs in a quarter of 40 rows."""
    classes = np.arange(40) % len(labels)
    taken = np.where(np.arange(40) % 4 == 0, (classes + 1) % len(labels), classes)
    evaluator = Evaluator(Problem("m", (), labels=labels), seed=0)
    inputs = inputs or {"area": np.linspace(20, 350, 40, dtype=np.float32)}
    evaluator.add(Rows(inputs, classes), np.full((40, len(labels)), 0.1) + 0.8 * np.eye(len(labels))[taken])
    return ReportData(layers=LAYERS, evaluation=evaluator.evaluation())


def estimated() -> ReportData:
    """The data of a regression with an error of one in each row."""
    targets = np.linspace(1, 2000, 1500)
    evaluator = Evaluator(Problem("m", ()), seed=0)
    evaluator.add(Rows({"area": targets.astype(np.float32)}, targets), targets + 1)
    return ReportData(evaluation=evaluator.evaluation())


def labelled(*labels: str) -> Manifest:
    return MANIFEST.model_copy(update={"signature": MANIFEST.signature.model_copy(update={"labels": labels})})


def words(manifest: Manifest, data: ReportData) -> str:
    """The text of the page, after a look at its form."""
    page = Page(render(manifest, data))
    assert page.open == []
    return " ".join(page.words.split())


@pytest.fixture(scope="module")
def page_words() -> str:
    return words(MANIFEST, classified())


@pytest.mark.parametrize(
    "text",
    [
        "houses @3",
        "Classification of sold, trained on houses (4,000 rows), published 2026-02-03 04:05 UTC",
        "accuracy 75.0% 50.0% by always answering the most frequent class",
        "loss 0.5 0.7 by always answering",
        "calibration error 0.150",
        "From 40 rows that neither the training nor its early stopping saw. The answer was right for 30 of them.",
        "no yes 10 50.0%",  # half of the even rows are of one class and taken for the other
        "class precision recall F1 rows no 100.0% 50.0% 66.7% 20 yes 66.7% 100.0% 80.0% 20",
        "no yes 0.9 0.1 20",
        "3 epochs; the weights are those after epoch 2.",
        "Column `x` is constant",
        "area ( area) number 3 20 350 99.5",
        "built date 0 1969-12-31 1971-01-01 1970-02-01",
        "city category 0 17",
        "3,000 parameters.",
        "takes area float32 (*) may be missing",
        "gate Gate (custom) (*, 3) 3,000",
        "keras model.keras 2.5e-07 3.0e-06 1e-05",
        "onnx It cannot be written. No such operator.",
        "The same rows get the same answers twice. A row's answer may depend on its neighbours",
        "it peeks",
        "columns zip=category",
        "seed 7",
        f"my>Gate my_layers {'e' * 64}",
    ],
)
def test_page_says(page_words: str, text: str) -> None:
    assert text in page_words


@pytest.mark.parametrize("data", [classified(), estimated(), classified(x=np.ones((40, 8, 8)))])
def test_page_stands_alone(data: ReportData) -> None:
    page = Page(render(MANIFEST, data))
    assert not page.tags & {"script", "link", "iframe", "object"}
    links = [value or "" for name, value in page.attributes if name in {"src", "href", "xlink:href"}]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)


def test_same_version_gives_the_same_page() -> None:
    assert render(MANIFEST, classified()) == render(MANIFEST, classified())


def test_text_from_data_is_escaped_everywhere() -> None:
    record = MANIFEST.model_dump(mode="json")
    record["training"] |= {"target": HOSTILE, "notes": [HOSTILE], "config": {HOSTILE: HOSTILE}}
    record["training"]["columns"][0]["name"] = record["training"]["dataset"]["name"] = HOSTILE
    record["signature"]["inputs"][0]["name"] = HOSTILE
    record["signature"]["labels"] = ["no", HOSTILE]
    record |= {"left_out": {HOSTILE: HOSTILE}, "environment": {HOSTILE: HOSTILE}}
    inputs = {HOSTILE: np.array([HOSTILE] * 40)}
    data = classified(("no", HOSTILE), **inputs)
    page = Page(render(Manifest.model_validate(record), data))
    assert not page.tags & {"script"}
    assert page.words.count("<script>alert(1)</script>") >= 12


def test_rows_that_are_pictures_are_drawn() -> None:
    page = render(MANIFEST, classified(x=np.random.default_rng(0).random((40, 64))))
    assert page.count('<div class="card"><img alt="" src="data:image/png;base64,') == 12


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (5, 9, 1), (6, 6, 3), (64,)])
def test_picture_of_any_form_is_drawn(shape: tuple[int, ...]) -> None:
    assert render(MANIFEST, classified(x=np.ones((40, *shape)))).count("<img") == 12


@pytest.mark.parametrize("shape", [(4,), (60,), (2, 9), (6, 6, 2), (5, 5, 5, 5)])
def test_other_arrays_are_written_out(shape: tuple[int, ...]) -> None:
    page = render(MANIFEST, classified(x=np.ones((40, *shape))))
    assert "<img" not in page
    assert "1.0" in page


def test_rows_of_many_columns_are_cut_and_said_to_be() -> None:
    inputs = {f"column {number}": np.arange(40) for number in range(50)}
    assert "The first 30 of 50 columns." in words(MANIFEST, classified(**inputs))


def test_rows_that_are_too_large_are_said_to_be() -> None:
    assert "Their values are too many to be shown." in words(MANIFEST, classified(x=np.ones((40, 100, 100))))


def test_missing_value_and_category_are_shown_as_they_are() -> None:
    inputs = {"area": np.full(40, np.nan), "zip": np.full(40, 8010)}
    assert "missing 8010" in words(MANIFEST, classified(**inputs))


def test_of_many_classes_the_most_confused_are_listed() -> None:
    labels = tuple(f"class {number}" for number in range(45))
    text = words(labelled(*labels), classified(labels))
    assert "Most often confused" in text
    assert "class 0 class 1 1 100.0%" in text
    assert "Show 45 classes" in text


def test_regression_shows_its_errors() -> None:
    training = TRAINING.model_copy(
        update={
            "task": "regression",
            "metrics": {"test_rmse": 1.0, "test_baseline_rmse": 577.0},
            "history": {"loss": (2.0, 1.0), "validation_rmse": (2.0, 1.5)},
        }
    )
    text = words(MANIFEST.model_copy(update={"training": training}), estimated())
    assert "RMSE 1 577 by always answering the mean" in text
    assert "The plots show 1,000 of the rows, drawn at random." in text
    assert "true sold" in text
    assert "2 epochs; the weights are those after epoch 2." in text


@pytest.mark.parametrize(
    "history",
    [{}, {"loss": ()}, {"loss": (1.0,)}, {"loss": (float("nan"),)}, {"loss": (1.0, 2.0), "validation_rmse": (1.0,)}],
)
def test_any_history_makes_a_page(history: dict[str, tuple[float, ...]]) -> None:
    training = TRAINING.model_copy(update={"history": history, "columns": (), "notes": (), "task": None})
    assert "houses @3" in words(MANIFEST.model_copy(update={"training": training}), ReportData())


def test_model_trained_elsewhere_shows_what_is_known() -> None:
    origin = OriginRecord(kind="h5", files={"old.h5": "f" * 64}, mapped=("`A` is B",))
    changes: dict[str, Any] = {"training": None, "origin": origin, "golden_source": "drawn", "certificate": None}
    text = words(MANIFEST.model_copy(update=changes), ReportData(layers=LAYERS))
    assert "Trained elsewhere, published 2026-02-03 04:05 UTC Model Proof Provenance Model" in text
    assert "The golden rows were drawn from the signature." in text
    assert f"SHA-256 of old.h5 {'f' * 64} mapped `A` is B" in text


def test_saved_anew_is_said_with_what_was_accepted() -> None:
    anew = MANIFEST.model_copy(update={"parent": 2, "accepted": ("answers",)})
    text = words(anew, classified())
    assert "Saved anew from houses@2; what is said of held-out rows was measured then." in text
    assert "parent houses@2, accepting changed answers" in text
    training = anew.training.model_copy(update={"metrics": {}})
    text = words(anew.model_copy(update={"training": training}), ReportData())
    assert "Saved anew from houses@2. Answers were allowed to change. No metrics on held-out rows are known" in text
    assert "measured then" not in text


@pytest.mark.slow
def test_published_page_is_that_of_its_manifest(published: Artifact) -> None:
    assert {PAGE, DATA} <= published.manifest.files.keys()
    published.verify_files()
    page = (published.path / PAGE).read_text()
    assert page == render(published.manifest, read_data(published))
    assert "<title>tiny@1</title>" in page
    assert [layer.name for layer in read_data(published).layers][:2] == ["x", "y/dense"]


@pytest.fixture
def copied(published: Artifact, store: ArtifactStore) -> Artifact:
    """The published version, alone in a store of this test's own."""
    shutil.copytree(published.path, store.root / "tiny" / "1")
    return store.open("tiny", 1)


def republished(artifact: Artifact, store: ArtifactStore, data: bytes | None) -> Artifact:
    """The version published once more with other data of its report, or with none."""
    from models.artifact import file_paths, file_record

    with store.stage("tiny") as staging:
        shutil.copytree(artifact.path, staging, dirs_exist_ok=True)
        (staging / PAGE).unlink()
        (staging / DATA).unlink() if data is None else (staging / DATA).write_bytes(data)
        files = {name: file_record(path) for name, path in file_paths(staging).items()}
        return store.publish(staging, artifact.manifest.model_copy(update={"files": files}))


@pytest.mark.slow
def test_version_of_an_earlier_release_has_no_data(copied: Artifact, store: ArtifactStore) -> None:
    assert read_data(republished(copied, store, None)) == ReportData()


@pytest.mark.slow
def test_data_of_another_release_are_refused(copied: Artifact, store: ArtifactStore) -> None:
    with pytest.raises(ArtifactError, match=r"^`report/data.json` is not the data of a report of this release: "):
        read_data(republished(copied, store, b'{"schema_version": 2}'))


@pytest.mark.slow
def test_reexport_carries_the_evaluation_over(copied: Artifact, store: ArtifactStore) -> None:
    data = classified(x=read_golden(copied).inputs["x"][np.arange(40) % 3])
    parent = republished(copied, store, data.model_dump_json().encode())
    child = reexport(store, parent, layers=("tiny_layers",), formats=("keras",))
    assert read_data(child).evaluation == data.evaluation
    assert "Saved anew from tiny@2" in (child.path / PAGE).read_text()


def report(store: ArtifactStore, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command without a display, unless the environment names one."""
    inherited = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "WAYLAND_DISPLAY"}}
    return subprocess.run(
        [sys.executable, "-m", "export", "report", *arguments, "--artifacts", str(store.root)],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_command_tells_where_the_page_is(copied: Artifact, store: ArtifactStore) -> None:
    done = report(store, "tiny")
    assert (done.returncode, done.stdout) == (0, f"{copied.path.resolve() / PAGE}\n")


@pytest.mark.slow
def test_command_opens_the_page_where_there_is_a_display(
    copied: Artifact, store: ArtifactStore, tmp_path: Path
) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(stat.S_IRWXU)
    done = report(store, "tiny@1", DISPLAY=":0", BROWSER=f"{browser} %s")
    assert done.returncode == 0
    assert (tmp_path / "opened").read_text().strip() == (copied.path.resolve() / PAGE).as_uri()


@pytest.mark.slow
def test_command_makes_the_page_anew(copied: Artifact, store: ArtifactStore, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    done = report(store, "tiny@1", "--output", str(output))
    assert (done.returncode, done.stdout) == (0, f"{output}\n")
    assert output.read_bytes() == (copied.path / PAGE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda page: page.write_text("changed"), "`report/index.html` is damaged: "),
        (lambda page: page.unlink(), "`report/index.html` is missing, the manifest lists it."),
    ],
)
def test_command_refuses_a_damaged_page(copied: Artifact, store: ArtifactStore, damage: Any, message: str) -> None:
    damage(copied.path / PAGE)
    done = report(store, "tiny@1")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(f"python -m export: {message}", done.stderr)


@pytest.mark.slow
def test_command_says_how_to_make_a_page_where_there_is_none(copied: Artifact, store: ArtifactStore) -> None:
    republished(copied, store, None)
    done = report(store, "tiny@2")
    assert done.stderr == (
        "python -m export: tiny@2 has no report: an earlier release made it. --output PATH makes one.\n"
    )

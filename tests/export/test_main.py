"""`python -m export`: from nothing to a published version, and every way to be told no."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from export.__main__ import Export
from export.report_data import PAGE, read_data
from models.artifact import Artifact
from models.command_line import main
from models.golden import read_golden
from models.store import ArtifactStore
from tests.conftest import OUTPUT

ROOT = Path(__file__).resolve().parents[2]
KERAS2 = Path(__file__).parent / "keras2"


@pytest.fixture(autouse=True)
def _settings_from_here(monkeypatch: pytest.MonkeyPatch, store: ArtifactStore) -> None:
    for name in [name for name in os.environ if name.startswith("LAYERSERVE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAYERSERVE_ARTIFACTS", str(store.root))


@pytest.fixture
def copied(published: Artifact, store: ArtifactStore) -> Artifact:
    """The published version, alone in the store that the environment names."""
    shutil.copytree(published.path, store.root / "tiny" / "1")
    return store.open("tiny", 1)


def export(*arguments: str) -> int:
    return main(Export, list(arguments))


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "export", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--help"], ["python -m export", "train", "verify", "reexport", "report", "proves the saved model"]),
        (
            ["train", "--help"],
            [
                "--epochs",
                "(default: 100)",
                "--data",
                "--target",
                "--columns",
                "--model",
                "--builder",
                "--layers",
                "--name",
            ],
        ),
        (["publish", "--help"], ["FILE", "--name", "--weights", "--samples", "--labels", "--layers", "--formats"]),
        (["verify", "--help"], ["VERSION", "NAME@VERSION, or NAME for the version that is", "--layers", "--artifacts"]),
        (["reexport", "--help"], ["VERSION", "--layers", "--artifacts", "--formats", "--accept"]),
    ],
)
def test_help_names_everything(capsys: pytest.CaptureFixture[str], arguments: list[str], texts: list[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        export(*arguments)
    output = " ".join(capsys.readouterr().out.split())
    assert [text for text in texts if text not in output] == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["train", "--epochs", "0"], "`epochs`: Input should be greater than or equal to 1. Received: 0"),
        (["train", "--hidden-units", "64,x"], "`hidden_units`: Input should be a valid integer"),
        (["train", "--momentum", "1"], "unrecognized arguments: --momentum 1. Try python -m export --help."),
        (["train", "--model", "tree"], "`model`: Input should be 'mlp' or 'encoder'. Received: tree"),
        (["train", "--task", "cluster"], "`task`: Input should be 'classification' or 'regression'"),
        (["train", "--columns", "zip"], "a column and its type are written name=type, such as zip=category"),
        (["train", "--dropout", "1"], "`dropout`: Input should be less than 1. Received: 1"),
        (["train", "--formats", "onnx,pickle"], "`formats`: Input should be 'keras', 'saved_model', 'onnx', "),
        (["reexport", "tiny", "--accept", "weights"], "`accept`: Input should be 'answers' or 'signature'"),
        (["verify"], "the following arguments are required: VERSION"),
        (["publish", "model.keras"], "`name`: Field required"),
        (["publish", "model.keras", "--name", "../x"], "A name is at most 100 letters"),
        (["distil"], "invalid choice: 'distil'"),
    ],
)
def test_wrong_option_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        export(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m export: ")
    assert text in line


def test_hidden_units_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERSERVE_HIDDEN_UNITS", "64,none")
    with pytest.raises(SystemExit, match="2"):
        export("train")
    assert "`hidden_units`: Input should be a valid integer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "reexport", "report"])
@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("tiny", "There is no model `tiny`. Models: none."),
        ("tiny@1", "`tiny` has no version 1. Versions: none."),
        ("tiny@one", "A version is named NAME or NAME@VERSION, such as digits@3. Received: tiny@one"),
        ("../tiny@1", "A model's name has 1 to 100 letters"),
    ],
)
def test_version_that_is_not_there_is_one_line_and_exit_1(
    capsys: pytest.CaptureFixture[str], command: str, version: str, line: str
) -> None:
    assert export(command, version) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"python -m export: {line}")


@pytest.mark.parametrize("arguments", [["train"], ["verify", "tiny"], ["reexport", "tiny"]])
def test_file_in_place_of_the_folder_is_told_at_once(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    store.root.write_text("not a folder")
    assert export(*arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m export: [Errno 20] Not a directory: ")


@pytest.mark.slow
def test_verify_says_how_close_the_answers_are(copied: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("verify", "tiny@1", "--layers", "tiny_layers") == 0
    assert capsys.readouterr().out.startswith("tiny@1 is whole, and a fresh process gives its golden answers within ")


@pytest.mark.slow
def test_verify_warns_of_a_changed_source(
    copied: Artifact,
    tiny_layers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = (tiny_layers / "tiny_layers.py").read_text().replace("x * self.scale", "self.scale * x")
    (tmp_path / "tiny_layers.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LAYERSERVE_LAYERS", "tiny_layers")
    assert export("verify", "tiny") == 0
    warning, *_ = capsys.readouterr().out.splitlines()
    assert (
        warning
        == "Warning: the source of TinyScale has changed since (`call` differs); the golden answers still agree."
    )


@pytest.mark.slow
def test_reexport_says_what_it_published(
    copied: Artifact, store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("reexport", "tiny", "--layers", "tiny_layers", "--formats", "litert") == 0
    *proofs, published = capsys.readouterr().out.splitlines()
    assert [line.split(" in a fresh process: ")[0] for line in proofs] == ["Proved keras", "Proved litert"]
    assert published.startswith("Published tiny@2 in ")
    assert store.versions("tiny") == [1, 2]


@pytest.mark.slow
def test_model_of_keras_2_is_published_with_drawn_rows(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("publish", str(KERAS2 / "sequential.h5"), "--name", "old", "--formats", "onnx") == 0
    assert capsys.readouterr().out.startswith(
        "`LayerNorm` is models.layers.layer_norm.LayerNorm.\nThe golden rows are "
    )
    manifest = store.open("old", 1).manifest
    assert (manifest.golden_source, manifest.training, list(manifest.formats)) == ("drawn", None, ["keras", "onnx"])
    assert (manifest.origin.kind, list(manifest.origin.files)) == ("h5", ["sequential.h5"])
    assert read_golden(store.open("old", 1)).rows == 16


@pytest.mark.slow
def test_compiled_model_is_published_with_samples_and_without_its_optimizer(
    store: ArtifactStore, published: Artifact, tmp_path: Path
) -> None:
    model = keras.Sequential([keras.layers.Input((2,), name="point"), keras.layers.Dense(2, name="side")])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 2)), np.ones((2, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "rows.npz", np.eye(2, dtype=np.float32))
    arguments = ["--samples", str(tmp_path / "rows.npz"), "--labels", "left,right", "--formats", "keras"]
    assert export("publish", str(tmp_path / "model.keras"), "--name", "sides", *arguments) == 0
    artifact = store.open("sides", 1)
    assert read_golden(artifact).inputs["point"].tolist() == [[1, 0], [0, 1]]
    assert (artifact.manifest.golden_source, artifact.manifest.signature.labels) == ("given", ("left", "right"))
    assert not keras.saving.load_model(artifact.format_path("keras")).compiled


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.keras"], "[Errno 2] No such file or directory: 'none.keras'"),
        ([str(KERAS2 / "weights.h5")], "`weights.h5` holds no model, at most weights."),
        ([str(KERAS2 / "sequential.h5"), "--samples", str(KERAS2 / "rows.npz")], "`rows.npz` must hold an array for"),
    ],
)
def test_model_that_cannot_be_published_is_one_line_and_exit_1(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert export("publish", *arguments, "--name", "old") == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"python -m export: {line}")
    assert store.names() == []


@pytest.mark.slow
def test_flag_for_layers_wins_over_the_environment(
    copied: Artifact, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAYERSERVE_LAYERS", "tiny_layers")
    assert export("verify", "tiny@1", "--layers", "no_such_module") == 1
    assert "The module `no_such_module` could not be imported" in capsys.readouterr().err


@pytest.fixture
def trained(digits: Path) -> tuple[ArtifactStore, str]:
    """The store after `train` without arguments, and what the command printed."""
    return ArtifactStore(digits), digits.with_name(OUTPUT).read_text()


@pytest.mark.slow
def test_train_publishes_digits_that_are_accurate_enough(trained: tuple[ArtifactStore, str]) -> None:
    store, output = trained
    manifest = store.open("digits", 1).manifest
    assert manifest.training.metrics["test_accuracy"] >= 0.97
    assert manifest.signature.labels == tuple("0123456789")
    assert manifest.training.dataset.rows == 1797
    assert "Published digits@1 in " in output


@pytest.mark.slow
def test_trained_digits_have_a_report_on_their_test_rows(trained: tuple[ArtifactStore, str]) -> None:
    store, output = trained
    artifact = store.open("digits", 1)
    artifact.verify_files()
    evaluation = read_data(artifact).evaluation
    assert sum(evaluation.found.correct) / evaluation.rows == artifact.manifest.training.metrics["test_accuracy"]
    page = (artifact.path / PAGE).read_text()
    assert page.count("<svg") == 4  # confusion, calibration, loss, accuracy
    assert page.count('class="card"><img') == 12
    assert output.endswith("See how good it is: python -m export report digits@1\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["keras", "saved_model", "onnx", "litert"])
def test_trained_digits_are_proved_in_each_format(trained: tuple[ArtifactStore, str], name: str) -> None:
    store, output = trained
    record = store.open("digits", 1).manifest.formats[name]
    assert max(record.max_abs_error, record.max_rel_error) < record.tolerance == 1e-5
    assert f"Proved {name} in a fresh process: " in output


@pytest.mark.slow
def test_trained_version_carries_no_optimizer(trained: tuple[ArtifactStore, str]) -> None:
    model = keras.saving.load_model(trained[0].open("digits", 1).format_path("keras"))
    assert not model.compiled


@pytest.mark.slow
def test_train_if_missing_does_nothing_where_a_version_is(trained: tuple[ArtifactStore, str]) -> None:
    store, _ = trained
    assert export("train", "--if-missing", "--artifacts", str(store.root)) == 0
    assert store.versions("digits") == [1]


@pytest.mark.slow
def test_interrupted_training_publishes_nothing(store: ArtifactStore) -> None:
    process = start("train")
    assert process.stderr is not None
    assert "training" in process.stderr.read(10)  # the bar is there
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert errors.splitlines()[-1] == "python -m export: interrupted."
    assert (process.returncode, "Traceback" in errors, store.names()) == (130, False, [])
    assert output.endswith("\nThe same command with --resume goes on with it.\n")
    assert len(list((store.root / "digits").glob(".training-*.npz"))) == 1


OWN_BUILDER = """
import keras

class OwnPlain(keras.layers.Layer):
    def call(self, x):
        return x

class OwnUnsaved(OwnPlain):
    def get_config(self):
        raise KeyError("units")

def build_own(problem, hidden_units, layer=OwnPlain):
    inputs = [keras.Input(feature.shape, dtype=feature.dtype, name=feature.name) for feature in problem.features]
    x = layer()(keras.layers.Concatenate()([keras.layers.Reshape((1,))(item) for item in inputs]))
    return keras.Model(inputs, keras.layers.Dense(len(problem.labels), activation="softmax", name="class")(x))

def build_unsaved(problem, hidden_units):
    return build_own(problem, hidden_units, OwnUnsaved)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--builder", "own_builder:build_own"],
            "`OwnPlain` (defined in own_builder). Name the module that defines them: ",
        ),
        (
            ["--builder", "own_builder:build_unsaved", "--layers", "own_builder"],
            "The model cannot be saved: KeyError: 'un",
        ),
    ],
)
def test_model_that_could_not_be_proved_is_not_trained(
    tmp_path: Path,
    store: ArtifactStore,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    told: str,
) -> None:
    (tmp_path / "own_builder.py").write_text(OWN_BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert export("train", "--data", "iris", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()  # no bar
    assert told in line
    assert store.names() == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--data", "houses.xlsx", "--target", "price"], "Data must be a file that ends in .csv, .tsv, .parquet"),
        (["--data", "houses.csv", "--target", "price"], "There is no file houses.csv."),
        (["--data", "wine", "--target", "price"], "There is no column `price` in wine to predict. Columns: alcohol"),
        (["--data", "iris", "--task", "regression"], "A regression's target must be a number. `target` is a category"),
        (["--data", "../..", "--target", "y"], "Data must be a file"),
        (["--builder", "no_such_module:build"], "The module `no_such_module` could not be imported"),
        (["--builder", "mlp", "--data", "houses.csv", "--target", "price"], "There is no file houses.csv."),
    ],
)
def test_data_that_cannot_be_trained_on_are_one_line_and_exit_1(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert export("train", *arguments) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"python -m export: {line}")

"""The one path of every export: a version is published whole and proved, or nothing is."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from export.publish import Candidate, publish
from export.verify import ProofError
from models import layers, registry
from models.artifact import Artifact, ArtifactError
from models.golden import read_golden
from models.loading import load_model
from models.store import ArtifactStore

Build = Callable[..., keras.Model]
MakeCandidate = Callable[..., Candidate]
ROOT = Path(__file__).resolve().parents[2]
ROWS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5], [9, 9, 9, 9]], dtype=np.float32)


@pytest.mark.slow
def test_published_version_is_whole(published: Artifact) -> None:
    published.verify_files()
    manifest = published.manifest
    assert (manifest.name, manifest.version) == ("tiny", 1)
    assert {record.path for record in manifest.formats.values()} | {"golden.npz"} <= set(manifest.files)
    assert [spec.name for spec in manifest.signature.inputs + manifest.signature.outputs] == ["x", "y"]
    assert manifest.training.metrics == {"accuracy": 0.5}


@pytest.mark.slow
def test_manifest_records_layers_and_environment(published: Artifact) -> None:
    records = published.manifest.layers
    assert {name: record.module for name, record in records.items()} == {
        "layerserve>Dense": "models.layers.dense",
        "layerserve>LayerNorm": "models.layers.layer_norm",
        "TinyScale": "tiny_layers",
    }
    assert published.manifest.environment["keras"] == keras.__version__


@pytest.mark.slow
def test_manifest_names_every_variable_and_what_each_format_errs(published: Artifact) -> None:
    manifest = published.manifest
    assert [(variable.name, variable.shape, variable.dtype) for variable in manifest.variables][:2] == [
        ("y/dense/kernel", (4, 3), "float32"),
        ("y/dense/bias", (3,), "float32"),
    ]
    assert (list(manifest.formats), manifest.left_out) == (["keras", "saved_model", "onnx", "litert"], {})
    assert all(record.max_rel_error < 1e-5 for record in manifest.formats.values())
    assert manifest.golden_source == "given"


@pytest.mark.slow
def test_golden_answers_are_the_live_models(published: Artifact) -> None:
    golden = read_golden(published)
    np.testing.assert_array_equal(golden.inputs["x"], ROWS)
    answers = load_model(published.format_path("keras"))(ROWS)["y"]
    np.testing.assert_allclose(golden.outputs["y"], answers, atol=1e-6)  # the order of float32 sums


def rich_model() -> keras.Model:
    word, count = keras.Input((), name="file", dtype="string"), keras.Input((None,), name="count", dtype="int32")
    image = keras.Input((4, 4, 1), name="image")
    number = keras.layers.StringLookup(vocabulary=["red", "green"], name="number")(word)
    pooled = keras.layers.GlobalAveragePooling2D()(registry.find("TinyScale")()(image))
    score = layers.Dense(2, activation=registry.find("tiny_triple"), name="score")(pooled)
    outputs = {"number": number, "total": keras.ops.sum(count, axis=1), "score": score, "word": word}
    return keras.Model([word, count, image], outputs)


@pytest.fixture(scope="module")
def rich(tiny_layers: Path, candidate: MakeCandidate, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A version with strings, integers and images for inputs, one of them named like an argument of NumPy's."""
    inputs = {
        "file": np.array(["green", "grün"]),
        "count": np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int32),
        "image": np.ones((2, 4, 4, 1), dtype=np.float32),
    }
    store = ArtifactStore(tmp_path_factory.mktemp("rich"))
    return publish(store, candidate(rich_model(), "rich", inputs), layers=("tiny_layers",), formats=("keras",))


@pytest.mark.slow
def test_several_inputs_of_any_kind_are_published(rich: Artifact) -> None:
    inputs = {spec.name: (spec.dtype, spec.shape) for spec in rich.manifest.signature.inputs}
    assert inputs == {
        "file": ("string", (None,)),
        "count": ("int32", (None, None)),
        "image": ("float32", (None, 4, 4, 1)),
    }


@pytest.mark.slow
def test_several_outputs_of_any_kind_are_proved(rich: Artifact) -> None:
    outputs = read_golden(rich).outputs
    assert outputs["number"].tolist() == [2, 0]
    assert outputs["total"].tolist() == [6, 15]
    assert outputs["word"].tolist() == ["green", "grün"]
    assert outputs["score"].shape == (2, 2)


@pytest.mark.slow
def test_manifest_lists_every_custom_object_of_the_model(rich: Artifact) -> None:
    assert sorted(rich.manifest.layers) == ["TinyScale", "layerserve>Dense", "tiny_triple"]


@pytest.mark.parametrize(
    ("layer", "options", "message"),
    [
        ("TinyScale", {"factor": float("nan")}, r"^The model answers golden rows with NaN or Infinity in `y`.$"),
        (
            "TinySquare",
            {},
            r"^Output `y` is float32\(3, 4\) for 3 golden rows, but the model promises float32\(3, 3\). See the layer",
        ),
        (
            "TinyMixed",
            {},
            r"^Output `y` is float32\(1, 4\) for 3 golden rows, but the model promises float32\(3, 4\)",
        ),
    ],
    ids=["not finite", "another shape", "other rows"],
)
def test_model_that_answers_wrongly_is_not_published(
    store: ArtifactStore,
    build: Build,
    candidate: MakeCandidate,
    layer: str,
    options: dict[str, float],
    message: str,
) -> None:
    model = build(y=[registry.find(layer)(**options)])
    with pytest.raises(ProofError, match=message):
        publish(store, candidate(model), layers=("tiny_layers",), formats=("keras",))
    assert store.names() == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": ROWS}, r"^Golden rows must be given for x. Received: y$"),
        ({"x": ROWS, "z": ROWS}, r"^Golden rows must be given for x. Received: x, z$"),
        ({}, r"^Golden rows must be given for x. Received: none$"),
        ({"x": ROWS[:0]}, r"^Golden inputs must have the same number of rows, 1 at least. Received: \[0\]$"),
        ({"x": ROWS[:, :2]}, r"^Golden rows of `x` must have shape \(batch, 4\)\. Received: \(3, 2\)$"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(
    store: ArtifactStore, build: Build, candidate: MakeCandidate, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        publish(store, candidate(build(y=[layers.Dense(2)]), inputs=inputs))
    assert store.names() == []


@pytest.mark.parametrize("rows", [np.array([["a", "b", "c", "d"]]), np.ones((1, 4), np.complex64)])
def test_golden_rows_of_another_kind_are_refused(
    store: ArtifactStore, build: Build, candidate: MakeCandidate, rows: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=r"^Golden rows of `x` must be float32\. Received: "):
        publish(store, candidate(build(y=[layers.Dense(2)]), inputs={"x": rows}))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["y"], r"^There must be a label for each of the values of `y`, of shape \(None, 2\)\. Received: 3 labels$"),
        (["y", "z"], r"^Labels name the classes of a model's only output\. Received: 3 labels, outputs y, z$"),
    ],
)
def test_labels_that_are_not_the_outputs_are_refused(
    store: ArtifactStore, build: Build, outputs: list[str], message: str
) -> None:
    model = build(**{name: [layers.Dense(2)] for name in outputs})
    with pytest.raises(ValueError, match=message):
        publish(store, Candidate("tiny", model, {"x": ROWS}, ("a", "b", "c")))
    assert store.names() == []


def test_model_under_a_bad_name_is_refused(store: ArtifactStore, build: Build, candidate: MakeCandidate) -> None:
    with pytest.raises(ArtifactError, match=r"^A model's name has 1 to 100 letters"):
        publish(store, candidate(build(y=[layers.Dense(2)]), name="../tiny"))


@pytest.mark.slow
def test_compiled_model_is_published_without_its_optimizer_and_stays_as_it_was(
    store: ArtifactStore, build: Build, candidate: MakeCandidate
) -> None:
    model = build(y=[layers.Dense(4)])
    model.compile("adam", "mse")
    model.fit(ROWS, {"y": ROWS}, verbose=0)
    artifact = publish(store, candidate(model), formats=("keras",))
    assert not keras.saving.load_model(artifact.format_path("keras")).compiled
    model.fit(ROWS, {"y": ROWS}, verbose=0)
    assert int(model.optimizer.iterations) == 2


@pytest.mark.slow
def test_input_that_nobody_named_has_its_layers_name(store: ArtifactStore, candidate: MakeCandidate) -> None:
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="y")(inputs))
    name = model.layers[0].name
    artifact = publish(store, candidate(model, inputs={name: ROWS}), formats=("onnx",))
    assert [spec.name for spec in artifact.manifest.signature.inputs] == [name]
    assert name.startswith("input_layer")


@pytest.mark.slow
def test_model_that_needs_layers_nobody_named_is_not_published(
    store: ArtifactStore, build: Build, candidate: MakeCandidate
) -> None:
    with pytest.raises(ProofError, match=r"`TinyScale` \(defined in tiny_layers\).*--layers tiny_layers"):
        publish(store, candidate(build(y=[registry.find("TinyScale")()])), formats=("keras",))
    assert not list((store.root / "tiny").glob(".staging-*"))


# Publishes a tiny model and kills itself (-9) at the first event that the second argument names.
KILLED = """
import os, signal, sys
from pathlib import Path
import keras, numpy as np
from export.publish import Candidate, publish
from models import layers
from models.manifest import DatasetRecord, TrainingRecord
from models.store import ArtifactStore

def kill(event, arguments):
    if sys.argv[2] in f"{event} {arguments[:2]}":
        os.kill(os.getpid(), signal.SIGKILL)

inputs = keras.Input((4,), name="x")
model = keras.Model(inputs, layers.Dense(2, name="y")(inputs))
record = DatasetRecord(name="rows", sha256="0" * 64, rows=1)
training = TrainingRecord(config={}, dataset=record, seed=0, metrics={})
sys.addaudithook(kill)
candidate = Candidate("tiny", model, {"x": np.ones((1, 4), np.float32)}, None, training)
publish(ArtifactStore(Path(sys.argv[1])), candidate, formats=("keras",))
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["model.keras", "golden.npz", "subprocess.Popen", "manifest.sha256", "os.rename"])
def test_export_killed_at_any_moment_leaves_no_half_version(published: Artifact, tmp_path: Path, moment: str) -> None:
    store = ArtifactStore(tmp_path)
    before = shutil.copytree(published.path, tmp_path / "tiny" / "1")
    command = [sys.executable, "-c", KILLED, str(tmp_path), moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "tiny").glob(".staging-*"))
    assert store.versions("tiny") == [1]
    Artifact.open(before).verify_files()


@pytest.mark.slow
def test_certificate_says_whether_rows_may_share_a_batch(published: Artifact) -> None:
    certificate = published.manifest.certificate
    assert certificate is not None
    assert (certificate.batch_safe, certificate.deterministic, certificate.reasons) == (True, True, ())

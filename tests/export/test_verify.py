"""The proof: whatever a fresh process finds otherwise is refused, and named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from export.publish import Candidate, publish
from export.reload import describe
from export.verify import Proof, ProofError, prove, verify
from models import registry
from models.artifact import Artifact, ArtifactError
from models.golden import Comparison, Golden
from models.loading import eager
from models.store import ArtifactStore

Build = Callable[..., keras.Model]
ROWS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5], [9, 9, 9, 9]], dtype=np.float32)


def changed_source(tiny_layers: Path, folder: Path, change: Callable[[str], str]) -> str:
    """Writes another `tiny_layers` into `folder`, for fresh processes to find first; gives their PYTHONPATH."""
    folder.joinpath("tiny_layers.py").write_text(change((tiny_layers / "tiny_layers.py").read_text()))
    return str(folder)


@pytest.fixture(scope="module")
def broken(build: Build, candidate: Callable[..., Candidate], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the proof says of a model all of whose layers reload wrongly."""
    find = registry.find
    build(unused=[find("TinyRenamed")()])  # counts on, as in a process that made several models
    model = build(
        forgetful=[find("TinyForgetful")(limit=3.0)],
        stateful=[find("TinyStateful")()],
        two_faced=[find("TinyTwoFaced")()],
        renamed=[find("TinyRenamed")()],
    )
    model.get_layer("stateful").layers[0].offset = np.ones(4, dtype=np.float32)
    store = ArtifactStore(tmp_path_factory.mktemp("broken"))
    with pytest.raises(ProofError) as caught:
        publish(store, candidate(model), layers=("tiny_layers",), formats=("keras",))
    assert store.names() == []
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        r"^The saved model is not the one that was trained: ",
        r"output `forgetful`: 2 of 3 golden rows differ by more than 1e-05, at most by 15",
        r"output `stateful`: 3 of 3 golden rows differ by more than 1e-05, at most by 1[.;]",
        r"output `two_faced`: 3 of 3 golden rows differ by more than 1e-05, at most by 1[.;]",
        r"weight 2 is named `bias_1` instead of `bias_2`",
    ],
)
def test_layer_that_reloads_wrongly_is_told(broken: str, line: str) -> None:
    assert re.search(line, broken)


@pytest.fixture(scope="module")
def told(build: Build, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the proof says where signature, configuration, weights and outputs are not the expected ones."""
    model, other = build(y=[registry.find("TinyScale")()]), build(z=[keras.layers.Dense(2), keras.layers.Dense(1)])
    path = tmp_path_factory.mktemp("told") / "model.keras"
    model.save(path)
    expected = describe(other, ("a", "b"))
    golden = Golden({"x": ROWS}, eager(other, expected.signature)({"x": ROWS}))
    with pytest.raises(ProofError) as caught:
        prove(path, golden, layers=("tiny_layers",), expected=expected)
    return str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "the signature is inputs=",
        "there are 1 weights instead of 4",
        r"weight 1 is named `variable` instead of `kernel`",
        r"`config.layers\[1\]",
        r"; and \d+ more\.$",
    ],
)
def test_every_kind_of_difference_is_told(told: str, line: str) -> None:
    assert re.search(line, told)


@pytest.mark.slow
def test_published_version_is_proved_again(published: Artifact) -> None:
    report = verify(published, layers=("tiny_layers",))
    assert report.proof.max_abs_error < 1e-6
    assert report.proof.changed_layers(published.manifest) == {}
    assert report.proof.layers == published.manifest.layers
    assert sorted(report.errors) == ["litert", "onnx", "saved_model"]
    assert max(report.errors.values()) < 1e-5
    assert report.skipped == {}


@pytest.mark.slow
def test_missing_layers_are_told_with_the_way_out(published: Artifact) -> None:
    with pytest.raises(
        ProofError, match=r"`TinyScale` \(defined in tiny_layers\).*--layers tiny_layers, or LAYERSERVE_LAYERS"
    ):
        verify(published, layers=())


@pytest.mark.slow
def test_changed_source_of_the_same_behaviour_passes_and_is_told(
    published: Artifact, tiny_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_path = changed_source(tiny_layers, tmp_path, lambda text: text.replace("x * self.scale", "self.scale * x"))
    monkeypatch.setenv("PYTHONPATH", search_path)
    proof = verify(published, layers=("tiny_layers",)).proof
    assert proof.changed_layers(published.manifest) == {"TinyScale": "`call` differs"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "x * self.scale",
            "x + self.scale",
            r"output `y`: 3 of 3 golden rows differ .*; the source of TinyScale \(`call` differs\) is not the one",
        ),
        (
            "        return keras.ops.minimum",
            "        raise AttributeError('it broke')\n        return keras.ops.minimum",
            r"^A fresh process cannot load and run the saved model. AttributeError: .*TinyScale.call\(\). it broke$",
        ),
        (
            "import keras\n",
            "import keras, os\nos._exit(0)\n",
            "^A fresh process ended on the saved model without an answer",
        ),
        (
            "import keras\n",
            "import os\nos.kill(os.getpid(), 9)\n",
            "^A fresh process failed on the saved model: exit code -9",
        ),
    ],
    ids=["other answers", "exception", "silent exit", "killed"],
)
def test_changed_source_of_another_behaviour_is_refused(
    published: Artifact,
    tiny_layers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: str,
    new: str,
    message: str,
) -> None:
    search_path = changed_source(tiny_layers, tmp_path, lambda text: text.replace(old, new, 1))
    monkeypatch.setenv("PYTHONPATH", search_path)
    with pytest.raises(ProofError, match=message):
        verify(published, layers=("tiny_layers",))


@pytest.mark.slow
def test_damaged_version_is_refused_before_anything_starts(published: Artifact, tmp_path: Path) -> None:
    copy = shutil.copytree(published.path, tmp_path / "copy")
    (copy / "model.keras").write_bytes(b"something else")
    with pytest.raises(ArtifactError, match=r"^`model.keras` is damaged"):
        verify(Artifact.open(copy), layers=("tiny_layers",))


@pytest.mark.slow
def test_moved_module_counts_as_changed(published: Artifact) -> None:
    records = {
        name: record.model_copy(update={"module": "elsewhere"}) for name, record in published.manifest.layers.items()
    }
    assert set(Proof(Comparison(0.0, 0.0, ()), records).changed_layers(published.manifest)) == set(
        published.manifest.layers
    )

"""Re-export: a new version from an old one's weights, if today's code still answers as the old one did."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.reexport import reexport
from export.report_data import read_data
from models.artifact import Artifact, ArtifactError
from models.golden import read_golden
from models.store import ArtifactStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


SHAPE = "\n\n    def compute_output_shape(self, input_shape):\n        return input_shape"
SUMMED = (
    f"return keras.ops.minimum(x * self.scale, self.limit){SHAPE}",
    f"return keras.ops.sum(x * self.scale, axis=-1){SHAPE}[:-1]",
)


@pytest.fixture
def copied(published: Artifact, store: ArtifactStore) -> Artifact:
    """The published version, alone in a store of this test's own."""
    shutil.copytree(published.path, store.root / "tiny" / "1")
    return store.open("tiny", 1)


def test_reexport_keeps_the_answers_and_records_the_parent(store: ArtifactStore, copied: Artifact) -> None:
    child = reexport(store, copied, layers=("tiny_layers",), formats=("keras",))
    wanted, got = read_golden(copied), read_golden(child)
    assert (child.manifest.version, child.manifest.parent) == (2, 1)
    np.testing.assert_array_equal(got.inputs["x"], wanted.inputs["x"])
    np.testing.assert_array_equal(got.outputs["y"], wanted.outputs["y"])
    assert child.manifest.training.metrics == copied.manifest.training.metrics


@pytest.mark.parametrize(
    ("old", "new", "message", "way_out"),
    [
        (
            "x * self.scale",
            "x + self.scale",
            "tiny@1 does not answer as it did: output `y`: 3 of 3 golden rows differ by more than 1e-05, at most by ",
            " If that is meant: --accept answers.",
        ),
        (
            "return keras.ops.minimum",
            "raise KeyError('it broke')\n        return keras.ops.minimum",
            "tiny@1 does not answer as it did: KeyError: ",
            "",
        ),
        (
            *SUMMED,
            "the signature is inputs=",
            " If that is meant: --accept signature.",
        ),
    ],
    ids=["other answers", "exception", "other signature"],
)
def test_changed_behaviour_is_refused_with_the_layer_that_changed(
    store: ArtifactStore,
    copied: Artifact,
    tiny_layers: Path,
    tmp_path: Path,
    old: str,
    new: str,
    message: str,
    way_out: str,
) -> None:
    done = reexport_changed(store, tiny_layers, tmp_path, old, new)
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m export: Under today's code ")
    assert message in line
    assert "The source of TinyScale (`" in line
    assert line.endswith(f" has changed since.{way_out}")
    assert (done.returncode, done.stdout, store.versions("tiny")) == (1, "", [1])


def test_changed_answers_are_published_if_they_are_accepted(
    store: ArtifactStore, copied: Artifact, tiny_layers: Path, tmp_path: Path
) -> None:
    arguments = ("--accept", "answers", "--formats", "onnx")
    done = reexport_changed(store, tiny_layers, tmp_path, "x * self.scale", "x + self.scale", *arguments)
    assert done.returncode == 0, done.stderr
    child = store.open("tiny", 2)
    assert (child.manifest.parent, child.manifest.accepted) == (1, ("answers",))
    assert list(child.manifest.formats) == ["keras", "onnx"]
    assert not np.allclose(read_golden(child).outputs["y"], read_golden(copied).outputs["y"])
    told, before = child.manifest.training, copied.manifest.training
    assert (before.metrics != {}, told.metrics) == (True, {})
    assert told.notes[-1] == "The answers are not those of tiny@1, so its test metrics are left out."
    assert told.history == before.history
    assert read_data(child).evaluation is None


def test_answers_that_may_change_and_do_not_keep_their_metrics(store: ArtifactStore, copied: Artifact) -> None:
    child = reexport(store, copied, layers=("tiny_layers",), formats=("keras",), accept=("answers",))
    assert child.manifest.training == copied.manifest.training


def reexport_changed(
    store: ArtifactStore, tiny_layers: Path, folder: Path, old: str, new: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Re-exports `tiny@1` in a process that finds another source of its layers."""
    source = (tiny_layers / "tiny_layers.py").read_text()
    assert old in source
    (folder / "tiny_layers.py").write_text(source.replace(old, new, 1))
    command = [sys.executable, "-m", "export", "reexport", "tiny@1", "--artifacts", str(store.root), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(folder), "LAYERSERVE_LAYERS": "tiny_layers"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_damaged_parent_is_refused(store: ArtifactStore, copied: Artifact) -> None:
    (copied.path / "golden.npz").write_bytes(b"something else")
    with pytest.raises(ArtifactError, match=r"^`golden.npz` is damaged"):
        reexport(store, copied, layers=("tiny_layers",))
    assert store.versions("tiny") == [1]

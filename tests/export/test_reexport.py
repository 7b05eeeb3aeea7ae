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
from models.artifact import Artifact, ArtifactError
from models.golden import TOLERANCE, read_golden
from models.store import ArtifactStore

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copied(published: Artifact, store: ArtifactStore) -> Artifact:
    """The published version, alone in a store of this test's own."""
    shutil.copytree(published.path, store.root / "tiny" / "1")
    return store.open("tiny", 1)


def test_reexport_keeps_the_answers_and_records_the_parent(store: ArtifactStore, copied: Artifact) -> None:
    child = reexport(store, copied, layers=("tiny_layers",))
    wanted, got = read_golden(copied), read_golden(child)
    assert (child.manifest.version, child.manifest.parent) == (2, 1)
    np.testing.assert_array_equal(got.inputs["x"], wanted.inputs["x"])
    np.testing.assert_allclose(got.outputs["y"], wanted.outputs["y"], atol=TOLERANCE)
    assert child.manifest.training.metrics == copied.manifest.training.metrics


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("x * self.scale", "x + self.scale", "output `y`: 3 of 3 golden rows differ by more than 1e-05, at most by "),
        ("return keras.ops.minimum", "raise KeyError('it broke')\n        return keras.ops.minimum", "it broke"),
    ],
    ids=["other answers", "exception"],
)
def test_changed_behaviour_is_refused_with_the_layer_that_changed(
    store: ArtifactStore, copied: Artifact, tiny_layers: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    source = (tiny_layers / "tiny_layers.py").read_text().replace(old, new, 1)
    (tmp_path / "tiny_layers.py").write_text(source)
    command = [sys.executable, "-m", "export", "reexport", "tiny@1", "--artifacts", str(store.root)]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "LAYERSERVE_LAYERS": "tiny_layers"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m export: Under today's code tiny@1 does not answer as it did: ")
    assert message in line
    assert line.endswith("The source of TinyScale has changed since.")
    assert (done.returncode, done.stdout, store.versions("tiny")) == (1, "", [1])


def test_damaged_parent_is_refused(store: ArtifactStore, copied: Artifact) -> None:
    (copied.path / "golden.npz").write_bytes(b"something else")
    with pytest.raises(ArtifactError, match=r"^`golden.npz` is damaged"):
        reexport(store, copied, layers=("tiny_layers",))
    assert store.versions("tiny") == [1]

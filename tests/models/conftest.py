"""What the tests of `models` share: a store, and versions that are published in it without Keras."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact, file_paths, file_record
from models.golden import Golden, write_golden
from models.manifest import DatasetRecord, FormatRecord, LayerRecord, Manifest, Signature, TensorSpec, TrainingRecord
from models.store import ArtifactStore

GOLDEN = Golden(
    inputs={"x": np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)},
    outputs={"y": np.array([3, 7, 11], dtype=np.float32)},
)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def publish_fake() -> Callable[..., Artifact]:
    """Publishes a version whose model is mere bytes: `publish_fake(store, name, metrics={...})`."""
    return _publish_fake


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Makes a module importable: `write_module("my_layers", source)`. What it registers stays: use unique names."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)

    return write


@pytest.fixture
def artifact(store: ArtifactStore) -> Artifact:
    return _publish_fake(store)


def _publish_fake(
    store: ArtifactStore, name: str = "toy", *, metrics: dict[str, float] | None = None, golden: Golden = GOLDEN
) -> Artifact:
    with store.stage(name) as staging:
        (staging / "model.keras").write_bytes(b"a model, as far as the store can tell")
        (staging / "assets").mkdir()
        (staging / "assets" / "words.txt").write_text("one\ntwo\n")
        write_golden(staging, golden)
        return store.publish(staging, _manifest(name, staging, metrics or {"accuracy": 0.5}))


def _manifest(name: str, staging: Path, metrics: dict[str, float]) -> Manifest:
    return Manifest(
        name=name,
        version=1,
        created_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
        signature=Signature(
            inputs=(TensorSpec(name="x", dtype="float32", shape=(None, 2)),),
            outputs=(TensorSpec(name="y", dtype="float32", shape=(None,)),),
        ),
        formats={"keras": FormatRecord(path="model.keras", max_abs_error=0, tolerance=1e-5)},
        files={path: file_record(file) for path, file in file_paths(staging).items()},
        training=TrainingRecord(
            config={"epochs": 1}, dataset=DatasetRecord(name="sums", sha256="0" * 64, rows=3), seed=0, metrics=metrics
        ),
        layers={"toys>Sum": LayerRecord(module="toys", source_sha256=None)},
        environment={"python": "3.11.0"},
    )

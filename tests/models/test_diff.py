"""Two versions compared: each kind of difference is told, and the first layer at which the answers part."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import layers
from models.artifact import Artifact, file_paths, file_record
from models.diff import diff
from models.golden import Golden, write_golden
from models.loading import eager, layer_records, signature_of
from models.manifest import DatasetRecord, FormatRecord, Manifest, TrainingRecord
from models.store import ArtifactStore

Publish = Callable[..., Artifact]
ROWS = np.array([[1, 2], [-3, 4], [0.5, 0]], dtype=np.float32)


def model(units: int = 4, width: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((width,), name="x")
    hidden = layers.LayerNorm(name="norm")(layers.Dense(units, name="hidden")(inputs))
    return keras.Model(inputs, layers.Dense(2, activation="softmax", name="class")(hidden), name="sides")


@pytest.fixture(autouse=True)
def _measured_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.diff._SECONDS_A_ROUND", 0.001)


@pytest.fixture
def save(store: ArtifactStore) -> Publish:
    """Puts a model into the store without a proof."""

    def save(model: keras.Model, accuracy: float = 0.5, epochs: int = 1) -> Artifact:
        signature = signature_of(model, ("left", "right"))
        rows = {"x": np.resize(ROWS, (3, model.inputs[0].shape[1]))}
        with store.stage("sides") as staging:
            model.save(staging / "model.keras")
            write_golden(staging, Golden(rows, eager(model, signature)(rows)))
            manifest = Manifest(
                name="sides",
                version=1,
                created_at=datetime(2025, 1, 2, tzinfo=UTC),
                signature=signature,
                formats={"keras": FormatRecord(path="model.keras", max_abs_error=0, tolerance=1e-5)},
                files={name: file_record(file) for name, file in file_paths(staging).items()},
                training=TrainingRecord(
                    config={"epochs": epochs},
                    dataset=DatasetRecord(name="rows", sha256="0" * 64, rows=3),
                    seed=0,
                    metrics={"accuracy": accuracy},
                ),
                layers=layer_records(staging / "model.keras"),
                environment={},
            )
            return store.publish(staging, manifest)

    return save


def sections(left: Artifact, right: Artifact) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in diff(left, right):
        if line.startswith("  "):
            found[list(found)[-1]].append(line.strip())
        else:
            found[line] = []
    return found


def test_same_model_differs_in_nothing_but_speed(save: Publish) -> None:
    told = sections(save(model()), save(model()))
    assert {name: lines for name, lines in told.items() if name != "Speed"} == {
        name: ["the same"] for name in ("Configuration", "Weights", "Metrics", "Answers", "Activations")
    }
    (speed,) = told["Speed"]
    assert speed.startswith("sides@1 ")
    assert speed.endswith(" rows/s, in batches of 256")


def test_changed_weights_are_told_by_layer_with_the_first_that_differs(save: Publish) -> None:
    old, new = model(), model()
    new.get_layer("norm").gamma.assign(np.array([2, 1, 1, 1], np.float32))
    told = sections(save(old), save(new))
    assert told["Weights"] == ["norm: changed by 1 (50.0% of its norm)"]
    assert told["Activations"][0].startswith("the first layer that differs is `norm` (3 of 3 golden rows differ")
    assert told["Answers"][0].startswith("on the golden rows of sides@1, output `class`: 3 of 3 golden rows differ")
    assert told["Answers"][1].endswith(" of 3 get another class")


def test_configuration_and_metrics_are_told(save: Publish) -> None:
    told = sections(save(model(4), 0.5, epochs=1), save(model(5), 0.75, epochs=2))
    assert "`config.layers[1].config.units` of `hidden` is 5 instead of 4" in told["Configuration"]
    assert "`training.epochs` is 2 instead of 1" in told["Configuration"]
    assert told["Metrics"] == ["accuracy: 0.5000 -> 0.7500"]
    assert told["Weights"] == ["hidden: of other shapes", "norm: of other shapes", "class: of other shapes"]


def test_layer_of_only_one_version_is_told(save: Publish) -> None:
    inputs = keras.Input((2,), name="x")
    short = keras.Model(inputs, layers.Dense(2, activation="softmax", name="class")(inputs), name="sides")
    weights = sections(save(model()), save(short))["Weights"]
    assert weights == ["hidden: only in sides@1", "norm: only in sides@1", "class: of other shapes"]


def test_versions_of_other_inputs_are_compared_as_far_as_it_goes(save: Publish) -> None:
    told = sections(save(model(width=2)), save(model(width=3)))
    assert list(told) == ["Configuration", "Weights", "Metrics", "Answers"]
    assert told["Answers"][0].startswith("sides@2 does not take the rows of sides@1: ")


@keras.saving.register_keras_serializable("test_diff")
class Scaled(keras.layers.Layer):
    """A layer whose code the tests change, by another factor; it fails, once it runs, for one that is not finite."""

    factor = 2.0

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.debugging.check_numerics(x * self.factor, "it broke")


def scaled() -> keras.Model:
    inputs = keras.Input((2,), name="x")
    return keras.Model(inputs, Scaled(name="scaled")(inputs), name="sides")


def test_version_that_lost_its_golden_answers_is_told(save: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    old = save(scaled())
    monkeypatch.setattr(Scaled, "factor", 3.0)
    told = sections(old, save(scaled()))
    (answers,) = told["Answers"]
    assert answers.startswith("sides@1 no longer gives its golden answers under today's code: output `scaled`: 3 of 3 ")
    assert told["Activations"] == ["the same"]


def test_version_that_no_longer_runs_is_told(save: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = save(scaled()), save(scaled())
    monkeypatch.setattr(Scaled, "factor", float("inf"))
    answers = sections(old, new)["Answers"]
    assert [line.split(" under ")[0] for line in answers[:2]] == [
        "sides@1 no longer answers its golden rows",
        "sides@2 no longer answers its golden rows",
    ]
    assert all("it broke" in line for line in answers)


def test_damaged_version_is_refused(save: Publish, store: ArtifactStore) -> None:
    artifact = save(model())
    Path(artifact.path / "golden.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^`golden.npz` is damaged"):
        sections(artifact, artifact)

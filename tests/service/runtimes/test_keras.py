from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import Artifact, ArtifactError, file_paths, file_record
from models.golden import Golden, write_golden
from models.manifest import DatasetRecord, FormatRecord, LayerRecord, Manifest, Signature, Tensors, TrainingRecord
from models.quiet import quiet_import
from models.store import ArtifactStore
from service.repository import ModelRepository
from service.runtimes import RuntimeUnavailableError, load
from service.runtimes.selection import choose

with quiet_import():
    import keras

    from models.layers import Dense, LayerNorm
    from models.loading import eager, layer_records, signature_of

LAYER = """
import keras

{decorator}
class {name}(keras.layers.Layer):
    def call(self, inputs):
        return inputs * {factor}
"""
REGISTERED = '@keras.saving.register_keras_serializable(package="shop")'


def publish(store: ArtifactStore, model: keras.Model, rows: Tensors, **changes: Any) -> Artifact:
    """Publishes a Keras model without the export's proof; `changes` are made to its manifest."""
    signature = signature_of(model)
    with store.stage("demo") as staging:
        model.save(staging / "model.keras")
        write_golden(staging, Golden(rows, eager(model, signature)(rows)))
        manifest = Manifest(
            name="demo",
            version=1,
            created_at=datetime(2025, 1, 2, tzinfo=UTC),
            signature=signature,
            formats={"keras": FormatRecord(path="model.keras", max_abs_error=0.0, tolerance=1e-5)},
            files={path: file_record(file) for path, file in file_paths(staging).items()},
            training=TrainingRecord(
                config={}, dataset=DatasetRecord(name="made up", sha256="0" * 64, rows=1), seed=0, metrics={}
            ),
            layers=layer_records(staging / "model.keras"),
            environment={},
        )
        return store.publish(staging, manifest.model_copy(update=changes))


def our_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,), name="features")
    return keras.Model(inputs, Dense(3, activation="softmax", name="classes")(LayerNorm()(inputs)), name="ours")


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


@pytest.fixture
def write_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., type]:
    """Writes a module with one layer, and gives the layer as the module's import would."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(module: str, name: str, *, decorator: str = "", factor: float = 2.0) -> type:
        (tmp_path / f"{module}.py").write_text(LAYER.format(decorator=decorator, name=name, factor=factor))
        found: type = getattr(__import__(module), name)
        return found

    return write


def model_with(layer: type) -> keras.Model:
    inputs = keras.Input((2,), name="x")
    return keras.Model(inputs, layer(name="y")(inputs), name="custom")


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_any_number_of_rows_is_answered_as_keras_answers(store: ArtifactStore, rows: int) -> None:
    model = our_model()
    artifact = publish(store, model, {"features": floats(2, 4)})
    runtime, inputs = load("keras", artifact, ()), {"features": floats(rows, 4)}
    expected = eager(model, artifact.manifest.signature)(inputs)["classes"]
    assert runtime.name == "keras"
    # The same float32 operations, traced: they may be fused and summed in another order.
    np.testing.assert_allclose(runtime.run(inputs)["classes"], expected, rtol=0, atol=1e-6)


def test_closed_runtime_runs_nothing(store: ArtifactStore) -> None:
    runtime = load("keras", publish(store, our_model(), {"features": floats(1, 4)}), ())
    runtime.close()
    with pytest.raises(RuntimeError, match=r"The runtime is closed\."):
        runtime.run({"features": floats(1, 4)})


def test_named_inputs_of_any_dtype_and_rank(store: ArtifactStore) -> None:
    ids, image = keras.Input((3,), dtype="int32", name="ids"), keras.Input((None, 2), name="image")
    flag, word = keras.Input((), dtype="bool", name="flag"), keras.Input((1,), dtype="string", name="word")
    index = keras.layers.StringLookup(vocabulary=["ant", "bee"])(word)
    outputs = {"ids": ids + 1, "image": image * 2, "flag": keras.ops.logical_not(flag), "index": index}
    model = keras.Model({"ids": ids, "image": image, "flag": flag, "word": word}, outputs)
    rows: Tensors = {
        "ids": np.array([[1, 2, 3]], np.int32),
        "image": floats(1, 5, 2),
        "flag": np.array([True]),
        "word": np.array([["bee"]]),
    }
    answers = load("keras", publish(store, model, rows), ()).run(rows)
    assert {name: answers[name].tolist() for name in ("ids", "flag", "index")} == {
        "ids": [[2, 3, 4]],
        "flag": [False],
        "index": [[2]],
    }
    np.testing.assert_array_equal(answers["image"], rows["image"] * 2)


def test_registered_layer_loads_without_custom_objects(store: ArtifactStore, write_layer: Callable[..., type]) -> None:
    layer = write_layer("registered_shop", "Doubled", decorator=REGISTERED)
    artifact = publish(store, model_with(layer), {"x": floats(1, 2)})
    assert list(artifact.manifest.layers) == ["shop>Doubled"]
    inputs = {"x": floats(3, 2)}
    np.testing.assert_array_equal(load("keras", artifact, ()).run(inputs)["y"], inputs["x"] * 2)


def test_unregistered_layer_loads_through_the_module_that_the_operator_names(
    store: ArtifactStore, write_layer: Callable[..., type]
) -> None:
    layer = write_layer("plain_shop", "PlainDoubled")
    artifact = publish(store, model_with(layer), {"x": floats(1, 2)})
    with pytest.raises(ValueError, match="needs custom objects that are not known here") as caught:
        load("keras", artifact, ())
    assert str(caught.value) == (
        "`model.keras` needs custom objects that are not known here: `PlainDoubled` (defined in plain_shop). "
        "Name the module that defines them: --layers plain_shop, or LAYERSERVE_LAYERS=plain_shop."
    )
    inputs = {"x": floats(3, 2)}
    np.testing.assert_array_equal(load("keras", artifact, ("plain_shop",)).run(inputs)["y"], inputs["x"] * 2)


def test_module_that_cannot_be_imported_is_named(store: ArtifactStore) -> None:
    artifact = publish(store, our_model(), {"features": floats(1, 4)})
    with pytest.raises(ValueError, match="The module `no_such_module` could not be imported: ModuleNotFoundError"):
        load("keras", artifact, ("no_such_module",))


def test_layer_whose_source_has_changed_is_warned_of(store: ArtifactStore, caplog: pytest.LogCaptureFixture) -> None:
    artifact = publish(store, our_model(), {"features": floats(1, 4)})
    records = dict(artifact.manifest.layers)
    records["layerserve>Dense"] = LayerRecord(module="models.layers.dense", source_sha256="0" * 64)
    changed = publish(store, our_model(), {"features": floats(1, 4)}, layers=records)
    load("keras", artifact, ())
    load("keras", changed, ())
    assert caplog.messages == [
        (
            "demo@2 was made with another source of layerserve>Dense (its source differs); "
            "its golden answers decide whether it is served."
        )
    ]


def test_layer_that_computes_something_else_is_refused_by_the_golden_answers(
    store: ArtifactStore, write_layer: Callable[..., type], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = write_layer("changing_shop", "Changing", decorator=REGISTERED)
    publish(store, model_with(layer), {"x": np.ones((1, 2), np.float32)})
    monkeypatch.setattr(layer, "call", lambda self, inputs: inputs * 3.0)
    repository = ModelRepository(store, lambda artifact, golden: choose(artifact, golden, "keras", ()))
    repository.reconcile()
    assert repository.current("demo") is None
    assert "output `y`: 1 of 1 golden rows differ by more than 1e-05, at most by 1" in repository.problem("demo")


def test_signature_that_is_not_the_models_is_refused(store: ArtifactStore) -> None:
    model = our_model()
    found = signature_of(model)
    other = Signature(inputs=found.inputs, outputs=(found.outputs[0].model_copy(update={"shape": (None, 9)}),))
    artifact = publish(store, model, {"features": floats(1, 4)}, signature=other)
    with pytest.raises(ArtifactError, match=r"The model's signature is .* the manifest says"):
        load("keras", artifact, ())


@pytest.fixture
def _no_collection_by_itself() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection_by_itself")
def test_closed_runtime_leaves_no_model_behind(store: ArtifactStore) -> None:
    artifact = publish(store, our_model(), {"features": floats(1, 4)})
    others = [layer for layer in gc.get_objects() if type(layer) is Dense]  # of this test and of those before it
    runtime = load("keras", artifact, ())
    known = set(map(id, others))
    layers = [weakref.ref(each) for each in gc.get_objects() if type(each) is Dense and id(each) not in known]
    assert sum(layer() is not None for layer in layers) > 0
    runtime.close()
    assert [layer() for layer in layers if layer() is not None] == []


def test_version_without_a_keras_file_is_refused(store: ArtifactStore) -> None:
    formats = {"onnx": FormatRecord(path="model.onnx", max_abs_error=0.0, tolerance=1e-5)}
    artifact = publish(store, our_model(), {"features": floats(1, 4)}, formats=formats)
    with pytest.raises(RuntimeUnavailableError, match=r"The version has no format `keras`\. It has: onnx\."):
        load("keras", artifact, ())


def test_file_that_is_not_keras_own_is_refused(store: ArtifactStore) -> None:
    artifact = publish(store, our_model(), {"features": floats(1, 4)})
    artifact.format_path("keras").write_bytes(b"PK nonsense")
    with pytest.raises(ValueError, match=r"`model.keras` is not a whole \.keras file"):
        load("keras", artifact, ())

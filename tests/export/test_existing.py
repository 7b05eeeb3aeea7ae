"""Models from elsewhere: .keras, HDF5 of Keras 2 and 3, JSON with weights; and all that is refused of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from export.existing import load_existing, read_samples
from models import layers, registry
from models.loading import ModelLoadError, eager, signature_of

Build = Callable[..., keras.Model]
KERAS2 = Path(__file__).parent / "keras2"
GATE = """
import keras


@keras.saving.register_keras_serializable("gates")
class Gate(keras.layers.Layer):
    def build(self, input_shape):
        self.logit = self.add_weight(shape=(input_shape[-1],), name="logit")

    def call(self, inputs):
        return inputs * keras.ops.sigmoid(self.logit)
"""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("gates")
    (folder / "existing_gates.py").write_text(GATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        registry.load_plugins(["existing_gates"])
        yield


def answers(model: keras.Model) -> np.ndarray:
    with np.load(KERAS2 / "rows.npz") as rows:
        return eager(model, signature_of(model))(dict(rows))["class"]


@pytest.mark.parametrize("name", ["model.h5", "model.json"])
def test_model_of_keras_2_answers_as_it_did_there(gate: None, name: str) -> None:
    weights = KERAS2 / "weights.h5" if name == "model.json" else None
    existing = load_existing(KERAS2 / name, weights)
    with np.load(KERAS2 / "answers.npz") as wanted:
        np.testing.assert_allclose(answers(existing.model), wanted["arr_0"], rtol=0, atol=1e-6)
    assert existing.origin.kind == name.partition(".")[2]
    assert list(existing.origin.files) == ([name, "weights.h5"] if weights else [name])


def test_what_was_mapped_is_told(gate: None) -> None:
    assert load_existing(KERAS2 / "model.h5").origin.mapped == (
        "`groups=1` of DepthwiseConv2D is dropped: Keras 3 has no such argument",
        "`time_major=False` of LSTM is dropped: Keras 3 has no such argument",
        "`LayerNorm` is models.layers.layer_norm.LayerNorm",
        "`gates>Gate` is existing_gates.Gate",
    )


def test_sequential_model_of_keras_2_keeps_its_names() -> None:
    model = load_existing(KERAS2 / "sequential.h5").model
    signature = signature_of(model)
    assert ([spec.name for spec in signature.inputs], signature.outputs[0].name) == (["first_input"], "norm")
    assert any(isinstance(layer, layers.LayerNorm) for layer in model.layers)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_file_of_keras_3_is_loaded_without_its_optimizer(build: Build, tmp_path: Path, suffix: str) -> None:
    model = build(y=[layers.Dense(2), registry.find("TinyScale")()])
    model.compile("adam", "mse")
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    again = load_existing(path).model
    assert not again.compiled
    rows = {"x": np.ones((1, 4), np.float32)}
    signature = signature_of(model)
    np.testing.assert_allclose(eager(again, signature)(rows)["y"], eager(model, signature)(rows)["y"], atol=1e-6)


def test_json_with_weights_of_keras_3_is_loaded(build: Build, tmp_path: Path) -> None:
    model = build(y=[layers.Dense(2)])
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "all.weights.h5")
    again = load_existing(tmp_path / "model.json", tmp_path / "all.weights.h5").model
    for wanted, got in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("class_name", "message"),
    [
        ("Unheard", r"`Unheard` \(the file does not say in which module\)\. .*--layers your\.module"),
        ("shapes>Unheard", r"`shapes>Unheard` \(the file does not say in which module\)"),
        ("Lambda", r"has a layer of class `Lambda`, which runs code from the file"),
        ("TFSMLayer", r"has a layer of class `TFSMLayer`, which runs code from the file"),
        ("TFOpLambda", r"has TensorFlow operations between its layers \(`TFOpLambda`\), which only Keras 2"),
        ("tf", r"`tf` \(the file does not say"),
        ("Layer>os.system", r"`Layer>os.system` \(the file"),
    ],
)
def test_class_that_is_not_known_is_refused_before_keras_sees_the_file(
    tmp_path: Path, class_name: str, message: str
) -> None:
    path = shutil.copy(KERAS2 / "sequential.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][-1].update(class_name=class_name, registered_name=None)
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ModelLoadError, match=message):
        load_existing(Path(path))


def test_missing_class_of_keras_3_is_told_with_its_module(build: Build, tmp_path: Path) -> None:
    config = json.loads(build(y=[registry.find("TinyScale")()]).to_json().replace("TinyScale", "TinyLost"))
    (tmp_path / "model.json").write_text(json.dumps(config))
    build(y=[layers.Dense(2)]).save_weights(tmp_path / "all.weights.h5")
    with pytest.raises(
        ModelLoadError, match=r"^`model.json` needs .*: `TinyLost` \(defined in tiny_layers\)\. .*--layers tiny_layers"
    ):
        load_existing(tmp_path / "model.json", tmp_path / "all.weights.h5")


def test_lambda_in_a_keras_file_is_refused_in_plain_words(tmp_path: Path) -> None:
    inputs = keras.Input((2,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "model.keras")
    with pytest.raises(ModelLoadError, match=r"^`model.keras` has a layer of class `Lambda`, which runs code"):
        load_existing(tmp_path / "model.keras")


def test_name_of_keras_own_layer_is_refused_where_a_plugin_has_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "custom_objects", lambda: {"Dense": layers.Dense})
    with pytest.raises(ModelLoadError, match=r"^`Dense` is the name of a layer of Keras's and of one of yours"):
        load_existing(KERAS2 / "sequential.h5")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("model.h5", "weights.h5", r"^--weights goes with a model's JSON, but `model.h5` has weights of its own"),
        ("model.json", None, r"^`model.json` must be a .keras or .h5 file, or a model's JSON beside --weights"),
        ("weights.h5", None, r"^`weights.h5` holds no model, at most weights\. Give the model's JSON"),
        ("rows.npz", None, r"^The .keras file holds a member that Keras never writes: 'image.npy'"),
        ("make.py", "weights.h5", r"^`make.py` holds no model configuration: JSONDecodeError"),
        ("model.json", "rows.npz", r"^`rows.npz` is not a whole HDF5 file"),
    ],
)
def test_file_that_is_none_of_these_is_refused(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_existing(KERAS2 / name, KERAS2 / weights if weights else None)


def test_pair_of_two_generations_is_refused(build: Build, tmp_path: Path) -> None:
    build(y=[layers.Dense(2)]).save_weights(tmp_path / "new.weights.h5")
    with pytest.raises(ModelLoadError, match=r"written by Keras 2, but `new.weights.h5` by Keras 3: they are no pair"):
        load_existing(KERAS2 / "model.json", tmp_path / "new.weights.h5")


def test_cut_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.h5").write_bytes((KERAS2 / "model.h5").read_bytes()[:5000])
    with pytest.raises(ModelLoadError, match=r"^`cut.h5` is not a whole HDF5 file"):
        load_existing(tmp_path / "cut.h5")


def test_samples_are_read_by_name_and_thinned(build: Build, tmp_path: Path) -> None:
    signature = signature_of(build(y=[layers.Dense(2)]))
    np.savez(tmp_path / "rows.npz", features=np.arange(4000, dtype=np.float32).reshape(1000, 4))
    rows = read_samples(tmp_path / "rows.npz", signature)["x"]
    assert (rows.shape, rows[0, 0], rows[-1, -1]) == ((64, 4), 0, 3999)


def test_samples_for_the_one_input_may_be_a_npy_file(build: Build, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2, 4), np.float32))
    rows = read_samples(tmp_path / "rows.npy", signature_of(build(y=[layers.Dense(2)])))
    assert (list(rows), rows["x"].shape) == (["x"], (2, 4))


def test_one_array_is_refused_for_two_inputs(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((2, 4)))
    inputs = [keras.Input((4,), name=name) for name in ("left", "right")]
    signature = signature_of(keras.Model(inputs, keras.layers.add(inputs)))
    message = r"^`rows.npy` must hold an array for each input: left, right\. Received: rows.npy"
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path / "rows.npy", signature)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((2, 4)), "b": np.ones(2)}, r"^`rows.npz` must hold an array for each input: x\. Received: a, b"),
        ({"x": np.float32(1)}, r"^`rows.npz` must hold rows, but an array in it is a single number"),
        ({"x": np.array([{}])}, r"^`rows.npz` must be a .npz or .npy file of plain arrays"),
    ],
)
def test_samples_that_do_not_fit_are_refused(
    build: Build, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read_samples(tmp_path / "rows.npz", signature_of(build(y=[layers.Dense(2)])))

"""Each format is proved apart: what agrees is kept, what does not is left out, and none stops another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from export import conversion
from export.conversion import Made, make_formats
from models import layers, registry
from models.golden import Golden
from models.loading import eager, signature_of

pytestmark = pytest.mark.slow

Build = Callable[..., keras.Model]
ALL = ("saved_model", "onnx", "litert", "openvino")
ROWS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5], [9, 9, 9, 9], [0, 0, 0, 0]], dtype=np.float32)


def made(model: keras.Model, folder: Path, inputs: dict[str, np.ndarray], names: tuple[str, ...]) -> Made:
    folder.mkdir(exist_ok=True)
    signature = signature_of(model)
    golden = Golden(inputs, eager(model, signature)(inputs))
    np.savez(folder.parent / "golden.npz", **golden.inputs, **{f"out {k}": v for k, v in golden.outputs.items()})
    return make_formats(model, signature, golden, folder, names)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tiny_layers: Path) -> tuple[Path, Made]:
    """The formats of a model whose inputs and outputs have names that no Python argument could have."""
    length, count = keras.Input((4,), name="sepal length (cm)"), keras.Input((), name="größe 1", dtype="int32")
    x = layers.LayerNorm()(layers.Dense(8)(length))
    x = registry.find("TinyScale")()(x) + keras.ops.cast(keras.ops.expand_dims(count, -1), "float32")
    outputs = {"wie viel?": layers.Dense(3, activation="softmax")(x), "total": layers.Dense(1)(x)}
    folder = tmp_path_factory.mktemp("odd") / "version"
    inputs = {"sepal length (cm)": ROWS, "größe 1": np.arange(4, dtype=np.int32)}
    return folder, made(keras.Model([length, count], outputs), folder, inputs, ALL)


def test_every_format_is_made_and_agrees(odd: tuple[Path, Made]) -> None:
    _, result = odd
    assert result.left_out == {}
    assert list(result.records) == list(ALL)
    for record in result.records.values():
        assert record.max_abs_error < record.tolerance == 1e-5
        assert record.max_rel_error is not None


def test_nothing_but_the_formats_is_left_in_the_folder(odd: tuple[Path, Made]) -> None:
    folder, _ = odd
    assert {path.name for path in folder.iterdir()} == {
        "saved_model.pb", "variables", "assets", "fingerprint.pb",
        "model.onnx", "model.tflite", "model.xml", "model.bin",
    }  # fmt: skip


# Each script loads a format by its library's own interface, in an isolated process that cannot find our code.
BY_HAND = {
    "saved_model": """
import tensorflow as tf
answers = tf.saved_model.load(folder).signatures["serving_default"](**inputs)
from tensorflow.core.protobuf import saved_model_pb2
from pathlib import Path
graph = saved_model_pb2.SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes()).meta_graphs[0]
assert sorted(graph.signature_def["serving_default"].inputs) == sorted(inputs)
answers = {name: value.numpy() for name, value in answers.items()}
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
assert sorted(item.name for item in session.get_inputs()) == sorted(inputs)
answers = dict(zip([item.name for item in session.get_outputs()], session.run(None, inputs)))
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(folder + "/model.tflite").get_signature_runner()
assert sorted(runner.get_input_details()) == sorted(inputs)
answers = runner(**inputs)
""",
    "openvino": """
import openvino
model = openvino.Core().compile_model(folder + "/model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
answers = {output.any_name: value for output, value in model(inputs).items()}
""",
}


@pytest.mark.parametrize("name", ALL)
def test_format_loads_without_our_code_under_the_models_own_names(odd: tuple[Path, Made], name: str) -> None:
    folder, _ = odd
    script = f"""
import sys
import numpy as np
folder = sys.argv[1]
arrays = np.load(folder + "/../golden.npz")
inputs = {{key: arrays[key] for key in arrays if not key.startswith("out ")}}
{BY_HAND[name]}
assert sorted(answers) == ["total", "wie viel?"], answers
for key, value in answers.items():
    np.testing.assert_allclose(value, arrays["out " + key], rtol=1e-5, atol=1e-5)
assert not {{"models", "export", "tiny_layers"}} & set(sys.modules)
"""
    command = [sys.executable, "-I", "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_format_that_cannot_be_written_is_left_out_and_the_others_are_made(tmp_path: Path) -> None:
    word = keras.Input((), name="word", dtype="string")
    number = keras.layers.Hashing(8, name="number")(word)
    result = made(keras.Model(word, number), tmp_path / "version", {"word": np.array(["green", "grün"])}, ALL[:3])
    assert list(result.records) == ["saved_model"]
    assert sorted(result.left_out) == ["litert", "onnx"]
    for reason in result.left_out.values():
        assert "StringToHashBucketFast" in reason
    assert not list((tmp_path / "version").glob("model.*"))


def test_names_that_python_or_tensorflow_keeps_for_itself_are_proved(tmp_path: Path) -> None:
    names = ("class", "größe m²", "a b", "a_b", "a", "A", "from", "self", "y", "inputs", "name", "args")
    inputs = [keras.Input((4,), name=name) for name in names]
    model = keras.Model(inputs, layers.Dense(2, name="out")(keras.layers.Concatenate()(inputs)))
    rows = {name: number * ROWS for number, name in enumerate(names, start=1)}  # so that none can stand for another
    result = made(model, tmp_path / "version", rows, ALL[:2])
    assert (list(result.records), result.left_out) == (["saved_model", "onnx"], {})


def test_lookups_are_proved_in_every_format_that_has_the_type(tmp_path: Path) -> None:
    word, code = keras.Input((), dtype="string", name="word"), keras.Input((), dtype="int64", name="code")
    numbers = keras.layers.IntegerLookup(vocabulary=[2, 5], output_mode="one_hot")(code)
    texts = keras.layers.StringLookup(vocabulary=["green", "grün"])(word)
    rows = {"code": np.array([2, 5, 7]), "word": np.array(["grün", "green", "?"])}
    coded = keras.Model(code, layers.Dense(2, name="y")(numbers))
    result = made(coded, tmp_path / "coded", {"code": rows["code"]}, ("openvino",))
    assert (list(result.records), result.left_out) == (["openvino"], {})
    both = keras.layers.Concatenate()([numbers, keras.layers.Embedding(3, 2)(texts)])
    result = made(keras.Model([word, code], layers.Dense(2, name="y")(both)), tmp_path / "both", rows, ALL)
    assert list(result.records) == list(ALL[:3])
    assert result.left_out["openvino"].endswith("OpenVINO computes nothing from strings, and the input `word` is one.")


def test_layer_that_a_format_cannot_hold_is_named(tmp_path: Path) -> None:
    day = keras.Input((), dtype="string", name="day")
    model = keras.Model(day, layers.Dense(2, name="y")(keras.ops.nan_to_num(layers.DateParts(name="born")(day))))
    result = made(model, tmp_path / "version", {"day": np.array(["2024-02-29", "?"])}, ALL[:3])
    assert list(result.records) == ["saved_model"]
    for name, title in (("onnx", "ONNX"), ("litert", "LiteRT")):
        assert result.left_out[name].startswith(f"It cannot be written. {title} has no StringStrip, ")
        assert result.left_out[name].endswith(" more of the kind that the layer `born` (DateParts) needs.")


def test_layer_that_litert_refuses_is_named_in_one_line(tmp_path: Path) -> None:
    steps = keras.Input((5, 3), name="steps")
    model = keras.Model(steps, layers.Dense(2, name="y")(keras.layers.LSTM(2, name="memory")(steps)))
    rows = np.arange(30, dtype=np.float32).reshape(2, 5, 3) / 30
    result = made(model, tmp_path / "version", {"steps": rows}, ("litert",))
    assert "LiteRT cannot hold the layer `memory` (LSTM): TensorListReserve requires " in result.left_out["litert"]


def test_exact_gelu_is_converted_to_every_format(build: Build, tmp_path: Path) -> None:
    rows = np.linspace(-6, 6, 32, dtype=np.float32).reshape(8, 4)
    result = made(build(y=[keras.layers.Activation("gelu")]), tmp_path / "version", {"x": rows}, ALL)
    assert (list(result.records), result.left_out) == (list(ALL), {})


def test_converter_that_ends_its_process_leaves_the_others(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tf2onnx").mkdir()
    (tmp_path / "tf2onnx" / "__init__.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = made(build(y=[layers.Dense(2)]), tmp_path / "version", {"x": ROWS}, ("onnx", "litert"))
    assert list(result.records) == ["litert"]
    assert result.left_out == {"onnx": "It cannot be written. A fresh process failed on the saved model: exit code -6"}


def test_format_that_disagrees_is_left_out_with_the_first_layer(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(y=[layers.Dense(4), registry.find("TinyTwoFaced")(name="two_faced"), layers.Dense(2)])
    result = made(model, tmp_path / "version", {"x": ROWS}, ("saved_model", "onnx"))
    assert result.records == {}
    assert "output `y`: 4 of 4 golden rows differ by more than 1e-05" in result.left_out["saved_model"]
    assert "The first layer that differs is `y/two_faced` (4 of 4 golden rows" in result.left_out["saved_model"]
    assert "output `y`: 4 of 4 golden rows differ by more than 1e-05" in result.left_out["onnx"]
    assert list((tmp_path / "version").iterdir()) == []


def test_reason_names_no_path_of_this_machine(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "def InferenceSession(path, providers):\n    raise OSError(f'no model at {path}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = made(build(y=[layers.Dense(2)]), tmp_path / "version", {"x": ROWS}, ("onnx",))
    assert result.left_out == {"onnx": "It does not load and run: OSError: no model at model.onnx"}


def test_missing_package_is_told_with_the_way_to_install_it(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "missing_package", lambda name: f"`{name}` is missing." if name == "onnx" else None)
    result = made(build(y=[layers.Dense(2)]), tmp_path / "version", {"x": ROWS}, ("onnx", "litert"))
    assert (list(result.records), result.left_out) == (["litert"], {"onnx": "`onnx` is missing."})

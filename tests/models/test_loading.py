"""From a file to a model that answers, and the one line that says why it does not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest

from models import layers, registry
from models.loading import (
    ModelLoadError,
    changed_layers,
    eager,
    layer_records,
    load_model,
    reason,
    signature_of,
    traced,
)
from models.manifest import LayerRecord, TensorSpec

WriteModule = Callable[[str, str], None]
ROWS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5], [9, 9, 9, 9]], dtype=np.float32)

PLAIN = """
import keras

class {name}(keras.layers.Layer):
    def call(self, x):
        return x * 2
"""
REGISTERED = PLAIN.replace("class", '@keras.saving.register_keras_serializable("loading")\nclass')
PLAIN_FUNCTION = "def {name}(x):\n    return x * 2\n"
REGISTERED_FUNCTION = "import keras\n\n@keras.saving.register_keras_serializable('loading')\n" + PLAIN_FUNCTION


def model_with(layer: Callable[[Any], Any], shape: tuple[int | None, ...] = (4,), dtype: str = "float32") -> Any:
    inputs = keras.Input(shape, name="x", dtype=dtype)
    return keras.Model(inputs, layer(inputs), name="toy")


def saved(model: keras.Model, folder: Path) -> Path:
    path = folder / "model.keras"
    model.save(path)
    return path


def answers(model: keras.Model, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return traced(model, signature_of(model))(inputs)


def module_with(write_module: WriteModule, source: str, name: str) -> ModuleType:
    """A module of its own, imported by Python alone and not named by an operator."""
    write_module(f"module_of_{name}", source.format(name=name))
    return importlib.import_module(f"module_of_{name}")


def test_our_layers_reload_with_the_same_answers(tmp_path: Path) -> None:
    model = model_with(keras.Sequential([layers.Dense(3), layers.LayerNorm()]))
    reloaded = load_model(saved(model, tmp_path))
    np.testing.assert_array_equal(reloaded(ROWS), model(ROWS))


def test_registered_layer_loads_without_custom_objects(tmp_path: Path, write_module: WriteModule) -> None:
    module = module_with(write_module, REGISTERED, "OnlyRegistered")
    path = saved(model_with(module.OnlyRegistered()), tmp_path)
    assert "loading>OnlyRegistered" not in registry.custom_objects()
    np.testing.assert_array_equal(load_model(path)(ROWS), 2 * ROWS)


def test_unregistered_layer_loads_through_custom_objects_alone(tmp_path: Path, write_module: WriteModule) -> None:
    module = module_with(write_module, PLAIN, "OnlyNamed")
    path = saved(model_with(module.OnlyNamed()), tmp_path)
    registry.load_plugins([module.__name__])
    assert keras.saving.get_registered_object("OnlyNamed") is None
    np.testing.assert_array_equal(load_model(path)(ROWS), 2 * ROWS)


def test_unknown_layer_is_named_with_its_module_and_the_way_out(tmp_path: Path, write_module: WriteModule) -> None:
    module = module_with(write_module, PLAIN, "Unknown")
    path = saved(model_with(module.Unknown()), tmp_path)
    with pytest.raises(ModelLoadError) as caught:
        load_model(path)
    assert str(caught.value) == (
        "`model.keras` needs custom objects that are not known here: `Unknown` (defined in module_of_Unknown). "
        "Name the module that defines them: --layers module_of_Unknown, or LAYERSERVE_LAYERS=module_of_Unknown."
    )


def test_all_unknown_layers_are_named_at_once(tmp_path: Path, write_module: WriteModule) -> None:
    modules = [module_with(write_module, PLAIN, name) for name in ("UnknownA", "UnknownB")]
    chain = keras.Sequential([modules[0].UnknownA(), modules[1].UnknownB()])
    with pytest.raises(ModelLoadError, match=r"--layers module_of_UnknownA,module_of_UnknownB, or LAYERSERVE_LAYERS="):
        load_model(saved(model_with(chain), tmp_path))


@pytest.mark.parametrize(("source", "package"), [(PLAIN_FUNCTION, ""), (REGISTERED_FUNCTION, "loading>")])
def test_function_is_known_by_its_plugin(tmp_path: Path, write_module: WriteModule, source: str, package: str) -> None:
    name = "plain_twice" if source == PLAIN_FUNCTION else "registered_twice"
    module = module_with(write_module, source, name)
    path = saved(model_with(layers.Dense(2, activation=getattr(module, name))), tmp_path)
    registry.load_plugins([module.__name__])
    assert load_model(path).layers[-1].activation is getattr(module, name)
    assert layer_records(path)[package + name].module == module.__name__


def test_unknown_function_is_named_with_the_way_out(tmp_path: Path, write_module: WriteModule) -> None:
    module = module_with(write_module, PLAIN_FUNCTION, "unknown_function")
    path = saved(model_with(layers.Dense(2, activation=module.unknown_function)), tmp_path)
    message = r"not known here: `unknown_function`. Name the module that defines them: --layers your.module, or "
    with pytest.raises(ModelLoadError, match=message):
        load_model(path)


def test_functions_of_keras_need_no_plugin(tmp_path: Path) -> None:
    path = saved(model_with(layers.Dense(2, activation=keras.losses.log_cosh)), tmp_path)
    assert load_model(path).layers[-1].activation is keras.losses.log_cosh
    assert list(layer_records(path)) == ["layerserve>Dense"]


def test_unknown_loss_does_not_matter(tmp_path: Path, write_module: WriteModule) -> None:
    module = module_with(write_module, PLAIN_FUNCTION, "unknown_loss")
    model = model_with(layers.Dense(2))
    model.compile("adam", module.unknown_loss)
    assert not load_model(saved(model, tmp_path)).compiled


def test_lambda_is_refused_in_safe_mode(tmp_path: Path) -> None:
    path = saved(model_with(keras.layers.Lambda(lambda x: x * 2)), tmp_path)
    with pytest.raises(ModelLoadError, match=r"^Keras cannot load `model.keras`: .*Lambda"):
        load_model(path)


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = saved(model_with(layers.Dense(2)), tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelLoadError, match=r"^`model.keras` is not a whole .keras file: "):
        load_model(path)


def test_model_is_loaded_uncompiled(tmp_path: Path) -> None:
    model = model_with(layers.Dense(2))
    model.compile("adam", "mse")
    assert not load_model(saved(model, tmp_path)).compiled


def test_record_of_a_layer_is_its_module_and_a_hash_of_its_source(tmp_path: Path) -> None:
    records = layer_records(saved(model_with(layers.Dense(2)), tmp_path))
    assert list(records) == ["layerserve>Dense"]
    assert records["layerserve>Dense"].module == "models.layers.dense"
    assert len(records["layerserve>Dense"].source_sha256 or "") == 64


def test_layer_without_a_source_file_has_no_hash(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec(REGISTERED.format(name="Sourceless"), namespace)
    records = layer_records(saved(model_with(namespace["Sourceless"]()), tmp_path))
    assert records["loading>Sourceless"] == LayerRecord(module="nowhere", source_sha256=None)


def test_same_source_is_not_changed(tmp_path: Path) -> None:
    assert changed_layers(layer_records(saved(model_with(layers.Dense(2)), tmp_path))) == {}


def test_changed_layers_are_those_with_another_source() -> None:
    other = LayerRecord(module="models.layers.dense", source_sha256="0" * 64)
    assert changed_layers({"layerserve>Dense": other, "nobody>Nothing": other}) == {
        "layerserve>Dense": "its source differs"
    }


def test_signature_names_inputs_and_outputs() -> None:
    first = keras.Input((None, 3), name="image", dtype="uint8")
    second = keras.Input((), name="word", dtype="string")
    flat = keras.layers.GlobalAveragePooling1D(name="mean")(keras.ops.cast(first, "float32"))
    signature = signature_of(keras.Model([first, second], [flat, second]), ("no", "yes"))
    assert signature.inputs == (
        TensorSpec(name="image", dtype="uint8", shape=(None, None, 3)),
        TensorSpec(name="word", dtype="string", shape=(None,)),
    )
    assert [spec.name for spec in signature.outputs] == ["mean", "word"]
    assert signature.labels == ("no", "yes")


def test_outputs_of_a_dictionary_keep_their_keys() -> None:
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, {"double": inputs * 2, "half": inputs / 2})
    run = answers(model, x=np.array([[2, 4]], dtype=np.float32))
    assert {name: values.tolist() for name, values in run.items()} == {"double": [[4, 8]], "half": [[1, 2]]}


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def fixed_batch() -> keras.Model:
    inputs = keras.Input(batch_shape=(2, 3), name="x")
    return keras.Model(inputs, inputs * 2)


def same_output_twice() -> keras.Model:
    inputs, dense = keras.Input((3,)), layers.Dense(2, name="shared")
    return keras.Model(inputs, [dense(inputs), dense(inputs * 2)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Subclassed(name="sub"), r"^`sub` has no symbolic inputs: only functional models can be exported"),
        (lambda: keras.Sequential([layers.Dense(2)], name="seq"), r"^`seq` has no symbolic inputs"),
        (fixed_batch, r"^`x` must have a free batch size as axis 0. Received: shape=\(2, 3\)\. Build the model"),
        (
            lambda: model_with(keras.layers.Identity(name="y", dtype="bfloat16")),
            r"^`y` must have a dtype that NumPy has",
        ),
        (same_output_twice, r"^The outputs of a model must have different names. Received: shared, shared$"),
    ],
)
def test_model_that_cannot_be_served_is_refused(build: Callable[[], keras.Model], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        signature_of(build())


def test_sequential_model_is_answered() -> None:
    model = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="hidden"), layers.LayerNorm(name="y")])
    assert list(answers(model, x=ROWS)) == ["y"]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 1), (None, 2)])
@pytest.mark.parametrize("rows", [1, 5])
def test_input_of_any_rank_is_answered(shape: tuple[int | None, ...], rows: int) -> None:
    values = np.ones((rows, *[size or 7 for size in shape]), dtype=np.float32)
    (output,) = answers(model_with(lambda x: x * 2, shape), x=values).values()
    np.testing.assert_array_equal(output, 2 * values)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32", "int64", "uint8", "float16", "float32", "float64"])
def test_dtype_of_the_input_is_the_signatures(dtype: str) -> None:
    model = model_with(lambda x: keras.ops.reshape(x, (-1, 4)), dtype=dtype)
    (output,) = answers(model, x=np.array([[0, 1, 0, 1]])).values()
    assert (output.dtype, output.tolist()) == (np.dtype(dtype), [[0, 1, 0, 1]])


def test_strings_go_in_and_come_out_as_text() -> None:
    model = model_with(keras.layers.Identity(dtype="string"), (2,), "string")
    words = np.array([["grün", "日本"], ["", "a longer one"]])
    (output,) = answers(model, x=words).values()
    assert (output.dtype.kind, output.tolist()) == ("U", words.tolist())


def test_strings_are_looked_up() -> None:
    lookup = keras.layers.StringLookup(vocabulary=["red", "green"], num_oov_indices=1)
    (output,) = answers(model_with(lookup, (), "string"), x=np.array(["green", "blue", "red"])).values()
    assert output.tolist() == [2, 0, 1]


def test_traced_and_eager_answers_agree() -> None:
    model = model_with(keras.Sequential([layers.Dense(8, activation="gelu"), layers.LayerNorm(), layers.Dense(3)]))
    signature = signature_of(model)
    (wanted,), (got,) = eager(model, signature)({"x": ROWS}).values(), traced(model, signature)({"x": ROWS}).values()
    np.testing.assert_allclose(got, wanted, atol=1e-5)  # the order of float32 sums


def test_inference_leaves_dropout_out() -> None:
    model = model_with(keras.layers.Dropout(0.9))
    (output,) = answers(model, x=ROWS).values()
    np.testing.assert_array_equal(output, ROWS)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("Calling X.call().\n\n\x1b[1mboom\x1b[0m\n\nArguments received by X.call():\n  x=1", "Calling X.call(). boom"),
        ("word " * 1000, "word " * 99 + "..."),
        ("", "no message"),
    ],
)
def test_reason_is_one_line_of_what_matters(message: str, line: str) -> None:
    assert reason(ValueError(message)) == line


def test_threads_may_share_a_traced_model() -> None:
    model = model_with(lambda x: x * 2)
    run = traced(model, signature_of(model))
    batches = [np.full((rows, 4), rows, dtype=np.float32) for rows in range(1, 33)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda batch: next(iter(run({"x": batch}).values())), batches))
    for batch, output in zip(batches, outputs, strict=True):
        np.testing.assert_array_equal(output, 2 * batch)


def test_change_of_a_layers_own_base_class_counts_as_its_own(write_module: WriteModule, tmp_path: Path) -> None:
    base = PLAIN.format(name="HeirBase")
    write_module("heirs", base + "\nclass Heir(HeirBase):\n    pass\n")
    registry.load_plugins(["heirs"])
    inputs = keras.Input((2,), name="x")
    keras.Model(inputs, registry.find("Heir")()(inputs)).save(tmp_path / "model.keras")
    records = layer_records(tmp_path / "model.keras")
    assert changed_layers(records) == {}
    write_module("heirs", base.replace("x * 2", "x * 3") + "\nclass Heir(HeirBase):\n    pass\n")
    assert changed_layers(records) == {"Heir": "`HeirBase.call` differs"}

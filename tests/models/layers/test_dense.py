"""Our Dense against Keras's: the same arguments, weights, numbers, shapes, errors and configuration.

Both run the same operations in the same order, so every comparison here is exact.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import Dense

POLICIES = ["float32", "float64", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]
SHAPES = [(2, 3), (1, 1), (0, 3), (2, 0), (2, 5, 3), (2, 0, 3), (2, 3, 4, 5), (1, 2, 1, 2, 3)]
ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"use_bias": False},
    {"activation": "relu"},
    {"activation": keras.ops.tanh, "use_bias": False},
    {"activation": "softmax", "kernel_initializer": "he_normal", "bias_initializer": "ones"},
    {
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activity_regularizer": "l2",
        "kernel_constraint": "non_neg",
        "bias_constraint": keras.constraints.MaxNorm(1.0),
    },
]


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: "+".join(arguments) or "defaults")
def test_outputs_and_gradients_equal_those_of_keras(twins, answer, arguments, shape, policy) -> None:
    theirs, ours = twins(keras.layers.Dense, Dense, shape, units=4, dtype=policy, **arguments)

    expected, got = answer(theirs, numbers(shape)), answer(ours, numbers(shape))

    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got.outputs, expected.outputs)
    for gradient, expected_gradient in zip(got.gradients, expected.gradients, strict=True):
        np.testing.assert_array_equal(gradient, expected_gradient)
    assert got.losses == expected.losses


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool", "float16", "float64"])
def test_input_of_another_dtype_gives_what_keras_gives(twins, dtype: str) -> None:
    theirs, ours = twins(keras.layers.Dense, Dense, (3, 4), units=2)
    inputs = np.arange(12).reshape(3, 4).astype(dtype)

    assert ours(inputs).dtype == theirs(inputs).dtype
    np.testing.assert_array_equal(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("use_bias", [True, False])
def test_weights_have_the_names_shapes_and_dtypes_of_keras(twins, use_bias: bool, policy: str) -> None:
    theirs, ours = twins(keras.layers.Dense, Dense, (2, 3), units=4, use_bias=use_bias, dtype=policy)

    def described(layer: Any) -> list[tuple[Any, ...]]:
        return [(weight.name, weight.shape, weight.dtype, weight.trainable) for weight in layer.weights]

    assert described(ours) == described(theirs)
    assert (ours.bias is None) == (theirs.bias is None)


def test_seeded_weights_start_as_in_keras() -> None:
    initializer = keras.initializers.GlorotUniform(seed=3)
    theirs, ours = (layer(4, kernel_initializer=initializer) for layer in (keras.layers.Dense, Dense))
    theirs.build((2, 3))
    ours.build((2, 3))

    np.testing.assert_array_equal(ours.kernel, theirs.kernel)


def test_sparse_matrix_gives_the_dense_answer_and_a_sparse_gradient(twins) -> None:
    theirs, ours = twins(keras.layers.Dense, Dense, (10, 8), units=4)
    dense = numbers((10, 8)) * (numbers((10, 8)) > 1)
    with tf.GradientTape() as tape:
        outputs = ours(tf.sparse.from_dense(dense))

    np.testing.assert_array_equal(outputs, theirs(tf.sparse.from_dense(dense)))
    assert isinstance(tape.gradient(outputs, ours.kernel.value), tf.IndexedSlices)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("batch_shape", [(None, 3), (None, None, 3), (2, None, 4, 3)], ids=str)
def test_symbolic_output_has_the_shape_and_dtype_of_keras(batch_shape: Any, policy: str) -> None:
    inputs = keras.Input(batch_shape=batch_shape)
    theirs, ours = (layer(4, dtype=policy)(inputs) for layer in (keras.layers.Dense, Dense))

    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_traced_function_serves_every_batch_and_length(twins, jit_compile: bool) -> None:
    _, ours = twins(keras.layers.Dense, Dense, (2, 5, 3), units=4, activation="relu")
    traced = tf.function(ours, input_signature=[tf.TensorSpec((None, None, 3))], jit_compile=jit_compile)

    for shape in [(2, 5, 3), (1, 2, 3), (0, 4, 3)]:
        # XLA may add up a row in another order: a few units in the last place of numbers near 1.
        np.testing.assert_allclose(traced(numbers(shape)), ours(numbers(shape)), atol=1e-6)


def test_mask_reaches_the_next_layer() -> None:
    inputs = np.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 6.0]]], dtype="float32")
    theirs, ours = (
        keras.Sequential([keras.layers.Masking(), layer, keras.layers.GlobalAveragePooling1D()])
        for layer in (keras.layers.Dense(3, bias_initializer="ones"), Dense(3, bias_initializer="ones"))
    )
    theirs(inputs), ours(inputs)
    ours.set_weights(theirs.get_weights())

    np.testing.assert_array_equal(ours(inputs), theirs(inputs))


@pytest.mark.parametrize("units", [0, -3, 2.5, None, "64", True, np.int64(3)])
def test_units_must_be_a_positive_integer(units: Any) -> None:
    with pytest.raises(ValueError, match=r"`units` must be a positive integer\. Received: units="):
        Dense(units)


@pytest.mark.parametrize(
    ("argument", "value", "way_out"),
    [
        ("lora_rank", 2, "Keras saves LoRA merged into the kernel"),
        ("lora_alpha", 4, "Keras saves LoRA merged into the kernel"),
        ("quantization_config", {"class_name": "Int8QuantizationConfig"}, "as it was before quantization"),
    ],
)
def test_what_is_left_out_is_refused(argument: str, value: Any, way_out: str) -> None:
    with pytest.raises(ValueError, match=rf"`{argument}` must be None\. Received: {argument}=.*{way_out}"):
        Dense(2, **{argument: value})


def test_quantized_policy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`dtype` must not be a quantized policy.*int8_from_float32"):
        Dense(2, dtype="int8_from_float32")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3, 4), r"expected axis -1 .* value 3, .* shape \(3, 4\)"), ((3,), "expected min_ndim=2, found ndim=1")],
    ids=str,
)
def test_input_of_another_width_or_rank_is_refused(shape: tuple[int, ...], message: str) -> None:
    layer = Dense(2)
    layer.build((None, 3))

    with pytest.raises(ValueError, match=f"incompatible with the layer: {message}"):
        layer(numbers(shape))


def test_unknown_width_is_refused_at_build() -> None:
    with pytest.raises(ValueError, match=r"last axis .* must be known .*`narrow`\. Received: .*\(None, None\)"):
        Dense(2, name="narrow").build((None, None))


def test_weights_of_a_lora_layer_load_merged() -> None:
    theirs = keras.layers.Dense(4, lora_rank=2)
    theirs.build((None, 3))
    theirs.lora_kernel_b.assign(numbers((2, 4)))
    store: dict[str, Any] = {}
    theirs.save_own_variables(store)
    ours = Dense(4)
    ours.build((None, 3))
    ours.load_own_variables({key: np.asarray(value) for key, value in store.items()})

    # Merged once at save against at every call: one rounding more.
    np.testing.assert_allclose(ours(numbers((5, 3))), theirs(numbers((5, 3))), atol=1e-6)


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: "+".join(arguments) or "defaults")
def test_config_is_that_of_keras_without_quantization(arguments: dict[str, Any]) -> None:
    theirs, ours = (layer(4, name="one", **arguments) for layer in (keras.layers.Dense, Dense))
    expected = {key: value for key, value in theirs.get_config().items() if key != "quantization_config"}

    assert ours.get_config() == expected
    assert Dense.from_config(theirs.get_config()).get_config() == expected
    assert keras.layers.Dense.from_config(ours.get_config()).get_config() == theirs.get_config()


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda arguments: "+".join(arguments) or "defaults")
def test_config_survives_json_and_build(arguments: dict[str, Any]) -> None:
    layer = Dense(4, dtype="mixed_bfloat16", trainable=False, **arguments)
    before = json.dumps(layer.get_config())
    layer.build((None, 3))

    assert json.dumps(layer.get_config()) == before
    assert json.dumps(Dense.from_config(json.loads(before)).get_config()) == before


def test_saved_model_loads_the_registered_class(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), Dense(4, activation="relu"), Dense(2)])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert [type(layer) for layer in loaded.layers] == [Dense, Dense]
    assert keras.saving.get_registered_name(Dense) == "layerserve>Dense"
    np.testing.assert_array_equal(loaded(numbers((5, 3))), model(numbers((5, 3))))

"""Our LayerNorm against Keras's LayerNormalization.

Keras folds scale and shift into one product, `x * inv + (beta - mean * inv)`; ours reads as the formula. The
numbers therefore agree to rounding, not to the bit: TOLERANCE is a few units in the last place of the narrowest
dtype in play, relative to the largest number compared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.layers import LayerNorm

TOLERANCE = {
    "float32": 4e-6,
    "float64": 1e-14,
    "float16": 2e-3,
    "bfloat16": 1.6e-2,
    "mixed_float16": 2e-3,
    "mixed_bfloat16": 1.6e-2,
}
CASES: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({}, (2, 6)),
    ({}, (3, 5, 7)),
    ({}, (2, 1)),
    ({}, (0, 6)),
    ({}, (2, 0, 6)),
    ({}, (2, 3, 4, 5, 6)),
    ({"axis": 1}, (3, 5, 7)),
    ({"axis": -2}, (3, 5, 7)),
    ({"axis": [2]}, (3, 5, 7)),
    ({"axis": (1, 2)}, (3, 5, 7)),
    ({"axis": (2, 1)}, (3, 5, 7)),
    ({"axis": (-1, -2)}, (3, 5, 7)),
    ({"axis": (-1, 1)}, (3, 5, 7)),
    ({"axis": (1, -1)}, (3, 5, 7)),
    ({"axis": (-1, 2, 1)}, (2, 3, 4, 5)),
    ({"axis": (1, 3)}, (2, 3, 4, 5)),
    ({"axis": (1, 2)}, (2, 0, 4)),
    ({"scale": False}, (3, 5, 7)),
    ({"center": False}, (3, 5, 7)),
    ({"scale": False, "center": False, "axis": 1}, (3, 5, 7)),
    ({"epsilon": 1e-6}, (3, 5, 7)),
    ({"epsilon": 1}, (3, 5, 7)),
    ({"beta_regularizer": "l1", "gamma_regularizer": "l2", "activity_regularizer": "l2"}, (2, 6)),
    ({"beta_constraint": "non_neg", "gamma_constraint": keras.constraints.MaxNorm(1.0)}, (2, 6)),
    ({"beta_initializer": "ones", "gamma_initializer": "zeros"}, (2, 6)),
]
each_case = pytest.mark.parametrize(
    ("arguments", "shape"),
    CASES,
    ids=lambda given: "+".join(given) or "defaults" if type(given) is dict else str(given),
)
each_policy = pytest.mark.parametrize("policy", TOLERANCE)


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).normal(loc=0.5, size=shape).astype(dtype)


def assert_close(got: Any, expected: Any, tolerance: float) -> None:
    largest = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * largest)


@each_policy
@each_case
def test_outputs_and_gradients_are_those_of_keras(twins, answer, arguments, shape, policy) -> None:
    theirs, ours = twins(keras.layers.LayerNormalization, LayerNorm, shape, dtype=policy, **arguments)
    inputs = numbers(shape, theirs.compute_dtype)

    expected, got = answer(theirs, inputs), answer(ours, inputs)

    assert got.dtype == expected.dtype
    assert_close(got.outputs, expected.outputs, TOLERANCE[policy])
    for gradient, expected_gradient in zip(got.gradients, expected.gradients, strict=True):
        assert_close(gradient, expected_gradient, TOLERANCE[policy])
    assert_close(got.losses, expected.losses, TOLERANCE[policy])


@each_policy
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_input_of_another_precision_is_rounded_as_in_keras(twins, answer, dtype: str, policy: str) -> None:
    theirs, ours = twins(keras.layers.LayerNormalization, LayerNorm, (3, 5), dtype=policy)
    inputs = tf.cast(numbers((3, 5), "float64"), dtype)

    expected, got = answer(theirs, inputs), answer(ours, inputs)

    assert got.dtype == expected.dtype
    tolerance = max(TOLERANCE[policy], TOLERANCE[dtype], TOLERANCE["float32"] if dtype != "float64" else 0)
    assert_close(got.outputs, expected.outputs, tolerance)


@pytest.mark.parametrize("layer", [LayerNorm, keras.layers.LayerNormalization])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_input_under_float32_gives_half_precision_numbers(dtype: str, layer: type) -> None:
    outputs = layer()(tf.cast(numbers((3, 5)), dtype))

    assert outputs.dtype == "float32"
    np.testing.assert_array_equal(outputs, tf.cast(tf.cast(outputs, dtype), "float32"))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_whole_numbers_are_normalized_like_floats(twins, dtype: str) -> None:
    _, ours = twins(keras.layers.LayerNormalization, LayerNorm, (3, 4))
    inputs = np.arange(12).reshape(3, 4).astype(dtype)

    np.testing.assert_array_equal(ours(inputs), ours(inputs.astype("float32")))


def test_large_offset_costs_no_precision() -> None:
    # Near 1e4 a float32 holds 1e-3; the mean is off by that much at most, against a spread of 1.
    inputs = numbers((4, 64), "float64") + 1e4
    expected = LayerNorm(dtype="float64")(inputs)

    np.testing.assert_allclose(LayerNorm()(inputs.astype("float32")), expected, atol=2e-3)


def test_half_precision_statistics_do_not_overflow() -> None:
    inputs = tf.constant([[-60000.0, 60000.0]], dtype="float16")

    np.testing.assert_array_equal(LayerNorm(dtype="float16")(inputs), [[-1.0, 1.0]])


@each_policy
@each_case
def test_weights_have_the_names_shapes_and_dtypes_of_keras(twins, arguments, shape, policy) -> None:
    theirs, ours = twins(keras.layers.LayerNormalization, LayerNorm, shape, dtype=policy, **arguments)

    def described(layer: Any) -> list[tuple[Any, ...]]:
        return [(weight.name, weight.shape, weight.dtype, weight.trainable) for weight in layer.weights]

    assert described(ours) == described(theirs)


@each_policy
@pytest.mark.parametrize(
    ("axis", "batch_shape"), [(-1, (None, 3)), (-1, (None, None, 3)), ((1, 3), (None, 4, None, 3))], ids=str
)
def test_symbolic_output_has_the_shape_and_dtype_of_keras(axis: Any, batch_shape: Any, policy: str) -> None:
    inputs = keras.Input(batch_shape=batch_shape)
    theirs, ours = (layer(axis, dtype=policy)(inputs) for layer in (keras.layers.LayerNormalization, LayerNorm))

    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("axis", [-1, (1, 3)])
def test_one_traced_function_serves_every_batch_and_length(twins, axis: Any, jit_compile: bool) -> None:
    _, ours = twins(keras.layers.LayerNormalization, LayerNorm, (2, 4, 5, 3), axis=axis)
    traced = tf.function(ours, input_signature=[tf.TensorSpec((None, 4, None, 3))], jit_compile=jit_compile)

    for shape in [(2, 4, 5, 3), (1, 4, 2, 3), (0, 4, 1, 3)]:
        assert_close(traced(numbers(shape)), ours(numbers(shape)), TOLERANCE["float32"])


def test_function_traced_without_any_known_size_still_answers(twins) -> None:
    _, ours = twins(keras.layers.LayerNormalization, LayerNorm, (2, 5, 3), axis=1)
    traced = tf.function(ours, input_signature=[tf.TensorSpec((None, None, None))])

    assert_close(traced(numbers((2, 5, 3))), ours(numbers((2, 5, 3))), TOLERANCE["float32"])


def test_layer_takes_another_rank_after_build(twins) -> None:
    theirs, ours = twins(keras.layers.LayerNormalization, LayerNorm, (2, 6))

    assert_close(ours(numbers((2, 3, 6))), theirs(numbers((2, 3, 6))), TOLERANCE["float32"])


def test_mask_reaches_the_next_layer() -> None:
    inputs = np.array([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 4.0], [5.0, 7.0]]], dtype="float32")
    theirs, ours = (
        keras.Sequential([keras.layers.Masking(), layer, keras.layers.GlobalAveragePooling1D()])
        for layer in (keras.layers.LayerNormalization(beta_initializer="ones"), LayerNorm(beta_initializer="ones"))
    )

    assert_close(ours(inputs), theirs(inputs), TOLERANCE["float32"])


@pytest.mark.parametrize("axis", [None, "a", 1.0, True, {"axis": -1}, [None], [1.0], np.int64(1)], ids=repr)
def test_axis_must_be_integers(axis: Any) -> None:
    with pytest.raises(TypeError, match=r"`axis` must be an integer, or a list or tuple of integers\. Received: axis="):
        LayerNorm(axis)


@pytest.mark.parametrize("axis", [0, -3, [0, 1], [-1, 2], [1, 1], [], 3, -4], ids=repr)
def test_axes_must_differ_exist_and_leave_the_batch_out(axis: Any) -> None:
    message = r"`axis` must name different axes of the input, without the batch axis 0\. Received: axis=.*rank 3"
    with pytest.raises(ValueError, match=message):
        LayerNorm(axis).build((2, 3, 4))
    with pytest.raises(ValueError, match=message):
        LayerNorm(axis).compute_output_shape((2, 3, 4))


@pytest.mark.parametrize("shape", [(6,), ()])
def test_input_without_a_batch_axis_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"without the batch axis 0.*an input of rank {len(shape)}"):
        LayerNorm()(numbers(shape))


@pytest.mark.parametrize("epsilon", [0, -1e-3, float("nan"), None, "small"], ids=repr)
def test_epsilon_must_be_positive(epsilon: Any) -> None:
    with pytest.raises(ValueError, match=r"`epsilon` must be a positive number\. Received: epsilon="):
        LayerNorm(epsilon=epsilon)


def test_deprecated_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`rms_scaling` must be False.*RMSNormalization"):
        LayerNorm(rms_scaling=True)


def test_unknown_normalized_axis_is_refused_at_build() -> None:
    with pytest.raises(ValueError, match=r"must be known to build `norm`. Received: axis=-1, .*\(None, None\)"):
        LayerNorm(name="norm").build((None, None))


@pytest.mark.parametrize(
    ("axis", "shape", "message"),
    [
        (-1, (2, 1), r"expected axis -1 .* value 6, .* shape \(2, 1\)"),
        (-2, (2, 6), "expected min_ndim=3, found ndim=2"),
        (1, (2,), "expected min_ndim=2, found ndim=1"),
    ],
    ids=str,
)
def test_input_that_does_not_fit_the_weights_is_refused(axis: int, shape: tuple[int, ...], message: str) -> None:
    layer = LayerNorm(axis)
    layer.build((2, 6, 6))

    with pytest.raises(ValueError, match=f"incompatible with the layer: {message}"):
        layer(numbers(shape))


@each_case
def test_config_is_that_of_keras_without_the_deprecated_scaling(arguments: dict[str, Any], shape: Any) -> None:
    theirs, ours = (layer(name="one", **arguments) for layer in (keras.layers.LayerNormalization, LayerNorm))
    expected = {key: value for key, value in theirs.get_config().items() if key != "rms_scaling"}

    assert ours.get_config() == expected
    assert LayerNorm.from_config(theirs.get_config()).get_config() == expected
    assert keras.layers.LayerNormalization.from_config(ours.get_config()).get_config() == theirs.get_config()


@each_case
def test_config_survives_json_and_build(arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    layer = LayerNorm(dtype="mixed_bfloat16", trainable=False, **arguments)
    before = json.dumps(layer.get_config())
    layer.build(shape)

    assert json.dumps(layer.get_config()) == before
    assert json.dumps(LayerNorm.from_config(json.loads(before)).get_config()) == before


def test_axis_is_kept_as_given_and_shared_with_nobody() -> None:
    axis = [2, 1]
    layer = LayerNorm(axis)
    layer.build((2, 3, 4))
    axis.append(7)
    layer.get_config()["axis"].append(8)

    assert layer.axis == [2, 1]


def test_saved_model_loads_the_registered_class(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3, 4)), LayerNorm((2, 1)), LayerNorm()])
    model.set_weights([numbers(weight.shape) for weight in model.weights])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert [type(layer) for layer in loaded.layers] == [LayerNorm, LayerNorm]
    assert keras.saving.get_registered_name(LayerNorm) == "layerserve>LayerNorm"
    np.testing.assert_array_equal(loaded(numbers((5, 3, 4))), model(numbers((5, 3, 4))))

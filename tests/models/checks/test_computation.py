"""Each rule on what `call` computes: a layer that breaks it, and its sound twin."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tests.models.checks.harness import Case, verdict
from tests.models.checks.test_state import Gain, Raises, TwoDense


class Twice(keras.Layer):
    """Sound: no weights, no state."""

    def call(self, x: Any) -> Any:
        return x * 2


class UsesNumpy(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.convert_to_tensor(np.asarray(x) * 2)


class WrongShape(Twice):
    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 3)


class RightShape(Twice):
    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class WrongDtype(Twice):
    """Says float32, since it has a compute_output_shape, and gives integers."""

    def call(self, x: Any) -> Any:
        return ops.cast(x, "int32")

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class FixedBatch(keras.Layer):
    def call(self, x: Any) -> Any:
        return x * ops.ones((x.shape[0] or 4, 1))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class TracedOnce(keras.Layer):
    """Multiplies by a number that Python draws: anew for each eager call, once when traced."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x * float(self.calls)


class NotForXla(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.cast(tf.strings.to_number(tf.strings.as_string(x)), x.dtype)


class NotForXlaAndSaysSo(NotForXla):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_jit = False


class PythonFunction(keras.Layer):
    """Answers as long as the Python that traced it lives."""

    def call(self, x: Any) -> Any:
        y = tf.numpy_function(lambda value: value * 2, [x], x.dtype)
        return ops.reshape(y, ops.shape(x))

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class EagerOnly(keras.Layer):
    def call(self, x: Any) -> Any:
        return x * 2 if tf.executing_eagerly() else x * 3


class NoiseAlways(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return x + keras.random.normal(ops.shape(x), seed=self.seeds)


class NoiseInTraining(NoiseAlways):
    """Sound: the same noise, in training only."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        return super().call(x) if training else x


class TrainsByDefault(NoiseAlways):
    def call(self, x: Any, training: bool = True) -> Any:
        return super().call(x) if training else x


class CountsCalls(keras.Layer):
    def build(self, shape: Any) -> None:
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        self.calls.assign_add(1.0)
        return x


class NeedsTraining(keras.Layer):
    def call(self, x: Any, training: bool) -> Any:
        return x * 2


class BatchMean(keras.Layer):
    def call(self, x: Any) -> Any:
        return x - ops.mean(x, axis=0, keepdims=True)


class FaintBatchMean(keras.Layer):
    """Mixes so little of its neighbours in that no tolerance would show it."""

    def call(self, x: Any) -> Any:
        return x - 1e-9 * ops.mean(x, axis=0, keepdims=True)


class FirstRow(keras.Layer):
    def call(self, x: Any) -> Any:
        return x + x[:1]


class RowMean(keras.Layer):
    """Sound: centres each row by itself."""

    def call(self, x: Any) -> Any:
        return x - ops.mean(x, axis=-1, keepdims=True)


class SumsTheBatch(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.sum(x, axis=0)


class Root(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.sqrt(x)


class SafeRoot(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.sqrt(ops.abs(x) + 1e-3)


class MeanOverSteps(keras.Layer):
    """Uses its mask."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any, mask: Any = None) -> Any:
        kept = ops.ones_like(x[..., :1]) if mask is None else ops.cast(mask, x.dtype)[..., None]
        return ops.sum(x * kept, axis=1) / ops.sum(kept, axis=1)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        return None


class MaskIgnored(MeanOverSteps):
    def call(self, x: Any, mask: Any = None) -> Any:
        return ops.mean(x, axis=1)


class KeepsMask(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return x * 2


class MixesStepsAndKeepsMask(KeepsMask):
    def call(self, x: Any) -> Any:
        return x + ops.mean(x, axis=1, keepdims=True)


class MaskOfOtherLength(KeepsMask):
    def call(self, x: Any) -> Any:
        return x[:, 1:]


class UnusedWeight(Gain):
    def build(self, shape: Any) -> None:
        super().build(shape)
        self.unused = self.add_weight(name="unused", shape=(2,))


class InfiniteGradient(Gain):
    def call(self, x: Any) -> Any:
        return x * ops.sqrt(self.gain * 0.0)


class IgnoresPolicy(Gain):
    def call(self, x: Any) -> Any:
        return ops.cast(super().call(x), "float32")


class OverflowsInHalf(keras.Layer):
    def call(self, x: Any) -> Any:
        return x * 1e5 / 1e5


class HalfWeights(Gain):
    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), dtype=self.compute_dtype)


class ChildKeepsFloat32(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(6)

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class ChildFollows(ChildKeepsFloat32):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(6, dtype=self.dtype_policy)


class Doubles(keras.Layer):
    def call(self, x: Any) -> Any:
        return ops.cast(x, "float64")


MASKED = {"shape": (4, 3), "options": {"mask": True}}
CASES = [
    Case("check_can_be_called", Raises, "RuntimeError: ", Twice),
    Case("check_works_in_a_functional_model", UsesNumpy, "calling it on keras.Input raised", Twice),
    Case("check_output_shape_is_as_announced", WrongShape, "announced is shape (None, 3)", RightShape),
    Case("check_output_dtype_is_as_announced", WrongDtype, "announced is float32, and the call gives int32", Twice),
    Case("check_any_number_of_rows", FixedBatch, "shape (1, 6) became (4, 6)", Twice),
    Case("check_traced_like_eager", TracedOnce, "the traced layer gives other answers", Twice),
    Case("check_traced_like_eager", EagerOnly, "the traced layer gives other answers", Twice),
    Case("check_jit_compiled_like_eager", NotForXla, "AsString", Twice),
    Case("check_saved_model_answers_alike", EagerOnly, "the SavedModel gives other answers", Twice),
    Case("check_deterministic_at_inference", NoiseAlways, "two answers at inference", NoiseInTraining),
    Case("check_deterministic_at_inference", TrainsByDefault, "called without `training`", NoiseInTraining),
    Case("check_inference_changes_no_state", CountsCalls, "changes the state", NoiseInTraining),
    Case("check_inference_changes_no_state", NoiseAlways, "seed", NoiseInTraining),
    Case(
        "check_training_flag_is_taken", NeedsTraining, "called without `training`, it raises TypeError", NoiseInTraining
    ),
    Case("check_rows_are_independent", BatchMean, "row 0 alone and in a batch of 4", RowMean),
    Case("check_rows_are_independent", FaintBatchMean, "the rows followed by rows of NaN", RowMean),
    Case("check_rows_are_independent", FirstRow, "row 1 alone", RowMean),
    Case("check_rows_are_independent", SumsTheBatch, "axis 0 must be the rows", RowMean),
    Case("check_answers_are_finite", Root, "NaN or infinite", SafeRoot),
    Case("check_mask_is_kept_or_used", MaskIgnored, "the mask is lost", MeanOverSteps, **MASKED),
    Case("check_mask_is_kept_or_used", MixesStepsAndKeepsMask, "masked steps change the answer", KeepsMask, **MASKED),
    Case("check_mask_is_kept_or_used", MaskOfOtherLength, "the mask has shape (4, 4)", KeepsMask, **MASKED),
    Case("check_gradients_reach_every_weight", UnusedWeight, "unused` gets no gradient", Gain),
    Case("check_gradients_reach_every_weight", InfiniteGradient, "gain` is not finite", Gain),
    Case("check_mixed_precision", IgnoresPolicy, "an output is float32, not float16", Gain),
    Case("check_mixed_precision", OverflowsInHalf, "holds NaN or infinity", Gain),
    Case("check_mixed_precision", HalfWeights, "gain` is float16, not float32", Gain),
    Case("check_mixed_precision", ChildKeepsFloat32, 'made with dtype="mixed_float16"', ChildFollows),
    Case("check_no_float64", Doubles, "an output is float64", Gain),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken_layer_is_caught_and_its_cause_named(case: Case) -> None:
    result = verdict(case.rule, case.broken, case.shape, **case.options)
    assert result.status == "failed"
    assert case.words in result.message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sound_twin_passes(case: Case) -> None:
    assert verdict(case.rule, case.sound, case.shape, **case.options).status == "passed"


def test_layer_that_declines_jit_is_not_compiled() -> None:
    assert verdict("check_jit_compiled_like_eager", NotForXlaAndSaysSo).status == "skipped"


def test_composite_layer_passes_every_numeric_rule() -> None:
    assert verdict("check_gradients_reach_every_weight", TwoDense).status == "passed"

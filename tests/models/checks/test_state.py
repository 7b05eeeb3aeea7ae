"""Each rule on registration and weights: a layer that breaks it, and its sound twin."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from models.checks import check_layer
from tests.models.checks.harness import Case, verdict


@keras.saving.register_keras_serializable(package="contract_tests")
class Gain(keras.Layer):
    """Sound: one weight, made in build."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), initializer="random_normal")

    def call(self, x: Any) -> Any:
        return x * self.gain


class Unnamed(keras.Layer):
    """Sound, though nobody named its weight."""

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(shape=(shape[-1],))

    def call(self, x: Any) -> Any:
        return x * self.gain


class Unregistered(Gain):
    pass


@keras.saving.register_keras_serializable()
class Packageless(Gain):
    pass


@keras.saving.register_keras_serializable(package="contract_tests", name="Taken")
class Robbed(Gain):
    pass


@keras.saving.register_keras_serializable(package="contract_tests", name="Taken")
class Robber(Gain):
    pass


class MadeInCall(keras.Layer):
    def build(self, shape: Any) -> None:
        pass

    def call(self, x: Any) -> Any:
        if not hasattr(self, "gain"):
            self._tracker.unlock()
            self.gain = self.add_weight(name="gain", shape=(x.shape[-1],))
        return x * self.gain


class TwoDense(keras.Layer):
    """Sound: builds its children."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(6), keras.layers.Dense(6)

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.second.build((*shape[:-1], 6))

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


class LeavesChildUnbuilt(TwoDense):
    def build(self, shape: Any) -> None:
        self.first.build(shape)


class Sized(Gain):
    """Builds for an attribute that its build config doesn't hold."""

    def build(self, shape: Any) -> None:
        super().build(shape)
        self.offset = self.add_weight(name="offset", shape=(shape[-1],))

    def build_from_config(self, config: dict[str, Any]) -> None:
        Gain.build(self, config["input_shape"])


class ForgetsBuildConfig(Gain):
    def get_build_config(self) -> Any:
        return None


class RebuildsAnew(Gain):
    def build(self, shape: Any) -> None:
        if self.built:
            self.gain.assign(ops.ones_like(self.gain))
        else:
            super().build(shape)


class RawVariable(keras.Layer):
    def build(self, shape: Any) -> None:
        self.gain = tf.Variable(np.ones(shape[-1], "float32"))

    def call(self, x: Any) -> Any:
        return x * self.gain


@keras.saving.register_keras_serializable(package="contract_tests")
class Raises(keras.Layer):
    def call(self, x: Any) -> Any:
        raise RuntimeError("not today")


class Bag:
    def __init__(self, held: Any) -> None:
        self.held = held


class HeldInAnObject(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bag = Bag(keras.layers.Dense(6))

    def build(self, shape: Any) -> None:
        self.bag.held.build(shape)

    def call(self, x: Any) -> Any:
        return self.bag.held(x)


class HeldInAClosure(keras.Layer):
    def build(self, shape: Any) -> None:
        gain = tf.Variable(np.ones(shape[-1], "float32"))
        self.multiply = lambda x: x * gain

    def call(self, x: Any) -> Any:
        return self.multiply(x)


class OnTheClass(keras.Layer):
    dense = keras.layers.Dense(6)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class DefaultArgument(keras.Layer):
    def __init__(self, dense: Any = keras.layers.Dense(6), **kwargs: Any) -> None:  # noqa: B008 -- the fault under test
        super().__init__(**kwargs)
        self.dense = dense

    def call(self, x: Any) -> Any:
        return self.dense(x)


class FixedName(Gain):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "name": "gain"})


class NeverFrozen(Gain):
    @property
    def trainable_weights(self) -> Any:
        return self.weights


CASES = [
    Case("check_class_is_registered", Unregistered, "`Unregistered` is not registered", Gain),
    Case("check_class_has_its_own_package", Packageless, "the package 'Custom'", Gain),
    Case("check_registered_name_is_its_own", Robbed, "`contract_tests>Taken` now leads to", Robber),
    Case("check_weights_are_made_in_build", MadeInCall, "gain(6,) is made in call", Unnamed),
    Case("check_build_builds_the_children", LeavesChildUnbuilt, "`second` is not built", TwoDense),
    Case("check_build_from_config_restores_the_weights", Sized, "build_from_config makes", Gain),
    Case("check_build_from_config_restores_the_weights", ForgetsBuildConfig, "get_build_config() is empty", Gain),
    Case("check_building_twice_keeps_the_weights", RebuildsAnew, "sets the weights back", Gain),
    Case("check_every_variable_is_tracked", RawVariable, "`gain`, a ResourceVariable of shape (6,)", Gain),
    Case("check_every_variable_is_tracked", HeldInAnObject, "`bag.held.", TwoDense),
    Case("check_every_variable_is_tracked", HeldInAClosure, "no weight of the layer", Gain),
    Case("check_layers_share_nothing", OnTheClass, "share `OnTheClass.dense`", TwoDense),
    Case("check_layers_share_nothing", DefaultArgument, "share `dense`", TwoDense),
    Case("check_two_layers_fit_in_one_model", FixedName, "is named 'gain'", Gain),
    Case("check_freezing_freezes_all", NeverFrozen, "can still be trained", Gain),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken_layer_is_caught_and_its_cause_named(case: Case) -> None:
    result = verdict(case.rule, case.broken, case.shape)
    assert result.status == "failed"
    assert case.words in result.message


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sound_twin_passes(case: Case) -> None:
    assert verdict(case.rule, case.sound, case.shape).status == "passed"


def test_class_of_keras_needs_no_registration() -> None:
    assert verdict("check_class_is_registered", lambda: keras.layers.Dense(2)).status == "skipped"


def test_factory_that_returns_one_layer_twice_is_told() -> None:
    layer = Gain()
    assert "the same layer twice" in verdict("check_layers_share_nothing", lambda: layer).message


@pytest.mark.slow
def test_layer_that_cannot_be_called_breaks_one_rule_and_stops_the_others() -> None:
    report = check_layer(Raises, (6,))
    assert [failure.rule for failure in report.failures] == ["check_can_be_called"]

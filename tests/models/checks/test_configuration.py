"""Each rule on the config: a layer that breaks it, and its sound twin."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from tests.models.checks.harness import Case, verdict


class Scale(keras.Layer):
    """Sound: multiplies by a constant, and says all of it in its config."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


class ForgetfulScale(Scale):
    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["factor"]
        return config


class HiddenForgetfulScale(keras.Layer):
    """Forgets an argument that it keeps under another name."""

    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.multiplier = factor

    def call(self, x: Any) -> Any:
        return x * self.multiplier

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class ForgetfulInTraining(keras.Layer):
    """Forgets an argument that shows only while training."""

    def __init__(self, noise: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = noise
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool | None = None) -> Any:
        return x + self.strength * keras.random.normal(ops.shape(x), seed=self.seeds) if training else x

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class WeightOption(keras.Layer):
    """Forgets how its weight starts, or is penalized, or bound."""

    def __init__(self, start: Any = "ones", penalty: Any = None, bound: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.options = {
            "initializer": keras.initializers.get(start),
            "regularizer": keras.regularizers.get(penalty),
            "constraint": keras.constraints.get(bound),
        }

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), **self.options)

    def call(self, x: Any) -> Any:
        return x * self.gain

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class Reduction(keras.Layer):
    """Forgets one of a closed set of words."""

    def __init__(self, reduction: str = "everything", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduction not in {"everything", "nothing"}:
            raise ValueError("unknown reduction")
        self.chosen = reduction

    def call(self, x: Any) -> Any:
        return x * 0 if self.chosen == "everything" else x

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class ParentsArgument(Scale):
    """Sound: hands an argument on to its parent."""

    def __init__(self, shift: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shift = shift

    def call(self, x: Any) -> Any:
        return super().call(x) + self.shift

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shift": self.shift}


class ForgetsParentsArgument(ParentsArgument):
    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_config().items() if key != "factor"}


class RequiredForgotten(keras.Layer):
    def __init__(self, factor: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


class ArrayInConfig(Scale):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": np.float32(self.factor)}


class ObjectInConfig(Scale):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": object()}


class Lookup(keras.Layer):
    """Sound: its integer keys are made numbers again."""

    def __init__(self, table: dict[Any, float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = {int(key): value for key, value in table.items()}

    def call(self, x: Any) -> Any:
        return x * self.table[1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "table": {str(key): value for key, value in self.table.items()}}


class IntegerKeys(Lookup):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "table": self.table}


class StringKeys(Lookup):
    """Says its keys as text, and leaves them text."""

    def __init__(self, table: dict[Any, float], **kwargs: Any) -> None:
        super().__init__(table, **kwargs)
        self.table = table

    def call(self, x: Any) -> Any:
        return x * next(iter(self.table.values()))


class ChangedByBuild(Scale):
    def build(self, shape: Any) -> None:
        self.factor = self.factor + 1


class Sizes(keras.Layer):
    """Sound: gives its sizes away as a copy."""

    def __init__(self, sizes: Any = (1, 2), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sizes = list(sizes)

    def call(self, x: Any) -> Any:
        return x * sum(self.sizes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": list(self.sizes)}


class AliasedSizes(Sizes):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "sizes": self.sizes}


class TakesFromConfig(Sizes):
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        sizes = config.pop("sizes")
        return cls(sizes=sizes, **config)


class TakesFromCopy(Sizes):
    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        return cls(sizes=config.pop("sizes"), **config)


class Drifting(Scale):
    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(factor * 2, **kwargs)


class Inner(keras.Layer):
    """Sound: takes a layer and a function and revives both."""

    def __init__(self, inner: Any, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner
        self.activation = keras.activations.get(activation)

    def build(self, shape: Any) -> None:
        if not self.inner.built:
            self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return self.activation(self.inner(x))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "inner": keras.saving.serialize_keras_object(self.inner),
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        inner = keras.saving.deserialize_keras_object(config.pop("inner"))
        return cls(inner=inner, **config)


class InnerLeftSerialized(Inner):
    def build(self, shape: Any) -> None:
        pass

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)


class FunctionLeftSerialized(Inner):
    def __init__(self, inner: Any, activation: Any = None, **kwargs: Any) -> None:
        super().__init__(inner, **kwargs)
        self.activation = activation


class DropsDtype(Scale):
    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_config().items() if key != "dtype"}


class TakesNoName(keras.Layer):
    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"factor": self.factor}


class DropsTrainable(Scale):
    def __init__(self, factor: float = 2.0, trainable: bool = True, **kwargs: Any) -> None:
        super().__init__(factor, **kwargs)


def nested(cls: type) -> Any:
    return cls(keras.layers.Dense(6), "tanh")


CASES = [
    Case("check_config_is_complete", ForgetfulScale, "`factor` is lost: made with factor=2.25", Scale),
    Case("check_config_is_complete", HiddenForgetfulScale, "get_config() has no entry `factor`", Scale),
    Case("check_config_is_complete", ForgetfulInTraining, "`noise` is lost", Scale),
    Case("check_config_is_complete", ForgetsParentsArgument, "no entry `factor`", ParentsArgument),
    Case("check_config_is_complete", WeightOption, "`start` is lost: its revival starts with other weights", Scale),
    Case("check_config_is_complete", WeightOption, "`penalty` is lost", Scale),
    Case("check_config_is_complete", WeightOption, "`bound` is lost", Scale),
    Case("check_config_is_complete", Reduction, "`reduction` is lost", Scale),
    Case("check_revives_from_its_config", lambda: RequiredForgotten(3.0), "argument: 'factor'", Scale),
    Case("check_config_fits_in_json", ArrayInConfig, "`factor` holds a float32", Scale),
    Case("check_config_fits_in_json", ObjectInConfig, "serialising the config raised", Scale),
    Case("check_config_fits_in_json", lambda: IntegerKeys({1: 2.0}), "comes back as '1'", lambda: Lookup({1: 2.0})),
    Case(
        "check_values_keep_their_type", lambda: StringKeys({1: 2.0}), "`table` was {1: 2.0}", lambda: Lookup({1: 2.0})
    ),
    Case("check_config_is_the_same_after_build", ChangedByBuild, "`factor` is 2.0 in the config before build", Scale),
    Case("check_config_is_a_copy", AliasedSizes, "emptying the config's entry `sizes`", Sizes),
    Case("check_config_is_a_copy", TakesFromConfig, "from_config takes ['sizes'] out", TakesFromCopy),
    Case("check_config_survives_a_second_round_trip", Drifting, "`factor` is 4.0, and 8.0 one", Scale),
    Case(
        "check_nested_objects_are_revived",
        lambda: nested(InnerLeftSerialized),
        "`inner` was <Dense",
        lambda: nested(Inner),
    ),
    Case(
        "check_nested_objects_are_revived",
        lambda: FunctionLeftSerialized(keras.layers.Dense(6), keras.activations.tanh),
        "came back as the str 'tanh'",
        lambda: nested(Inner),
    ),
    Case("check_base_arguments_are_kept", DropsDtype, "made with dtype='mixed_bfloat16', once revived", Scale),
    Case("check_base_arguments_are_kept", TakesNoName, "__init__ does not take `name`", Scale),
    Case("check_base_arguments_are_kept", DropsTrainable, "once made it has trainable=True", Scale),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_broken_layer_is_caught_and_its_cause_named(case: Case) -> None:
    result = verdict(case.rule, case.broken, case.shape)
    assert result.status == "failed"
    assert case.words in result.message
    assert result.fix


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sound_twin_passes(case: Case) -> None:
    assert verdict(case.rule, case.sound, case.shape).status == "passed"

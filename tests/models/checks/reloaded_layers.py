"""Layers that break, and keep, the rules on reloading; a module of its own, which a fresh process can import."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="contract_tests")
class Doubling(keras.Layer):
    """Sound, and without weights."""

    def call(self, x: Any) -> Any:
        return x * 2


@keras.saving.register_keras_serializable(package="contract_tests")
class Blocks(keras.Layer):
    """Sound: three sub-layers in a list."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [keras.layers.Dense(6) for _ in range(3)]

    def build(self, shape: Any) -> None:
        for block in self.blocks:
            block.build(shape)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


@keras.saving.register_keras_serializable(package="contract_tests")
class BlocksInASet(Blocks):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.named = {f"block{index}": keras.layers.Dense(6) for index in range(3)}
        self.blocks = [self.named[name] for name in set(self.named)]


@keras.saving.register_keras_serializable(package="contract_tests")
class SortedBlocks(BlocksInASet):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.blocks = [self.named[name] for name in sorted(set(self.named))]


MODES = {"sum", "mean"}


class AsksASet(keras.Layer):
    """Sound: looks a word up in sets, and walks none."""

    def __init__(self, mode: str = "sum", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if mode not in {"sum", "mean"} or mode not in MODES:
            raise ValueError(f"`mode` must be sum or mean. Received: mode={mode!r}")


@keras.saving.register_keras_serializable(package="contract_tests")
class BlocksInLayers(keras.Layer):
    """Keeps its sub-layers in the attribute that Keras keeps for itself (keras-team/keras#20260)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._layers = [keras.layers.Dense(6) for _ in range(2)]

    def build(self, shape: Any) -> None:
        for block in self._layers:
            block.build(shape)

    def call(self, x: Any) -> Any:
        for block in self._layers:
            x = block(x)
        return x


@keras.saving.register_keras_serializable(package="contract_tests")
class HashOrdered(keras.Layer):
    """Makes its weights in the order in which a set happens to give their names."""

    def build(self, shape: Any) -> None:
        names = {"query", "key", "value", "output", "gate", "shift"}
        self.parts = [self.add_weight(name=name, shape=(shape[-1],)) for name in names]

    def call(self, x: Any) -> Any:
        return x + self.parts[0] - 2 * self.parts[1]


@keras.saving.register_keras_serializable(package="contract_tests")
class NameOrdered(HashOrdered):
    """Sound: the same weights, in the order of their names."""

    def build(self, shape: Any) -> None:
        names = {"query", "key", "value", "output", "gate", "shift"}
        self.parts = [self.add_weight(name=name, shape=(shape[-1],)) for name in sorted(names)]


@keras.saving.register_keras_serializable(package="contract_tests")
class RunningMean(keras.Layer):
    """Sound: its statistics are a weight."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(name="mean", shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(x, axis=0))
        return x - self.mean


@keras.saving.register_keras_serializable(package="contract_tests")
class RunningMeanInNumpy(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.average = np.zeros(6, "float32")

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            self.average = 0.9 * self.average + 0.1 * np.mean(ops.convert_to_numpy(x), axis=0)
        return x - self.average


@keras.saving.register_keras_serializable(package="contract_tests")
class CountsOnTheClass(keras.Layer):
    seen = 0

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            type(self).seen += 1
        return x * float(self.seen)


@keras.saving.register_keras_serializable(package="contract_tests")
class ChangesLate(keras.Layer):
    """Answers otherwise after its hundredth training step only."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = 0

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            self.steps += 1
        return x * (1.0 if self.steps < 100 else 2.0)


class Holder:
    def __init__(self) -> None:
        self.total = 0.0


@keras.saving.register_keras_serializable(package="contract_tests")
class CountsInAnObject(keras.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.holder = Holder()

    def call(self, x: Any, training: bool | None = None) -> Any:
        if training:
            self.holder.total += 1.0
        return x + self.holder.total


@keras.saving.register_keras_serializable(package="contract_tests")
class CountsForItsLog(keras.Layer):
    """Sound: counts calls in a plain attribute that no answer depends on."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x


@keras.saving.register_keras_serializable(package="contract_tests")
class RemembersInputs(CountsForItsLog):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.history: list[Any] = []

    def call(self, x: Any) -> Any:
        self.history.append(x)
        return x


@keras.saving.register_keras_serializable(package="contract_tests")
class RandomProjection(keras.Layer):
    """Sound: its random matrix is a weight."""

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight(name="matrix", shape=(shape[-1], 3), initializer="random_normal", trainable=False)

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.matrix)


@keras.saving.register_keras_serializable(package="contract_tests")
class RandomProjectionInNumpy(keras.Layer):
    def build(self, shape: Any) -> None:
        self.matrix = np.random.default_rng().normal(size=(shape[-1], 3)).astype("float32")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, ops.convert_to_tensor(self.matrix))


@keras.saving.register_keras_serializable(package="contract_tests")
class Backbone(keras.Layer):
    """Takes a layer, and serialises it with its freeze."""

    def __init__(self, inner: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, shape: Any) -> None:
        # A layer revived from its config comes built.
        if not self.inner.built:
            self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return self.inner(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "inner": keras.saving.serialize_keras_object(self.inner)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        config = dict(config)
        return cls(keras.saving.deserialize_keras_object(config.pop("inner")), **config)


@keras.saving.register_keras_serializable(package="contract_tests")
class BuildsBuiltChild(Backbone):
    def build(self, shape: Any) -> None:
        self.inner.build(shape)


@keras.saving.register_keras_serializable(package="contract_tests")
class ThawingBackbone(Backbone):
    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config["inner"]["config"] = {**config["inner"]["config"], "trainable": True}
        return config


@keras.saving.register_keras_serializable(package="contract_tests")
class Penalized(keras.Layer):
    """Sound: its penalty is in the config."""

    def __init__(self, regularizer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.regularizer = keras.regularizers.get(regularizer)

    def build(self, shape: Any) -> None:
        self.gain = self.add_weight(name="gain", shape=(shape[-1],), regularizer=self.regularizer)

    def call(self, x: Any) -> Any:
        return x * self.gain

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "regularizer": keras.regularizers.serialize(self.regularizer)}


@keras.saving.register_keras_serializable(package="contract_tests")
class ForgetsPenalty(Penalized):
    def get_config(self) -> dict[str, Any]:
        return {key: value for key, value in super().get_config().items() if key != "regularizer"}


def frozen_dense() -> Any:
    """A frozen sub-layer."""
    return keras.layers.Dense(6, trainable=False)

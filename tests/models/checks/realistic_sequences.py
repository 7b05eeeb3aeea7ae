"""More custom layers as people write them: images, places, several outputs, recurrent stacks."""

from __future__ import annotations

from typing import Any

import keras
from keras import InputSpec, ops

from tests.models.checks.realistic_layers import positive, register


@register
class PatchEmbedding(keras.Layer):
    """Cuts images into patches and projects each, with a learned place."""

    def __init__(self, patch_size: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.patch_size = positive("patch_size", patch_size)
        self.units = positive("units", units)

    def build(self, shape: Any) -> None:
        size = self.patch_size
        self.project = keras.layers.Conv2D(self.units, size, strides=size, dtype=self.dtype_policy)
        self.project.build(shape)
        self.num_patches = (shape[1] // size) * (shape[2] // size)
        self.place = self.add_weight(name="place", shape=(self.num_patches, self.units), initializer="random_normal")
        self.input_spec = InputSpec(shape=(None, *shape[1:]))

    def call(self, x: Any) -> Any:
        return ops.reshape(self.project(x), (-1, self.num_patches, self.units)) + self.place

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], (shape[1] // self.patch_size) * (shape[2] // self.patch_size), self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "patch_size": self.patch_size, "units": self.units}


@register
class Rotary(keras.Layer):
    """Rotary places (Su et al., 2021): no weights, a table computed in `call`."""

    def __init__(self, base: float = 10000.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(base, int | float) or base <= 0:
            raise ValueError(f"`base` must be a positive number. Received: base={base!r}")
        self.base = base
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        half = x.shape[-1] // 2
        steps = ops.cast(ops.arange(ops.shape(x)[1]), "float32")
        angles = steps[:, None] * self.base ** (-ops.cast(ops.arange(half), "float32") / half)
        cosine, sine = ops.cast(ops.cos(angles), x.dtype), ops.cast(ops.sin(angles), x.dtype)
        first, second = x[..., :half], x[..., half:]
        return ops.concatenate([first * cosine - second * sine, first * sine + second * cosine], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "base": self.base}


@register
class TwoHeads(keras.Layer):
    """Two outputs by name: a score and its logarithm's scale."""

    def __init__(self, units: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = positive("units", units)
        self.score = keras.layers.Dense(units, dtype=self.dtype_policy)
        self.scale = keras.layers.Dense(units, dtype=self.dtype_policy)

    def build(self, shape: Any) -> None:
        self.score.build(shape)
        self.scale.build(shape)

    def call(self, x: Any) -> Any:
        return {"score": self.score(x), "scale": ops.softplus(self.scale(x))}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@register
class GRUStack(keras.Layer):
    """Recurrent layers in a list, each on the steps of the one before."""

    def __init__(self, units: list[int] | tuple[int, ...] = (4, 3), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = list(units)
        last = len(self.units) - 1
        self.levels = [
            keras.layers.GRU(size, return_sequences=level < last, dtype=self.dtype_policy)
            for level, size in enumerate(self.units)
        ]

    def build(self, shape: Any) -> None:
        for level, size in zip(self.levels, self.units, strict=True):
            level.build(shape)
            shape = (*shape[:-1], size)

    def call(self, x: Any, training: bool | None = None) -> Any:
        for level in self.levels:
            x = level(x, training=training)
        return x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": list(self.units)}

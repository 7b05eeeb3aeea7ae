"""Prints, as JSON, how far our layers are from Keras's on the backend that KERAS_BACKEND names.

Run as a program: a process has one backend.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.layers import Dense, LayerNorm

POLICIES = ["float32", "bfloat16", "mixed_float16", "mixed_bfloat16"]
CASES: list[tuple[type, type, dict[str, Any]]] = [
    (keras.layers.Dense, Dense, {"units": 6, "activation": "relu"}),
    (keras.layers.Dense, Dense, {"units": 6, "use_bias": False}),
    (keras.layers.LayerNormalization, LayerNorm, {}),
    (keras.layers.LayerNormalization, LayerNorm, {"axis": (1, 2)}),
    (keras.layers.LayerNormalization, LayerNorm, {"axis": (-1, 1)}),
    (keras.layers.LayerNormalization, LayerNorm, {"axis": 2, "scale": False, "epsilon": 1e-6}),
]
INPUTS = np.random.default_rng(0).normal(size=(8, 5, 6)).astype("float32")
TARGETS = np.random.default_rng(1).normal(size=(8, 5, 6)).astype("float32")


def numbers(tensor: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def model(layer: keras.Layer) -> keras.Model:
    built = keras.Sequential(
        [keras.Input((None, 6) if isinstance(layer, Dense | keras.layers.Dense) else (5, 6)), layer]
    )
    rng = np.random.default_rng(2)
    built.set_weights([rng.normal(size=weight.shape) for weight in built.weights])
    return built


def learned(trained: keras.Model) -> list[np.ndarray]:
    """The weights after two steps of gradient descent, wide enough to be seen in bfloat16."""
    before = [numbers(weight) for weight in trained.weights]
    trained.compile(keras.optimizers.SGD(1.0), "mse")
    trained.fit(INPUTS, TARGETS, batch_size=4, shuffle=False, verbose=0)
    after = [numbers(weight) for weight in trained.weights]
    assert all(np.abs(new - old).max() > 0.01 for new, old in zip(after, before, strict=True))
    return after


def reloaded(saved: keras.Model) -> keras.Model:
    with tempfile.TemporaryDirectory() as folder:
        saved.save(Path(folder) / "model.keras")
        return keras.saving.load_model(Path(folder) / "model.keras")


def differences(theirs: type, ours: type, arguments: dict[str, Any], policy: str) -> dict[str, float]:
    pair = [model(layer(dtype=policy, **arguments)) for layer in (theirs, ours)]
    outputs = [built(INPUTS) for built in pair]
    assert len({keras.backend.standardize_dtype(output.dtype) for output in outputs}) == 1
    reload_error = np.abs(numbers(reloaded(pair[1])(INPUTS)) - numbers(outputs[1])).max()
    empty = pair[1](INPUTS[:0])
    assert tuple(empty.shape) == (0, 5, 6)
    weights = zip(*(learned(built) for built in pair), strict=True)
    return {
        "outputs": float(np.abs(numbers(outputs[0]) - numbers(outputs[1])).max()),
        "weights after training": max(float(np.abs(first - second).max()) for first, second in weights),
        "reload": float(reload_error),
    }


def moved_axis() -> float:
    """Normalizing over a middle axis against over the last one. (Keras 3.15.1 fails at it on torch, #23510.)"""
    middle = numbers(LayerNorm(axis=1)(INPUTS))
    last = numbers(LayerNorm()(INPUTS.swapaxes(1, 2))).swapaxes(1, 2)
    return float(np.abs(middle - last).max())


if __name__ == "__main__":
    report = {
        f"{ours.__name__} {arguments} {policy}": differences(theirs, ours, arguments, policy)
        for theirs, ours, arguments in CASES
        for policy in POLICIES
    }
    print(json.dumps({"backend": keras.backend.backend(), "moved axis": moved_axis(), "differences": report}))

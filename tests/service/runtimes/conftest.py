"""Versions as the real export makes them, in every format that their dtypes allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from models.artifact import Artifact
from models.golden import Golden, read_golden
from models.manifest import Tensors
from models.quiet import quiet_import
from models.store import ArtifactStore

with quiet_import():
    import keras

    from export.publish import Candidate, publish
    from models.layers import Dense, LayerNorm


@dataclass(frozen=True)
class Version:
    """A published version with its golden rows."""

    artifact: Artifact
    golden: Golden


def _numbers(inputs: dict[str, Any]) -> dict[str, Any]:
    """Names that no keyword can have, a scalar a row, and a length that may change."""
    hidden = LayerNorm()(Dense(4, activation="relu")(inputs["series"]))
    return {"mean of all": keras.ops.mean(hidden, axis=1), "twice": inputs["sepal length (cm)"] * 2}


def _texts(inputs: dict[str, Any]) -> dict[str, Any]:
    words = keras.layers.StringLookup(vocabulary=["ant", "bee"])(inputs["word"])
    cities = keras.layers.StringLookup(vocabulary=["Oslo", "Łódź"])(inputs["the city"])
    return {"word index": words, "city index": cities}


def _small_numbers(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "not": keras.ops.logical_not(inputs["flag"]),
        "next": inputs["tiny"] + 1,
        "double": inputs["big"] * 2,
        "halved": inputs["half"] / 2,
        "tripled": keras.layers.Rescaling(3.0, dtype="float64")(inputs["wide"]),
    }


_ROWS: dict[str, Tensors] = {
    "numbers": {
        "series": np.random.default_rng(1).normal(size=(3, 5, 2)).astype(np.float32),
        "sepal length (cm)": np.array([1.5, -2.5, 0.25], np.float32),
    },
    "texts": {"word": np.array([["ant", "none"], ["bee", "bee"]]), "the city": np.array(["Łódź", ""])},
    "small_numbers": {
        "flag": np.array([True, False]),
        "tiny": np.array([[1, -2], [3, 4]], np.int8),
        "big": np.array([2**40, -3]),
        "half": np.array([[1.5, 3.0], [0.5, -8.0]], np.float16),
        "wide": np.array([[1e300], [1 / 3]]),
    },
}
_MODELS: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], tuple[str, ...]]] = {
    "numbers": (_numbers, ("saved_model", "onnx", "litert", "openvino")),
    "texts": (_texts, ("saved_model", "onnx", "litert")),
    "small_numbers": (_small_numbers, ("saved_model", "onnx")),
}
RUNS = [(name, format_name) for name, (_, formats) in _MODELS.items() for format_name in ("keras", *formats)]
"""Each version with each runtime that can run it."""


@pytest.fixture(scope="session")
def versions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Version]:
    """The versions by name; they are shared, so whoever changes one copies it."""
    keras.utils.set_random_seed(3)
    store = ArtifactStore(tmp_path_factory.mktemp("versions"))
    return {name: _export(store, name) for name in _MODELS}


def _export(store: ArtifactStore, name: str) -> Version:
    function, formats = _MODELS[name]
    rows = _ROWS[name]
    inputs = {
        key: keras.Input(
            _shape(key, values), dtype="string" if values.dtype.kind == "U" else values.dtype.name, name=key
        )
        for key, values in rows.items()
    }
    artifact = publish(store, Candidate(name, keras.Model(inputs, function(inputs)), rows), formats=formats)
    assert artifact.manifest.left_out == {}
    return Version(artifact, read_golden(artifact))


def _shape(name: str, values: np.ndarray) -> tuple[int | None, ...]:
    return (None, 2) if name == "series" else values.shape[1:]

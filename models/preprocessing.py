"""From raw columns to one vector of scaled numbers, inside the model: training and serving cannot differ."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from models.layers import DateParts, Dense, Impute
from models.manifest import null_of
from models.problem import Feature, Problem

MAX_ONE_HOT = 32
"""A category of more known values becomes a learned vector instead of one number a value."""
_NUM_DATE_PARTS = 7


def preprocess(problem: Problem) -> tuple[list[Any], Any]:
    """The model's inputs, and all of them as one float vector a row.

    Numbers and dates are scaled to mean 0 and variance 1; where one is missing it becomes 0, with an indicator.
    A category becomes one-hot, or a learned vector where it has many values; values that training did not see share
    a bucket of their own, and so does what is missing.

    Returns:
        The inputs in the order of `problem.features`, and a tensor of shape `(batch, width)`.
    """
    inputs = [
        keras.Input(feature.shape, dtype=feature.dtype, name=feature.name, optional=feature.nullable)
        for feature in problem.features
    ]
    pairs = list(zip(problem.features, inputs, strict=True))
    parts = [_scaled(problem, [pair for pair in pairs if pair[0].type in ("number", "date")])]
    parts += [_flags(problem, [tensor for feature, tensor in pairs if feature.dtype == "bool"])]
    parts += [
        _category(problem, feature, tensor, number)
        for number, (feature, tensor) in enumerate(pairs)
        if feature.type == "category" or (feature.type == "boolean" and feature.dtype != "bool")
    ]
    return inputs, _concatenate([part for part in parts if part is not None], problem.layer_name("columns"))


def finish(problem: Problem, inputs: list[Any], x: Any) -> keras.Model:
    """The model from its inputs to what it predicts.

    Args:
        problem: What to predict.
        inputs: As `preprocess` gives them.
        x: The last hidden activations, of shape `(batch, features)`.

    Output: `probabilities` of shape `(batch, classes)`, each row sums to 1; or `prediction` of shape `(batch,)` in the
    target's own unit.
    """
    if problem.labels is not None:
        outputs = Dense(len(problem.labels), activation="softmax", name=problem.layer_name("probabilities"))(x)
    else:
        x = Dense(1, name=problem.layer_name("scaled_prediction"))(x)
        scaled = keras.layers.Reshape((), name=problem.layer_name("scalar"))(x)
        outputs = keras.layers.Rescaling(problem.spread, problem.mean, name=problem.layer_name("prediction"))(scaled)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=problem.name)


def _scaled(problem: Problem, pairs: list[tuple[Feature, Any]]) -> Any:
    if not pairs:
        return None
    columns: list[Any] = []
    means: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    indicators: list[int] = []
    for feature, tensor in pairs:
        first = sum(map(len, means))
        if feature.type == "date":
            columns.append(DateParts(name=problem.layer_name(f"date_parts_{len(columns)}"))(tensor))
            means.append(np.append(np.ravel(feature.mean), np.zeros(_NUM_DATE_PARTS - 1)))
            variances.append(np.append(np.ravel(feature.variance), np.ones(_NUM_DATE_PARTS - 1)))
            indicators.append(first)
            continue
        means.append(np.ravel(feature.mean))
        variances.append(np.ravel(feature.variance))
        if len(tensor.shape) != 2:
            name = problem.layer_name(f"number_{len(columns)}")
            tensor = keras.layers.Reshape((len(means[-1]),), name=name)(tensor)  # noqa: PLW2901
        columns.append(tensor)
        if feature.nullable:
            indicators += range(first, first + len(means[-1]))
    spread = np.concatenate(variances)
    x = keras.layers.Normalization(
        mean=np.concatenate(means), variance=np.where(spread > 0, spread, 1.0), name=problem.layer_name("scaling")
    )(_concatenate(columns, problem.layer_name("numbers")))
    return Impute(indicators, name=problem.layer_name("imputation"))(x) if indicators else x


def _flags(problem: Problem, tensors: list[Any]) -> Any:
    if not tensors:
        return None
    columns = [
        keras.layers.Reshape((1,), name=problem.layer_name(f"flag_{number}"))(tensor)
        for number, tensor in enumerate(tensors)
    ]
    flags = _concatenate(columns, problem.layer_name("all_flags"))
    return keras.layers.Rescaling(1.0, name=problem.layer_name("flags"))(flags)


def _category(problem: Problem, feature: Feature, tensor: Any, number: int) -> Any:
    vocabulary = list(feature.vocabulary) or [null_of(feature.dtype)]  # Keras refuses an empty one
    lookup = keras.layers.StringLookup if feature.dtype == "string" else keras.layers.IntegerLookup
    name = problem.layer_name(f"lookup_{number}")
    if len(vocabulary) <= MAX_ONE_HOT:
        return lookup(vocabulary=vocabulary, output_mode="one_hot", name=name)(tensor)
    indices = lookup(vocabulary=vocabulary, name=name)(tensor)
    width = min(MAX_ONE_HOT, math.isqrt(len(vocabulary)))
    return keras.layers.Embedding(len(vocabulary) + 1, width, name=problem.layer_name(f"embedding_{number}"))(indices)


def _concatenate(tensors: list[Any], name: str) -> Any:
    return tensors[0] if len(tensors) == 1 else keras.layers.Concatenate(name=name)(tensors)

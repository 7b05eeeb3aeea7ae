"""Models, each a plain function that gives a Keras model. All preprocessing is inside: clients send raw rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from models.layers import Dense, LayerNorm, PositionEmbedding, SelfAttention
from models.preprocessing import finish, preprocess
from models.problem import Problem
from models.registry import register_builder


@register_builder("mlp")
def build_mlp(problem: Problem, *, hidden_units: Sequence[int] = (256, 256), dropout: float = 0.5) -> keras.Model:
    """Preprocessing, then blocks of Dense, LayerNorm, ReLU and dropout, then the prediction.

    Args:
        problem: The columns, and what to predict.
        hidden_units: Units of each block.
        dropout: Share of activations dropped in training, in [0, 1).

    Inputs: one a feature, named and typed as it is. Output: see `models.preprocessing.finish`.
    """
    inputs, x = preprocess(problem)
    for block, units in enumerate(hidden_units, start=1):
        x = Dense(units, name=problem.layer_name(f"dense_{block}"))(x)
        x = LayerNorm(name=problem.layer_name(f"layer_norm_{block}"))(x)
        x = keras.layers.Activation("relu", name=problem.layer_name(f"relu_{block}"))(x)
        x = keras.layers.Dropout(dropout, name=problem.layer_name(f"dropout_{block}"))(x)
    return finish(problem, inputs, x)


@register_builder("encoder")
def build_encoder(
    problem: Problem,
    *,
    hidden_units: Sequence[int] = (256, 256),
    dropout: float = 0.1,
    width: int = 64,
    num_heads: int = 4,
) -> keras.Model:
    """A transformer encoder over the preprocessed features, cut into tokens; 64 of them are 8 tokens of 8.

    Args:
        problem: The columns, and what to predict.
        hidden_units: Units of each block's feed-forward layer.
        dropout: Share of activations dropped in training, in [0, 1).
        width: Features of a token inside; a multiple of `num_heads`.
        num_heads: Attention heads of each block.

    Inputs: one a feature, named and typed as it is. Output: see `models.preprocessing.finish`.
    """
    inputs, x = preprocess(problem)
    named = problem.layer_name
    x = Dense(width, name=named("token_projection"))(_tokens(problem, x))
    x = PositionEmbedding(name=named("positions"))(x)
    for block, units in enumerate(hidden_units, start=1):
        attended = LayerNorm(name=named(f"attention_norm_{block}"))(x)
        attended = SelfAttention(num_heads, name=named(f"attention_{block}"))(attended)
        attended = keras.layers.Dropout(dropout, name=named(f"attention_dropout_{block}"))(attended)
        x = keras.layers.Add(name=named(f"attention_sum_{block}"))([x, attended])
        hidden = LayerNorm(name=named(f"dense_norm_{block}"))(x)
        hidden = Dense(units, activation="gelu", name=named(f"dense_{block}"))(hidden)
        hidden = keras.layers.Dropout(dropout, name=named(f"dropout_{block}"))(hidden)
        hidden = Dense(width, name=named(f"projection_{block}"))(hidden)
        hidden = keras.layers.Dropout(dropout, name=named(f"projection_dropout_{block}"))(hidden)
        x = keras.layers.Add(name=named(f"sum_{block}"))([x, hidden])
    x = LayerNorm(name=named("last_norm"))(x)
    x = keras.layers.Flatten(name=named("flat"))(x)
    x = keras.layers.Dropout(dropout, name=named("last_dropout"))(x)
    return finish(problem, inputs, x)


def _tokens(problem: Problem, x: Any) -> Any:
    """Cuts a vector into about as many tokens as each has features, the last one filled up with zeros."""
    features = x.shape[-1]
    size = math.isqrt(features - 1) + 1
    count = -(-features // size)
    if count * size > features:
        x = keras.layers.Reshape((features, 1), name=problem.layer_name("padded_vector"))(x)
        x = keras.layers.ZeroPadding1D((0, count * size - features), name=problem.layer_name("padding"))(x)
    return keras.layers.Reshape((count, size), name=problem.layer_name("tokens"))(x)

"""Guesses: other values that a constructor argument might take."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

import keras

from models.checks.arguments import arguments
from models.checks.origin import is_keras_own

_BY_NAME: dict[str, tuple[Any, ...]] = {
    "activation": ("tanh", "relu"),
    "initializer": ("ones", "zeros"),
    "regularizer": ("l2", "l1"),
    "constraint": ("non_neg", "unit_norm"),
    "padding": ("same", "valid"),
    "mode": ("sum", "mean", "max"),
    "interpolation": ("nearest", "bilinear"),
}
_FOR_NONE = (2, 0.5, True, "tanh", "l2", "non_neg", "other")
_FOR_ANY_WORD = ("zeros", "tanh", "l2", "non_neg", "same")
_MAX_WORDS = 12


def other_values(name: str, value: Any, cls: type) -> Iterator[Any]:
    """Values that an argument of the class might take instead of this one, likeliest first."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2, value - 1)
    elif isinstance(value, float):
        yield from (value + 0.25, value / 2, value * 2 + 0.1)
    elif isinstance(value, str):
        yield from _other_strings(name, value, cls)
    elif isinstance(value, list | tuple):
        yield from _other_sequences(name, value, cls)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from ({**value, key: other} for other in other_values(name, item, cls))
    elif isinstance(value, keras.layers.Layer):
        yield from _other_layers(value)
    else:
        yield from _other_objects(name, value)


def _other_strings(name: str, value: str, cls: type) -> Iterator[str]:
    """Words for arguments of that name, then those that the class's own code compares with."""
    yield from (word for ending, known in _BY_NAME.items() if name.endswith(ending) for word in known if word != value)
    yield from [word for word in _words_in(cls) if word != value][:_MAX_WORDS]
    yield from (*_FOR_ANY_WORD, f"{value}_other")


def _words_in(cls: type) -> list[str]:
    functions = [
        function.__code__
        for base in cls.__mro__
        if not is_keras_own(base)
        for function in vars(base).values()
        if isinstance(function, FunctionType)
    ]
    return list(dict.fromkeys(word for code in functions for word in _strings(code.co_consts) if word.isidentifier()))


def _strings(constants: Any) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _strings(sorted(constant, key=str))
        elif isinstance(constant, CodeType):
            yield from _strings(constant.co_consts)


def _other_sequences(name: str, value: Any, cls: type) -> Iterator[Any]:
    for index, item in enumerate(value):
        for other in other_values(name, item, cls):
            changed = list(value)
            changed[index] = other
            yield tuple(changed) if isinstance(value, tuple) else changed


def _other_layers(value: Any) -> Iterator[Any]:
    given = arguments(value)
    for name, item in given.items():
        if isinstance(item, bool | int | float):
            for other in other_values(name, item, type(value)):
                try:
                    yield type(value)(**{**given, name: other})
                except (TypeError, ValueError):
                    continue


def _other_objects(name: str, value: Any) -> Iterator[Any]:
    if isinstance(value, keras.Initializer) or name.endswith("initializer"):
        yield from (keras.initializers.RandomUniform(0.1, 0.3, seed=3), keras.initializers.Constant(0.3))
    elif isinstance(value, keras.regularizers.Regularizer) or name.endswith("regularizer"):
        yield from (keras.regularizers.L2(0.03), keras.regularizers.L1(0.02))
    elif isinstance(value, keras.constraints.Constraint) or name.endswith("constraint"):
        yield from (keras.constraints.MaxNorm(0.5), keras.constraints.NonNeg())
    elif callable(value) or name.endswith("activation"):
        yield from (keras.activations.tanh, keras.activations.softplus)
    elif value is None:
        yield from _FOR_NONE

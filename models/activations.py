"""What each layer of a model gives for some rows: the way to say which layer is the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from models.golden import TOLERANCE, compare
from models.loading import inference
from models.manifest import Tensors

_NUMBER_WIDTH = 5


def activations_of(model: keras.Model) -> Callable[[Any], dict[str, Any]]:
    """The model at inference, giving what each layer gave instead of the outputs.

    Returns:
        A function of the inputs by name, to be called eagerly or traced. Its keys are a running number and the
        layer's place, such as `00003 encoder/dense_1`, so that sorting them gives the order of the calls.
    """
    call = inference(model)

    def run(inputs: Any) -> dict[str, Any]:
        with _recording(model) as found:
            call(inputs)
        return {f"{number:0{_NUMBER_WIDTH}} {place}": value for number, (place, value) in enumerate(found)}

    return run


def first_difference(expected: Tensors, actual: Tensors, tolerance: float = TOLERANCE) -> str | None:
    """The first layer whose activations differ by more than the tolerance, with how many rows do; None if none does.

    Layers that only one of the two has, or that come in another order, are compared by name as far as both have them.
    NaN is equal to NaN here: a layer may well give it for a missing value.
    """
    found = {_place(key): value for key, value in actual.items()}
    for key in sorted(expected):
        place = _place(key)
        if place in found:
            comparison = compare({place: expected[key]}, {place: found[place]}, tolerance, equal_nan=True)
            if comparison.differences:
                return f"`{place}` ({comparison.differences[0].split(': ', 1)[-1]})"
    return None


def _place(key: str) -> str:
    return key[_NUMBER_WIDTH + 1 :]


def places(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    """Each layer that is no model, with its place, such as `encoder/dense_1`."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from places(layer, f"{prefix}{layer.name}/")
        elif not isinstance(layer, keras.layers.InputLayer):
            yield f"{prefix}{layer.name}", layer


@contextmanager
def _recording(model: keras.Model) -> Iterator[list[tuple[str, Any]]]:
    """Notes what every layer gives while the context lasts, in the order in which they finish."""
    found: list[tuple[str, Any]] = []
    layers = {id(layer): (place, layer) for place, layer in places(model)}
    for place, layer in layers.values():
        layer.call = _noting(place, layer.call, found)
    try:
        yield found
    finally:
        for _, layer in layers.values():
            del layer.call  # the class's own is seen again


def _noting(place: str, call: Callable[..., Any], found: list[tuple[str, Any]]) -> Callable[..., Any]:
    num_calls = 0

    def noting(*args: Any, **options: Any) -> Any:
        nonlocal num_calls
        result = call(*args, **options)
        num_calls += 1
        suffix = f" (call {num_calls})" if num_calls > 1 else ""
        tensors = [tensor for tensor in tf.nest.flatten(result) if _is_here(tensor)]
        for index, tensor in enumerate(tensors):
            found.append((f"{place}{f'[{index}]' if len(tensors) > 1 else ''}{suffix}", tensor))
        return result

    return noting


def _is_here(tensor: Any) -> bool:
    """Whether the tensor may leave the function that is being traced; one inside a loop of it may not."""
    return isinstance(tensor, tf.Tensor) and (
        tf.executing_eagerly() or tensor.graph is tf.compat.v1.get_default_graph()
    )

"""Lookups in a form that the converters take: Keras's layers use hash tables, which few formats have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

_LAYERS = (keras.layers.StringLookup, keras.layers.IntegerLookup)
_MAX_COMPARED = 5_000
"""Vocabularies above this stay tables: each key would be compared with each word."""


def has_lookups(model: keras.Model) -> bool:
    """Whether the model has lookups that `comparing` would change."""
    return bool(_tables(model))


@contextmanager
def comparing(model: keras.Model, *, strings: bool) -> Iterator[None]:
    """While it lasts, the model's lookups compare each key with the whole vocabulary instead of asking a hash table.

    Args:
        model: It has its tables again afterwards.
        strings: Whether lookups of strings do so too; else they keep their tables, and their results a known shape.
    """
    tables = _tables(model)
    try:
        for layer, table in tables:
            _replace(layer, _Comparison(table) if _is_compared(table, strings) else _Shaped(table))
        yield
    finally:
        for layer, table in tables:
            _replace(layer, table)


class _Comparison:
    def __init__(self, table: Any) -> None:
        self._keys, values = table.export()
        self._default = tf.constant(table.default_value)
        self._steps = values - self._default

    def lookup(self, keys: Any) -> Any:
        found = tf.equal(tf.expand_dims(keys, -1), self._keys)
        # At most one key is found, so that the sum is its step; where none is, it is 0.
        return self._default + tf.reduce_sum(tf.where(found, self._steps, tf.zeros_like(self._steps)), axis=-1)


class _Shaped(tf.Module):  # type: ignore[misc] # TensorFlow has no types
    """A table that stays: its result has the shape of the keys, which a frozen graph otherwise forgets."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self._table = table

    def lookup(self, keys: Any) -> Any:
        return tf.ensure_shape(self._table.lookup(keys), keys.shape)


def _tables(model: keras.Model) -> list[tuple[Any, Any]]:
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, _LAYERS)]
    return [(layer, layer.lookup_table) for layer in layers if int(layer.lookup_table.size()) <= _MAX_COMPARED]


def _is_compared(table: Any, strings: bool) -> bool:
    is_inverse = table.value_dtype == tf.string
    return not is_inverse and (strings or table.key_dtype != tf.string)


def _replace(layer: Any, table: Any) -> None:
    del layer.lookup_table  # only so does TensorFlow forget to save the other one
    layer.lookup_table = table

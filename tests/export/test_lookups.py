"""Lookups without hash tables answer as those with them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from export import lookups
from export.lookups import comparing, has_lookups
from models.loading import eager, signature_of, traced

ROWS = {
    "word": np.array(["green", "grün", "", "nobody knows"]),
    "code": np.array([7, -3, 0, 2**62], dtype=np.int64),
    "pair": np.array([[1, 2], [2, 1], [9, 2], [-(2**63), 1]], dtype=np.int64),
}


@pytest.fixture
def model() -> keras.Model:
    """Words one-hot, codes as they are with a mask, pairs counted in a nested model."""
    word, code = keras.Input((), dtype="string", name="word"), keras.Input((), dtype="int64", name="code")
    pair = keras.Input((2,), dtype="int64", name="pair")
    inner = keras.Input((2,), dtype="int64")
    counted = keras.layers.IntegerLookup(vocabulary=[1, 2], output_mode="multi_hot")(inner)
    return keras.Model(
        [word, code, pair],
        {
            "hot": keras.layers.StringLookup(vocabulary=["grün", "green", ""], output_mode="one_hot")(word),
            "index": keras.layers.IntegerLookup(vocabulary=[-3, 7], mask_token=0)(code),
            "back": keras.layers.StringLookup(vocabulary=["a", "b"], invert=True)(keras.ops.clip(code, 0, 2)),
            "counted": keras.Model(inner, counted)(pair),
        },
    )


@pytest.mark.parametrize("strings", [True, False])
def test_comparing_gives_the_same_answers_and_the_tables_come_back(model: keras.Model, strings: bool) -> None:
    tables = [layer.lookup_table for layer in model.layers if hasattr(layer, "lookup_table")]
    wanted = eager(model, signature_of(model))(ROWS)
    with comparing(model, strings=strings):
        found = traced(model, signature_of(model))(ROWS)
        assert not [layer for layer in model.layers if getattr(layer, "lookup_table", None) in tables]
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert [layer.lookup_table for layer in model.layers if hasattr(layer, "lookup_table")] == tables


def test_tables_come_back_after_an_error(model: keras.Model) -> None:
    (layer, *_) = [layer for layer in model.layers if hasattr(layer, "lookup_table")]
    table = layer.lookup_table
    with pytest.raises(KeyError), comparing(model, strings=True):
        raise KeyError
    assert layer.lookup_table is table


def test_large_vocabulary_stays_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "_MAX_COMPARED", 2)
    word = keras.Input((), dtype="string", name="word")
    assert has_lookups(keras.Model(word, keras.layers.StringLookup(vocabulary=["a", "b"])(word)))
    assert not has_lookups(keras.Model(word, keras.layers.StringLookup(vocabulary=["a", "b", "c"])(word)))

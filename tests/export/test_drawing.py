"""Golden rows that nobody gave: of the signature's dtypes and shapes, and such that the model answers them."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from export.drawing import drawn_rows
from models.loading import signature_of


def drawn(model: keras.Model) -> dict[str, np.ndarray]:
    return drawn_rows(model, signature_of(model))


def test_rows_are_of_every_dtype_and_shape() -> None:
    number, count = keras.Input((None, 2), name="number"), keras.Input((), dtype="int64", name="count")
    image, flag = keras.Input((3,), dtype="uint8", name="image"), keras.Input((1,), dtype="bool", name="flag")
    word = keras.Input((), dtype="string", name="word")
    rows = drawn(keras.Model([number, count, image, flag, word], [keras.ops.sum(number, axis=1)]))
    assert {name: (values.shape, values.dtype.kind) for name, values in rows.items()} == {
        "number": ((16, 32, 2), "f"),
        "count": ((16,), "i"),
        "image": ((16, 3), "u"),
        "flag": ((16, 1), "b"),
        "word": ((16,), "U"),
    }
    assert rows["number"].min() < 0 < rows["number"].max()
    assert rows["count"].max() < 10 < rows["image"].max()


def test_rows_are_the_same_each_time() -> None:
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, inputs * 2)
    np.testing.assert_array_equal(drawn(model)["x"], drawn(model)["x"])


def test_small_vocabulary_gets_small_numbers() -> None:
    words = keras.Input((4,), dtype="int32", name="words")
    rows = drawn(keras.Model(words, keras.layers.Embedding(2, 3)(words)))["words"]
    assert set(rows.ravel().tolist()) == {0, 1}


def test_logarithm_gets_positive_numbers() -> None:
    inputs = keras.Input((4,), name="x")
    assert drawn(keras.Model(inputs, keras.ops.log(inputs)))["x"].min() > 0


def test_model_that_answers_nothing_drawn_asks_for_samples() -> None:
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.ops.log(inputs - 100))
    with pytest.raises(ValueError, match=r"^No rows .* it answers with NaN or Infinity\. Give some .*--samples\.$"):
        drawn(model)

"""Preprocessing is inside the model: raw columns of every type become scaled numbers, gaps and strangers included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.loading import eager, load_model, signature_of, traced
from models.preprocessing import finish, preprocess
from models.problem import Feature, Problem

NULL = int(np.iinfo(np.int64).min)
NUMBER = Feature("größe m²", "number", nullable=True, mean=np.array(10.0), variance=np.array(4.0))
WORD = Feature("word, of any.kind", "category", "string", vocabulary=("rot", "", "blau"))
CODE = Feature("code", "category", "int64", nullable=True, vocabulary=(7, NULL))
FLAG = Feature("flag", "boolean", "bool")
GAP = Feature("gap", "boolean", "int8", nullable=True, vocabulary=(0, 1, -128))
DATE = Feature("built", "date", "string", nullable=True, mean=np.array(365.0), variance=np.array(100.0))


def model_of(*features: Feature) -> keras.Model:
    inputs, outputs = preprocess(Problem("p", features))
    return keras.Model(inputs, outputs)


def answer(model: keras.Model, **columns: list[Any]) -> list[list[float]]:
    signature = signature_of(model)
    dtypes = {spec.name: np.str_ if spec.dtype == "string" else spec.dtype for spec in signature.inputs}
    values = {
        spec.name: np.array(column, dtypes[spec.name])
        for spec, column in zip(signature.inputs, columns.values(), strict=True)
    }
    (found,) = eager(model, signature)(values).values()
    return found.tolist()


def test_number_is_scaled_and_a_gap_becomes_the_mean_with_an_indicator() -> None:
    assert answer(model_of(NUMBER), x=[14, np.nan]) == [[2, 0], [0, 1]]


def test_constant_number_is_only_centred() -> None:
    constant = Feature("x", "number", mean=np.array(3.0), variance=np.array(0.0))
    assert answer(model_of(constant), x=[3, 5]) == [[0], [2]]


def test_arrays_are_scaled_place_by_place() -> None:
    image = Feature("x", "number", shape=(2, 2), mean=np.array([[0.0, 1], [2, 3]]), variance=np.ones((2, 2)))
    assert answer(model_of(image), x=[[[0, 1], [2, 4]]]) == [[0, 0, 0, 1]]


def test_category_is_one_hot_and_a_stranger_has_a_bucket() -> None:
    rows = answer(model_of(WORD), x=["rot", "", "blau", "grün"])
    assert rows == [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]


def test_integer_category_takes_gaps_and_strangers() -> None:
    assert answer(model_of(CODE), x=[7, NULL, 8]) == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_boolean_is_0_or_1() -> None:
    assert answer(model_of(FLAG), x=[True, False]) == [[1], [0]]


def test_boolean_with_gaps_has_three_values() -> None:
    assert np.array(answer(model_of(GAP), x=[0, 1, -128])).argmax(axis=1).tolist() == [1, 2, 3]


def test_category_of_many_values_becomes_a_short_vector() -> None:
    many = Feature("x", "category", "string", vocabulary=tuple(map(str, range(100))))
    assert np.shape(answer(model_of(many), x=["5", "stranger"])) == (2, 10)


def test_category_without_known_values_still_answers() -> None:
    assert answer(model_of(Feature("x", "category", "string")), x=["5", "6"]) == [[1, 0], [1, 0]]


def test_date_is_scaled_and_a_gap_has_an_indicator() -> None:
    rows = answer(model_of(DATE), x=["1971-01-11", "", "soon"])
    assert rows[0][0] == pytest.approx(1)
    assert rows[1] == rows[2] == [0] * 7 + [1]


def test_input_with_gaps_is_nullable_in_the_signature() -> None:
    inputs = signature_of(model_of(NUMBER, WORD, CODE, FLAG, GAP, DATE)).inputs
    assert [spec.nullable for spec in inputs] == [True, False, True, False, True, True]


def test_prediction_is_in_the_targets_unit() -> None:
    problem = Problem("p", (NUMBER,), mean=1000.0, spread=50.0)
    model = finish(problem, *preprocess(problem))
    model.get_layer("scaled_prediction").set_weights([np.array([[1.0], [0.0]]), np.array([0.0])])
    (values,) = eager(model, signature_of(model))({NUMBER.name: np.array([14], np.float32)}).values()
    assert values.tolist() == [1100]


def test_every_type_answers_alike_after_a_reload(tmp_path: Path) -> None:
    model = model_of(NUMBER, WORD, CODE, FLAG, GAP, DATE)
    model.save(tmp_path / "model.keras")
    reloaded = load_model(tmp_path / "model.keras")
    signature = signature_of(reloaded)
    assert signature == signature_of(model)
    rows = {
        NUMBER.name: np.array([1, np.nan], np.float32),
        WORD.name: np.array(["rot", "東京"]),
        CODE.name: np.array([7, NULL]),
        FLAG.name: np.array([True, False]),
        GAP.name: np.array([-128, 1], np.int8),
        DATE.name: np.array(["2024-02-29 12:30", ""]),
    }
    (first,), (second,) = (call(rows).values() for call in (eager(model, signature), traced(reloaded, signature)))
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-6)  # traced sums may round otherwise

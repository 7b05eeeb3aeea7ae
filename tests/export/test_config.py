"""The training configuration: bounds on every field, and the command line's way to set it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from export.config import TrainConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_units", ()),
        ("hidden_units", (64, 0)),
        ("hidden_units", "64,many"),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("epochs", 0),
        ("patience", 0),
        ("batch_size", 0),
        ("learning_rate", 0.0),
        ("validation_fraction", 0.5),
        ("test_fraction", 0.0),
        ("seed", -1),
        ("seed", 2**32),
        ("momentum", 0.9),
    ],
)
def test_value_out_of_bounds_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        TrainConfig.model_validate({field: value})


def test_column_with_two_types_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"a column can have one type in --columns. Given more than once: zip"):
        TrainConfig.model_validate({"columns": ("zip=category", "age=number", "zip=number")})


def test_hidden_units_come_with_commas() -> None:
    assert TrainConfig.model_validate({"hidden_units": "64, 32"}).hidden_units == (64, 32)


def test_configuration_survives_json() -> None:
    config = TrainConfig(hidden_units=(8, 4), seed=7)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().seed = 1  # type: ignore[misc]


def test_every_field_is_described() -> None:
    assert [name for name, field in TrainConfig.model_fields.items() if not field.description] == []

"""The options of `python -m models check`. They load no Keras, so that the command line can list them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from models.command_line import Names


class Check(BaseModel):
    """Holds a custom layer, or every layer of a saved model, to the layer contract."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    target: CliPositionalArg[str] = Field(
        description="The layer as `my.module:MyLayer`, or the path of a whole `.keras` file."
    )
    shape: str | None = Field(
        default=None,
        description="Input shape without the batch axis: `32,16`; in JSON for several inputs: `[[32, 16], [8]]`.",
    )
    config: str = Field(default="{}", description='Arguments for the layer, in JSON: `{"units": 8}`.')
    dtype: str = Field(default="float32", description="Dtype of the inputs; in JSON for several inputs.")
    mask: bool = Field(default=False, description="Whether to check that a mask is kept or used.")
    layers: Names = Field(default=(), description="Modules to import before a `.keras` file is loaded.")
    as_json: bool = Field(default=False, alias="json", description="Whether to print JSON instead of a table.")

    @field_validator("config")
    @classmethod
    def _is_an_object(cls, value: str) -> str:
        if not isinstance(_parsed("config", value), dict):
            raise ValueError(f"`config` must be a JSON object. Received: {value}")
        return value

    @field_validator("shape")
    @classmethod
    def _is_a_shape(cls, value: str | None) -> str | None:
        if value is not None:
            parse_shape(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Check:
        if self.is_file:
            if self.shape is not None or self.config != "{}":
                raise ValueError("`shape` and `config` are for a single layer; a file says its own.")
        elif ":" not in self.target:
            raise ValueError(
                f"`target` must be `my.module:MyLayer` or the path of a .keras file. Received: {self.target}"
            )
        elif self.shape is None:
            raise ValueError("`shape` must be given for a single layer, without the batch axis. Received: nothing.")
        return self

    @property
    def is_file(self) -> bool:
        """Whether a whole saved model is to be checked."""
        return Path(self.target).suffix == ".keras"

    @property
    def arguments(self) -> dict[str, Any]:
        """The layer's arguments."""
        arguments: dict[str, Any] = json.loads(self.config)
        return arguments

    @property
    def dtypes(self) -> Any:
        """A dtype, or a list or dict of them."""
        return json.loads(self.dtype) if self.dtype[:1] in {"[", "{"} else self.dtype


def parse_shape(text: str) -> Any:
    """A shape from `32,16`, or shapes from a JSON list or object of lists.

    Raises:
        ValueError: the text is neither.
    """
    if text.strip()[:1] in {"[", "{"}:
        shapes = _parsed("shape", text)
        single = isinstance(shapes, list) and all(isinstance(size, int | None) for size in shapes)
        several = [shapes] if single else list(shapes.values()) if isinstance(shapes, dict) else shapes
    else:
        shapes = [None if size.strip() == "None" else _size(size, text) for size in text.split(",") if size.strip()]
        single, several = True, [shapes]
    if not several or not all(isinstance(shape, list) and all(_is_size(n) for n in shape) for shape in several):
        raise ValueError(f"`shape` must hold positive integers or None. Received: {text}")
    return tuple(shapes) if single else shapes


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)


def _size(text: str, whole: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"`shape` must hold positive integers or None. Received: {whole}") from error


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{name}` must be JSON. Received: {text}") from error

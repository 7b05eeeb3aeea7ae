"""The formats a version is published in, beside `keras`, and which of them can be made on this machine."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator
from pydantic_settings import NoDecode

from models.command_line import split

FormatName = Literal["keras", "saved_model", "onnx", "litert", "openvino"]


@dataclass(frozen=True)
class Format:
    """One format: the file by which it is loaded, the packages that make and prove it, and our extra that has them."""

    path: str
    packages: tuple[str, ...]
    extra: str


FORMATS: dict[str, Format] = {
    "keras": Format("model.keras", ("keras",), "keras"),
    "saved_model": Format("saved_model.pb", ("tensorflow",), "keras"),
    "onnx": Format("model.onnx", ("tf2onnx", "onnxruntime"), "onnx"),
    "litert": Format("model.tflite", ("ai_edge_litert",), "litert"),
    "openvino": Format("model.xml", ("openvino",), "openvino"),
}
_BY_DEFAULT = ("keras", "saved_model", "onnx", "litert")


FormatNames = Annotated[tuple[FormatName, ...], NoDecode, BeforeValidator(split)]
"""Several formats, as a flag takes them."""


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """The formats to make: those named and `keras`; where none is named, the usual ones that can be made here."""
    wanted = names or tuple(name for name in _BY_DEFAULT if not missing_package(name))
    return tuple(name for name in FORMATS if name == "keras" or name in wanted)


def missing_package(name: str) -> str | None:
    """Which package is missing to make and prove the format, with the way out; None where all are there."""
    wanted = FORMATS[name]
    missing = [package for package in wanted.packages if importlib.util.find_spec(package) is None]
    if not missing:
        return None
    return f"The package {missing[0]} is not installed: pip install 'layerserve[{wanted.extra}]'."

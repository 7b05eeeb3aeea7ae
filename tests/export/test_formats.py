"""Which formats there are, which are made by default, and what is said of those that cannot be."""

from __future__ import annotations

import importlib.util

import pytest
from pydantic import TypeAdapter, ValidationError

from export.formats import FormatNames, chosen, missing_package


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_usual_formats_are_those_whose_packages_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(()) == ("keras", "saved_model", "onnx", "litert")
    without(monkeypatch, "onnxruntime")
    assert chosen(()) == ("keras", "saved_model", "litert")


def test_named_formats_are_made_beside_keras_whatever_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "openvino")
    assert chosen(("openvino", "onnx")) == ("keras", "onnx", "openvino")
    assert chosen(("keras",)) == ("keras",)


def test_missing_package_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "tf2onnx")
    assert missing_package("onnx") == "The package tf2onnx is not installed: pip install 'layerserve[onnx]'."
    assert missing_package("keras") is None


def test_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValidationError, match="Input should be 'keras', 'saved_model', 'onnx', 'litert' or 'openvino'"):
        TypeAdapter(FormatNames).validate_python("onnx,pickle")

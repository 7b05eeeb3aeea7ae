"""`python -m models check`: checks one layer, or every layer of a saved model, and prints what it found."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import keras

from models import registry
from models.check_options import Check, parse_shape
from models.checks.checker import check_layer
from models.checks.render import render, wants_color
from models.checks.verdict import CheckReport

_USAGE = 2


def run_check(options: Check, out: TextIO | None = None) -> int:
    """Checks, prints a table or JSON, and returns the exit code: 0 sound, 1 a rule is broken, 2 wrong usage.

    What is wrong in the usage goes to standard error, in one line.
    """
    out = out or sys.stdout
    try:
        reports = list(_file_reports(options) if options.is_file else [_layer_report(options)])
    except UsageError as error:
        print(f"python -m models check: {error}", file=sys.stderr)
        return _USAGE
    if options.as_json:
        print(json.dumps(as_json(reports), indent=2), file=out)
    else:
        print(render(reports, color=wants_color(out)), file=out)
    return 0 if all(report.passed for report in reports) else 1


class UsageError(ValueError):
    """The command can't be carried out as it was given."""


def as_json(reports: list[CheckReport]) -> dict[str, Any]:
    """The reports as plain data: `{"passed": …, "layers": [{"layer", "passed", "seconds", "rules": […]}]}`."""
    layers = [
        {
            "layer": report.layer,
            "passed": report.passed,
            "seconds": round(report.seconds, 3),
            "rules": [asdict(result) for result in report.results],
        }
        for report in reports
    ]
    return {"passed": all(report.passed for report in reports), "layers": layers}


def _layer_report(options: Check) -> CheckReport:
    cls = _find(options.target)
    shape = parse_shape(options.shape or "")
    arguments = options.arguments
    try:
        cls(**arguments)
    except Exception as error:
        raise UsageError(f"{cls.__name__}(**{arguments}) raised {type(error).__name__}: {error}") from error
    try:
        return check_layer(lambda: cls(**arguments), shape, dtype=options.dtypes, mask=options.mask)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _find(target: str) -> Callable[..., Any]:
    module_name, _, class_name = target.partition(":")
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"`{module_name}` can't be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, keras.layers.Layer):
        raise UsageError(f"`{module_name}` has no layer class `{class_name}`")
    return found


def _file_reports(options: Check) -> list[CheckReport]:
    """One report for each layer that the model holds, and the last for the model."""
    path = Path(options.target)
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    model = _load(path, options.layers)
    reports = []
    for layer in _layers_of(model):
        shapes, dtypes = _inputs_of(layer)
        reports.append(check_layer(layer, shapes, dtype=dtypes))
    shapes, dtypes = _inputs_of(model)
    reports.append(check_layer(lambda: _load(path, options.layers), shapes, dtype=dtypes))
    return reports


def _load(path: Path, modules: tuple[str, ...]) -> Any:
    try:
        registry.load_plugins(modules)
        return keras.saving.load_model(path, custom_objects=registry.custom_objects(), compile=False)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"{path} can't be loaded: {type(error).__name__}: {first} (name the modules of its layers with --layers)"
        ) from error


def _layers_of(model: Any) -> list[Any]:
    """The layers that the model calls, those of nested models too, without its inputs."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _layers_of(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append(layer)
    return found


def _inputs_of(layer: Any) -> tuple[Any, Any]:
    """The shapes and dtypes that a layer of a loaded model is called on."""
    try:
        inputs = layer.input
    except (AttributeError, ValueError) as error:
        raise UsageError(f"the inputs of `{layer.name}` are unknown: only functional models can be checked") from error
    if keras.ops.is_tensor(inputs) or hasattr(inputs, "shape"):
        return _open_axes(inputs), keras.backend.standardize_dtype(inputs.dtype)
    if isinstance(inputs, dict):
        names = {name: (_open_axes(value), str(value.dtype)) for name, value in inputs.items()}
        return {name: shape for name, (shape, _) in names.items()}, {name: kind for name, (_, kind) in names.items()}
    flat = keras.tree.flatten(inputs)
    if len(flat) == 1:
        return _open_axes(flat[0]), str(flat[0].dtype)
    return [_open_axes(value) for value in flat], [str(value.dtype) for value in flat]


def _open_axes(tensor: Any) -> tuple[int | None, ...]:
    """A shape without its batch axis. Open lengths stay open."""
    return tuple(tensor.shape[1:])

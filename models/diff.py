"""What two versions have in common and what not: configuration, weights, metrics, speed, answers, activations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from models.activations import activations_of, first_difference, places
from models.artifact import Artifact
from models.golden import Golden, compare, read_golden
from models.keras_file import config_differences, read_config
from models.loading import load_model, reason, run_with_arrays, traced
from models.manifest import Tensors
from models.sources import change_of

_MAX_LINES = 20
_SPEED_ROWS = 256
_SPEED_ROUNDS = 5
_SECONDS_A_ROUND = 0.1


@dataclass(frozen=True)
class _Side:
    """One of the two versions, loaded."""

    title: str
    artifact: Artifact
    model: keras.Model
    golden: Golden
    run: Callable[[Tensors], Tensors]


def diff(left: Artifact, right: Artifact) -> Iterator[str]:
    """Compares two versions, in lines to print; the layers of both must be registered.

    Raises:
        ArtifactError: a file is damaged.
        ModelLoadError: a version cannot be loaded here.
    """
    sides = _load(left), _load(right)
    yield from _section("Configuration", _configuration(*sides))
    yield from _section("Weights", _weights(*sides))
    yield from _section("Metrics", _metrics(*sides))
    broken = [line for side in sides for line in _golden_answers(side)]
    problem = _incompatible(*sides)
    if problem:
        yield from _section("Answers", iter([*broken, problem]))
        return
    yield from _section("Speed", _speed(*sides))
    yield from _section("Answers", iter([*broken, *_answers(*sides)]))
    yield from _section("Activations", _activations(*sides))


def _load(artifact: Artifact) -> _Side:
    artifact.verify_files()
    model = load_model(artifact.format_path("keras"))
    manifest = artifact.manifest
    run = traced(model, manifest.signature)
    return _Side(f"{manifest.name}@{manifest.version}", artifact, model, read_golden(artifact), run)


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    found = list(lines)
    yield title
    for line in found[:_MAX_LINES] or ["the same"]:
        yield f"  {line}"
    if len(found) > _MAX_LINES:
        yield f"  and {len(found) - _MAX_LINES} more"


def _configuration(left: _Side, right: _Side) -> Iterator[str]:
    old, new = left.artifact.manifest, right.artifact.manifest
    yield from config_differences(_saved_config(left), _saved_config(right), "config")
    yield from config_differences(
        old.training.config if old.training else None, new.training.config if new.training else None, "training"
    )
    yield from config_differences(
        old.signature.model_dump(mode="json"), new.signature.model_dump(mode="json"), "signature"
    )
    yield from config_differences(old.environment, new.environment, "environment")
    for name in sorted(old.layers.keys() & new.layers.keys()):
        if old.layers[name] != new.layers[name]:
            yield f"the source of {name} has changed: {change_of(old.layers[name], new.layers[name])}"


def _saved_config(side: _Side) -> Any:
    config = read_config(side.artifact.format_path("keras"))["config"]
    return json.loads(json.dumps(config), object_hook=_without_object_ids)


def _without_object_ids(item: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the numbers by which Keras finds an object again that it has saved already."""
    return {key: value for key, value in item.items() if key != "shared_object_id"}


def _weights(left: _Side, right: _Side) -> Iterator[str]:
    old, new = dict(places(left.model)), dict(places(right.model))
    for place in dict.fromkeys([*old, *new]):
        if place not in old or place not in new:
            if (old | new)[place].weights:
                yield f"{place}: only in {left.title if place in old else right.title}"
            continue
        values = [[keras.ops.convert_to_numpy(w) for w in side[place].weights] for side in (old, new)]
        if [value.shape for value in values[0]] != [value.shape for value in values[1]]:
            yield f"{place}: of other shapes"
        elif change := _norm([b.astype(np.float64) - a for a, b in zip(*values, strict=True)]):
            size = _norm([value.astype(np.float64) for value in values[0]])
            share = f" ({change / size:.1%} of its norm)" if size else ""
            yield f"{place}: changed by {change:.4g}{share}"


def _norm(values: list[np.ndarray]) -> float:
    return float(np.sqrt(sum(np.square(value).sum() for value in values)))


def _metrics(left: _Side, right: _Side) -> Iterator[str]:
    old, new = left.artifact.manifest.metrics, right.artifact.manifest.metrics
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield f"{name}: {_figure(old.get(name))} -> {_figure(new.get(name))}"


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _incompatible(left: _Side, right: _Side) -> str | None:
    """Why the two cannot be asked the same rows; None if they can."""
    for asked, side in ((right, left), (left, right)):
        try:
            asked.run(side.golden.inputs)
        except Exception as error:  # whatever a model raises for rows that are not its own
            return (
                f"{asked.title} does not take the rows of {side.title}: {type(error).__name__}: {reason(error)[:200]}"
            )
    return None


def _speed(left: _Side, right: _Side) -> Iterator[str]:
    """Rows a second of each on the same rows, in turns, so that what else the machine does hits both."""
    indices = np.arange(_SPEED_ROWS) % left.golden.rows
    rows = {name: values[indices] for name, values in left.golden.inputs.items()}
    best = [0.0, 0.0]
    for _ in range(_SPEED_ROUNDS):
        best = [max(fastest, _rows_a_second(side, rows)) for fastest, side in zip(best, (left, right), strict=True)]
    yield f"{left.title} {best[0]:,.0f} rows/s, {right.title} {best[1]:,.0f} rows/s, in batches of {_SPEED_ROWS}"


def _rows_a_second(side: _Side, rows: Tensors) -> float:
    num_calls, begin = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begin) < _SECONDS_A_ROUND:
        side.run(rows)
        num_calls += 1
    return num_calls * _SPEED_ROWS / elapsed


def _golden_answers(side: _Side) -> Iterator[str]:
    """Whether a version still answers as it did when it was published; its layers may have other code by now."""
    try:
        answers = side.run(side.golden.inputs)
    except Exception as error:  # whatever a changed layer raises
        problem = f"{type(error).__name__}: {reason(error)[:200]}"
        yield f"{side.title} no longer answers its golden rows under today's code: {problem}"
        return
    tolerance = side.artifact.manifest.formats["keras"].tolerance
    for line in compare(side.golden.outputs, answers, tolerance).differences:
        yield f"{side.title} no longer gives its golden answers under today's code: {line}"


def _answers(left: _Side, right: _Side) -> Iterator[str]:
    for owner in (left, right):
        old, new = left.run(owner.golden.inputs), right.run(owner.golden.inputs)
        comparison = compare(old, new)
        for line in comparison.differences:
            yield f"on the golden rows of {owner.title}, {line}{_other_classes(owner, old, new)}"


def _other_classes(owner: _Side, old: Tensors, new: Tensors) -> str:
    """How many rows get another class, where there are classes."""
    labels = owner.artifact.manifest.signature.labels
    if labels is None or len(old) != 1 or old.keys() != new.keys():
        return ""
    (a,), (b,) = old.values(), new.values()
    if a.ndim != 2 or a.shape != b.shape or a.shape[1] != len(labels):
        return ""
    return f"; {int((a.argmax(axis=1) != b.argmax(axis=1)).sum())} of {len(a)} get another class"


def _activations(left: _Side, right: _Side) -> Iterator[str]:
    found: list[Any] = [
        run_with_arrays(activations_of(side.model), side.artifact.manifest.signature)(left.golden.inputs)
        for side in (left, right)
    ]
    layer = first_difference(*found)
    if layer:
        yield f"the first layer that differs is {layer}"

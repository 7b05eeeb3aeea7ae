"""The certificate: measured proof that a model may answer several callers in one batch.

A server that batches joins the rows of strangers. That is safe only where a row's answer does not depend on its
neighbours, on its place or on padding rows. This module measures it on any callable, with the rows it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from models.checks.compare import LAST_BITS, difference
from models.manifest import Certificate, Tensors

Call: TypeAlias = Callable[[Tensors], Tensors]

MAX_ROWS = 8
"""Golden rows beyond these add time, not proof."""


def certify(call: Call, inputs: Mapping[str, np.ndarray[Any, Any]], tolerance: float = LAST_BITS) -> Certificate:
    """Measures determinism, row independence and finiteness of a callable on golden rows.

    Args:
        call: Takes and returns named arrays whose axis 0 are rows.
        inputs: Golden rows, at least two different ones, at most `MAX_ROWS` are used.
        tolerance: Largest difference taken for equal, relative to the largest answer.

    Raises:
        ValueError: the inputs are empty or have different numbers of rows.
    """
    rows = _golden(inputs)
    answers = call(rows)
    unstable = _unstable(call, rows, answers)
    infinite = [name for name, array in answers.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    dependent = _dependent(call, rows, answers, tolerance) if unstable is None else "its answers are not repeatable"
    reasons = (
        f"deterministic: {unstable}" if unstable else "",
        f"finite: {', '.join(infinite)} holds NaN or infinity" if infinite else "",
        f"batch_safe: {dependent}" if dependent else "",
    )
    return Certificate(
        batch_safe=dependent is None,
        deterministic=unstable is None,
        finite=not infinite,
        rows=_count(rows),
        tolerance=tolerance,
        reasons=tuple(reason for reason in reasons if reason),
    )


def _golden(inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
    counts = {name: len(array) for name, array in inputs.items()}
    if not counts or len(set(counts.values())) != 1 or 0 in counts.values():
        raise ValueError(f"`inputs` must hold the same number of rows each, one at least. Received: rows={counts}")
    return {name: np.asarray(array)[:MAX_ROWS] for name, array in inputs.items()}


def _count(tensors: Tensors) -> int:
    return len(next(iter(tensors.values())))


def _unstable(call: Call, rows: Tensors, answers: Tensors) -> str | None:
    evidence = _difference(answers, call(rows), LAST_BITS)
    return f"the same rows twice: {evidence}" if evidence else None


def _dependent(call: Call, rows: Tensors, answers: Tensors, tolerance: float) -> str | None:
    """The first way in which a row's answer depends on more than the row; None where there is none."""
    count = _count(rows)
    if count < 2:
        return "one golden row is not enough to tell; give two different ones at least"
    for name, array in answers.items():
        if array.ndim == 0 or len(array) != count:
            return f"output `{name}` has shape {array.shape} for {count} rows: axis 0 must be the rows"
    for story, batch, kept in _batches(rows):
        try:
            received = call(batch)
        except Exception as error:  # whatever the model raises, the callers' batch would fail
            return f"{story}: {type(error).__name__}: {error}"
        evidence = _difference(
            {name: array[kept[0]] for name, array in answers.items()},
            {name: array[kept[1]] for name, array in received.items() if array.ndim},
            tolerance,
        )
        if evidence:
            return f"{story}: {evidence}"
    return None


def _batches(rows: Tensors) -> Iterator[tuple[str, Tensors, tuple[Any, Any]]]:
    """Batches to try: what is done, the rows, and which answers must equal which."""
    count = _count(rows)
    everything = slice(None)
    for index in range(count):
        alone = {name: array[index : index + 1] for name, array in rows.items()}
        yield f"row {index} alone and in a batch of {count}", alone, (slice(index, index + 1), everything)
    half = {name: array[: count // 2] for name, array in rows.items()}
    yield "half of the rows without the other half", half, (slice(0, count // 2), everything)
    backwards = {name: array[::-1] for name, array in rows.items()}
    yield "the rows in reverse order", backwards, (everything, slice(None, None, -1))
    for story, neighbours in _neighbours(rows):
        joined = {name: np.concatenate([array, neighbours[name]]) for name, array in rows.items()}
        yield f"the rows followed by {story}", joined, (everything, slice(0, count))


def _neighbours(rows: Tensors) -> Iterator[tuple[str, Tensors]]:
    """Strangers' rows and padding: repeated, empty, large, and not a number, as far as the dtypes allow."""
    yield "themselves", rows
    yield "padding rows of zeros", {name: np.zeros_like(array) for name, array in rows.items()}
    floats = {name for name, array in rows.items() if array.dtype.kind == "f"}
    if floats:
        yield "rows a hundred times larger", _replaced(rows, floats, lambda array: array * np.asarray(100, array.dtype))
        # NaN spreads through any sum over rows, however small the share of the neighbour in it.
        yield "rows of NaN", _replaced(rows, floats, lambda array: np.full_like(array, np.nan))


def _replaced(rows: Tensors, names: set[str], change: Callable[[Any], Any]) -> Tensors:
    return {name: change(array) if name in names else array for name, array in rows.items()}


def _difference(expected: Tensors, received: Tensors, tolerance: float) -> str | None:
    if expected.keys() != received.keys():
        return f"outputs {sorted(expected)} became {sorted(received)}"
    for name, array in expected.items():
        evidence = difference([array], [received[name]], tolerance)
        if evidence:
            return f"output `{name}`: {evidence}"
    return None

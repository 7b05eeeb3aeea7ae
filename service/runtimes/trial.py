"""One runtime tried on one version: does it answer the golden rows as the reference did, and how fast?"""

from __future__ import annotations

import logging
import statistics
import time
from dataclasses import dataclass, replace

import numpy as np

from models.artifact import Artifact, ArtifactError
from models.golden import Comparison, Golden, compare
from models.manifest import Tensors, dtype_name
from service.runtimes import Runtime

_log = logging.getLogger(__name__)

BATCH_SIZES = (1, 8, 32)
"""Rows in a call whose time is measured: a lone caller, a few, and a batch under load."""
_SECONDS_A_SIZE = 0.08
_FEWEST_CALLS, _MOST_CALLS = 3, 100


@dataclass(frozen=True)
class Trial:
    """What was found of a runtime.

    Attributes:
        runtime: Its name.
        is_chosen: Whether it serves.
        agrees: Whether it answers the golden rows as the reference did; None where it was not tried.
        max_abs_error: Largest error in a golden answer.
        microseconds: Median time of a call, by the rows in it.
        threads: Given to the inside of a call; None where the runtime pays no heed.
        reason: Why it is not chosen; empty for the one that is.
    """

    runtime: str
    is_chosen: bool = False
    agrees: bool | None = None
    max_abs_error: float | None = None
    microseconds: dict[int, float] | None = None
    threads: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        facts = []
        if self.microseconds:
            facts.append("/".join(f"{each:.3g}" for each in self.microseconds.values()) + " µs a call")
        if self.max_abs_error is not None:
            facts.append(f"error {self.max_abs_error:.2g}")
        if self.threads is not None:
            facts.append("1 thread" if self.threads == 1 else f"{self.threads} threads")
        return ", ".join([self.runtime, *facts]) + f": {'Chosen.' if self.is_chosen else self.reason}"


class DifferentAnswersError(ArtifactError):
    """A runtime does not answer the golden rows as the reference did."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(f"The golden answers are not reproduced: {'; '.join(comparison.differences)}.")
        self.comparison = comparison


def replay_golden(runtime: Runtime, artifact: Artifact, golden: Golden, tolerance: float) -> Comparison:
    """Makes a loaded runtime answer the golden rows, and then a single row; closes it where that fails.

    Raises:
        DifferentAnswersError: an answer differs by more than the tolerance, or has not the signature's dtype.
        Exception: whatever the runtime raises.
    """
    try:
        answers = runtime.run(golden.inputs)
        comparison = compare(golden.outputs, answers, tolerance)
        differences = comparison.differences or _other_dtypes(artifact, answers)
        if differences:
            raise DifferentAnswersError(replace(comparison, differences=differences))
        runtime.run(rows_of(golden.inputs, 1))
    except BaseException:
        close_runtime(runtime)
        raise
    return comparison


def time_calls(runtime: Runtime, inputs: Tensors) -> dict[int, float]:
    """The median time of a call in microseconds at each of `BATCH_SIZES`; closes the runtime where it fails.

    Takes about a quarter of a second, or one call of each size where that is longer.
    """
    try:
        return {rows: _time(runtime, rows_of(inputs, rows)) for rows in BATCH_SIZES}
    except BaseException:
        close_runtime(runtime)
        raise


def rows_of(inputs: Tensors, rows: int) -> Tensors:
    """So many rows; the given ones begin anew where there are fewer."""
    return {name: values[np.arange(rows) % len(values)] for name, values in inputs.items()}


def close_runtime(runtime: Runtime) -> None:
    """Closes a runtime that nobody uses; what it raises is logged, for whoever closes it has other errands."""
    try:
        runtime.close()
    except Exception:
        _log.exception("A %s runtime failed to close.", runtime.name)


def _other_dtypes(artifact: Artifact, answers: Tensors) -> tuple[str, ...]:
    return tuple(
        f"output `{spec.name}` is {dtype_name(answers[spec.name])} instead of {spec.dtype}"
        for spec in artifact.manifest.signature.outputs
        if dtype_name(answers[spec.name]) != spec.dtype
    )


def _time(runtime: Runtime, inputs: Tensors) -> float:
    # The first call of a batch size lays out memory, and counts only where no others are affordable.
    seconds = [_time_once(runtime, inputs)]
    if seconds[0] < _SECONDS_A_SIZE:
        end = time.perf_counter() + _SECONDS_A_SIZE
        seconds = [_time_once(runtime, inputs) for _ in range(_FEWEST_CALLS)]
        while len(seconds) < _MOST_CALLS and time.perf_counter() < end:
            seconds.append(_time_once(runtime, inputs))
    return round(statistics.median(seconds) * 1e6, 2)


def _time_once(runtime: Runtime, inputs: Tensors) -> float:
    begin = time.perf_counter()
    runtime.run(inputs)
    return time.perf_counter() - begin

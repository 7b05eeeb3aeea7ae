"""Which runtime serves a version: the fastest of those that answer its golden rows as the reference did.

`auto` loads every light runtime that is installed and whose format the version has, and times those that agree. The
fastest has the least geometric mean of its times over the batch sizes, so that a share gained at one size counts as
much as at another. TensorFlow is imported only where no light runtime agrees, whatever it might be worth.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from models.artifact import Artifact, ArtifactError
from models.golden import Golden
from service import runtimes
from service.runtimes import AUTO, RUNTIMES, Runtime
from service.runtimes.cores import available_cores
from service.runtimes.trial import BATCH_SIZES, DifferentAnswersError, Trial, close_runtime, replay_golden, time_calls

_log = logging.getLogger(__name__)

_LONG_CALL_US = 1000.0
_GAIN_OF_THREADS = 0.9

Load = Callable[[str, int], Runtime]
"""Loads the runtime of that name with that many threads for the inside of a call."""


@dataclass(frozen=True)
class Selection:
    """The runtime that serves a version, and what was found of it and of the others."""

    runtime: Runtime
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class _Candidate:
    """A loaded runtime that agrees, and the mean of its times."""

    runtime: Runtime
    trial: Trial
    mean: float


def choose(artifact: Artifact, golden: Golden, wanted: str, layers: tuple[str, ...]) -> Selection:
    """Loads the runtime that is to serve a version whose files have been verified.

    Args:
        artifact: The version.
        golden: Its golden rows.
        wanted: A runtime's name, or `auto`.
        layers: Modules that define custom layers, as the operator named them.

    Raises:
        ValueError: the runtime cannot be used, or its golden answers differ; with `auto`, that is so for all of them.
        Exception: whatever the library of the runtime that `wanted` names raises.
    """

    def load(name: str, threads: int) -> Runtime:
        return runtimes.load(name, artifact, layers, threads)

    selection = fastest(load, artifact, golden) if wanted == AUTO else only(load, wanted, artifact, golden)
    for trial in selection.trials:
        level = logging.DEBUG if trial.agrees is None else logging.INFO
        _log.log(level, "%s@%d by %s", artifact.manifest.name, artifact.manifest.version, trial)
    return selection


def only(load: Load, name: str, artifact: Artifact, golden: Golden) -> Selection:
    """One runtime, whatever the others may be worth; raises as `choose` does."""
    found = _try(load, name, artifact, golden)
    return Selection(found.runtime, (replace(found.trial, is_chosen=True),))


def fastest(load: Load, artifact: Artifact, golden: Golden) -> Selection:
    """The fastest light runtime that agrees; where none does, the first heavy one.

    Raises:
        ArtifactError: no runtime can serve the version; the message has the reason of each.
    """
    best: _Candidate | None = None
    trials: list[Trial] = []
    for name in RUNTIMES:
        found = _passed_over(name, artifact, best) or _tried(load, name, artifact, golden)
        if isinstance(found, Trial):
            trials.append(found)
            continue
        trials.append(found.trial)
        slower = found
        if best is None or found.mean < best.mean:
            slower, best = best or found, found
        if slower is not best:
            close_runtime(slower.runtime)
    if best is None:
        reasons = " ".join(f"{trial.runtime}: {trial.reason}" for trial in trials)
        raise ArtifactError(f"No runtime can serve this version. {reasons}")
    return Selection(best.runtime, tuple(_with_verdict(trial, best.trial) for trial in trials))


def _passed_over(name: str, artifact: Artifact, best: _Candidate | None) -> Trial | None:
    """The reason not even to try a runtime; None where there is none."""
    kind = RUNTIMES[name]
    if reason := runtimes.why_unavailable(name, artifact):
        return Trial(name, reason=reason)
    if kind.tolerance is not None:
        return Trial(name, reason=f"Not tried: it is less exact. Ask for it by name: --runtime {name}.")
    if best and kind.loads_tensorflow:
        return Trial(name, reason=f"Not tried: {best.trial.runtime} agrees, and TensorFlow would take 500 MB.")
    return None


def _tried(load: Load, name: str, artifact: Artifact, golden: Golden) -> _Candidate | Trial:
    try:
        return _try(load, name, artifact, golden)
    except DifferentAnswersError as error:
        return Trial(name, agrees=False, max_abs_error=error.comparison.max_abs_error, reason=str(error))
    except (Exception, SystemExit) as error:  # each library raises its own kinds; the other runtimes may still do
        is_plain = isinstance(error, ValueError)
        _log.warning("%s cannot run %s: %s", name, artifact.manifest.name, error, exc_info=not is_plain)
        message = " ".join(str(error).split())[:500]
        return Trial(name, reason=f"It cannot be used. {type(error).__name__}: {message}")


def _try(load: Load, name: str, artifact: Artifact, golden: Golden) -> _Candidate:
    """Loads, checks and times a runtime, with all cores too where a call is long enough to be shared among them."""
    found = _measured(load, name, 1, artifact, golden)
    cores = available_cores()
    times = found.trial.microseconds or {}
    if cores == 1 or RUNTIMES[name].loads_tensorflow or times[BATCH_SIZES[-1]] < _LONG_CALL_US:
        return found
    try:
        shared = _measured(load, name, cores, artifact, golden)
    except Exception as error:  # it may also sum in another order, too far from the reference
        _log.warning("%s runs %s with 1 thread, for with %d: %s", name, artifact.manifest.name, cores, error)
        return found
    if shared.mean < found.mean * _GAIN_OF_THREADS:
        found, shared = shared, found
    close_runtime(shared.runtime)
    return found


def _measured(load: Load, name: str, threads: int, artifact: Artifact, golden: Golden) -> _Candidate:
    kind = RUNTIMES[name]
    runtime = load(name, threads)
    tolerance = kind.tolerance or artifact.manifest.formats[kind.format].tolerance
    comparison = replay_golden(runtime, artifact, golden, tolerance)
    microseconds = time_calls(runtime, golden.inputs)
    trial = Trial(
        name,
        agrees=True,
        max_abs_error=comparison.max_abs_error,
        microseconds=microseconds,
        threads=None if kind.loads_tensorflow else threads,
    )
    return _Candidate(runtime, trial, statistics.geometric_mean(microseconds.values()))


def _with_verdict(trial: Trial, best: Trial) -> Trial:
    if trial is best:
        return replace(trial, is_chosen=True)
    return replace(trial, reason=f"Slower than {best.runtime}.") if trial.agrees else trial

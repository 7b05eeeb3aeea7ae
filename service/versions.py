"""One version in memory: proven before it serves, kept while requests run on it, closed after the last of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from models.artifact import Artifact
from models.golden import Golden, read_golden
from service.batching import Batcher
from service.inference import InferenceResponse, InputCheck
from service.memory import give_back
from service.runtimes import Runtime
from service.runtimes.selection import Selection
from service.runtimes.trial import Trial, close_runtime

LoadRuntime = Callable[[Artifact, Golden], Selection]
"""Loads a version's runtime, once that has answered its golden rows as the reference did."""

# A path's folders. Keras and layer modules may name paths in their errors; clients see only the last part.
_FOLDERS = re.compile(r"(?<![\w./~-])~?/(?:[^/\s'\"`:;,()]+/)+")


class State(StrEnum):
    """Of a version."""

    LOADING = "LOADING"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True)
class VersionStatus:
    """The state of a version that was asked for.

    `reason` says why it is UNAVAILABLE, or READY only because it was loaded before its files went wrong.
    """

    state: State
    reason: str = ""


@dataclass(eq=False)
class LoadedModel:
    """A version in memory. Run it between `hold` and `release` only, so that it is not closed then.

    `batcher` is the engine's, who makes it when the first request comes; it is closed with the runtime. `hold`,
    `release` and `retire` may be called from any thread.
    """

    artifact: Artifact
    runtime: Runtime
    golden: Golden
    trials: tuple[Trial, ...] = ()
    batcher: Batcher[InferenceResponse] | None = None
    retired: bool = False
    check: InputCheck = field(init=False)
    _holds: int = field(default=0, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.check = InputCheck(self.artifact.manifest.signature)

    @property
    def version(self) -> int:
        """Its version number."""
        return self.artifact.manifest.version

    @property
    def golden_error(self) -> float:
        """The largest error of its runtime in a golden answer."""
        return next((trial.max_abs_error or 0.0 for trial in self.trials if trial.is_chosen), 0.0)

    def hold(self) -> bool:
        """Keeps it loaded until `release`; False if it has been retired and closed since it was looked up."""
        with self._lock:
            is_open = not self.retired or self._holds > 0
            self._holds += is_open
            return is_open

    def release(self) -> None:
        """Ends a `hold`. The last one of a retired version closes it, which may take a while."""
        with self._lock:
            self._holds -= 1
            is_last = self.retired and not self._holds
        if is_last:
            self._close()

    def retire(self) -> None:
        """Closes it, as soon as nobody holds it. The second time does nothing."""
        with self._lock:
            is_idle = not self.retired and not self._holds
            self.retired = True
        if is_idle:
            self._close()

    def _close(self) -> None:
        if self.batcher:
            self.batcher.close()
        close_runtime(self.runtime)
        give_back()


def load_version(artifact: Artifact, load_runtime: LoadRuntime) -> LoadedModel:
    """Loads a version whose files are as published and whose golden answers agree.

    Raises:
        ValueError: they are not, or do not; `ArtifactError` is one.
        Exception: whatever a model's own code raises.
    """
    artifact.verify_files()
    golden = read_golden(artifact)
    selection = load_runtime(artifact, golden)
    trials = tuple(replace(trial, reason=without_folders(trial.reason)) for trial in selection.trials)
    return LoadedModel(artifact, selection.runtime, golden, trials)


def without_folders(message: str) -> str:
    """The message as a client may see it: of each path only the last part."""
    return _FOLDERS.sub("", message)


def printable(message: str) -> str:
    """The message with an escape for each byte of a file's name that is no text."""
    return message.encode(errors="backslashreplace").decode()

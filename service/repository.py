"""The models in memory, made to match the versions on disk.

`reconcile` is the one way in which anything is loaded, replaced, rolled back or dropped. A version serves only after
its checksums match, it loads, and its golden answers agree; until then the version before it goes on serving.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from models.artifact import Artifact, ArtifactError
from models.golden import Golden, read_golden
from models.store import ArtifactStore
from service.batching import Batcher
from service.inference import InferenceResponse, InputCheck
from service.runtimes import Runtime
from service.runtimes.selection import Selection
from service.runtimes.trial import Trial, close_runtime

_log = logging.getLogger(__name__)

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
    """The state of a version that was asked for, with the reason where it is UNAVAILABLE."""

    state: State
    reason: str = ""


@dataclass(eq=False)
class LoadedModel:
    """A version in memory. Run it between `ModelRepository.hold` and `release` only, so that it is not closed then.

    `batcher` is the engine's, who makes it when the first request comes; it is closed with the runtime.
    """

    artifact: Artifact
    runtime: Runtime
    golden: Golden
    trials: tuple[Trial, ...] = ()
    batcher: Batcher[InferenceResponse] | None = None
    holds: int = 0
    retired: bool = False
    check: InputCheck = field(init=False)

    def __post_init__(self) -> None:
        self.check = InputCheck(self.artifact.manifest.signature)

    @property
    def version(self) -> int:
        """Its version number."""
        return self.artifact.manifest.version


@dataclass(frozen=True)
class _Failure:
    """Why a version was refused, and what its files were then."""

    fingerprint: tuple[object, ...]
    reason: str


@dataclass
class _Slot:
    """All that is known of one model name."""

    current: LoadedModel | None = None
    statuses: dict[int, VersionStatus] = field(default_factory=dict)
    failed: dict[int, _Failure] = field(default_factory=dict)
    problem: str = ""
    versions: tuple[int, ...] = ()


class ModelRepository:
    """Holds one loaded version per model.

    `reconcile` may block for seconds and belongs in a thread of its own, one call at a time; everything else is quick
    and safe from any thread.
    """

    def __init__(self, store: ArtifactStore, load_runtime: LoadRuntime) -> None:
        self._store = store
        self._load_runtime = load_runtime
        self._slots: dict[str, _Slot] = {}
        self._unloaded: set[str] = set()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """The models that are served or should be."""
        return sorted(self._slots)

    def current(self, name: str) -> LoadedModel | None:
        """The version that serves, or None."""
        slot = self._slots.get(name)
        return slot.current if slot else None

    def statuses(self, name: str) -> dict[int, VersionStatus]:
        """The versions that were asked for, each with its state."""
        slot = self._slots.get(name)
        return dict(sorted(slot.statuses.items())) if slot else {}

    def versions(self, name: str) -> tuple[int, ...]:
        """The versions on disk, served or not."""
        slot = self._slots.get(name)
        return slot.versions if slot else ()

    def problem(self, name: str) -> str:
        """Why no version of `name` serves, or the desired one does not; empty where all is well."""
        slot = self._slots.get(name)
        return slot.problem if slot else ""

    def hold(self, model: LoadedModel) -> bool:
        """Keeps a version loaded until `release`; False if it has been replaced and closed since it was looked up."""
        with self._lock:
            is_open = not model.retired or model.holds > 0
            if is_open:
                model.holds += 1
            return is_open

    def release(self, model: LoadedModel) -> None:
        """Ends a `hold`. The last one of a version that has been replaced closes it, which may take a while."""
        with self._lock:
            model.holds -= 1
            last = model.retired and model.holds == 0
        if last:
            _close(model)

    def allow(self, name: str) -> None:
        """Ends `forbid`."""
        self._unloaded.discard(name)

    def forbid(self, name: str) -> None:
        """Lets `reconcile` serve no version of `name`, whatever is on disk, until `allow` or a restart."""
        self._unloaded.add(name)

    def reconcile(self) -> None:
        """Makes memory match the disk. A model that fails leaves the others, and its own old version, as they are."""
        if not self._store.root.is_dir() and self._slots:
            _log.warning("The artifacts folder is gone; what is loaded goes on serving.")
            return
        names = set(self._store.names())
        self._slots = {name: _Slot() for name in names} | self._slots
        for name in sorted(names):
            try:
                self._reconcile_model(name, self._slots[name])
            except OSError as error:
                self._slots[name].problem = f"The artifacts folder cannot be read: {error.strerror}."
            except Exception as error:  # whatever lies on the disk, the other models are looked at
                _log.exception("%s cannot be looked at.", name)
                self._slots[name].problem = f"Its versions cannot be looked at: {type(error).__name__}."
        for name in sorted(self._slots.keys() - names):
            _log.info("%s has no version left; it is no longer served.", name)
            self._swap(self._slots[name], None)
        self._slots = {name: slot for name, slot in self._slots.items() if name in names}

    def close(self) -> None:
        """Lets go of every model, as soon as its last request has ended."""
        for slot in self._slots.values():
            self._swap(slot, None)
        self._slots = {}

    def _reconcile_model(self, name: str, slot: _Slot) -> None:
        if name in self._unloaded:
            slot.statuses = {version: VersionStatus(State.UNAVAILABLE, "unloaded") for version in slot.statuses}
            slot.problem = f"`{name}` has been unloaded. Load it again, or restart the service."
            self._swap(slot, None)
            return
        try:
            wanted, pinned = self._store.desired(name), self._store.pinned(name) is not None
        except ArtifactError as error:
            slot.problem = str(error)
            return
        existing = self._store.versions(name)
        slot.versions = tuple(existing)
        slot.statuses = {v: s for v, s in slot.statuses.items() if v in existing or v == wanted}
        # With nothing to fall back on in memory, an older version that is whole beats none, unless one is pinned.
        older = [] if pinned or slot.current else [v for v in reversed(existing) if v != wanted]
        slot.problem = ""
        for version in filter(None, [wanted, *older]):
            problem = self._ensure(name, version, slot)
            if not problem:
                return
            slot.problem = slot.problem or f"Version {version} cannot be served: {problem}"

    def _ensure(self, name: str, version: int, slot: _Slot) -> str:
        """Makes `version` serve; gives the reason where it cannot."""
        fingerprint = _fingerprint(self._store.root / name / str(version))
        failure = slot.failed.get(version)
        if failure and failure.fingerprint == fingerprint:
            slot.statuses = {**slot.statuses, version: VersionStatus(State.UNAVAILABLE, failure.reason)}
            return failure.reason
        try:
            artifact = self._store.open(name, version)
            if slot.current and (slot.current.version, slot.current.artifact.digest) == (version, artifact.digest):
                slot.statuses = {**slot.statuses, version: VersionStatus(State.READY)}
                return ""
            slot.statuses = {**slot.statuses, version: VersionStatus(State.LOADING)}
            self._swap(slot, self._load(artifact))
        except Exception as error:  # a model's own code may raise anything while it loads
            expected = isinstance(error, ValueError)
            message = str(error) if expected else f"Loading failed with {type(error).__name__}; the log says more."
            _log.error("%s@%d is not served: %s", name, version, message, exc_info=not expected)
            reason = _FOLDERS.sub("", message)
            if not isinstance(error, OSError | MemoryError):  # those may pass without a change of the files
                slot.failed[version] = _Failure(fingerprint, reason)
            slot.statuses = {**slot.statuses, version: VersionStatus(State.UNAVAILABLE, reason)}
            return reason
        slot.failed.pop(version, None)
        slot.statuses = {version: VersionStatus(State.READY)} | {
            v: s for v, s in slot.statuses.items() if s.state is State.UNAVAILABLE and v != version
        }
        _log.info("%s@%d is served by %s.", name, version, slot.current.runtime.name if slot.current else "none")
        return ""

    def _load(self, artifact: Artifact) -> LoadedModel:
        artifact.verify_files()
        golden = read_golden(artifact)
        selection = self._load_runtime(artifact, golden)
        trials = tuple(replace(trial, reason=_FOLDERS.sub("", trial.reason)) for trial in selection.trials)
        return LoadedModel(artifact, selection.runtime, golden, trials)

    def _swap(self, slot: _Slot, model: LoadedModel | None) -> None:
        with self._lock:
            old, slot.current = slot.current, model
            if old is None:
                return
            old.retired = True
            idle = old.holds == 0
        if idle:
            _close(old)


def _close(model: LoadedModel) -> None:
    """Closes a version that nobody uses any more."""
    if model.batcher:
        model.batcher.close()
    close_runtime(model.runtime)


def _fingerprint(folder: Path) -> tuple[object, ...]:
    """What changes when any file of the folder is replaced."""
    found = []
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    return tuple(found)

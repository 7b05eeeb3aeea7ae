"""One model's versions in memory, made to match those on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.artifact import ArtifactError
from models.store import ArtifactStore
from service.drift import drift
from service.metrics import Metrics
from service.versions import LoadedModel, LoadRuntime, State, VersionStatus, load_version, printable, without_folders

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """Why a version was refused, and what its files were then."""

    fingerprint: tuple[object, ...]
    reason: str


class Slot:
    """The versions of one model.

    One thread reconciles and closes. What it changes it replaces whole, so that any other may read the attributes.

    Args:
        name, store: Which model, and where its versions are.
        load_runtime: Turns a version whose files are whole into a runtime.
        newest: How many of the highest versions are loaded.
        given_labels: Labels that win over those on disk.
        metrics: Where loads are counted.
        note_change: Called when another version answers.

    Attributes:
        current: The version that answers a request which names none; None where none can.
        loaded: All versions in memory, by number.
        labelled: The version of each label: the last one named by it that was ready.
        labels: The version that each label names.
        versions: The versions on disk.
        statuses: The versions that were asked for, each with its state.
        problem: Why versions that should be served are not; empty where all is well.
    """

    def __init__(
        self,
        name: str,
        store: ArtifactStore,
        load_runtime: LoadRuntime,
        newest: int,
        given_labels: Mapping[str, int],
        metrics: Metrics,
        note_change: Callable[[], None],
    ) -> None:
        self.current: LoadedModel | None = None
        self.loaded: Mapping[int, LoadedModel] = {}
        self.labelled: Mapping[str, LoadedModel] = {}
        self.labels: Mapping[str, int] = given_labels
        self.versions: Sequence[int] = ()
        self.statuses: Mapping[int, VersionStatus] = {}
        self.problem = ""
        self._name = name
        self._store = store
        self._load_runtime = load_runtime
        self._newest = newest
        self._given_labels = given_labels
        self._metrics = metrics
        self._note_change = note_change
        self._desired: int | None = None
        self._is_unloaded = False
        self._wanted: frozenset[int] = frozenset()
        self._failed: dict[int, _Failure] = {}
        self._verified: dict[int, tuple[object, ...]] = {}  # of a loaded version, what its files were when whole

    def reconcile(self) -> None:
        """Loads what the disk asks for, moves requests to it, and lets go of the rest.

        Raises:
            OSError: the folder cannot be read.
        """
        if self._is_unloaded:
            self._is_unloaded, self.statuses = False, {}
        try:
            desired, is_pinned = self._store.desired(self._name), self._store.pinned(self._name) is not None
        except ArtifactError as error:
            self.problem = str(error)
            return
        problems = self._read_labels()
        self.versions = tuple(self._store.versions(self._name))
        others = {*self.labels.values(), *self.versions[max(0, len(self.versions) - self._newest) :]} - {desired}
        self._desired, self._wanted = desired, frozenset({*others, *filter(None, [desired])})
        problems += self._ensure_current(is_pinned=is_pinned)
        problems += [self._ensure(version) for version in sorted(others, reverse=True)]
        self._settle()
        self.problem = " ".join(filter(None, problems))

    def close(self) -> None:
        """Lets go of every version, as soon as its last request has ended."""
        closing, self.current, self.loaded, self.labelled = self.loaded, None, {}, {}
        for model in closing.values():
            self._retire(model)

    def unload(self) -> None:
        """Lets go of every version, until `reconcile`."""
        if self.loaded:
            self.close()
            self._note_change()
        self._is_unloaded = True
        self.statuses = {version: VersionStatus(State.UNAVAILABLE, "unloaded") for version in self.statuses}
        self.problem = f"`{self._name}` has been unloaded. Load it again, or restart the service."

    def _read_labels(self) -> list[str]:
        """Where the file is damaged, the labels stay what they were."""
        try:
            self.labels = {**self._store.labels(self._name), **self._given_labels}
        except (ArtifactError, OSError) as error:
            return [str(error) if isinstance(error, ArtifactError) else f"The labels cannot be read: {error.strerror}."]
        return []

    def _ensure_current(self, *, is_pinned: bool) -> list[str]:
        """Makes the desired version answer; gives what stands in the way."""
        if self._desired is None:
            return []
        problem = self._ensure(self._desired)
        if problem and not is_pinned and self.current is None:
            # With nothing to fall back on in memory, an older version that is whole beats none.
            for version in reversed([version for version in self.versions if version != self._desired]):
                self._desired = version
                self._wanted |= {version}
                if not self._ensure(version):
                    break
        return [problem]

    def _ensure(self, version: int) -> str:
        """Has `version` in memory as it is on disk; gives a sentence on why it is not."""
        try:
            fingerprint = _fingerprint(self._store.root / self._name / str(version))
        except OSError as error:
            return self._refuse(version, f"Its files cannot be read: {error.strerror}.")
        failure = self._failed.get(version)
        if failure and failure.fingerprint == fingerprint:
            return self._refuse(version, failure.reason)
        try:
            self._load(version, fingerprint)
        except (Exception, SystemExit) as error:  # a model's own code may raise anything while it loads
            expected, message = isinstance(error, ValueError | PermissionError), _described(error)
            how = "served on as it was" if version in self.loaded else "not served"
            _log.error("%s@%d is %s: %s", self._name, version, how, message, exc_info=not expected)
            self._metrics.refused(self._name, version)
            reason = without_folders(message)
            if not isinstance(error, OSError | MemoryError):  # those may pass without a change of the files
                self._failed[version] = _Failure(fingerprint, reason)
            return self._refuse(version, reason)
        self._failed.pop(version, None)
        self._note(version, VersionStatus(State.READY))
        return ""

    def _load(self, version: int, fingerprint: tuple[object, ...]) -> None:
        artifact = self._store.open(self._name, version)
        old = self.loaded.get(version)
        if old and old.artifact.digest == artifact.digest:
            if self._verified[version] != fingerprint:
                artifact.verify_files()
                self._verified[version] = fingerprint
            return
        if not old:
            self._note(version, VersionStatus(State.LOADING))
        model = load_version(artifact, self._load_runtime)
        self._verified[version] = fingerprint
        self._metrics.loaded(self._name, version, golden_error=model.golden_error)
        self.loaded = {**self.loaded, version: model}
        self._settle()
        if old:
            old.retire()
        _log.info("%s@%d is served by %s.", self._name, version, model.runtime.name)

    def _refuse(self, version: int, reason: str) -> str:
        is_loaded = version in self.loaded
        self._note(version, VersionStatus(State.READY if is_loaded else State.UNAVAILABLE, reason))
        return f"Version {version} cannot be {'loaded again' if is_loaded else 'served'}: {reason}"

    def _note(self, version: int, status: VersionStatus) -> None:
        self.statuses = dict(sorted({**self.statuses, version: status}.items()))

    def _settle(self) -> None:
        """Moves requests and labels to the versions that are ready for them, and retires those that nothing needs."""
        loaded = self.loaded
        current = loaded.get(self._desired or 0) or (loaded.get(self.current.version) if self.current else None)
        if current and self.current and current is not self.current:
            self._metrics.took_over(self._name, current.version, drift(current, self.current))
        labelled = {label: loaded.get(version) or self._last(label) for label, version in self.labels.items()}
        self.current, self.labelled = current, {label: model for label, model in labelled.items() if model}
        kept = self._wanted | {model.version for model in [current, *self.labelled.values()] if model}
        self.loaded = {version: model for version, model in loaded.items() if version in kept}
        self._note_change()
        known = {*self.versions, *self._wanted}
        self.statuses = {
            version: status
            for version, status in self.statuses.items()
            if version in self.loaded or (version in known and status.state is not State.READY)
        }
        for version in sorted(loaded.keys() - kept):
            _log.info("%s@%d is no longer served.", self._name, version)
            self._retire(loaded[version])

    def _retire(self, model: LoadedModel) -> None:
        self._verified.pop(model.version, None)
        self._metrics.retired(self._name, model.version)
        model.retire()

    def _last(self, label: str) -> LoadedModel | None:
        """What a label meant before, as it is loaded by now."""
        model = self.labelled.get(label)
        return self.loaded.get(model.version) if model else None


def _described(error: BaseException) -> str:
    if isinstance(error, ValueError):
        return printable(str(error))
    if isinstance(error, PermissionError):
        return printable(f"`{Path(error.filename or '').name}` cannot be read: {error.strerror}.")
    return f"Loading failed with {type(error).__name__}; the log says more."


def _fingerprint(folder: Path) -> tuple[object, ...]:
    """What changes when any file of the folder is replaced."""
    found = []
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found.append((path.name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))
    return tuple(found)

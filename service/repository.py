"""The models in memory, made to match the versions on disk.

`reconcile` is the one way in which anything is loaded, replaced, rolled back or dropped. A version serves only after
its checksums match, it loads, and its golden answers agree; until then the version before it goes on serving.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from models.store import ArtifactStore
from service.metrics import Metrics
from service.slots import Slot
from service.versions import LoadedModel, LoadRuntime, VersionStatus

_log = logging.getLogger(__name__)


def only_the_served(model: str) -> int:  # noqa: ARG001 - the same for every model
    """Keeps no version of a model loaded but the one that serves and those with a label."""
    return 0


def none_given(model: str) -> Mapping[str, int]:  # noqa: ARG001 - the same for every model
    """Leaves the labels to the disk."""
    return {}


class ModelRepository:
    """Holds the loaded versions of each model.

    `reconcile` may block for seconds and belongs in a thread of its own, one call at a time; everything else is quick
    and safe from any thread.

    Args:
        store: The versions on disk.
        load_runtime: Turns a version whose files are whole into a runtime.
        newest: How many of a model's highest versions are loaded, whether or not it is them that serve.
        metrics: Where loads are counted.
        labels: A model's labels that win over those on disk.

    Attributes:
        generation: Another number after each change of which version answers which request.
    """

    def __init__(
        self,
        store: ArtifactStore,
        load_runtime: LoadRuntime,
        newest: Callable[[str], int] = only_the_served,
        metrics: Metrics | None = None,
        labels: Callable[[str], Mapping[str, int]] = none_given,
    ) -> None:
        self._store = store
        self._metrics = metrics or Metrics()
        self._load_runtime = load_runtime
        self._newest = newest
        self._labels = labels
        self._slots: dict[str, Slot] = {}
        self._unloaded: set[str] = set()
        self.generation = 0

    def names(self) -> list[str]:
        """The models that are served or should be."""
        return sorted(self._slots)

    def current(self, name: str) -> LoadedModel | None:
        """The version that answers a request which names none, or None."""
        slot = self._slots.get(name)
        return slot.current if slot else None

    def loaded(self, name: str) -> Mapping[int, LoadedModel]:
        """All versions that serve, by number."""
        slot = self._slots.get(name)
        return slot.loaded if slot else {}

    def labelled(self, name: str) -> Mapping[str, LoadedModel]:
        """The version that serves under each label: until the one it names is ready, the one it named before."""
        slot = self._slots.get(name)
        return slot.labelled if slot else {}

    def labels(self, name: str) -> Mapping[str, int]:
        """The version that each label names, served or not."""
        slot = self._slots.get(name)
        return slot.labels if slot else {}

    def statuses(self, name: str) -> Mapping[int, VersionStatus]:
        """The versions that were asked for, each with its state."""
        slot = self._slots.get(name)
        return slot.statuses if slot else {}

    def versions(self, name: str) -> Sequence[int]:
        """The versions on disk, served or not."""
        slot = self._slots.get(name)
        return slot.versions if slot else ()

    def problem(self, name: str) -> str:
        """Why a version of `name` that should be served is not; empty where all is well."""
        slot = self._slots.get(name)
        return slot.problem if slot else ""

    def allow(self, name: str) -> None:
        """Ends `forbid`."""
        self._unloaded.discard(name)

    def forbid(self, name: str) -> None:
        """Lets `reconcile` serve no version of `name`, whatever is on disk, until `allow` or a restart."""
        self._unloaded.add(name)

    def reconcile(self) -> None:
        """Makes memory match the disk. A model that fails leaves the others, and its own old versions, as they are."""
        names = self._store.names()
        if self._slots and not self._store.root.is_dir():  # asked last: it may go while it is read
            _log.warning("The artifacts folder is gone; what is loaded goes on serving.")
            return
        new = [name for name in names if name not in self._slots]
        self._slots = self._slots | {
            name: Slot(
                name,
                self._store,
                self._load_runtime,
                self._newest(name),
                self._labels(name),
                self._metrics,
                self._note_change,
            )
            for name in new
        }
        for name in names:
            slot = self._slots[name]
            try:
                if name in self._unloaded:
                    slot.unload()
                else:
                    slot.reconcile()
            except OSError as error:
                slot.problem = f"The artifacts folder cannot be read: {error.strerror}."
            except Exception as error:  # whatever lies on the disk, the other models are looked at
                _log.exception("%s cannot be looked at.", name)
                slot.problem = f"Its versions cannot be looked at: {type(error).__name__}."
        gone = {name: slot for name, slot in self._slots.items() if name not in names}
        self._slots = {name: slot for name, slot in self._slots.items() if name in names}
        if new or gone:
            self._note_change()
        for name, slot in gone.items():
            _log.info("%s has no version left; it is no longer served.", name)
            slot.close()

    def _note_change(self) -> None:
        self.generation += 1

    def close(self) -> None:
        """Lets go of every model, as soon as its last request has ended."""
        closing, self._slots = self._slots, {}
        for slot in closing.values():
            slot.close()

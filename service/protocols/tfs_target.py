"""Which model and version TensorFlow Serving's clients ask for, and what they are told of it; in their words."""

from __future__ import annotations

from typing import Any, NamedTuple

from service.engine import Engine
from service.errors import InvalidRequest, NotFound
from service.metadata import ModelIndex
from service.protocols.tfs_encode import signature_document, statuses


class Target(NamedTuple):
    """What is asked for. `version` None is the served one, and so is 0, which OpenVINO's client sends for it."""

    name: str
    version: int | None
    label: str | None

    def resolved(self, engine: Engine) -> Target:
        """The same with the version that its label stands for.

        Raises:
            InvalidRequest: there is no such label.
            NotReady: no version that it named has been ready yet.
        """
        if self.label is None:
            return self
        try:
            return self._replace(version=engine.version_of(self.name, self.label), label=None)
        except NotFound as error:
            raise InvalidRequest(f"Unrecognized servable version label: {self.label}") from error

    def not_found(self) -> NotFound:
        """What TensorFlow Serving says where there is no such model to ask."""
        what = f"Specific({self.name}, {self.version})" if self.version else f"Latest({self.name})"
        return NotFound(f"Servable not found for request: {what}")


def statuses_of(engine: Engine, target: Target) -> dict[str, Any]:
    """The states of the versions that are asked about.

    Raises:
        NotFound: there are none.
    """
    index = _index(engine, target)
    if target.version is None:
        return statuses(index, sorted(index.statuses, reverse=True))
    if target.version not in index.statuses:
        raise NotFound(f"Could not find version {target.version} of model {target.name}")
    return statuses(index, [target.version])


def _index(engine: Engine, target: Target) -> ModelIndex:
    try:
        index = engine.describe(target.name)
    except NotFound as error:
        raise NotFound(f"Could not find any versions of model {target.name}") from error
    if not index.statuses:
        raise NotFound(f"Could not find any versions of model {target.name}")
    return index


def metadata_of(engine: Engine, target: Target) -> dict[str, Any]:
    """The signature of the version that is asked about.

    Raises:
        NotFound: there is no such version.
        NotReady: it is not loaded yet.
    """
    try:
        return signature_document(engine.metadata(target.name, target.version))
    except NotFound as error:
        raise target.not_found() from error

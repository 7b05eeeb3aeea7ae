"""Which loaded version answers a request, and what a caller is told where none does."""

from __future__ import annotations

from collections.abc import Iterable

from service.errors import NotFound, NotReady, ServiceError
from service.repository import ModelRepository
from service.versions import LoadedModel, State

# An error over gRPC is in metadata, of which clients take 8 KiB.
_LONGEST_NAME, _LONGEST_LIST = 100, 1000


def find(
    repository: ModelRepository, name: str, version: int | None, label: str | None, *, has_looked: bool
) -> LoadedModel:
    """The version of a model that a label or a number names; that which serves where neither is given.

    Args:
        repository: Of the loaded versions.
        name: Of the model.
        version: Its number.
        label: Its label, which wins over the number.
        has_looked: Whether the repository has looked at the disk; before, nothing is known to be missing.

    Raises:
        NotFound: there is no such model, version or label.
        NotReady: it is not loaded yet, or cannot be.
    """
    if label is not None:
        model = repository.labelled(name).get(label)
    elif version is not None:
        model = repository.loaded(name).get(version)
    else:
        model = repository.current(name)
    if model is not None:
        return model
    if has_looked and name not in repository.names():
        raise no_such_model(repository, name)
    if label is not None:
        raise _label_not_served(repository, name, label)
    raise _version_not_served(repository, name, version)


def no_such_model(repository: ModelRepository, name: str) -> NotFound:
    """The error that names the models there are."""
    return NotFound(f"There is no model `{_cut(name, _LONGEST_NAME)}`. Models: {_listed(repository.names())}.")


def no_default_model(repository: ModelRepository, *, has_looked: bool) -> ServiceError:
    """The error for a request that names no model where there is none, or several."""
    if not repository.names():
        return NotReady("No model is published." if has_looked else "The models are being loaded.")
    return NotFound(
        f"Several models are served: {', '.join(repository.names())}. POST to /models/{{name}}/predict, "
        "or set LAYERSERVE_DEFAULT_MODEL."
    )


def _label_not_served(repository: ModelRepository, name: str, label: str) -> ServiceError:
    labels = repository.labels(name)
    if label in labels:
        return _version_not_served(repository, name, labels[label])
    if not repository.loaded(name):
        return NotReady(repository.problem(name) or f"`{name}` is being loaded.")
    return NotFound(f"`{name}` has no label `{label}`. Labels: {_listed(sorted(labels))}.")


def _version_not_served(repository: ModelRepository, name: str, version: int | None) -> ServiceError:
    status = None if version is None else repository.statuses(name).get(version)
    if status and status.state is State.UNAVAILABLE:
        return NotReady(f"Version {version} of `{name}` cannot be served: {status.reason}")
    if status or version is None or not repository.loaded(name):
        return NotReady(repository.problem(name) or f"`{name}` is being loaded.")
    served, published = _listed(sorted(repository.loaded(name))), _listed(repository.versions(name))
    return NotFound(f"Version {version} of `{name}` is not served. Served: {served}. Published: {published}.")


def _listed(items: Iterable[object]) -> str:
    return _cut(", ".join(map(str, items)), _LONGEST_LIST) or "none"


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}…"

"""What the doors are told of a model, served or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from weakref import ReferenceType, ref

from models.golden import Golden
from models.manifest import Signature
from service.runtimes.trial import Trial
from service.versions import LoadedModel, VersionStatus


@dataclass(frozen=True, eq=False)
class ModelMetadata:
    """What is known of a model that serves: its version, signature, a worked example, and how it came about.

    There is one for each loaded version, as long as it is loaded: what a door prepares for a version may hang on it.
    `model` is for the engine: the version while it is in memory, which this must not keep there.
    """

    name: str
    version: int
    runtime: str
    runtimes: tuple[Trial, ...]
    signature: Signature
    golden: Golden
    metrics: dict[str, float]
    created_at: str
    model: ReferenceType[LoadedModel] = field(repr=False)


@dataclass(frozen=True)
class ModelIndex:
    """A model by name, served or not.

    Attributes:
        name: Its name.
        version: The version that answers a request which names none.
        statuses: The versions that were asked for, each with its state.
        labels: The version that answers under each label.
        problem: What is wrong; empty where all is well.
    """

    name: str
    version: int | None
    statuses: Mapping[int, VersionStatus]
    labels: dict[str, int]
    problem: str


def metadata_of(model: LoadedModel) -> ModelMetadata:
    """What is known of a loaded version."""
    manifest = model.artifact.manifest
    return ModelMetadata(
        name=manifest.name,
        version=manifest.version,
        runtime=model.runtime.name,
        runtimes=model.trials,
        signature=manifest.signature,
        golden=model.golden,
        metrics=manifest.metrics,
        created_at=manifest.created_at.isoformat(),
        model=ref(model),
    )

"""`python -m models`: what is published, which version is served, and whether a layer is sound."""

from __future__ import annotations

import sys

from pydantic import Field
from pydantic_settings import BaseSettings, CliPositionalArg, CliSubCommand

from models.artifact import Artifact, ArtifactError
from models.check_options import Check
from models.command_line import Command, Names, main, program_config
from models.manifest import ModelName, Version, VersionLabel
from models.quiet import quiet_import
from models.store import ArtifactStore

_HEADER = ("MODEL", "VERSION", "SERVED", "METRICS", "SIZE", "CREATED (UTC)")


class List(Command):
    """Shows models and versions with metrics, size and date, and which version is served."""

    def run(self) -> int:
        """Prints one line a version."""
        store = ArtifactStore(self.artifacts)
        rows = [_row(store, name, version) for name in store.names() for version in store.versions(name)]
        if not rows:
            print(f"No model is published in {self.artifacts}. Publish one: python -m export train")
            return 0
        widths = [max(len(row[column]) for row in [_HEADER, *rows]) for column in range(len(_HEADER))]
        for row in [_HEADER, *rows]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return 0


class Pin(Command):
    """Serves a chosen version, whatever is published later."""

    name: CliPositionalArg[ModelName] = Field(description="The model.")
    version: CliPositionalArg[Version] = Field(description="The version to serve.")

    def run(self) -> int:
        """Pins the version."""
        ArtifactStore(self.artifacts).pin(self.name, self.version)
        print(f"{self.name}@{self.version} is pinned. A running service follows within its reload interval.")
        return 0


class Unpin(Command):
    """Serves the highest version again."""

    name: CliPositionalArg[ModelName] = Field(description="The model.")

    def run(self) -> int:
        """Removes the pin."""
        store = ArtifactStore(self.artifacts)
        store.unpin(self.name)
        print(f"{self.name} is not pinned.")
        print(f"{self.name}@{store.resolve(self.name).manifest.version} is served: it is the highest version.")
        return 0


class Label(Command):
    """Gives a version a label, by which clients may ask for it; a running service loads it."""

    name: CliPositionalArg[ModelName] = Field(description="The model.")
    label: CliPositionalArg[VersionLabel] = Field(description="The label, such as stable or canary.")
    version: CliPositionalArg[Version] = Field(description="The version that it names from now on.")

    def run(self) -> int:
        """Sets the label."""
        ArtifactStore(self.artifacts).label(self.name, self.label, self.version)
        print(f"`{self.label}` is {self.name}@{self.version}. A running service follows once that version is ready.")
        return 0


class Unlabel(Command):
    """Takes a label away; the version that had it stays."""

    name: CliPositionalArg[ModelName] = Field(description="The model.")
    label: CliPositionalArg[str] = Field(description="The label.")

    def run(self) -> int:
        """Removes the label."""
        ArtifactStore(self.artifacts).unlabel(self.name, self.label)
        print(f"{self.name} has no label `{self.label}` any more.")
        return 0


class CheckCommand(Check, Command):  # type: ignore[misc] # pydantic merges the two configurations
    """Holds a custom layer, or every layer of a saved model, to the layer contract."""

    def run(self) -> int:
        """Checks and prints; TensorFlow is imported here, so that the other commands need none."""
        with quiet_import():
            from models.checks.command import run_check  # noqa: PLC0415
        return run_check(self)


class Diff(Command):
    """Shows what differs between two versions: configuration, weights, metrics, speed, answers, activations."""

    left: CliPositionalArg[str] = Field(description="NAME@VERSION, or NAME for the version that is served.")
    right: CliPositionalArg[str] = Field(description="The other one.")
    layers: Names = Field((), description="Modules that define your layers, with commas between or given repeatedly.")

    def run(self) -> int:
        """Loads both versions and prints what differs."""
        store = ArtifactStore(self.artifacts)
        left, right = store.resolve(self.left), store.resolve(self.right)
        with quiet_import():
            from models.diff import diff  # noqa: PLC0415 - the other commands need no Keras
            from models.registry import load_plugins  # noqa: PLC0415
        load_plugins(self.layers)
        for line in diff(left, right):
            print(line, flush=True)
        return 0


class Prune(Command):
    """Removes old versions; never the one that is served, nor one with a label."""

    name: CliPositionalArg[ModelName] = Field(description="The model.")
    keep: int = Field(ge=1, description="How many of the highest versions to keep.")

    def run(self) -> int:
        """Removes the versions and names them."""
        removed = ArtifactStore(self.artifacts).prune(self.name, self.keep)
        print(f"Removed {', '.join(f'{self.name}@{version}' for version in removed) or 'nothing'}.")
        return 0


class Models(BaseSettings):
    """Shows what is published, says which version is served, and checks layers."""

    model_config = program_config("python -m models")

    list: CliSubCommand[List] = Field(description=List.__doc__)
    check: CliSubCommand[CheckCommand] = Field(description=CheckCommand.__doc__)
    pin: CliSubCommand[Pin] = Field(description=Pin.__doc__)
    unpin: CliSubCommand[Unpin] = Field(description=Unpin.__doc__)
    label: CliSubCommand[Label] = Field(description=Label.__doc__)
    unlabel: CliSubCommand[Unlabel] = Field(description=Unlabel.__doc__)
    diff: CliSubCommand[Diff] = Field(description=Diff.__doc__)
    prune: CliSubCommand[Prune] = Field(description=Prune.__doc__)


def _row(store: ArtifactStore, name: str, version: int) -> tuple[str, ...]:
    try:
        artifact = store.open(name, version)
    except ArtifactError as error:
        return (name, str(version), "no", f"damaged: {error}", "", "")
    return (name, str(version), _served(store, name, version), _metrics(artifact), _size(artifact), _date(artifact))


def _served(store: ArtifactStore, name: str, version: int) -> str:
    try:
        how = "pinned" if store.pinned(name) else "highest"
        served = [how] if version == store.desired(name) else []
    except ArtifactError:
        served = ["unknown: the pin is damaged"]
    try:
        labels = [label for label, named in store.labels(name).items() if named == version]
    except ArtifactError:
        labels = ["unknown: the labels are damaged"]
    return ", ".join(served + labels)


def _metrics(artifact: Artifact) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in artifact.manifest.metrics.items())


def _size(artifact: Artifact) -> str:
    return f"{artifact.size_bytes / 1e6:.1f} MB"


def _date(artifact: Artifact) -> str:
    return artifact.manifest.created_at.strftime("%Y-%m-%d %H:%M")


if __name__ == "__main__":
    sys.exit(main(Models))

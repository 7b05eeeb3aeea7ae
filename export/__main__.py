"""`python -m export`: trains, verifies and re-exports models.

TensorFlow is imported inside the commands that need it, so that help and mistakes come at once.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, CliPositionalArg, CliSubCommand, NoDecode

from export.config import TrainConfig, data_name
from export.formats import FormatNames
from export.report_data import PAGE, read_data
from models.artifact import Artifact
from models.command_line import Command, Names, main, program_config, split
from models.manifest import Change, ModelName
from models.quiet import quiet_import
from models.store import ArtifactStore

if TYPE_CHECKING:
    import keras

Changes = Annotated[tuple[Change, ...], NoDecode, BeforeValidator(split)]


class LayersCommand(Command):
    """A command that loads saved models."""

    layers: Names = Field((), description="Modules that define your layers, with commas between or given repeatedly.")


class PublishingCommand(LayersCommand):
    """A command that publishes a version."""

    formats: FormatNames = Field(
        (),
        description="Formats beside keras: saved_model, onnx, litert, openvino. By default the first three, as far as "
        "their packages are installed.",
    )


class Train(TrainConfig, PublishingCommand):  # type: ignore[misc] # pydantic merges the two configurations
    """Trains on a table of yours, or on handwritten digits; proves the saved model in a fresh process, publishes it."""

    name: ModelName | None = Field(None, description="Name to publish under; by default the data's.")
    if_missing: bool = Field(False, description="Do nothing where a version is published already.")
    resume: bool = Field(False, description="Go on with a training of this name that was interrupted.")

    def run(self) -> int:
        """Trains and publishes."""
        store = ArtifactStore(self.artifacts)
        name = self.name or data_name(self.data)
        if self.if_missing and store.versions(name):
            return 0
        with store.stage(name):
            pass  # fails here where nothing can be written, not after the training
        from export.datasets import load_dataset  # noqa: PLC0415
        from export.golden_rows import golden_rows  # noqa: PLC0415
        from export.summary import summary, training_record  # noqa: PLC0415

        if self.builder:
            _check_builder(self.builder)
        config = TrainConfig.model_validate(self.model_dump(include=set(TrainConfig.model_fields)))
        dataset = load_dataset(config)
        for line in summary(dataset):
            _say(line)
        with quiet_import():
            from export.checkpoints import Checkpoint  # noqa: PLC0415
            from export.publish import Candidate, publish, rehearse  # noqa: PLC0415
            from export.training import train  # noqa: PLC0415
            from models.registry import load_plugins  # noqa: PLC0415
        load_plugins(self.layers)
        identity = {**config.model_dump(mode="json"), "content": dataset.record.sha256}
        checkpoint = Checkpoint(store.root / name, identity)
        is_resumed = self.resume and checkpoint.is_there()
        if self.resume and not is_resumed:
            _say(f"No training of {name} was interrupted; this one begins anew.")
        golden = golden_rows(dataset)

        def check(model: keras.Model) -> None:
            if self.builder:  # it may need layers that --layers does not name
                rehearse(model, golden, layers=self.layers)

        try:
            result = train(config, dataset, checkpoint=checkpoint, resume=is_resumed, check=check)
        except KeyboardInterrupt:
            if checkpoint.path.exists():
                _say("\nThe same command with --resume goes on with it.")
            raise
        epochs = len(result.history["loss"])
        _say(f"Trained {epochs} epoch{'s' * (epochs != 1)}. On the held-out rows: {_figures(result.metrics)}.")
        record = training_record(config, dataset, result.metrics, result.history)
        candidate = Candidate(name, result.model, golden, dataset.problem.labels, record, evaluation=result.evaluation)
        artifact = publish(store, candidate, layers=self.layers, formats=self.formats)
        _say_published(artifact)
        _say(f"See how good it is: python -m export report {name}@{artifact.manifest.version}")
        checkpoint.remove()
        return 0


class Publish(PublishingCommand):
    """Publishes a model that was trained elsewhere: .keras, .h5 of Keras 2 or 3, or JSON with weights."""

    file: CliPositionalArg[Path] = Field(description="The model.")
    name: ModelName = Field(description="The name to publish it under.")
    weights: Path | None = Field(None, description="The weights, where the model is a JSON file.")
    samples: Path | None = Field(
        None,
        description="A .npz file of golden rows, an array an input, or a .npy for the one input; without it they are "
        "drawn from the signature.",
    )
    labels: Names = Field((), description="The classes of a classifier, in the order of its probabilities.")

    def run(self) -> int:
        """Loads and publishes the model."""
        store = ArtifactStore(self.artifacts)
        with quiet_import():
            from export.drawing import drawn_rows  # noqa: PLC0415
            from export.existing import load_existing, read_samples  # noqa: PLC0415
            from export.publish import Candidate, publish  # noqa: PLC0415
            from models.loading import signature_of  # noqa: PLC0415
            from models.registry import load_plugins  # noqa: PLC0415
        load_plugins(self.layers)
        existing = load_existing(self.file, self.weights)
        for line in existing.origin.mapped:
            _say(f"{line}.")
        signature = signature_of(existing.model)
        if self.samples is None:
            rows = drawn_rows(existing.model, signature)
            _say("The golden rows are drawn from the signature. Rows that mean something prove more: --samples.")
        else:
            rows = read_samples(self.samples, signature)
        candidate = Candidate(
            name=self.name,
            model=existing.model,
            golden_inputs=rows,
            labels=self.labels or None,
            origin=existing.origin,
            golden_source="given" if self.samples else "drawn",
        )
        _say_published(publish(store, candidate, layers=self.layers, formats=self.formats))
        return 0


class Verify(LayersCommand):
    """Proves a published version again: checksums, then a fresh process against the golden answers."""

    version: CliPositionalArg[str] = Field(description="NAME@VERSION, or NAME for the version that is served.")

    def run(self) -> int:
        """Verifies the version."""
        artifact = ArtifactStore(self.artifacts).resolve(self.version)
        with quiet_import():
            from export.verify import verify  # noqa: PLC0415
        report = verify(artifact, layers=self.layers)
        manifest = artifact.manifest
        for name, change in report.proof.changed_layers(manifest).items():
            _say(f"Warning: the source of {name} has changed since ({change}); the golden answers still agree.")
        _say(
            f"{manifest.name}@{manifest.version} is whole, and a fresh process gives its golden answers "
            f"within {report.proof.max_abs_error:.1e}."
        )
        for name, error in report.errors.items():
            _say(f"So does one that loads {name} and nothing of ours, within {error:.1e}.")
        for name, why in report.skipped.items():
            _say(f"Warning: {name} was not verified. {why}")
        return 0


class Reexport(PublishingCommand):
    """Saves a published version anew under today's code, if it still answers as it did."""

    accept: Changes = Field((), description="What may differ from the published version: answers, signature.")
    version: CliPositionalArg[str] = Field(description="NAME@VERSION, or NAME for the version that is served.")

    def run(self) -> int:
        """Re-exports the version."""
        store = ArtifactStore(self.artifacts)
        parent = store.resolve(self.version)
        with quiet_import():
            from export.reexport import reexport  # noqa: PLC0415
        _say_published(reexport(store, parent, layers=self.layers, formats=self.formats, accept=self.accept))
        return 0


class Report(Command):
    """Prints where a version's report is, and opens it where there is a display; or makes it anew."""

    version: CliPositionalArg[str] = Field(description="NAME@VERSION, or NAME for the version that is served.")
    output: Path | None = Field(
        None,
        description="Make the page anew from what the version holds, and write it here. The version's own page stays: "
        "a version never changes.",
    )

    def run(self) -> int:
        """Opens the version's page, or writes another."""
        artifact = ArtifactStore(self.artifacts).resolve(self.version)
        artifact.verify_files()
        if self.output:
            from export.report import render  # noqa: PLC0415 - it loads Matplotlib

            self.output.write_text(render(artifact.manifest, read_data(artifact)), encoding="utf-8")
            _say(f"{self.output}")
            return 0
        if PAGE not in artifact.manifest.files:
            raise ValueError(f"{self.version} has no report: an earlier release made it. --output PATH makes one.")
        page = (artifact.path / PAGE).resolve()
        _say(f"{page}")
        if sys.platform in {"darwin", "win32"} or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys():
            webbrowser.open(page.as_uri())
        return 0


class Export(BaseSettings):
    """Makes artifacts: trains or re-exports a model, proves it in a fresh process, publishes it."""

    model_config = program_config("python -m export")

    train: CliSubCommand[Train] = Field(description=Train.__doc__)
    publish: CliSubCommand[Publish] = Field(description=Publish.__doc__)
    verify: CliSubCommand[Verify] = Field(description=Verify.__doc__)
    reexport: CliSubCommand[Reexport] = Field(description=Reexport.__doc__)
    report: CliSubCommand[Report] = Field(description=Report.__doc__)


def _check_builder(name: str) -> None:
    """Fails where there is no such builder, before any data are read."""
    with quiet_import():
        import models.builders  # noqa: F401, PLC0415 - it registers ours
        from models.registry import find_builder  # noqa: PLC0415
    find_builder(name)


def _say(line: str) -> None:
    print(line, flush=True)


def _figures(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in metrics.items())


def _say_published(artifact: Artifact) -> None:
    manifest = artifact.manifest
    for name, record in manifest.formats.items():
        _say(f"Proved {name} in a fresh process: the golden answers agree within {record.max_abs_error:.1e}.")
    for name, why in manifest.left_out.items():
        _say(f"Left out {name}: {why}")
    _say(f"Published {manifest.name}@{manifest.version} in {artifact.path}. Serve it: python -m service")


if __name__ == "__main__":
    sys.exit(main(Export))

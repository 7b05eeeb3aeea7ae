"""Re-export: a published version saved anew under today's code, if it still answers as it did."""

from __future__ import annotations

from export.fresh import ProofError
from export.publish import Candidate, publish
from export.report_data import read_data
from models import registry
from models.artifact import Artifact
from models.golden import compare, read_golden
from models.loading import changed_layers, eager, load_model, reason, signature_of
from models.manifest import Change, TrainingRecord
from models.sources import told
from models.store import ArtifactStore


def reexport(
    store: ArtifactStore,
    parent: Artifact,
    *,
    layers: tuple[str, ...] = (),
    formats: tuple[str, ...] = (),
    accept: tuple[Change, ...] = (),
) -> Artifact:
    """Publishes the next version from the weights of `parent`.

    Args:
        store: Where `parent` is, and where the new version goes.
        parent: The version to take.
        layers: Modules, beside `models.layers`, that define the model's custom layers.
        formats: As for `publish`.
        accept: What may differ from the parent; the manifest records it. Where answers do differ, the parent's metrics
            and evaluation are not this version's: they are left out, with a note.

    Raises:
        ArtifactError: a file of the parent is damaged.
        ModelLoadError: the parent does not load under today's code.
        ProofError: it answers its golden rows, or describes itself, otherwise than the parent did.
    """
    parent.verify_files()
    registry.load_plugins(layers)
    manifest = parent.manifest
    model = load_model(parent.format_path("keras"))
    golden = read_golden(parent)
    signature = signature_of(model, manifest.signature.labels)
    if signature != manifest.signature and "signature" not in accept:
        raise ProofError(
            f"Under today's code the signature is {signature} instead of {manifest.signature}. "
            f"{_changed(parent)} If that is meant: --accept signature."
        )
    try:
        outputs = eager(model, signature)(golden.inputs)
    except Exception as error:  # a custom layer may raise anything when it is called
        raise ProofError(_message(parent, (f"{type(error).__name__}: {reason(error)}",))) from error
    comparison = compare(golden.outputs, outputs)
    if comparison.differences and "answers" not in accept:
        raise ProofError(f"{_message(parent, comparison.differences)} If that is meant: --accept answers.")
    candidate = Candidate(
        name=manifest.name,
        model=model,
        golden_inputs=golden.inputs,
        labels=manifest.signature.labels,
        training=_without_metrics(parent) if comparison.differences else manifest.training,
        origin=manifest.origin,
        parent=manifest.version,
        accepted=accept,
        golden_source=manifest.golden_source,
        evaluation=None if comparison.differences else read_data(parent).evaluation,
    )
    return publish(store, candidate, layers=layers, formats=formats)


def _without_metrics(parent: Artifact) -> TrainingRecord | None:
    """How the parent's weights came about, without what was measured of its answers."""
    manifest = parent.manifest
    training = manifest.training
    if training is None or not training.metrics:
        return training
    note = f"The answers are not those of {manifest.name}@{manifest.version}, so its test metrics are left out."
    return training.model_copy(update={"metrics": {}, "notes": (*training.notes, note)})


def _message(parent: Artifact, differences: tuple[str, ...]) -> str:
    manifest = parent.manifest
    return (
        f"Under today's code {manifest.name}@{manifest.version} does not answer as it did: "
        f"{'; '.join(differences).rstrip('.')}. {_changed(parent)}"
    )


def _changed(parent: Artifact) -> str:
    changed = changed_layers(parent.manifest.layers)
    return f"The source of {told(changed)} has changed since." if changed else "No layer's source has changed."

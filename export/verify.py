"""The proof: a fresh Python process reloads what was saved and must find the same model with the same answers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import export.replay
from export.formats import FORMATS, missing_package
from export.fresh import ProofError, run_file, run_module
from export.reload import Answer, Description, Request, Variable
from export.replay import batched_indices
from models.activations import first_difference
from models.artifact import Artifact
from models.golden import TOLERANCE, Comparison, Golden, compare, load_tensors, read_golden, save_tensors, worst
from models.keras_file import config_differences
from models.manifest import LayerRecord, Manifest, Tensors
from models.sources import change_of, told

__all__ = ["Proof", "ProofError", "VerifyReport", "prove", "prove_format", "prove_loads", "verify"]

_MAX_DIFFERENCES = 8


LiveLayers = Callable[[], Tensors]


@dataclass(frozen=True)
class Proof:
    """A passed proof: the largest error in the golden answers, and the custom objects that the model needs."""

    comparison: Comparison
    layers: dict[str, LayerRecord]

    @property
    def max_abs_error(self) -> float:
        """The largest error in any golden answer, at any batch size."""
        return self.comparison.max_abs_error

    def changed_layers(self, manifest: Manifest) -> dict[str, str]:
        """The custom objects whose source is not the one that `manifest` recorded, each with what of it differs."""
        return {
            name: change
            for name, record in self.layers.items()
            if name in manifest.layers and (change := change_of(manifest.layers[name], record)) is not None
        }


@dataclass(frozen=True)
class VerifyReport:
    """A published version proved again: the proof of `keras`, the error of each other format, and what was skipped."""

    proof: Proof
    errors: dict[str, float]
    skipped: dict[str, str]


def prove(
    path: Path, golden: Golden, *, layers: tuple[str, ...], expected: Description, live_layers: LiveLayers | None = None
) -> Proof:
    """Reloads the `.keras` file at `path` in a fresh process and compares it with the live model.

    Args:
        path: The saved model.
        golden: Rows with the live model's answers.
        layers: Modules that define the custom layers.
        expected: What `describe` says of the live model.
        live_layers: What each layer of the live model gives for the rows; asked only to name the layer that differs.

    Raises:
        ProofError: the model does not load, or its signature, configuration, weights or answers differ.
    """
    found, comparison = _reload(path, golden, layers, expected.signature.labels)
    assert found.description is not None  # noqa: S101 - _reload raised otherwise
    differences = [*_differences(expected, found.description), *comparison.differences]
    if comparison.differences and live_layers is not None:
        differences += _first_layer(live_layers(), _activations(path, golden, layers))
    if differences:
        raise ProofError(_message(differences))
    return Proof(comparison, found.layers)


def prove_loads(path: Path, inputs: Tensors, *, layers: tuple[str, ...]) -> None:
    """Loads the `.keras` file at `path` in a fresh process and asks it some rows, whatever it answers.

    Raises:
        ProofError: it does not load or run.
    """
    _ask(path, inputs, (1,), layers=layers, labels=None)


def prove_format(name: str, path: Path, golden: Golden, tolerance: float = TOLERANCE) -> Comparison:
    """Loads a format other than `keras` in a fresh process, by that format's own library, and asks the golden rows.

    Raises:
        ProofError: it does not load, or answers differently.
    """
    comparison = _compare_batches(golden, replay(name, path, golden.inputs, _sizes(golden)), tolerance)
    if comparison.differences:
        raise ProofError("; ".join(comparison.differences))
    return comparison


def replay(name: str, path: Path, inputs: Tensors, sizes: tuple[int, ...]) -> dict[int, Tensors]:
    """What the format at `path` answers in a fresh process, by batch size.

    Raises:
        ProofError: it does not load or run.
    """
    with tempfile.TemporaryDirectory(prefix="layerserve-proof-") as temporary:
        folder = Path(temporary)
        save_tensors(folder / "in.npz", inputs=inputs)
        files = {"model": path.resolve(), "inputs": folder / "in.npz", "outputs": folder / "out.npz"}
        request = {"format": name, "batch_sizes": sizes, **{key: str(file) for key, file in files.items()}}
        (folder / "request.json").write_text(json.dumps(request))
        run_file(Path(export.replay.__file__), folder / "request.json", folder / "answer.json")
        problem = json.loads(_read(folder / "answer.json"))["error"]
        if problem is not None:
            raise ProofError(f"It does not load and run: {problem}")
        return {size: load_tensors(folder / "out.npz", str(size)) for size in sizes}


def verify(artifact: Artifact, *, layers: tuple[str, ...]) -> VerifyReport:
    """Repeats the proof on a published version: checksums, then a fresh process a format against the golden answers.

    Raises:
        ArtifactError: a file is damaged.
        ProofError: a format does not load, or answers differently.
    """
    artifact.verify_files()
    golden = read_golden(artifact)
    proof = _verify_keras(artifact, golden, layers)
    others = [name for name in artifact.manifest.formats if name != "keras"]
    skipped = {name: why for name in others if (why := _not_provable(name))}
    proved = [name for name in others if name not in skipped]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        errors = dict(zip(proved, pool.map(lambda name: _verify_format(artifact, golden, name), proved), strict=True))
    return VerifyReport(proof, errors, skipped)


def _not_provable(name: str) -> str | None:
    return missing_package(name) if name in FORMATS else "This release does not know the format."


def _verify_format(artifact: Artifact, golden: Golden, name: str) -> float:
    tolerance = artifact.manifest.formats[name].tolerance
    try:
        return prove_format(name, artifact.format_path(name), golden, tolerance).max_abs_error
    except ProofError as error:
        raise ProofError(f"The format `{name}` is not as it was published: {error}") from error


def _verify_keras(artifact: Artifact, golden: Golden, layers: tuple[str, ...]) -> Proof:
    manifest = artifact.manifest
    found, comparison = _reload(
        artifact.format_path("keras"), golden, layers, manifest.signature.labels, manifest.formats["keras"].tolerance
    )
    assert found.description is not None  # noqa: S101 - _reload raised otherwise
    differences = list(comparison.differences)
    if found.description.signature != manifest.signature:
        differences.insert(0, "the signature is not the manifest's")
    proof = Proof(comparison, found.layers)
    if differences:
        changed = proof.changed_layers(manifest)
        cause = [f"the source of {told(changed)} is not the one the version was made with"] if changed else []
        raise ProofError(_message(differences + cause))
    return proof


def _reload(
    path: Path,
    golden: Golden,
    layers: tuple[str, ...],
    labels: tuple[str, ...] | None,
    tolerance: float = TOLERANCE,
) -> tuple[Answer, Comparison]:
    sizes = _sizes(golden)
    found, answers = _ask(path, golden.inputs, sizes, layers=layers, labels=labels)
    return found, _compare_batches(golden, answers, tolerance)


def _activations(path: Path, golden: Golden, layers: tuple[str, ...]) -> Tensors:
    """What each layer of the reloaded model gives for all golden rows at once."""
    _, answers = _ask(path, golden.inputs, (golden.rows,), layers=layers, labels=None, of_layers=True)
    return answers[golden.rows]


def _ask(
    path: Path,
    inputs: Tensors,
    sizes: tuple[int, ...],
    *,
    layers: tuple[str, ...],
    labels: tuple[str, ...] | None,
    of_layers: bool = False,
) -> tuple[Answer, dict[int, Tensors]]:
    with tempfile.TemporaryDirectory(prefix="layerserve-proof-") as name:
        folder = Path(name)
        request = Request(
            model=path.resolve(),
            layers=layers,
            labels=labels,
            inputs=folder / "in.npz",
            outputs=folder / "out.npz",
            batch_sizes=sizes,
            of_layers=of_layers,
        )
        save_tensors(request.inputs, inputs=inputs)
        (folder / "request.json").write_text(request.model_dump_json())
        run_module("export.reload", folder / "request.json", folder / "answer.json")
        answer = Answer.model_validate_json(_read(folder / "answer.json"))
        if answer.error is not None:
            raise ProofError(f"A fresh process cannot load and run the saved model. {answer.error}")
        return answer, {size: load_tensors(request.outputs, str(size)) for size in sizes}


def _read(answer: Path) -> bytes:
    if not answer.exists():
        raise ProofError("A fresh process ended on the saved model without an answer: a layer must have ended it.")
    return answer.read_bytes()


def _sizes(golden: Golden) -> tuple[int, ...]:
    """The batch sizes to prove: 1, 3 and all rows, ascending."""
    return tuple(sorted({1, 3, golden.rows}))


def _compare_batches(golden: Golden, answers: dict[int, Tensors], tolerance: float) -> Comparison:
    by_size = {}
    for size, outputs in answers.items():
        indices = batched_indices(golden.rows, size)
        expected = {name: values[indices] for name, values in golden.outputs.items()}
        by_size[size] = compare(expected, outputs, tolerance)
    whole = by_size[golden.rows]
    if whole.differences:
        return whole
    return worst(
        Comparison(
            item.max_abs_error,
            item.max_rel_error,
            tuple(
                f"in batches of {size}, {line}: an answer must not depend on what else is in the batch"
                for line in item.differences
            ),
        )
        for size, item in by_size.items()
    )


def _first_layer(expected: Tensors, found: Tensors) -> list[str]:
    layer = first_difference(expected, found)
    return [f"the first layer that differs is {layer}"] if layer else []


def _differences(expected: Description, found: Description) -> list[str]:
    lines = []
    if expected.signature != found.signature:
        lines.append(f"the signature is {found.signature} instead of {expected.signature}")
    if len(expected.variables) != len(found.variables):
        lines.append(f"there are {len(found.variables)} weights instead of {len(expected.variables)}")
    for number, pair in enumerate(zip(expected.variables, found.variables, strict=False), start=1):
        lines += _weight_differences(f"weight {number}", *pair)
    lines += config_differences(expected.config, found.config, "config")
    return lines


def _weight_differences(weight: str, wanted: Variable, got: Variable) -> Iterator[str]:
    if wanted.name != got.name:
        yield f"{weight} is named `{got.name}` instead of `{wanted.name}`"
    elif (wanted.shape, wanted.dtype) != (got.shape, got.dtype):
        yield f"{weight} `{got.name}` is {got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}"
    elif wanted != got:
        yield f"{weight} `{got.name}` has other values after the reload"


def _message(differences: list[str]) -> str:
    shown = differences[:_MAX_DIFFERENCES]
    if len(differences) > len(shown):
        shown.append(f"and {len(differences) - len(shown)} more")
    return "The saved model is not the one that was trained: " + "; ".join(shown) + "."

"""The proof: a fresh Python process reloads what was saved and must find the same model with the same answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.reload import Answer, Description, Request, Variable
from models.artifact import Artifact, LayerRecord, Manifest, Tensors
from models.golden import Golden, compare, load_tensors, read_golden, save_tensors

_TIMEOUT_SECONDS = 900
_HASH_SEED = "20250417"
_MAX_DIFFERENCES = 8


class ProofError(ValueError):
    """What was saved is not what was trained. The message says what differs."""


@dataclass(frozen=True)
class Proof:
    """A passed proof: the largest error in the golden answers, and the custom objects that the model needs."""

    max_abs_error: float
    layers: dict[str, LayerRecord]

    def changed_layers(self, manifest: Manifest) -> list[str]:
        """The custom objects whose source is not the one that `manifest` recorded."""
        return [name for name, record in self.layers.items() if record != manifest.layers.get(name)]


def prove(path: Path, golden: Golden, *, layers: tuple[str, ...], expected: Description) -> Proof:
    """Reloads the `.keras` file at `path` in a fresh process and compares it with the live model.

    Args:
        path: The saved model.
        golden: Rows with the live model's answers.
        layers: Modules that define the custom layers.
        expected: What `describe` says of the live model.

    Raises:
        ProofError: the model does not load, or its signature, configuration, weights or answers differ.
    """
    found, outputs = _reload(path, golden.inputs, layers, expected.signature.labels)
    comparison = compare(golden.outputs, outputs)
    assert found.description is not None  # noqa: S101 - _reload raised otherwise
    differences = [*_differences(expected, found.description), *comparison.differences]
    if differences:
        raise ProofError(_message(differences))
    return Proof(comparison.max_abs_error, found.layers)


def verify(artifact: Artifact, *, layers: tuple[str, ...]) -> Proof:
    """Repeats the proof on a published version: checksums, then a fresh process against the golden answers.

    Raises:
        ArtifactError: a file is damaged.
        ProofError: the model does not load, or answers differently.
    """
    artifact.verify_files()
    golden = read_golden(artifact)
    manifest = artifact.manifest
    found, outputs = _reload(artifact.format_path("keras"), golden.inputs, layers, manifest.signature.labels)
    comparison = compare(golden.outputs, outputs, manifest.formats["keras"].tolerance)
    assert found.description is not None  # noqa: S101 - _reload raised otherwise
    differences = list(comparison.differences)
    if found.description.signature != manifest.signature:
        differences.insert(0, "the signature is not the manifest's")
    proof = Proof(comparison.max_abs_error, found.layers)
    if differences:
        changed = proof.changed_layers(manifest)
        cause = [f"the source of {', '.join(changed)} is not the one the version was made with"] if changed else []
        raise ProofError(_message(differences + cause))
    return proof


def _reload(
    path: Path, inputs: Tensors, layers: tuple[str, ...], labels: tuple[str, ...] | None
) -> tuple[Answer, Tensors]:
    with tempfile.TemporaryDirectory(prefix="layerserve-proof-") as name:
        folder = Path(name)
        request = Request(
            model=path.resolve(), layers=layers, labels=labels, inputs=folder / "in.npz", outputs=folder / "out.npz"
        )
        save_tensors(request.inputs, inputs=inputs)
        (folder / "request.json").write_text(request.model_dump_json())
        answer = _run(folder / "request.json", folder / "answer.json")
        if answer.error is not None:
            raise ProofError(f"A fresh process cannot load and run the saved model. {answer.error}")
        return answer, load_tensors(request.outputs, "outputs")


def _run(request: Path, answer: Path) -> Answer:
    """Runs `export.reload` in another process, with another hash seed, so that nothing rests on set order."""
    root = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONHASHSEED": _HASH_SEED, "PYTHONPATH": search_path}
    command = [sys.executable, "-m", "export.reload", str(request), str(answer)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ProofError(f"A fresh process did not load the saved model within {_TIMEOUT_SECONDS} s.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProofError(f"A fresh process failed on the saved model: {lines[-1]}")
    if not answer.exists():
        raise ProofError("A fresh process ended on the saved model without an answer: a layer must have ended it.")
    return Answer.model_validate_json(answer.read_bytes())


def _differences(expected: Description, found: Description) -> list[str]:
    lines = []
    if expected.signature != found.signature:
        lines.append(f"the signature is {found.signature} instead of {expected.signature}")
    if len(expected.variables) != len(found.variables):
        lines.append(f"there are {len(found.variables)} weights instead of {len(expected.variables)}")
    for number, pair in enumerate(zip(expected.variables, found.variables, strict=False), start=1):
        lines += _weight_differences(f"weight {number}", *pair)
    lines += _config_differences(expected.config, found.config, "config")
    return lines


def _weight_differences(weight: str, wanted: Variable, got: Variable) -> Iterator[str]:
    if wanted.name != got.name:
        yield f"{weight} is named `{got.name}` instead of `{wanted.name}`"
    elif (wanted.shape, wanted.dtype) != (got.shape, got.dtype):
        yield f"{weight} `{got.name}` is {got.dtype}{got.shape} instead of {wanted.dtype}{wanted.shape}"
    elif wanted != got:
        yield f"{weight} `{got.name}` has other values after the reload"


def _config_differences(expected: Any, found: Any, where: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from _config_differences(expected.get(key), found.get(key), f"{where}.{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, pair in enumerate(zip(expected, found, strict=True)):
            yield from _config_differences(*pair, f"{where}[{index}]")
    elif repr(expected) != repr(found):  # NaN equals NaN here
        yield f"`{where}` is {found!r} instead of {expected!r}"


def _message(differences: list[str]) -> str:
    shown = differences[:_MAX_DIFFERENCES]
    if len(differences) > len(shown):
        shown.append(f"and {len(differences) - len(shown)} more")
    return "The saved model is not the one that was trained: " + "; ".join(shown) + "."

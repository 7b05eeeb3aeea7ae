"""Golden examples: rows with the answers that the trained model gave, kept with every version.

Whoever loads a version, in whatever way, replays them first and serves only if the answers agree.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import Artifact, ArtifactError, Tensors

GOLDEN = "golden.npz"
TOLERANCE = 1e-5
"""Largest error allowed in a golden answer: absolute up to magnitude 1, relative above. The same float32 model on
another machine, or at another batch size, differs by about 1e-6."""


@dataclass(frozen=True)
class Golden:
    """Example rows and the live model's answers to them."""

    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class Comparison:
    """How answers differ from the golden ones: the largest error, and one line for each output that disagrees."""

    max_abs_error: float
    differences: tuple[str, ...]


def write_golden(directory: Path, golden: Golden) -> None:
    """Writes `golden.npz`, the same bytes for the same arrays."""
    save_tensors(directory / GOLDEN, inputs=golden.inputs, outputs=golden.outputs)


def save_tensors(path: Path, **groups: Tensors) -> None:
    """Writes groups of tensors to a `.npz` file, as `group/name`: a tensor may have any name."""
    arrays = {f"{group}/{name}": values for group, tensors in groups.items() for name, values in tensors.items()}
    np.savez(path, allow_pickle=False, **arrays)


def load_tensors(path: Path, group: str) -> Tensors:
    """Reads one group of what `save_tensors` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        prefix = f"{group}/"
        return {name.removeprefix(prefix): arrays[name] for name in arrays.files if name.startswith(prefix)}


def read_golden(artifact: Artifact) -> Golden:
    """Reads the golden examples of a version whose files have been verified.

    Raises:
        ArtifactError: they are not what the signature says.
    """
    path = artifact.path / GOLDEN
    try:
        with zipfile.ZipFile(path):  # NumPy leaves a damaged file open, and takes files of other kinds
            golden = Golden(load_tensors(path, "inputs"), load_tensors(path, "outputs"))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(f"`{GOLDEN}` cannot be read: {type(error).__name__}.") from error
    signature = artifact.manifest.signature
    names = [spec.name for spec in signature.inputs], [spec.name for spec in signature.outputs]
    if (sorted(golden.inputs), sorted(golden.outputs)) != (sorted(names[0]), sorted(names[1])):
        raise ArtifactError(f"`{GOLDEN}` holds other names than the signature.")
    return golden


def compare(expected: Tensors, actual: Tensors, tolerance: float = TOLERANCE) -> Comparison:
    """Compares answers with the expected ones: floats within the tolerance, all else exactly."""
    if expected.keys() != actual.keys():
        line = f"outputs are named {', '.join(sorted(actual))} instead of {', '.join(sorted(expected))}"
        return Comparison(float("inf"), (line,))
    compared = [_compare_array(name, wanted, actual[name], tolerance) for name, wanted in expected.items()]
    return Comparison(max(error for error, _ in compared), tuple(line for _, line in compared if line))


def _compare_array(name: str, wanted: np.ndarray, got: np.ndarray, tolerance: float) -> tuple[float, str | None]:
    if wanted.shape != got.shape or wanted.dtype.kind != got.dtype.kind:
        line = f"output `{name}` is {got.dtype} of shape {got.shape} instead of {wanted.dtype} of shape {wanted.shape}"
        return float("inf"), line
    if wanted.size == 0:
        return 0.0, None
    if wanted.dtype.kind not in "fV":
        different = np.asarray(wanted != got)
        return float(different.any()), f"output `{name}`: {_rows(different)} differ" if different.any() else None
    wide = wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(wide - got.astype(np.float64))
        different = ~(error <= tolerance * np.maximum(1.0, np.abs(wide)))
    largest = float(np.where(np.isnan(error), np.inf, error).max())
    if not different.any():
        return largest, None
    return largest, f"output `{name}`: {_rows(different)} differ by more than {tolerance:g}, at most by {largest:.3g}"


def _rows(different: np.ndarray) -> str:
    rows = np.asarray(different.reshape(len(different), -1).any(axis=1))
    return f"{int(rows.sum())} of {len(rows)} golden rows"

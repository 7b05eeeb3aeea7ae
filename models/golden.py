"""Golden examples: rows with the answers that the trained model gave, kept with every version.

Whoever loads a version, in whatever way, replays them first and serves only if the answers agree.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.artifact import Artifact, ArtifactError
from models.manifest import Tensors

GOLDEN = "golden.npz"
TOLERANCE = 1e-5
"""Largest error allowed in a golden answer: absolute up to magnitude 1, relative above. The same float32 model on
another machine, or at another batch size, differs by about 1e-6."""


@dataclass(frozen=True)
class Golden:
    """Example rows and the live model's answers to them."""

    inputs: Tensors
    outputs: Tensors

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Comparison:
    """How answers differ from the golden ones: the largest errors, and one line for each output that disagrees.

    The relative error is that of answers larger than the tolerance: smaller ones are as good as zero.
    """

    max_abs_error: float
    max_rel_error: float
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


def compare(expected: Tensors, actual: Tensors, tolerance: float = TOLERANCE, *, equal_nan: bool = False) -> Comparison:
    """Compares answers with the expected ones: floats within the tolerance, all else exactly.

    NaN and the infinities differ from everything; with `equal_nan` each is equal to itself.
    """
    if expected.keys() != actual.keys():
        line = f"outputs are named {', '.join(sorted(actual))} instead of {', '.join(sorted(expected))}"
        return Comparison(float("inf"), float("inf"), (line,))
    return worst(_compare_array(name, wanted, actual[name], tolerance, equal_nan) for name, wanted in expected.items())


def worst(comparisons: Iterable[Comparison]) -> Comparison:
    """Several comparisons as one: the largest errors and all the lines. Needs one at least."""
    known = list(comparisons)
    return Comparison(
        max(item.max_abs_error for item in known),
        max(item.max_rel_error for item in known),
        tuple(line for item in known for line in item.differences),
    )


def _compare_array(name: str, wanted: np.ndarray, got: np.ndarray, tolerance: float, equal_nan: bool) -> Comparison:
    if wanted.shape != got.shape or wanted.dtype.kind != got.dtype.kind:
        line = f"output `{name}` is {got.dtype} of shape {got.shape} instead of {wanted.dtype} of shape {wanted.shape}"
        return Comparison(float("inf"), float("inf"), (line,))
    if wanted.size == 0:
        return Comparison(0.0, 0.0, ())
    if wanted.dtype.kind not in "fV":
        different = np.asarray(wanted != got)
        error = float(different.any())
        return Comparison(error, error, (f"output `{name}`: {_rows(different)} differ",) if error else ())
    old, new = wanted.astype(np.float64), got.astype(np.float64)
    if equal_nan:
        same = ~np.isfinite(old) & ((old == new) | (np.isnan(old) & np.isnan(new)))
        old, new = np.where(same, 0.0, old), np.where(same, 0.0, new)
    wide = np.abs(old)
    with np.errstate(invalid="ignore"):
        errors = np.abs(old - new)
        different = ~(np.isfinite(errors) & (errors <= tolerance * np.maximum(1.0, wide)))
        relative = errors / np.where(wide > tolerance, wide, np.inf)
    largest, largest_relative = _largest(errors), _largest(relative)
    if not different.any():
        return Comparison(largest, largest_relative, ())
    line = f"output `{name}`: {_rows(different)} differ by more than {tolerance:g}, at most by {largest:.3g}"
    return Comparison(largest, largest_relative, (line,))


def _largest(errors: np.ndarray) -> float:
    return float(np.where(np.isnan(errors), np.inf, errors).max())


def _rows(different: np.ndarray) -> str:
    rows = np.asarray(different.reshape(len(different), -1).any(axis=1))
    return f"{int(rows.sum())} of {len(rows)} golden rows"

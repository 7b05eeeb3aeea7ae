"""The artifact: one published version of a model, as it lies on disk.

A version's folder holds `manifest.json`, its checksum `manifest.sha256` (as `sha256sum -c` reads it), `golden.npz`
and the model in one or more formats. The manifest lists every other file with size and SHA-256, so that any
changed byte, missing file or stranger in the folder is found before a model is parsed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

Tensors = dict[str, np.ndarray]
"""Named arrays that share axis 0, the rows. Strings are NumPy's `str_` (kind U)."""

MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"

ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$")]
Version = Annotated[int, Field(ge=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DType = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "string",
]  # fmt: skip


ColumnType = Literal["number", "category", "boolean", "date"]
Task = Literal["classification", "regression"]
Change = Literal["answers", "signature"]
"""What a re-export may change if it is told to."""


def null_of(dtype: DType) -> float | int | str:
    """What stands for a missing value: NaN, the empty string, or the smallest integer.

    NumPy's `bool` has no room for one: a boolean with missing values is `int8`, with 1 for true and 0 for false.
    """
    if dtype == "string":
        return ""
    return float("nan") if dtype.startswith("float") else int(np.iinfo(dtype).min)


def dtype_name(values: np.ndarray) -> str:
    """What a `TensorSpec` calls the dtype of an array."""
    return "string" if values.dtype.kind == "U" else values.dtype.name


class ArtifactError(ValueError):
    """A version on disk is damaged or incomplete. The message names no path outside the version's folder."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorSpec(_Record):
    """Name, dtype and shape of one input or output. Axis 0 is the rows and always None; None elsewhere is any size.

    A `nullable` input takes missing values, written as `null_of` its dtype.
    """

    name: str = Field(min_length=1)
    dtype: DType
    shape: tuple[int | None, ...] = Field(min_length=1)
    nullable: bool = False

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of its arrays; that of strings has no length."""
        return np.dtype(np.str_ if self.dtype == "string" else self.dtype)


class Signature(_Record):
    """What a model takes and gives. `labels` names the classes of a classifier, in the order of its probabilities."""

    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1)
    labels: tuple[str, ...] | None = None


class FileRecord(_Record):
    """Checksum and size in bytes of one file."""

    sha256: Sha256
    size: int = Field(ge=0)


class FormatRecord(_Record):
    """One way the model is stored, with the largest errors that the proof measured against the live model.

    The relative error is that of answers larger than the tolerance.
    """

    path: str
    max_abs_error: float = Field(ge=0)
    max_rel_error: float | None = Field(None, ge=0)
    tolerance: float = Field(gt=0)


class LayerRecord(_Record):
    """Where a custom layer came from when the version was made."""

    module: str
    source_sha256: Sha256 | None


class Certificate(_Record):
    """What a server must know before it joins the rows of several callers, as measured on golden rows.

    The tolerance is a share of the largest answer: the batch size changes the last bits (6e-7 were seen for one layer),
    while a row that depends on its neighbours moves by far more.
    """

    batch_safe: bool = Field(description="Each row's answer is independent of its neighbours, its place and padding.")
    deterministic: bool = Field(description="The same rows get the same answer twice.")
    finite: bool = Field(description="No answer holds NaN or infinity.")
    rows: int = Field(description="How many golden rows were measured.", ge=0)
    tolerance: float = Field(default=1e-5, description="Largest difference taken for equal, relative to the answers.")
    reasons: tuple[str, ...] = Field(default=(), description="The evidence for each property that does not hold.")


class VariableRecord(_Record):
    """A weight; `name` is its path through the layers."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class OriginRecord(_Record):
    """The files that a model trained elsewhere came in, and in words what of them was taken for something of ours."""

    kind: Literal["keras", "h5", "json"]
    files: dict[str, Sha256]
    mapped: tuple[str, ...] = ()


class DatasetRecord(_Record):
    """What the model was trained on; `rows` counts training, validation and test rows together."""

    name: str
    sha256: Sha256
    rows: int = Field(ge=1)


class ColumnRecord(_Record):
    """A column of the table that the model was trained on; `minimum`, `maximum` and `mean` over the training rows.

    `header` is what the file calls it, where that cannot be an input's name. A date's figures are days since 1970;
    `categories` counts those that the model knows, and `missing` the empty cells of all rows. A column of arrays has
    the figures of all its numbers together.
    """

    name: str
    header: str
    type: ColumnType
    missing: int = Field(ge=0)
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    categories: int | None = None


class TrainingRecord(_Record):
    """How the weights came about, where we trained them. `history` has a figure for each epoch."""

    config: dict[str, Any]
    dataset: DatasetRecord
    seed: int
    metrics: dict[str, float]
    task: Task | None = None
    target: str | None = None
    columns: tuple[ColumnRecord, ...] = ()
    history: dict[str, tuple[float, ...]] = {}
    notes: tuple[str, ...] = ()


class Manifest(_Record):
    """All that is known of a version.

    `left_out` says of each format that was wanted why it is not there. `parent` is the version that a re-export took
    the weights from, `accepted` what may differ from it. `golden_source` says whether the golden rows were given or
    drawn from the signature.
    """

    schema_version: Literal[1] = 1
    name: ModelName
    version: Version
    created_at: datetime
    signature: Signature
    formats: dict[str, FormatRecord] = Field(min_length=1)
    left_out: dict[str, str] = {}
    files: dict[str, FileRecord]
    training: TrainingRecord | None = None
    origin: OriginRecord | None = None
    parent: Version | None = None
    accepted: tuple[Change, ...] = ()
    layers: dict[str, LayerRecord]
    variables: tuple[VariableRecord, ...] = ()
    golden_source: Literal["given", "drawn"] = "given"
    environment: dict[str, str]
    certificate: Certificate | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics on held-out rows; empty for a model that was trained elsewhere."""
        return self.training.metrics if self.training else {}


@dataclass(frozen=True)
class Artifact:
    """A version whose manifest has been read and checked against its checksum."""

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: Path) -> Artifact:
        """Reads the manifest of the version in `path`.

        Raises:
            ArtifactError: the manifest or its checksum is missing, does not match, or is not a manifest.
        """
        try:
            content, checksum = (path / MANIFEST).read_bytes(), (path / CHECKSUM).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactError(f"`{Path(error.filename).name}` is missing: this is not a whole version.") from error
        digest = hashlib.sha256(content).hexdigest()
        if checksum != _checksum_line(digest):
            raise ArtifactError(f"`{MANIFEST}` is damaged: its SHA-256 is {digest}, `{CHECKSUM}` says otherwise.")
        try:
            return cls(path, Manifest.model_validate_json(content), digest)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ArtifactError(f"`{MANIFEST}` is not a manifest of this release: {field}: {first['msg']}.") from error

    @property
    def size_bytes(self) -> int:
        """Size of the files that the manifest lists."""
        return sum(record.size for record in self.manifest.files.values())

    def format_path(self, name: str) -> Path:
        """Where the model lies in the format `name`, such as `keras`.

        Raises:
            ArtifactError: the version has no such format, or the manifest gives no checksum of it.
        """
        record = self.manifest.formats.get(name)
        if record is None:
            raise ArtifactError(f"The version has no format `{name}`. It has: {', '.join(self.manifest.formats)}.")
        if record.path not in self.manifest.files:
            raise ArtifactError(f"The format `{name}` is in `{record.path}`, which is not among the manifest's files.")
        return self.path / record.path

    def verify_files(self) -> None:
        """Compares every file of the folder with the manifest.

        Raises:
            ArtifactError: a file is missing, differs, is not a plain file, or is not in the manifest.
        """
        present = file_paths(self.path)
        for name in sorted(present.keys() | self.manifest.files.keys()):
            record = self.manifest.files.get(name)
            if record is None:
                raise ArtifactError(f"`{name}` is not in the manifest. Remove it: a version never changes.")
            if name not in present:
                raise ArtifactError(f"`{name}` is missing, the manifest lists it.")
            found = file_record(present[name])
            if found != record:
                raise ArtifactError(
                    f"`{name}` is damaged: it has {found.size} bytes and SHA-256 {found.sha256}, "
                    f"the manifest says {record.size} bytes and {record.sha256}."
                )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes the manifest and its checksum."""
    content = manifest.model_dump_json(indent=2).encode() + b"\n"
    (directory / MANIFEST).write_bytes(content)
    (directory / CHECKSUM).write_bytes(_checksum_line(hashlib.sha256(content).hexdigest()))


def file_paths(directory: Path) -> dict[str, Path]:
    """Every file below `directory` but the manifest and its checksum, by its name relative to it.

    Raises:
        ArtifactError: something is neither a plain file nor a folder.
    """
    found: dict[str, Path] = {}
    for folder, folders, files in os.walk(directory):
        for entry in (Path(folder, name) for name in [*folders, *files]):
            name = entry.relative_to(directory).as_posix()
            if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
                raise ArtifactError(f"`{name}` is not a plain file.")
            if entry.is_file() and name not in (MANIFEST, CHECKSUM):
                found[name] = entry
    return found


def file_record(path: Path) -> FileRecord:
    """Checksum and size of a file, read once."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileRecord(sha256=digest, size=file.tell())


def _checksum_line(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode()

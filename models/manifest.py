"""The manifest: all that is known of a version, as records that are read from disk and checked.

These are also the terms in which a model's inputs and outputs are spoken of everywhere else.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Tensors = dict[str, np.ndarray]
"""Named arrays that share axis 0, the rows. Strings are NumPy's `str_` (kind U)."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_LETTERS = "at most 100 letters of A to Z, digits, `_`, `-` and `.`"


def _check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"A name is {_LETTERS}, and begins with no dot. Received: {text!r}.")
    return text


def _check_label(text: str) -> str:
    if not _NAME.fullmatch(text) or not text[0].isalpha():
        raise ValueError(f"A label is {_LETTERS}, and begins with a letter. Received: {text!r}.")
    return text


ModelName = Annotated[str, AfterValidator(_check_name)]
Version = Annotated[int, Field(ge=1)]
VersionLabel = Annotated[str, AfterValidator(_check_label)]
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
    """Where a custom layer came from when the version was made: hashes of its source, and of each of its methods."""

    module: str
    source_sha256: Sha256 | None
    methods: dict[str, Sha256] = {}


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

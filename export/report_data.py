"""What a version's report shows beyond the manifest, as it is kept beside the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from models.artifact import Artifact, ArtifactError

PAGE = "report/index.html"
DATA = "report/data.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorstRow(_Record):
    """A row that the model got wrong, or was least sure of. `target` and `answer` are labels, or numbers.

    Attributes:
        inputs: By name, null where missing; an array as nested lists, absent where it is too large.
        true_probability, probability: Of the true class and of the answer, in a classification.
    """

    inputs: dict[str, JsonValue]
    target: str | float | None
    answer: str | float | None
    true_probability: float | None = None
    probability: float | None = None


class CalibrationBin(_Record):
    """The rows whose answer had about the same probability: how many, its mean, and the share that was right."""

    rows: int
    confidence: float
    accuracy: float


class Classification(_Record):
    """How a classifier did. The tuples of counts have an entry for each class, in the order of the labels.

    Attributes:
        support: Rows of the class.
        predicted: Rows that were taken for the class.
        correct: Rows of the class that were taken for it.
        confusions: Class, what it was taken for, in how many rows; the most frequent first, 900 at most.
        calibration: By the probability of the answer, from the least sure; without empty bins.
        worst: The rows whose true class got the lowest probability.
    """

    support: tuple[int, ...]
    predicted: tuple[int, ...]
    correct: tuple[int, ...]
    confusions: tuple[tuple[int, int, int], ...]
    calibration: tuple[CalibrationBin, ...]
    worst: tuple[WorstRow, ...]

    @property
    def calibration_error(self) -> float:
        """How far probabilities are from the share that was right, on average over the rows (ECE; Guo et al., 2017)."""
        rows = sum(item.rows for item in self.calibration)
        return sum(item.rows * abs(item.accuracy - item.confidence) for item in self.calibration) / max(rows, 1)


class Regression(_Record):
    """How a regression did: targets and answers of some rows drawn at random, and the rows with the largest errors."""

    targets: tuple[float, ...]
    answers: tuple[float, ...]
    worst: tuple[WorstRow, ...]


class Evaluation(_Record):
    """What was found on `rows` held-out rows."""

    rows: int
    found: Classification | Regression


class LayerSummary(_Record):
    """A layer: its name behind those of the models around it, its class, output shapes and number of weights."""

    name: str
    kind: str
    output: str
    parameters: int
    is_custom: bool


class ReportData(_Record):
    """What the page is made of, beside the manifest. A version without held-out rows has no evaluation."""

    schema_version: Literal[1] = 1
    layers: tuple[LayerSummary, ...] = ()
    evaluation: Evaluation | None = None


def write_data(directory: Path, data: ReportData) -> None:
    """Writes the data below a version's folder."""
    (directory / DATA).parent.mkdir(exist_ok=True)
    (directory / DATA).write_text(data.model_dump_json() + "\n", encoding="utf-8")


def read_data(artifact: Artifact) -> ReportData:
    """Reads the data of a version whose files have been verified; versions of earlier releases have none.

    Raises:
        ArtifactError: they are not what this release writes.
    """
    if DATA not in artifact.manifest.files:
        return ReportData()
    try:
        return ReportData.model_validate_json((artifact.path / DATA).read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            f"`{DATA}` is not the data of a report of this release: {error.errors()[0]['msg']}."
        ) from error

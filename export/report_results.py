"""The report's part on held-out rows: what the model gets right, how sure it is, and where it goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import JsonValue

from export import figures
from export.page import Html, element, folded, joined, paragraph, percent, section, table
from export.report_data import Classification, Evaluation, Regression, WorstRow
from models.manifest import Manifest

_MAX_CLASSES_DRAWN = 30
_MAX_CLASSES_SHOWN = 40
_MAX_PAIRS = 20
_MAX_COLUMNS = 30
_MIN_SIDE = 5
_MAX_TEXT = 60


def results(manifest: Manifest, evaluation: Evaluation) -> Html:
    """The section on the held-out rows."""
    found = evaluation.found
    told = f"From {evaluation.rows:,} rows that neither the training nor its early stopping saw."
    if isinstance(found, Regression):
        target = manifest.training.target if manifest.training and manifest.training.target else "value"
        return section("results", "On held-out rows", paragraph(told), *_regression(found, evaluation.rows, target))
    labels = manifest.signature.labels or tuple(str(index) for index in range(len(found.support)))
    right = f" The answer was right for {sum(found.correct):,} of them."
    return section("results", "On held-out rows", paragraph(told + right), *_classification(found, labels))


def _classification(found: Classification, labels: Sequence[str]) -> list[Html]:
    return [
        *_confusion(found, labels),
        element("h3", "By class"),
        _by_class(found, labels),
        element("h3", "Is it as sure as it is right?"),
        paragraph(
            "Rows whose answer had about the same probability are taken together: where the model says 0.9, nine "
            f"of ten answers should be right. On average over the rows, it is off by {found.calibration_error:.3f} "
            "(expected calibration error)."
        ),
        _calibration(found),
        element("h3", "Most wrong"),
        paragraph("The rows whose true class got the lowest probability."),
        _worst(found.worst, is_classification=True),
    ]


def _confusion(found: Classification, labels: Sequence[str]) -> list[Html]:
    pairs = table(
        ("class", "taken for", "rows", "of the class"),
        [
            (labels[true], labels[taken], rows, percent(rows / max(found.support[true], 1)))
            for true, taken, rows in found.confusions[:_MAX_PAIRS]
        ],
    )
    if len(labels) > _MAX_CLASSES_DRAWN:
        return [element("h3", "Most often confused"), pairs if found.confusions else paragraph("No row.")]
    counts = np.diag(np.array(found.correct, dtype=np.int64))
    for true, taken, rows in found.confusions:
        counts[true, taken] = rows
    plot = element("figure", Html(figures.confusion(labels, counts)))
    told = paragraph("A line is a class, a column what its rows were taken for; the shade is the share of the class.")
    return [
        element("h3", "Confusion matrix"),
        told,
        element("div", plot, pairs if found.confusions else paragraph("No row was confused."), style="plots"),
    ]


def _by_class(found: Classification, labels: Sequence[str]) -> Html:
    rows = []
    for label, support, predicted, correct in zip(labels, found.support, found.predicted, found.correct, strict=True):
        precision = percent(correct / predicted) if predicted else ""
        recall = percent(correct / support) if support else ""
        score = percent(2 * correct / (support + predicted)) if support + predicted else ""
        rows.append((label, precision, recall, score, support))
    title = f"Show {len(labels)} classes"
    content = table(("class", "precision", "recall", "F1", "rows"), rows)
    return folded(title, content, is_folded=len(labels) > _MAX_CLASSES_SHOWN)


def _calibration(found: Classification) -> Html:
    bins = found.calibration
    plot = figures.reliability(
        [item.confidence for item in bins], [item.accuracy for item in bins], [item.rows for item in bins]
    )
    rows = [(percent(item.confidence), percent(item.accuracy), item.rows) for item in bins]
    return element("div", element("figure", Html(plot)), table(("probability", "right", "rows"), rows), style="plots")


def _regression(found: Regression, rows: int, target: str) -> list[Html]:
    parts = []
    if found.targets:
        errors = [answer - true for true, answer in zip(found.targets, found.answers, strict=True)]
        if rows > len(errors):
            parts.append(paragraph(f"The plots show {len(errors):,} of the rows, drawn at random."))
        plots = figures.predictions(found.targets, found.answers, target), figures.residuals(errors)
        parts.append(element("div", *(element("figure", Html(plot)) for plot in plots), style="plots"))
    return [
        *parts,
        element("h3", "Most wrong"),
        paragraph("The rows with the largest errors."),
        _worst(found.worst, is_classification=False),
    ]


def _worst(rows: Sequence[WorstRow], *, is_classification: bool) -> Html:
    names = list(rows[0].inputs) if rows else []
    pictures = [_picture(row.inputs[name]) for row in rows for name in names]
    if len(names) == 1 and all(pictures):
        cards = (
            element("div", picture, paragraph(*_verdict(row, is_classification)), style="card")
            for row, picture in zip(rows, pictures, strict=True)
        )
        return element("div", *cards, style="cards")
    shown = names[:_MAX_COLUMNS]
    given = (
        ("true", "answer", "its probability", "of the true class") if is_classification else ("true", "answer", "error")
    )
    content = table(
        (*given, *shown),
        [(*_figures(row, is_classification), *(_cell(row.inputs[name]) for name in shown)) for row in rows],
        style="uncut",
    )
    if rows and not names:
        return joined(content, paragraph("Their values are too many to be shown.", style="soft"))
    if len(names) == len(shown):
        return content
    return joined(content, paragraph(f"The first {len(shown)} of {len(names)} columns.", style="soft"))


def _verdict(row: WorstRow, is_classification: bool) -> list[object]:
    if not is_classification:
        return ["is ", row.target, ", answer ", row.answer]
    if row.target == row.answer:
        return ["is ", row.target, ", found with ", _probability(row.probability)]
    answer = element("span", row.answer, style="wrong")
    return ["is ", row.target, f" ({_probability(row.true_probability)}), taken for ", answer,
            f" ({_probability(row.probability)})"]  # fmt: skip


def _figures(row: WorstRow, is_classification: bool) -> tuple[object, ...]:
    if is_classification:
        answer = row.answer if row.answer == row.target else element("span", row.answer, style="wrong")
        return row.target, answer, row.probability, row.true_probability
    is_known = isinstance(row.answer, float) and isinstance(row.target, float)
    return row.target, row.answer, row.answer - row.target if is_known else None  # type: ignore[operator] # both float


def _probability(value: float | None) -> str:
    return "no number" if value is None else f"{value:.2g}"


def _cell(value: JsonValue) -> object:
    if isinstance(value, list):
        return _picture(value) or _shortened(", ".join(map(str, value)))
    if isinstance(value, str):
        return _shortened(value)
    if value is None:
        return element("span", "missing", style="soft")
    return str(value) if type(value) is int else value  # a category, such as a postal code


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def _picture(value: JsonValue) -> Html | None:
    """A row's value drawn, where it is a picture: a square number of grays, a table of them, or of colours."""
    if not isinstance(value, list):
        return None
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):  # strings
        return None
    side = math.isqrt(array.size)
    if array.ndim == 1 and side**2 == array.size:
        array = array.reshape(side, side)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[-1] != 3) or min(array.shape[:2]) < _MIN_SIDE:
        return None
    return Html(f'<img alt="" src="{figures.picture(array)}">')

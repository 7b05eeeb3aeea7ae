"""The report of a version: one page that says how good the model is, what it was made of, and what was proved."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from export import figures
from export.page import Html, document, element, folded, joined, paragraph, percent, section, table, text
from export.report_data import PAGE, Classification, ReportData
from export.report_results import results
from models.artifact import file_record
from models.manifest import ColumnRecord, Manifest, TensorSpec, TrainingRecord

_MAX_ROWS_SHOWN = 40


def render(manifest: Manifest, data: ReportData) -> str:
    """The page of a version."""
    return _page(manifest, _body(manifest, data))


def prepare(directory: Path, manifest: Manifest, data: ReportData) -> Callable[[Manifest], Manifest]:
    """Makes all of the page but the number of the version, which is not known yet.

    Returns:
        A function that takes the numbered manifest, writes the page below `directory` and adds its checksum.
    """
    body = _body(manifest, data)

    def write(numbered: Manifest) -> Manifest:
        path = directory / PAGE
        path.parent.mkdir(exist_ok=True)
        path.write_text(_page(numbered, body), encoding="utf-8")
        return numbered.model_copy(update={"files": {**numbered.files, PAGE: file_record(path)}})

    return write


def _page(manifest: Manifest, body: Html) -> str:
    name = element("h1", manifest.name, element("span", f"@{manifest.version}"))
    return document(f"{manifest.name}@{manifest.version}", name, body)


def _body(manifest: Manifest, data: ReportData) -> Html:
    training, evaluation = manifest.training, data.evaluation
    sections = {
        "Results": results(manifest, evaluation) if evaluation else "",
        "Training": _curves(training) if training else "",
        "Data": _data(training) if training else "",
        "Model": _model(manifest, data),
        "Proof": _proof(manifest),
        "Provenance": _provenance(manifest),
    }
    links = (Html(f'<a href="#{name.lower()}">{name}</a>') for name, content in sections.items() if content)
    return joined(
        paragraph(_subtitle(manifest), style="soft"),
        *_carried_over(manifest),
        _tiles(manifest, data),
        element("nav", *links),
        *sections.values(),
    )


def _subtitle(manifest: Manifest) -> str:
    made = f"{manifest.created_at:%Y-%m-%d %H:%M} UTC"
    training = manifest.training
    if training is None:
        return f"Trained elsewhere, published {made}"
    what = f"{training.task.capitalize()} of {training.target}, " if training.task and training.target else ""
    return f"{what}trained on {training.dataset.name} ({training.dataset.rows:,} rows), published {made}"


def _carried_over(manifest: Manifest) -> list[Html]:
    if manifest.parent is None:
        return []
    parent = f"{manifest.name}@{manifest.parent}"
    if manifest.metrics:
        return [paragraph(f"Saved anew from {parent}; what is said of held-out rows was measured then.")]
    changed = " Answers were allowed to change." if "answers" in manifest.accepted else ""
    return [paragraph(f"Saved anew from {parent}.{changed} No metrics on held-out rows are known of this version.")]


def _tiles(manifest: Manifest, data: ReportData) -> Html:
    """The metrics, each beside that of the baseline where there is one."""
    metrics = {name.removeprefix("test_"): value for name, value in manifest.metrics.items()}
    always = "the mean" if manifest.training and manifest.training.task == "regression" else "the most frequent class"
    tiles = []
    for name, value in metrics.items():
        if name.startswith("baseline_"):
            continue
        baseline = metrics.get(f"baseline_{name}")
        beside = "" if baseline is None else f"{_metric(name, baseline)} by always answering {always}"
        tiles.append(_tile(name.replace("_", " "), _metric(name, value), beside))
    found = data.evaluation.found if data.evaluation else None
    if isinstance(found, Classification):
        tiles.append(_tile("calibration error", f"{found.calibration_error:.3f}", "probability and share right differ"))
    return element("div", *tiles, style="tiles") if tiles else Html("")


def _tile(name: str, value: str, beside: str) -> Html:
    shown = name.upper() if name in {"rmse", "mae"} else {"r2": "R²"}.get(name, name)
    return element("div", element("small", shown), element("b", value), element("small", beside), style="tile")


def _metric(name: str, value: float) -> str:
    return percent(value) if name == "accuracy" else text(value)


def _curves(training: TrainingRecord) -> Html:
    history = training.history
    if not history.get("loss"):
        return Html("")
    watched = history.get("validation_loss") or history.get("validation_rmse")
    best = int(np.argmin(watched)) + 1 if watched else None
    losses = {"training": history["loss"], "validation": history.get("validation_loss", ())}
    plots = [figures.curves("loss", {name: values for name, values in losses.items() if values}, best)]
    for name, title in (("accuracy", "accuracy"), ("rmse", "RMSE")):
        if history.get(f"validation_{name}"):
            plots.append(figures.curves(title, {"validation": history[f"validation_{name}"]}, best))
    told = f"{len(history['loss'])} epochs" + (f"; the weights are those after epoch {best}." if best else ".")
    plot = element("div", *(element("figure", Html(plot)) for plot in plots), style="plots")
    return section("training", "Training", paragraph(told), plot)


def _data(training: TrainingRecord) -> Html:
    notes = _listed(training.notes)
    headers = ("column", "type", "missing", "smallest", "largest", "mean", "known categories")
    if not training.columns:
        return section("data", "Data", notes) if notes else notes
    columns = table(headers, map(_column, training.columns))
    told = paragraph("Figures of the training rows; missing cells of all rows.")
    return section("data", "Data", notes, told, _folded("columns", columns, len(training.columns)))


def _column(column: ColumnRecord) -> tuple[object, ...]:
    name = column.name if column.name == column.header else joined(column.name, " (", column.header, ")")
    ends: tuple[object, ...] = column.minimum, column.maximum, column.mean
    if column.type == "date":
        ends = tuple(None if days is None else _day(days) for days in (column.minimum, column.maximum, column.mean))
    return name, column.type, column.missing, *ends, column.categories


def _day(days: float) -> str:
    return str(np.datetime64(round(days), "D"))


def _model(manifest: Manifest, data: ReportData) -> Html:
    signature = manifest.signature
    rows = [("takes", *_tensor(spec)) for spec in signature.inputs] + [
        ("gives", *_tensor(spec)) for spec in signature.outputs
    ]
    parameters = sum(int(np.prod(variable.shape)) for variable in manifest.variables)
    tensors = table(("", "name", "dtype", "shape", ""), rows)
    layers = table(
        ("layer", "class", "output", "parameters"),
        [
            (layer.name, joined(layer.kind, " (custom)" if layer.is_custom else ""), layer.output, layer.parameters)
            for layer in data.layers
        ],
    )
    return section(
        "model",
        "Model",
        paragraph(f"{parameters:,} parameters. In a shape, * is any size; the first is the number of rows."),
        _folded("inputs and outputs", tensors, len(rows)),
        *([element("h3", "Layers"), _folded("layers", layers, len(data.layers))] if data.layers else []),
    )


def _tensor(spec: TensorSpec) -> tuple[object, ...]:
    shape = ", ".join("*" if size is None else str(size) for size in spec.shape)
    return spec.name, spec.dtype, f"({shape})", "may be missing" if spec.nullable else ""


def _proof(manifest: Manifest) -> Html:
    formats = [
        (name, record.path, f"{record.max_abs_error:.1e}",
         "" if record.max_rel_error is None else f"{record.max_rel_error:.1e}", f"{record.tolerance:.0e}")
        for name, record in manifest.formats.items()
    ]  # fmt: skip
    rows = "were given" if manifest.golden_source == "given" else "were drawn from the signature"
    left_out = [element("h3", "Left out"), table(("format", "reason"), manifest.left_out.items())]
    return section(
        "proof",
        "Proof",
        paragraph(
            "Each format was loaded in a fresh process and asked the golden rows: one by one, in threes, all at once. "
            f"The errors are the largest that any answer had against the trained model's. The golden rows {rows}."
        ),
        table(("format", "file", "absolute error", "relative error", "tolerance"), formats),
        *(left_out if manifest.left_out else []),
        *_certificate(manifest),
    )


def _certificate(manifest: Manifest) -> list[Html]:
    certificate = manifest.certificate
    if certificate is None:
        return []
    same = f"The same rows {'get' if certificate.deterministic else 'do not always get'} the same answers twice."
    alone = (
        "A row's answer does not depend on its neighbours, its place or padding: callers may share a batch."
        if certificate.batch_safe
        else "A row's answer may depend on its neighbours, its place or padding: callers must not share a batch."
    )
    finite = "No answer is NaN or infinite." if certificate.finite else "Some answers are NaN or infinite."
    measured = f"Measured on {certificate.rows} golden rows, within {certificate.tolerance:.0e} of the largest answer."
    told = [element("h3", "Certificate"), paragraph(f"{same} {alone} {finite} {measured}")]
    return [*told, _listed(certificate.reasons)]


def _provenance(manifest: Manifest) -> Html:
    facts: list[tuple[object, object]] = [("published", f"{manifest.created_at:%Y-%m-%d %H:%M:%S} UTC")]
    if manifest.parent is not None:
        accepted = f", accepting changed {' and '.join(manifest.accepted)}" if manifest.accepted else ""
        facts.append(("parent", f"{manifest.name}@{manifest.parent}{accepted}"))
    if manifest.training:
        dataset = manifest.training.dataset
        facts += [("data", f"{dataset.name}, {dataset.rows:,} rows"), ("SHA-256 of the data", _code(dataset.sha256))]
        facts.append(("seed", str(manifest.training.seed)))
    if manifest.origin:
        facts += [(f"SHA-256 of {name}", _code(digest)) for name, digest in manifest.origin.files.items()]
        facts += [("mapped", line) for line in manifest.origin.mapped]
    facts += [(name, version) for name, version in manifest.environment.items()]
    config = manifest.training.config if manifest.training else {}
    layers = [(name, record.module, _code(record.source_sha256)) for name, record in manifest.layers.items()]
    parts = [table(("", ""), facts, style="narrow")]
    if config:
        parts += [element("h3", "Configuration"), table(("", ""), map(_setting, config.items()), style="narrow")]
    if layers:
        parts += [element("h3", "Custom layers"), table(("layer", "module", "SHA-256 of its source"), layers)]
    return section("provenance", "Provenance", *parts)


def _folded(what: str, content: Html, rows: int) -> Html:
    return folded(f"Show {rows} {what}", content, is_folded=rows > _MAX_ROWS_SHOWN)


def _listed(lines: Iterable[str]) -> Html:
    items = [element("li", line) for line in lines]
    return element("ul", *items) if items else Html("")


def _setting(item: tuple[str, object]) -> tuple[str, str]:
    name, value = item
    return name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _code(value: str | None) -> Html:
    return element("code", value or "unknown")

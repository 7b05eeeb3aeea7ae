"""The formats beside `keras`: each is written, proved in its own fresh process, and kept only if it agrees."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras

from export.convert import CONVERTERS, Answer, Request
from export.formats import FORMATS, missing_package
from export.fresh import ProofError, run_module
from export.saved_model import argument_names, write_saved_model
from export.verify import prove_format, replay
from models.activations import activations_of, first_difference
from models.golden import TOLERANCE, Comparison, Golden
from models.loading import inference, reason, run_with_arrays
from models.manifest import FormatRecord, Signature


@dataclass(frozen=True)
class Made:
    """Which formats were made, and why the others were not."""

    records: dict[str, FormatRecord]
    left_out: dict[str, str]


def make_formats(
    model: keras.Model, signature: Signature, golden: Golden, directory: Path, names: tuple[str, ...]
) -> Made:
    """Writes each of the formats `names` into `directory`, if it can be written and answers the golden rows.

    All of them come from one SavedModel, which needs none of the layers' code.

    Raises:
        OSError: the disk is full or read-only.
    """
    records: dict[str, FormatRecord] = {}
    left_out = {name: missing for name in names if (missing := missing_package(name))}
    wanted = [name for name in names if name not in left_out]
    with tempfile.TemporaryDirectory(dir=directory, prefix="making-") as temporary:
        folder = Path(temporary)
        problems = _write(model, signature, folder, wanted)
        for name in wanted:
            path = folder / name / FORMATS[name].path
            if (problem := problems.get(name)) is not None:
                _raise_if_nothing_can_be_written(problem)
                left_out[name] = _without_paths(f"It cannot be written. {problem}", folder)
                continue
            try:
                comparison = prove_format(name, path, golden)
            except ProofError as error:
                left_out[name] = _shortened(_without_paths(str(error), folder))
                if name == "saved_model":
                    left_out[name] += _first_layer(model, signature, golden)
                continue
            records[name] = format_record(name, comparison)
            for file in path.parent.iterdir():
                shutil.move(file, directory / file.name)
    return Made(records, left_out)


def format_record(name: str, comparison: Comparison) -> FormatRecord:
    """What the manifest says of a proved format."""
    return FormatRecord(
        path=FORMATS[name].path,
        max_abs_error=comparison.max_abs_error,
        max_rel_error=comparison.max_rel_error,
        tolerance=TOLERANCE,
    )


def _write(model: keras.Model, signature: Signature, folder: Path, names: list[str]) -> dict[str, str | None]:
    """Writes each format into a folder of its own name; gives the reason why not for each that failed."""
    if not names:
        return {}
    try:
        write_saved_model(model, inference(model), signature, folder / "saved_model")
    except OSError:
        raise
    except Exception as error:  # a layer may do anything when it is traced
        problem = f"{type(error).__name__}: {reason(error)}"
        others = f"It is made from the SavedModel, and that cannot be written. {problem}"
        return {name: problem if name == "saved_model" else others for name in names}
    targets = {name: folder / name / FORMATS[name].path for name in names if name in CONVERTERS}
    return _convert(folder / "saved_model", targets, argument_names(signature))


def _convert(source: Path, targets: dict[str, Path], arguments: dict[str, str]) -> dict[str, str | None]:
    """Converts in one fresh process; where a converter ends that, another process goes on with the rest."""
    problems: dict[str, str | None] = {}
    for target in targets.values():
        target.parent.mkdir()
    while remaining := {name: target for name, target in targets.items() if name not in problems}:
        answer = source.parent / "answer.json"
        answer.unlink(missing_ok=True)
        request = Request(saved_model=source, targets=remaining, arguments=arguments)
        (source.parent / "request.json").write_text(request.model_dump_json())
        ended = "The converter ended its process."
        try:
            run_module("export.convert", source.parent / "request.json", answer)
        except ProofError as error:
            ended = str(error)
        if answer.exists():
            found = Answer.model_validate_json(answer.read_bytes()).problems
            problems.update({name: problem and _shortened(problem) for name, problem in found.items()})
        culprit = next((name for name in remaining if name not in problems), None)
        if culprit is not None:
            problems[culprit] = ended
    return problems


def _raise_if_nothing_can_be_written(problem: str) -> None:
    """A full disk is no fault of the format: without this, it would only be left out."""
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        if os.strerror(code) in problem:
            raise OSError(code, os.strerror(code))


def _first_layer(model: keras.Model, signature: Signature, golden: Golden) -> str:
    """Which layer of the SavedModel is the first that differs from the live model, as a sentence."""
    call = activations_of(model)
    with tempfile.TemporaryDirectory(prefix="layerserve-layers-") as temporary:
        path = Path(temporary) / FORMATS["saved_model"].path
        try:
            write_saved_model(model, call, signature, path.parent)
            found = replay("saved_model", path, golden.inputs, (golden.rows,))[golden.rows]
        except Exception as error:  # as in _write; the reason to leave the format out is known already
            return f" Which layer differs first cannot be told: {reason(error)}"
    layer = first_difference(run_with_arrays(call, signature)(golden.inputs), found)
    return f" The first layer that differs is {layer}." if layer else ""


def _without_paths(text: str, folder: Path) -> str:
    """Leaves out where the formats lay while they were made: it is gone, and nobody's business."""
    return re.sub(f"{re.escape(str(folder.resolve()))}/(?:[a-z_]+/)?", "", text)


def _shortened(text: str) -> str:
    return reason(ValueError(text))

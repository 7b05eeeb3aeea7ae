"""The formats beside `keras`: each is written, proved in its own fresh process, and kept only if it agrees."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras

from export.convert import CONVERTERS, Answer, Request
from export.formats import FORMATS, missing_package
from export.fresh import WITHOUT_KERAS, ProofError, run_module
from export.lookups import comparing, has_lookups
from export.saved_model import argument_names, write_saved_model
from export.verify import prove_format, replay
from models.activations import activations_of, first_difference
from models.golden import TOLERANCE, Comparison, Golden
from models.loading import inference, reason, run_with_arrays
from models.manifest import FormatRecord, Signature

_COMPARES_STRINGS = {"onnx": False, "litert": True, "openvino": True}
"""How each converter takes lookups; see `export.lookups`. ONNX compares no strings, but has tables of them."""


@dataclass(frozen=True)
class Made:
    """Which formats were made, and why the others were not."""

    records: dict[str, FormatRecord]
    left_out: dict[str, str]


def make_formats(
    model: keras.Model, signature: Signature, golden: Golden, directory: Path, names: tuple[str, ...]
) -> Made:
    """Writes each of the formats `names` into `directory`, if it can be written and answers the golden rows.

    All of them come from a SavedModel, which needs none of the layers' code. As many as there are processors are
    made at a time.

    Raises:
        OSError: the disk is full or read-only.
    """
    records: dict[str, FormatRecord] = {}
    left_out = {name: missing for name in names if (missing := missing_package(name))}
    wanted = [name for name in names if name not in left_out]
    with tempfile.TemporaryDirectory(dir=directory, prefix="making-") as temporary:
        folder = Path(temporary)
        making = _Making(
            folder, signature, golden, {layer.name: type(layer).__name__ for layer in model._flatten_layers()}
        )
        sources = _write_sources(model, signature, folder, wanted)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = dict(zip(wanted, pool.map(lambda name: _make(making, name, sources[name]), wanted), strict=True))
        for name, outcome in found.items():
            if isinstance(outcome, str):
                left_out[name] = outcome
                continue
            records[name] = format_record(name, outcome)
            for file in (folder / name).iterdir():
                shutil.move(file, directory / file.name)
    if "saved_model" in left_out and isinstance(sources["saved_model"], Path):
        left_out["saved_model"] += _first_layer(model, signature, golden)
    return Made(records, left_out)


def format_record(name: str, comparison: Comparison) -> FormatRecord:
    """What the manifest says of a proved format."""
    return FormatRecord(
        path=FORMATS[name].path,
        max_abs_error=comparison.max_abs_error,
        max_rel_error=comparison.max_rel_error,
        tolerance=TOLERANCE,
    )


def _write_sources(model: keras.Model, signature: Signature, folder: Path, names: list[str]) -> dict[str, Path | str]:
    """The SavedModel that each format is made from, or the reason why there is none."""
    if not names:
        return {}
    own = _write(model, signature, folder / "saved_model")
    sources = dict.fromkeys(names, own)
    if isinstance(own, Path) and has_lookups(model):
        for strings in (False, True):
            group = [name for name in names if _COMPARES_STRINGS.get(name) is strings]
            if group:
                with comparing(model, strings=strings):
                    source = _write(model, signature, folder / f"for_{'_'.join(group)}")
                sources.update(dict.fromkeys(group, source))
    return sources


def _write(model: keras.Model, signature: Signature, directory: Path) -> Path | str:
    try:
        write_saved_model(model, inference(model), signature, directory)
    except OSError:
        raise
    except Exception as error:  # a layer may do anything when it is traced
        return f"{type(error).__name__}: {reason(error)}"
    return directory


@dataclass(frozen=True)
class _Making:
    """What all formats of one model are made with."""

    folder: Path
    signature: Signature
    golden: Golden
    layers: dict[str, str]


def _make(making: _Making, name: str, source: Path | str) -> Comparison | str:
    """Makes one format and proves it; gives its errors, or the reason why it is left out."""
    if isinstance(source, str):
        where = "" if name == "saved_model" else "It is made from a SavedModel, and that cannot be written. "
        problem: str | None = f"{where}{source}"
    else:
        problem = _convert(making, name, source) if name in CONVERTERS else None
    if problem is not None:
        _raise_if_nothing_can_be_written(problem)
        return _told(f"It cannot be written. {problem}", making.folder)
    try:
        return prove_format(name, making.folder / name / FORMATS[name].path, making.golden)
    except ProofError as error:
        return _told(str(error), making.folder)


def _convert(making: _Making, name: str, source: Path) -> str | None:
    """Converts in a fresh process; gives the reason why not where that fails."""
    target = making.folder / name / FORMATS[name].path
    target.parent.mkdir()
    request = Request(
        format=name,
        saved_model=source,
        target=target,
        arguments=argument_names(making.signature),
        texts=tuple(spec.name for spec in making.signature.inputs if spec.dtype == "string"),
        layers=making.layers,
    )
    files = making.folder / f"{name}-request.json", making.folder / f"{name}-answer.json"
    files[0].write_text(request.model_dump_json())
    try:
        run_module("export.convert", *files, environment=WITHOUT_KERAS)
    except ProofError as error:
        return str(error)
    if not files[1].exists():
        return "The converter ended its process."
    return Answer.model_validate_json(files[1].read_bytes()).problem


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


def _told(text: str, folder: Path) -> str:
    """One line, without where the formats lay while they were made: it is gone, and nobody's business."""
    return reason(ValueError(re.sub(f"{re.escape(str(folder.resolve()))}/(?:[a-z_]+/)?", "", text)))

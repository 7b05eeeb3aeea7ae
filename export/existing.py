"""A model that was trained elsewhere, from whichever kind of file it is in."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from export.legacy import (
    is_legacy_weights,
    json_config,
    legacy_weights,
    load_h5,
    load_legacy,
    objects_in,
    refuse_code,
)
from models.keras_file import KerasFileError, read_config
from models.loading import ModelLoadError, load_model
from models.manifest import OriginRecord, Signature, Tensors

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
_MAX_GOLDEN_ROWS = 64


@dataclass(frozen=True)
class Existing:
    """A model that was loaded without its optimizer, and where it came from."""

    model: keras.Model
    origin: OriginRecord


def load_existing(path: Path, weights: Path | None = None) -> Existing:
    """Loads a `.keras` file, an HDF5 file of Keras 2 or 3, or a model's JSON with a file of `weights`.

    Raises:
        ModelLoadError: the file is none of these, needs a class that is not known here, or carries code.
        OSError: a file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    is_json = not start.startswith((_ZIP, _HDF5))
    if weights is not None and not is_json:
        raise ModelLoadError(f"--weights goes with a model's JSON, but `{path.name}` has weights of its own.")
    mapped: tuple[str, ...] = ()
    if start.startswith(_ZIP):
        kind, model = "keras", _load_keras(path)
    elif start == _HDF5:
        kind, (model, mapped) = "h5", load_h5(path)
    elif weights is None:
        raise ModelLoadError(f"`{path.name}` must be a .keras or .h5 file, or a model's JSON beside --weights.")
    else:
        kind, (model, mapped) = "json", _load_json(path, weights)
    files = {file.name: _sha256(file) for file in (path, weights) if file is not None}
    return Existing(model, OriginRecord(kind=kind, files=files, mapped=mapped))


def read_samples(path: Path, signature: Signature) -> Tensors:
    """Golden rows from a `.npz` file, an array an input by name; for one input also an array of any name, or a `.npy`.

    Of many rows those are taken that are spread evenly over them.

    Raises:
        ValueError: it is not such a file, or holds no such arrays.
        OSError: it cannot be read.
    """
    try:
        found = _arrays(path)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"`{path.name}` must be a .npz or .npy file of plain arrays, as numpy.savez writes it: "
            f"{type(error).__name__}."
        ) from error
    names = [spec.name for spec in signature.inputs]
    if len(names) == len(found) == 1:
        found = {names[0]: next(iter(found.values()))}
    if sorted(found) != sorted(names):
        raise ValueError(
            f"`{path.name}` must hold an array for each input: {', '.join(names)}. Received: {', '.join(found)}"
        )
    if any(values.ndim == 0 for values in found.values()):
        raise ValueError(f"`{path.name}` must hold rows, but an array in it is a single number.")
    rows = min(len(values) for values in found.values())
    chosen = np.unique(np.linspace(0, rows - 1, num=min(rows, _MAX_GOLDEN_ROWS)).astype(int)) if rows else slice(0)
    return {name: values[chosen] if len(values) == rows else values for name, values in found.items()}


def _arrays(path: Path) -> Tensors:
    """The arrays in a file of NumPy's, by name; the one of a `.npy` is named by the file."""
    loaded = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {path.name: loaded}
    with loaded:
        return {name: loaded[name] for name in loaded.files}


def _load_keras(path: Path) -> keras.Model:
    try:
        config = read_config(path)
    except KerasFileError as error:
        raise ModelLoadError(str(error)) from error
    for item in objects_in(config):
        refuse_code(item["class_name"], path.name)
    return load_model(path)


def _load_json(path: Path, weights: Path) -> tuple[keras.Model, tuple[str, ...]]:
    config = json_config(path.read_bytes(), path.name)
    is_legacy = "module" not in config
    if is_legacy != is_legacy_weights(weights):
        kinds = ("Keras 2", "Keras 3") if is_legacy else ("Keras 3", "Keras 2")
        raise ModelLoadError(
            f"`{path.name}` was written by {kinds[0]}, but `{weights.name}` by {kinds[1]}: they are no pair."
        )
    if is_legacy:
        with h5py.File(weights, "r") as file:
            return load_legacy(config, legacy_weights(file), path.name)
    return _load_pair(config, path, weights), ()


def _load_pair(config: dict[str, Any], path: Path, weights: Path) -> keras.Model:
    """Loads the pair as the `.keras` file that it would be, so that the same checks and safe mode hold."""
    with tempfile.TemporaryDirectory(prefix="layerserve-pair-") as folder:
        whole = Path(folder) / f"{path.stem}.keras"
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": keras.__version__, "date_saved": ""}))
            archive.writestr("config.json", json.dumps(config))
            archive.write(weights, "model.weights.h5")
        try:
            return _load_keras(whole)
        except ModelLoadError as error:  # which names a file that nobody gave
            raise ModelLoadError(str(error).replace(f"`{whole.name}`", f"`{path.name}`")) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

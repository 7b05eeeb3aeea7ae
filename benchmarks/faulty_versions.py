"""Versions and pins that no service may serve, put into a store as a broken copy or a careless hand would."""

from __future__ import annotations

import random
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from models.artifact import MANIFEST, Artifact, file_record, write_manifest

MODELS = ("model.tflite", "model.onnx")


def publish_broken(folder: Path, chance: random.Random) -> Path:
    """Puts a broken copy of version 2 beside it, under the next number, in one rename; gives its folder."""
    number = 1 + max(int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal())
    staging = _staging(folder)
    shutil.copytree(folder / "2", staging)
    manifest = Artifact.open(staging).manifest
    write_manifest(staging, manifest.model_copy(update={"version": number}))
    chance.choice(WAYS)(staging, folder / "1", chance)
    return staging.rename(folder / str(number))


def remove(version: Path) -> None:
    """Takes a version away in one rename."""
    shutil.rmtree(version.rename(_staging(version.parent)))


def break_pin(folder: Path, chance: random.Random) -> None:
    """Pins what cannot be served, or writes a pin that cannot be read."""
    contents = ('{"version": 999999}', '{"version": "2"}', '{"vers', "", "[" * 5000, "null")
    temporary = folder / f".pin-{secrets.token_hex(8)}.json"
    temporary.write_text(chance.choice(contents))
    temporary.replace(folder / "pin.json")


def flip_bytes(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001 - one signature for all
    """The models are damaged."""
    for name in MODELS:
        content = bytearray((version / name).read_bytes())
        content[chance.randrange(len(content))] ^= 1 + chance.randrange(255)
        (version / name).write_bytes(content)


def cut_manifest(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001
    """The manifest ends too early."""
    content = (version / MANIFEST).read_bytes()
    (version / MANIFEST).write_bytes(content[: chance.randrange(len(content))])


def lose_file(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001
    """A file is missing."""
    (version / chance.choice([*MODELS, "golden.npz"])).unlink()


def keep_number(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001
    """The manifest is that of another number, as after a copy by hand."""
    write_manifest(version, Artifact.open(version).manifest.model_copy(update={"version": 2}))


def answer_wrong(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001
    """All checksums are right, and the models are another version's: only the golden answers tell."""
    for name in MODELS:
        shutil.copyfile(other / name, version / name)
    manifest = Artifact.open(version).manifest
    files = manifest.files | {name: file_record(version / name) for name in MODELS}
    write_manifest(version, manifest.model_copy(update={"files": files}))


def no_model(version: Path, other: Path, chance: random.Random) -> None:  # noqa: ARG001
    """All checksums are right, and the models are no models."""
    for name in MODELS:
        (version / name).write_bytes(chance.randbytes(2000))
    manifest = Artifact.open(version).manifest
    files = manifest.files | {name: file_record(version / name) for name in MODELS}
    write_manifest(version, manifest.model_copy(update={"files": files}))


WAYS: tuple[Callable[[Path, Path, random.Random], None], ...] = (
    flip_bytes,
    cut_manifest,
    lose_file,
    keep_number,
    answer_wrong,
    no_model,
)


def _staging(folder: Path) -> Path:
    """A name that the store takes for no version."""
    return folder / f".staging-{secrets.token_hex(8)}"

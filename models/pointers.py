"""The two small files beside a model's versions that say which of them answer: `pin.json` and `labels.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from models.artifact import ArtifactError
from models.manifest import VersionLabel

PIN = "pin.json"
LABELS = "labels.json"
_HIGHEST_VERSION = 999_999_999  # that a folder may be named
_LABEL = TypeAdapter(VersionLabel)


def read_pin(folder: Path) -> int | None:
    """The pinned version, or None.

    Raises:
        ArtifactError: the file cannot be read.
    """
    content = _read(folder / PIN)
    if content is None:
        return None
    try:
        version = json.loads(content)["version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"`{PIN}` of `{folder.name}` cannot be read. Pin the version again, or unpin it."
        raise ArtifactError(message) from error
    if not _is_version(version):
        raise ArtifactError(f"`{PIN}` of `{folder.name}` must hold a version number. Received: {version!r}")
    return int(version)


def read_labels(folder: Path) -> dict[str, int]:
    """The version that each label names; none where there is no file.

    Raises:
        ArtifactError: the file cannot be read.
    """
    content = _read(folder / LABELS)
    if content is None:
        return {}
    try:
        labels = dict(json.loads(content).items())
    except (ValueError, AttributeError, RecursionError) as error:
        message = f"`{LABELS}` of `{folder.name}` cannot be read. Delete it, and set the labels again."
        raise ArtifactError(message) from error
    for label, version in labels.items():
        if not is_label(label) or not _is_version(version):
            raise ArtifactError(
                f"`{LABELS}` of `{folder.name}` must hold a version number for each label. "
                f"Received: {label!r}: {version!r}"
            )
    return labels


def is_label(text: str) -> bool:
    """Whether a label may have this name."""
    try:
        return bool(_LABEL.validate_python(text))
    except ValidationError:
        return False


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _is_version(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _HIGHEST_VERSION  # JSON's true is an int to Python

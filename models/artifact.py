"""The artifact: one published version of a model, as it lies on disk.

A version's folder holds `manifest.json`, its checksum `manifest.sha256` (as `sha256sum -c` reads it), `golden.npz`
and the model in one or more formats. The manifest lists every other file with size and SHA-256, so that any
changed byte, missing file or stranger in the folder is found before a model is parsed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.manifest import FileRecord, Manifest

MANIFEST = "manifest.json"
CHECKSUM = "manifest.sha256"


class ArtifactError(ValueError):
    """A version on disk is damaged or incomplete. The message names no path outside the version's folder."""


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

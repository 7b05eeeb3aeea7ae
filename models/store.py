"""The store: a folder of models, each a folder of numbered versions.

`<root>/<name>/<version>/` appears whole or not at all: a version is staged beside it, fsynced, and renamed once.
`<root>/<name>/pin.json` holds the pinned version, `labels.json` those that have a label. Publishing needs a local file
system with `flock`; reading needs nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from models.artifact import MANIFEST, Artifact, ArtifactError, write_manifest
from models.locking import lock, locked, made_and_locked, remove_unused
from models.manifest import Manifest, ModelName
from models.pointers import LABELS, PIN, is_label, read_labels, read_pin

_STAGING_PREFIX = ".staging-"
_GUARD_SUFFIX = ".lock"
_NAME = TypeAdapter(ModelName)
_REFERENCE = re.compile(r"(?P<name>[^@]+)(?:@(?P<version>[1-9][0-9]*))?")


class ArtifactStore:
    """Reads and publishes versions below `root`. Safe to use from several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """The models that have at least one version, and those whose folder cannot be read."""
        entries = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(entry.name for entry in entries if _is_name(entry.name) and self._is_model(entry.name))

    def versions(self, name: str) -> list[int]:
        """The versions of a model, ascending. Folders without a manifest, such as half a copy, are none.

        One that cannot be read counts, so that whoever opens it is told.
        """
        folder = self._folder(name)
        entries = folder.iterdir() if folder.is_dir() else ()
        return sorted(n for n in map(_version_number, entries) if n and _has_manifest(folder / str(n)))

    def open(self, name: str, version: int) -> Artifact:
        """The artifact of one version, its manifest checked.

        Raises:
            ArtifactError: there is no such version, or its manifest is damaged or another version's.
        """
        if version not in self.versions(name):
            existing = ", ".join(map(str, self.versions(name))) or "none"
            raise ArtifactError(f"`{name}` has no version {version}. Versions: {existing}.")
        artifact = Artifact.open(self._folder(name) / str(version))
        if (artifact.manifest.name, artifact.manifest.version) != (name, version):
            raise ArtifactError(
                f"`{MANIFEST}` belongs to {artifact.manifest.name}@{artifact.manifest.version}, "
                f"the folder to {name}@{version}. Versions cannot be renamed or copied; re-export instead."
            )
        return artifact

    def resolve(self, reference: str) -> Artifact:
        """Opens `NAME@VERSION`, or for `NAME` the version that is served.

        Raises:
            ArtifactError: the reference is malformed, or there is no such version, or it is damaged.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise ArtifactError(f"A version is named NAME or NAME@VERSION, such as digits@3. Received: {reference}")
        name, version = match["name"], match["version"]
        chosen = int(version) if version else self.desired(name)
        if chosen is None:
            raise ArtifactError(f"There is no model `{name}`. Models: {', '.join(self.names()) or 'none'}.")
        return self.open(name, chosen)

    def desired(self, name: str) -> int | None:
        """The version to serve: the pinned one, else the highest, None where there is none.

        Raises:
            ArtifactError: the pin cannot be read.
        """
        pinned = self.pinned(name)
        return pinned if pinned is not None else max(self.versions(name), default=None)

    def pinned(self, name: str) -> int | None:
        """The pinned version, or None.

        Raises:
            ArtifactError: the pin cannot be read.
        """
        return read_pin(self._folder(name))

    def labels(self, name: str) -> dict[str, int]:
        """The version that each label of a model names.

        Raises:
            ArtifactError: the labels cannot be read.
        """
        return read_labels(self._folder(name))

    def pin(self, name: str, version: int) -> None:
        """Makes `version` the served one, whatever is published later.

        Raises:
            ArtifactError: there is no such version.
        """
        folder = self.open(name, version).path.parent
        with locked(folder):
            self.open(name, version)  # it may have been pruned while the lock was awaited
            _write(folder / PIN, {"version": version})

    def unpin(self, name: str) -> None:
        """Lets the highest version be served again. Does nothing where none was pinned."""
        (self._folder(name) / PIN).unlink(missing_ok=True)

    def label(self, name: str, label: str, version: int) -> None:
        """Gives a version a label, which it takes from any other.

        Raises:
            ArtifactError: there is no such version, no label may have this name, or the labels cannot be read.
        """
        if not is_label(label):
            raise ArtifactError(
                f"A label has 1 to 100 letters, digits, `_`, `-` or `.`, a letter first. Received: {label!r}"
            )
        folder = self.open(name, version).path.parent
        with locked(folder):
            self.open(name, version)  # as in `pin`
            _write(folder / LABELS, dict(sorted({**self.labels(name), label: version}.items())))

    def unlabel(self, name: str, label: str) -> None:
        """Takes a label away; its version stays.

        Raises:
            ArtifactError: there is no such model or label, or the labels cannot be read.
        """
        if not self.versions(name):
            raise ArtifactError(f"There is no model `{name}`. Models: {', '.join(self.names()) or 'none'}.")
        folder = self._folder(name)
        with locked(folder):
            labels = self.labels(name)
            if label not in labels:
                raise ArtifactError(f"`{name}` has no label `{label}`. Labels: {', '.join(labels) or 'none'}.")
            _write(folder / LABELS, {known: version for known, version in labels.items() if known != label})

    def prune(self, name: str, keep: int) -> list[int]:
        """Removes all versions but the `keep` highest, the served and the labelled ones; gives those removed.

        Each disappears in one rename. Where its files cannot be deleted at once, the next export tries again.

        Raises:
            ArtifactError: there is no such model, or its pin or labels cannot be read.
            OSError: a version cannot be read.
        """
        if keep < 1:
            raise ArtifactError(f"One version at least must be kept. Received: {keep}")
        if not self.versions(name):
            raise ArtifactError(f"There is no model `{name}`. Models: {', '.join(self.names()) or 'none'}.")
        folder = self._folder(name)
        with locked(folder):
            versions = self.versions(name)
            for version in versions:
                (folder / str(version) / MANIFEST).stat()  # one that cannot be read is none to keep instead of another
            named = {self.desired(name), *self.labels(name).values()}
            removed = [version for version in versions[:-keep] if version not in named]
            graves = [folder / f"{_STAGING_PREFIX}{secrets.token_hex(8)}" for _ in removed]
            for version, grave in zip(removed, graves, strict=True):
                (folder / str(version)).rename(grave)
            _sync(folder)
        for grave in graves:
            shutil.rmtree(grave, ignore_errors=True)
        return removed

    @contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A private folder to prepare a version in, removed at the end unless `publish` took it.

        Leftovers of exports that were killed are removed first; those of running ones are left alone. A model's folder
        that was made for this and holds nothing is removed again.
        """
        folder = self._folder(name)
        is_new = not folder.exists()
        try:
            with _staged(folder) as staging:
                yield staging
        finally:
            if is_new:
                remove_unused(folder)

    def publish(
        self, staging: Path, manifest: Manifest, finish: Callable[[Manifest], Manifest] | None = None
    ) -> Artifact:
        """Gives the staged folder the next version number and makes it visible, in one rename.

        Args:
            staging: What `stage` gave, with every file in place but the manifest.
            manifest: Its version is replaced by the next free number.
            finish: Called with the numbered manifest, it writes the files that name the version and adds their records.
                Other exports of the model wait for it.
        """
        folder = staging.parent
        with locked(folder):
            version = 1 + max((_version_number(entry) or 0 for entry in folder.iterdir()), default=0)
            numbered = manifest.model_copy(update={"version": version})
            write_manifest(staging, finish(numbered) if finish else numbered)
            for path in [*staging.rglob("*"), staging]:
                _sync(path)
            staging.rename(folder / str(version))
            _sync(folder)
        return self.open(manifest.name, version)

    def _is_model(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except OSError:
            return True

    def _folder(self, name: str) -> Path:
        if not _is_name(name):
            raise ArtifactError(
                f"A model's name has 1 to 100 letters, digits, `_`, `-` or `.`, and no leading dot. Received: {name!r}"
            )
        return self.root / name


def _is_name(name: str) -> bool:
    try:
        return bool(_NAME.validate_python(name))
    except ValidationError:
        return False


def _has_manifest(folder: Path) -> bool:
    try:
        return (folder / MANIFEST).is_file()
    except OSError:
        return True


def _version_number(entry: Path) -> int | None:
    return int(entry.name) if re.fullmatch(r"[1-9][0-9]{0,8}", entry.name) else None


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    with made_and_locked(folder):
        _sweep(folder)
        staging = folder / f"{_STAGING_PREFIX}{secrets.token_hex(8)}"
        staging.mkdir()
        guard = lock(_guard_path(staging))
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _guard_path(staging).unlink(missing_ok=True)
        os.close(guard)


def _guard_path(staging: Path) -> Path:
    return staging.with_name(staging.name + _GUARD_SUFFIX)


def _sweep(folder: Path) -> None:
    """Removes the staging folders and guards whose process is gone. Call it under the folder's lock."""
    for name in {path.name.removesuffix(_GUARD_SUFFIX) for path in folder.glob(f"{_STAGING_PREFIX}*")}:
        staging = folder / name
        try:
            guard = lock(_guard_path(staging), fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        shutil.rmtree(staging, ignore_errors=True)  # its own process may be removing it too
        _guard_path(staging).unlink(missing_ok=True)
        os.close(guard)


def _write(path: Path, content: dict[str, int]) -> None:
    """Replaces a pointer in one rename. Call it under the folder's lock."""
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}.json")
    temporary.write_text(json.dumps(content) + "\n")
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

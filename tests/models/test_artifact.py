"""The artifact: any changed byte, missing file or stranger in a version's folder is found."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.artifact import CHECKSUM, MANIFEST, Artifact, ArtifactError, file_paths, file_record, write_manifest
from models.manifest import Manifest, Signature, TensorSpec

FILES = ["model.keras", "golden.npz", "assets/words.txt", MANIFEST, CHECKSUM]


def check(path: Path) -> None:
    Artifact.open(path).verify_files()


def rewrite_manifest(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the manifest and makes its checksum right again, as a careless editor would."""
    content = json.loads((path / MANIFEST).read_text())
    change(content)
    text = json.dumps(content).encode()
    (path / MANIFEST).write_bytes(text)
    (path / CHECKSUM).write_text(f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n")


def test_published_version_is_whole(artifact: Artifact) -> None:
    check(artifact.path)


def test_opened_artifact_holds_the_manifest_and_its_digest(artifact: Artifact) -> None:
    opened = Artifact.open(artifact.path)
    assert opened == artifact
    assert opened.digest == hashlib.sha256((artifact.path / MANIFEST).read_bytes()).hexdigest()


@pytest.mark.parametrize("where", [0, 0.25, 0.5, 0.75, 1])
@pytest.mark.parametrize("name", FILES)
def test_flipped_byte_is_refused(artifact: Artifact, name: str, where: float) -> None:
    file = artifact.path / name
    content = bytearray(file.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    file.write_bytes(content)
    damaged = MANIFEST if name == CHECKSUM else name
    with pytest.raises(ArtifactError, match=rf"^`{damaged}` is damaged"):
        check(artifact.path)


@pytest.mark.parametrize("name", FILES)
def test_cut_file_is_refused(artifact: Artifact, name: str) -> None:
    file = artifact.path / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"is damaged"):
        check(artifact.path)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused(artifact: Artifact, name: str) -> None:
    (artifact.path / name).unlink()
    with pytest.raises(ArtifactError, match=rf"^`{name}` is missing"):
        check(artifact.path)


@pytest.mark.parametrize("name", ["notes.txt", "assets/more.txt", "assets/manifest.json", ".hidden"])
def test_stranger_is_refused(artifact: Artifact, name: str) -> None:
    (artifact.path / name).write_text("hello")
    with pytest.raises(ArtifactError, match=rf"^`{name}` is not in the manifest"):
        check(artifact.path)


@pytest.mark.parametrize("name", FILES)
def test_symlink_in_place_of_a_file_is_refused(artifact: Artifact, tmp_path: Path, name: str) -> None:
    moved = (artifact.path / name).rename(tmp_path / "moved")
    (artifact.path / name).symlink_to(moved)
    with pytest.raises(ArtifactError, match=rf"^`{name}` is not a plain file"):
        check(artifact.path)


def test_symlink_in_place_of_a_folder_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    moved = (artifact.path / "assets").rename(tmp_path / "moved")
    (artifact.path / "assets").symlink_to(moved)
    with pytest.raises(ArtifactError, match=r"^`assets` is not a plain file"):
        check(artifact.path)


def test_pipe_is_refused_without_being_read(artifact: Artifact) -> None:
    os.mkfifo(artifact.path / "pipe")
    with pytest.raises(ArtifactError, match=r"^`pipe` is not a plain file"):
        check(artifact.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema_version=2), "schema_version: Input should be 1"),
        (lambda manifest: manifest.update(signed_by="me"), "signed_by: Extra inputs are not permitted"),
        (lambda manifest: manifest["training"].update(mood="good"), "training.mood: Extra inputs are not permitted"),
        (lambda manifest: manifest["files"]["golden.npz"].update(size=-1), "files.golden.npz.size: Input should be"),
        (lambda manifest: manifest.pop("layers"), "layers: Field required"),
        (lambda manifest: manifest.update(name="../toy"), "name: Value error, A name is at most"),
        (lambda manifest: manifest.update(version=0), "version: Input should be greater"),
        (lambda manifest: manifest["formats"].clear(), "formats: Dictionary should have at least 1 item"),
        (lambda manifest: manifest["signature"].update(inputs=[]), "signature.inputs: Tuple should have at least 1"),
    ],
)
def test_manifest_of_another_shape_is_refused(
    artifact: Artifact, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite_manifest(artifact.path, change)
    with pytest.raises(ArtifactError, match=rf"^`manifest.json` is not a manifest of this release: {message}"):
        Artifact.open(artifact.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_checksummed_nonsense_is_no_manifest(artifact: Artifact, content: bytes) -> None:
    (artifact.path / MANIFEST).write_bytes(content)
    (artifact.path / CHECKSUM).write_text(f"{hashlib.sha256(content).hexdigest()}  {MANIFEST}\n")
    with pytest.raises(ArtifactError, match=r"is not a manifest of this release"):
        Artifact.open(artifact.path)


def test_error_names_no_path_outside_the_version(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / MANIFEST).unlink()
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(artifact.path)
    assert str(tmp_path) not in str(caught.value)


def test_written_manifest_reads_back_equal(artifact: Artifact, tmp_path: Path) -> None:
    write_manifest(tmp_path, artifact.manifest)
    assert Artifact.open(tmp_path).manifest == artifact.manifest


def test_manifest_written_before_a_field_was_there_still_reads(artifact: Artifact) -> None:
    content = json.loads(artifact.manifest.model_dump_json())
    for field in ("left_out", "accepted", "variables", "golden_source"):
        del content[field]
    del content["formats"]["keras"]["max_rel_error"]
    assert Manifest.model_validate(content) == artifact.manifest


def test_checksum_is_a_line_that_sha256sum_checks(artifact: Artifact) -> None:
    digest, name = (artifact.path / CHECKSUM).read_text().removesuffix("\n").split("  ")
    assert (name, digest) == (MANIFEST, artifact.digest)


def test_size_counts_every_listed_file(artifact: Artifact) -> None:
    listed = [artifact.path / name for name in FILES if name not in (MANIFEST, CHECKSUM)]
    assert artifact.size_bytes == sum(file.stat().st_size for file in listed)


def test_format_path_is_where_the_model_lies(artifact: Artifact) -> None:
    assert artifact.format_path("keras") == artifact.path / "model.keras"


def test_unknown_format_is_refused_with_those_that_exist(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"^The version has no format `onnx`. It has: keras.$"):
        artifact.format_path("onnx")


@pytest.mark.parametrize("path", ["../2/model.keras", "/etc/passwd", "other.keras", "assets", ""])
def test_format_outside_the_listed_files_is_refused(artifact: Artifact, path: str) -> None:
    rewrite_manifest(artifact.path, lambda manifest: manifest["formats"]["keras"].update(path=path))
    with pytest.raises(ArtifactError, match=rf"^The format `keras` is in `{path}`, which is not among the manifest's"):
        Artifact.open(artifact.path).format_path("keras")


def test_manifest_cannot_be_changed_in_memory(artifact: Artifact) -> None:
    with pytest.raises(ValidationError, match=r"frozen"):
        artifact.manifest.version = 2  # type: ignore[misc]


@pytest.mark.parametrize("shape", [(), (None, "4")])
def test_spec_needs_a_shape_of_sizes(shape: tuple[object, ...]) -> None:
    with pytest.raises(ValidationError, match=r"shape"):
        TensorSpec.model_validate({"name": "x", "dtype": "float32", "shape": shape}, strict=True)


def test_signature_survives_json() -> None:
    spec = TensorSpec(name="x", dtype="string", shape=(None, None, 3))
    signature = Signature(inputs=(spec,), outputs=(spec,), labels=("no", "yes"))
    assert Signature.model_validate_json(signature.model_dump_json()) == signature


def test_file_paths_are_relative_and_leave_out_the_manifest(artifact: Artifact) -> None:
    assert sorted(file_paths(artifact.path)) == ["assets/words.txt", "golden.npz", "model.keras"]


def test_file_record_is_checksum_and_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    record = file_record(file)
    assert (record.size, record.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\n", "a@1", "ä", "x" * 101])
def test_manifest_refuses_a_name_that_is_no_plain_folder(artifact: Artifact, name: str) -> None:
    with pytest.raises(ValidationError, match=r"A name is at most 100 letters"):
        Manifest.model_validate({**artifact.manifest.model_dump(), "name": name})

from __future__ import annotations

from pathlib import Path

import pytest

from models.artifact import ArtifactError
from models.pointers import LABELS, PIN, read_labels, read_pin


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    return tmp_path / "toy"


def test_nothing_is_pinned_or_labelled_without_a_file(folder: Path) -> None:
    assert (read_pin(folder), read_labels(folder)) == (None, {})


def test_files_are_read_as_the_documentation_shows_them(folder: Path) -> None:
    (folder / PIN).write_text('{"version": 2}')
    (folder / LABELS).write_text('{"stable": 2, "canary": 3}')
    assert (read_pin(folder), read_labels(folder)) == (2, {"stable": 2, "canary": 3})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "`labels.json` of `toy` cannot be read. Delete it, and set the labels again."),
        ("[]", "`labels.json` of `toy` cannot be read. Delete it, and set the labels again."),
        ("[" * 100_000, "`labels.json` of `toy` cannot be read. Delete it, and set the labels again."),
        (
            '{"a": "2"}',
            "`labels.json` of `toy` must hold a version number for each label. Received: 'a': '2'",
        ),
        ('{"a": true}', "`labels.json` of `toy` must hold a version number for each label. Received: 'a': True"),
        ('{"a": 0}', "`labels.json` of `toy` must hold a version number for each label. Received: 'a': 0"),
        (
            '{"a": 1000000000}',
            "`labels.json` of `toy` must hold a version number for each label. Received: 'a': 1000000000",
        ),
        ('{"2": 2}', "`labels.json` of `toy` must hold a version number for each label. Received: '2': 2"),
        ('{"": 2}', "`labels.json` of `toy` must hold a version number for each label. Received: '': 2"),
    ],
)
def test_damaged_labels_are_an_error_that_says_the_way_out(folder: Path, content: str, message: str) -> None:
    (folder / LABELS).write_text(content)
    with pytest.raises(ArtifactError) as error:
        read_labels(folder)
    assert str(error.value) == message


def test_damaged_bytes_are_an_error(folder: Path) -> None:
    (folder / PIN).write_bytes(b"\xff\xfe\xfa")
    (folder / LABELS).write_bytes(b"\xff\xfe\xfa")
    for read in (read_pin, read_labels):
        with pytest.raises(ArtifactError, match="cannot be read"):
            read(folder)

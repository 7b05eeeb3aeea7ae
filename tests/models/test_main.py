"""`python -m models`: what is published, and which version is served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.__main__ import Models
from models.artifact import Artifact
from models.command_line import main
from models.store import PIN, ArtifactStore

Publish = Callable[..., Artifact]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _artifacts_from_the_environment(monkeypatch: pytest.MonkeyPatch, store: ArtifactStore) -> None:
    monkeypatch.setenv("LAYERSERVE_ARTIFACTS", str(store.root))


def models(*arguments: str) -> int:
    return main(Models, list(arguments))


def listed(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The cells of each line that `list` prints below the header."""
    assert models("list") == 0
    return [[cell for cell in line.split("  ") if cell] for line in capsys.readouterr().out.splitlines()[1:]]


def test_list_shows_all_that_is_known(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store, metrics={"test_accuracy": 0.98765, "test_loss": 0.1})
    assert models("list") == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["MODEL", "VERSION", "SERVED", "METRICS", "SIZE", "CREATED", "(UTC)"]
    for text in ("toy", "1", "highest", "test_accuracy 0.9877, test_loss 0.1000", "0.0 MB", "2025-01-02 03:04"):
        assert text in row


def test_list_of_nothing_says_how_to_publish(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("list") == 0
    assert capsys.readouterr().out == (f"No model is published in {store.root}. Publish one: python -m export train\n")


def test_list_sorts_by_name_and_version(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b", "a", "b"):
        publish_fake(store, name)
    assert [row[0] + row[1].strip() for row in listed(capsys)] == ["a1", "b1", "b2"]


def test_list_marks_the_highest_version(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store)
    publish_fake(store)
    assert ["highest" in row for row in listed(capsys)] == [False, True]


def test_list_marks_the_pinned_version(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store)
    publish_fake(store)
    store.pin("toy", 1)
    first, second = listed(capsys)
    assert "pinned" in first
    assert not {"pinned", "highest"} & set(second)


def test_list_shows_a_damaged_version_as_damaged(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store)
    (publish_fake(store).path / "manifest.json").write_text("{}")
    first, second = listed(capsys)
    assert "damaged" not in " ".join(first)
    assert "damaged: `manifest.json` is damaged" in " ".join(second)


def test_list_goes_on_with_a_damaged_pin(
    store: ArtifactStore, artifact: Artifact, capsys: pytest.CaptureFixture[str]
) -> None:
    (store.root / "toy" / PIN).write_text("{")
    assert "unknown: the pin is damaged" in listed(capsys)[0]


def test_pin_says_what_it_did(store: ArtifactStore, artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("pin", "toy", "1") == 0
    assert capsys.readouterr().out.startswith("toy@1 is pinned.")
    assert store.pinned("toy") == 1


def test_unpin_says_which_version_is_served(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store)
    store.pin("toy", 1)
    publish_fake(store)
    assert models("unpin", "toy") == 0
    assert capsys.readouterr().out == "toy is not pinned.\ntoy@2 is served: it is the highest version.\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["pin", "toy", "2"], "python -m models: `toy` has no version 2. Versions: 1.\n"),
        (["pin", "other", "1"], "python -m models: `other` has no version 1. Versions: none.\n"),
        (["unpin", "other"], "python -m models: There is no model `other`. Models: toy.\n"),
        (["label", "toy", "a", "2"], "python -m models: `toy` has no version 2. Versions: 1.\n"),
        (["unlabel", "toy", "a"], "python -m models: `toy` has no label `a`. Labels: none.\n"),
    ],
)
def test_failure_is_one_line_and_exit_1(
    artifact: Artifact, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert models(*arguments) == 1
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pin", "toy", "0"], "`version`: Input should be greater than or equal to 1. Received: 0"),
        (["pin", "toy", "one"], "`version`: Input should be a valid integer"),
        (["pin", "../toy", "1"], "A name is at most 100 letters"),
        (["label", "toy", "2", "1"], "A label is at most 100 letters"),
        (["unpin", "a/b"], "A name is at most 100 letters"),
        (["pin", "toy"], "the following arguments are required: VERSION"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        models(*arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize("arguments", [["list"], ["pin", "toy", "1"], ["unpin", "toy"]])
def test_file_in_place_of_the_folder_is_no_traceback(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    store.root.write_text("not a folder")
    assert models(*arguments) in (0, 1)
    output = capsys.readouterr()
    assert len((output.err + output.out).splitlines()) == 1


def test_flag_wins_over_the_environment(
    tmp_path: Path, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(ArtifactStore(tmp_path / "elsewhere"), "away")
    assert models("list", "--artifacts", str(tmp_path / "elsewhere")) == 0
    assert "away" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--help"], ["python -m models", "list", "pin", "unpin", "Serves the highest version again."]),
        (["list", "--help"], ["--artifacts", "Folder of the published versions. (default: artifacts)"]),
        (["pin", "--help"], ["NAME", "VERSION", "The version to serve."]),
        (["unpin", "--help"], ["NAME", "The model."]),
    ],
)
def test_help_names_everything(capsys: pytest.CaptureFixture[str], arguments: list[str], texts: list[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        models(*arguments)
    output = capsys.readouterr().out
    assert [text for text in texts if text not in output] == []


@pytest.mark.slow
def test_program_runs_as_a_module(store: ArtifactStore, artifact: Artifact) -> None:
    command = [sys.executable, "-m", "models", "list"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "toy" in done.stdout


def test_prune_says_what_it_removed(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(4):
        publish_fake(store)
    store.pin("toy", 2)
    assert models("prune", "toy", "--keep", "1") == 0
    assert models("prune", "toy", "--keep", "1") == 0
    assert capsys.readouterr().out == "Removed toy@1, toy@3.\nRemoved nothing.\n"


def test_diff_of_a_version_that_is_not_there_is_told_without_loading_keras(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_fake(store)
    assert models("diff", "toy@1", "toy@2") == 1
    assert capsys.readouterr().err == "python -m models: `toy` has no version 2. Versions: 1.\n"


def test_label_is_told_and_listed_until_it_is_taken_away(
    store: ArtifactStore, publish_fake: Publish, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        publish_fake(store)
    assert models("label", "toy", "stable", "1") == 0
    assert models("label", "toy", "next", "2") == 0
    assert models("list") == 0
    told, _, _, *rows = capsys.readouterr().out.splitlines()
    assert told == "`stable` is toy@1. A running service follows once that version is ready."
    assert " stable " in rows[0]
    assert " highest, next " in rows[1]
    assert models("unlabel", "toy", "stable") == 0
    assert capsys.readouterr().out == "toy has no label `stable` any more.\n"
    assert store.labels("toy") == {"next": 2}

"""The store: a version appears whole or not at all, and a pin says which one is served."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.artifact import Artifact, ArtifactError, file_record
from models.manifest import Manifest
from models.pointers import LABELS, PIN
from models.store import ArtifactStore

Publish = Callable[..., Artifact]
BAD_NAMES = ["", ".", "..", "../toy", "a/b", "/etc", "a\\b", ".staging-1", "toy\n", "toy\x00", "toy@1", "x" * 101]


def leftovers(store: ArtifactStore) -> list[str]:
    return sorted(path.name for path in (store.root / "toy").glob(".staging-*"))


def test_first_version_is_one_and_the_next_are_counted(store: ArtifactStore, publish_fake: Publish) -> None:
    versions = [publish_fake(store).manifest.version for _ in range(3)]
    assert versions == store.versions("toy") == [1, 2, 3]


def test_files_that_name_the_version_are_written_last(store: ArtifactStore, artifact: Artifact) -> None:
    def finish(numbered: Manifest) -> Manifest:
        (staging / "label.txt").write_text(f"{numbered.name}@{numbered.version}")
        record = file_record(staging / "label.txt")
        return numbered.model_copy(update={"files": {**numbered.files, "label.txt": record}})

    with store.stage("toy") as staging:
        shutil.copytree(artifact.path, staging, dirs_exist_ok=True)
        second = store.publish(staging, artifact.manifest, finish)
    second.verify_files()
    assert (second.path / "label.txt").read_text() == "toy@2"


def test_names_are_the_models_with_a_version(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store, "b")
    publish_fake(store, "a")
    (store.root / "empty").mkdir()
    (store.root / "README.md").write_text("not a model")
    (store.root / ".hidden").mkdir()
    assert store.names() == ["a", "b"]


def test_missing_root_holds_nothing(store: ArtifactStore) -> None:
    assert (store.names(), store.versions("toy"), store.desired("toy")) == ([], [], None)


def test_what_cannot_be_read_hides_nothing_else(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store, "toy")
    for unreadable in ("toy/7", "other"):  # which nobody may look at, not even root
        (store.root / unreadable).symlink_to("x" * 300)
    assert (store.names(), store.versions("toy")) == (["other", "toy"], [1, 7])
    with pytest.raises(OSError, match="File name too long"):
        store.open("toy", 7)


def test_nothing_is_pruned_beside_a_version_that_cannot_be_read(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store, "toy")
    (store.root / "toy" / "7").symlink_to("x" * 300)
    with pytest.raises(OSError, match="File name too long"):
        store.prune("toy", 1)
    assert store.versions("toy") == [1, 7]


def test_versions_sort_as_numbers(store: ArtifactStore, publish_fake: Publish) -> None:
    for _ in range(11):
        publish_fake(store)
    assert store.versions("toy")[-2:] == [10, 11]
    assert store.desired("toy") == 11


@pytest.mark.parametrize("folder", ["07", "0", "-1", "1.0", "v2", "2 ", "²", "1" * 10, "copy of 1"])
def test_folder_that_is_no_number_is_no_version(store: ArtifactStore, publish_fake: Publish, folder: str) -> None:
    first = publish_fake(store)
    shutil.copytree(first.path, first.path.parent / folder)
    assert store.versions("toy") == [1]


def test_half_written_folder_is_no_version_and_keeps_its_number(store: ArtifactStore, publish_fake: Publish) -> None:
    first = publish_fake(store)
    half = shutil.copytree(first.path, first.path.parent / "2")
    (half / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"^`toy` has no version 2. Versions: 1.$"):
        store.open("toy", 2)
    assert publish_fake(store).manifest.version == 3


def test_empty_numbered_folder_is_never_renamed_onto(store: ArtifactStore, publish_fake: Publish) -> None:
    (store.root / "toy" / "1").mkdir(parents=True)
    assert publish_fake(store).manifest.version == 2
    assert store.versions("toy") == [2]


def test_file_named_like_a_version_is_stepped_over(store: ArtifactStore, publish_fake: Publish) -> None:
    (store.root / "toy").mkdir(parents=True)
    (store.root / "toy" / "1").write_text("")
    assert publish_fake(store).manifest.version == 2


def test_copied_version_is_refused(store: ArtifactStore, publish_fake: Publish) -> None:
    first = publish_fake(store)
    shutil.copytree(first.path, first.path.parent / "2")
    with pytest.raises(ArtifactError, match=r"^`manifest.json` belongs to toy@1, the folder to toy@2. Versions cannot"):
        store.open("toy", 2)


def test_version_copied_to_another_model_is_refused(store: ArtifactStore, publish_fake: Publish) -> None:
    first = publish_fake(store)
    shutil.copytree(first.path, store.root / "other" / "1")
    with pytest.raises(ArtifactError, match=r"^`manifest.json` belongs to toy@1, the folder to other@1"):
        store.open("other", 1)


@pytest.mark.parametrize(("reference", "version"), [("toy", 2), ("toy@1", 1), ("toy@2", 2)])
def test_reference_resolves_to_its_version(
    store: ArtifactStore, publish_fake: Publish, reference: str, version: int
) -> None:
    publish_fake(store)
    publish_fake(store)
    assert store.resolve(reference).manifest.version == version


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("toy@3", "^`toy` has no version 3. Versions: 1.$"),
        ("other", "^There is no model `other`. Models: toy.$"),
        ("other@1", "^`other` has no version 1. Versions: none.$"),
        ("toy@0", "^A version is named NAME or NAME@VERSION, such as digits@3. Received: toy@0$"),
        ("toy@", "^A version is named NAME or NAME@VERSION"),
        ("toy@latest", "^A version is named NAME or NAME@VERSION"),
        ("@1", "^A version is named NAME or NAME@VERSION"),
        ("", "^A version is named NAME or NAME@VERSION"),
        ("../toy@1", "^A model's name has 1 to 100 letters"),
    ],
)
def test_wrong_reference_is_refused(store: ArtifactStore, artifact: Artifact, reference: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        store.resolve(reference)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("action", ["versions", "desired", "pinned", "unpin"])
def test_name_that_could_leave_the_root_is_refused(store: ArtifactStore, action: str, name: str) -> None:
    with pytest.raises(ArtifactError, match=r"^A model's name has 1 to 100 letters, digits"):
        getattr(store, action)(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_nothing_is_staged_under_a_bad_name(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match=r"^A model's name has"), store.stage(name):
        pass
    assert list(tmp_path.iterdir()) == []


def fail_to_publish(store: ArtifactStore, name: str) -> None:
    with pytest.raises(RuntimeError, match="no room"), store.stage(name):
        raise RuntimeError("no room")


def test_export_that_fails_leaves_no_empty_folder(store: ArtifactStore) -> None:
    fail_to_publish(store, "new")
    assert list(store.root.iterdir()) == []


@pytest.mark.parametrize("content", [[], [".training-5f0c9a2e.npz"], ["notes.txt"]])
def test_export_that_fails_leaves_a_folder_that_was_there(store: ArtifactStore, content: list[str]) -> None:
    folder = store.root / "new"
    folder.mkdir(parents=True)
    for name in content:
        (folder / name).touch()
    fail_to_publish(store, "new")
    assert sorted(path.name for path in folder.iterdir()) == [".lock", *content]


def test_export_that_fails_leaves_what_others_have_put_into_its_folder(store: ArtifactStore) -> None:
    with store.stage("new") as staging:
        (staging.parent / ".training-5f0c9a2e.npz").touch()
    assert sorted(path.name for path in (store.root / "new").iterdir()) == [".lock", ".training-5f0c9a2e.npz"]


def test_highest_version_is_served_without_a_pin(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    publish_fake(store)
    assert (store.pinned("toy"), store.desired("toy")) == (None, 2)


def test_pin_holds_while_later_versions_are_published(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    store.pin("toy", 1)
    publish_fake(store)
    assert (store.pinned("toy"), store.desired("toy"), store.resolve("toy").manifest.version) == (1, 1, 1)


def test_pin_replaces_the_pin_before_it(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    publish_fake(store)
    store.pin("toy", 2)
    store.pin("toy", 1)
    assert json.loads((store.root / "toy" / PIN).read_text()) == {"version": 1}
    assert not list((store.root / "toy").glob(".pin-*"))


def test_unpin_serves_the_highest_again(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    store.pin("toy", 1)
    publish_fake(store)
    store.unpin("toy")
    assert store.desired("toy") == 2


def test_unpin_of_an_unpinned_model_does_nothing(store: ArtifactStore, artifact: Artifact) -> None:
    store.unpin("toy")
    assert store.desired("toy") == 1


def test_missing_version_cannot_be_pinned(store: ArtifactStore, artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"^`toy` has no version 2. Versions: 1.$"):
        store.pin("toy", 2)
    assert store.pinned("toy") is None


def test_pinned_version_that_was_removed_is_not_replaced_by_another(
    store: ArtifactStore, publish_fake: Publish
) -> None:
    publish_fake(store)
    second = publish_fake(store)
    store.pin("toy", 2)
    shutil.rmtree(second.path)
    with pytest.raises(ArtifactError, match=r"^`toy` has no version 2. Versions: 1.$"):
        store.resolve("toy")


@pytest.mark.parametrize("content", ["", "{", "[]", "1", "{}", '{"versions": 1}', "\x00"])
def test_damaged_pin_is_told_with_the_way_out(store: ArtifactStore, artifact: Artifact, content: str) -> None:
    (store.root / "toy" / PIN).write_text(content)
    with pytest.raises(ArtifactError, match=r"^`pin.json` of `toy` cannot be read. Pin the version again, or unpin it"):
        store.desired("toy")


@pytest.mark.parametrize("version", ['"1"', "0", "-1", "1.5", "null", "[1]", "true", "1000000000", "9" * 30])
def test_pin_that_is_no_version_number_is_told(store: ArtifactStore, artifact: Artifact, version: str) -> None:
    (store.root / "toy" / PIN).write_text(f'{{"version": {version}}}')
    with pytest.raises(ArtifactError, match=r"^`pin.json` of `toy` must hold a version number. Received: "):
        store.desired("toy")


def test_damaged_pin_can_be_pinned_over(store: ArtifactStore, artifact: Artifact) -> None:
    (store.root / "toy" / PIN).write_text("{")
    store.pin("toy", 1)
    assert store.desired("toy") == 1


def test_failed_export_leaves_nothing(store: ArtifactStore) -> None:
    with pytest.raises(FileNotFoundError), store.stage("toy") as staging:
        shutil.copyfile(staging / "missing", staging / "model.keras")
    assert (leftovers(store), store.versions("toy")) == ([], [])


def test_staged_version_is_invisible(store: ArtifactStore) -> None:
    with store.stage("toy") as staging:
        (staging / "manifest.json").write_text("{}")
        assert (store.names(), store.versions("toy")) == ([], [])


def test_publish_leaves_no_staging_behind(store: ArtifactStore, artifact: Artifact) -> None:
    assert leftovers(store) == []


def test_root_that_is_a_file_is_an_os_error(store: ArtifactStore) -> None:
    store.root.write_text("not a folder")
    with pytest.raises(OSError, match=r"Not a directory"), store.stage("toy"):
        pass


def test_lock_of_an_export_killed_after_its_rename_is_swept(store: ArtifactStore, publish_fake: Publish) -> None:
    publish_fake(store)
    (store.root / "toy" / ".staging-0123.lock").touch()
    publish_fake(store)
    assert leftovers(store) == []


@pytest.mark.parametrize(("keep", "pinned", "left"), [(2, None, [3, 4]), (1, 2, [2, 4]), (9, None, [1, 2, 3, 4])])
def test_prune_keeps_the_highest_and_the_served_version(
    store: ArtifactStore, publish_fake: Callable[..., Artifact], keep: int, pinned: int | None, left: list[int]
) -> None:
    for _ in range(4):
        publish_fake(store)
    if pinned:
        store.pin("toy", pinned)
    assert store.prune("toy", keep) == [version for version in (1, 2, 3, 4) if version not in left]
    assert store.versions("toy") == left
    assert not list((store.root / "toy").glob(".staging-*"))
    assert publish_fake(store).manifest.version == 5


@pytest.mark.parametrize(("name", "keep", "message"), [("toys", 1, "There is no model `toys`"), ("toy", 0, "at least")])
def test_prune_of_nothing_is_refused(
    store: ArtifactStore, publish_fake: Callable[..., Artifact], name: str, keep: int, message: str
) -> None:
    publish_fake(store)
    with pytest.raises(ArtifactError, match=message):
        store.prune(name, keep)


def test_prune_removes_nothing_where_the_pin_is_damaged(
    store: ArtifactStore, publish_fake: Callable[..., Artifact]
) -> None:
    for _ in range(3):
        publish_fake(store)
    (store.root / "toy" / PIN).write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        store.prune("toy", 1)
    assert store.versions("toy") == [1, 2, 3]


def test_label_names_one_version_and_moves(store: ArtifactStore, publish_fake: Publish) -> None:
    for _ in range(2):
        publish_fake(store)
    store.label("toy", "stable", 1)
    store.label("toy", "canary", 1)
    store.label("toy", "canary", 2)
    assert store.labels("toy") == {"canary": 2, "stable": 1}
    assert leftovers(store) == []


def test_unlabel_takes_one_label_away(store: ArtifactStore, artifact: Artifact) -> None:
    store.label("toy", "stable", 1)
    store.label("toy", "canary", 1)
    store.unlabel("toy", "canary")
    assert store.labels("toy") == {"stable": 1}


@pytest.mark.parametrize(
    ("name", "label", "version", "message"),
    [
        ("toy", "stable", 2, "`toy` has no version 2. Versions: 1."),
        ("other", "stable", 1, "`other` has no version 1. Versions: none."),
        ("toy", "2", 1, "A label has 1 to 100 letters, digits, `_`, `-` or `.`, a letter first. Received: '2'"),
        ("toy", "a/b", 1, "A label has 1 to 100 letters, digits, `_`, `-` or `.`, a letter first. Received: 'a/b'"),
    ],
)
def test_label_that_cannot_be_is_refused(
    store: ArtifactStore, artifact: Artifact, name: str, label: str, version: int, message: str
) -> None:
    with pytest.raises(ArtifactError) as error:
        store.label(name, label, version)
    assert str(error.value) == message
    assert store.labels(name) == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [("toy", "`toy` has no label `gone`. Labels: stable."), ("other", "There is no model `other`. Models: toy.")],
)
def test_unknown_label_cannot_be_taken_away(store: ArtifactStore, artifact: Artifact, name: str, message: str) -> None:
    store.label("toy", "stable", 1)
    with pytest.raises(ArtifactError) as error:
        store.unlabel(name, "gone")
    assert str(error.value) == message


def test_damaged_labels_are_never_written_over(store: ArtifactStore, artifact: Artifact) -> None:
    (store.root / "toy" / LABELS).write_text("{")
    for change in (lambda: store.label("toy", "stable", 1), lambda: store.unlabel("toy", "stable")):
        with pytest.raises(ArtifactError, match="cannot be read"):
            change()
    assert (store.root / "toy" / LABELS).read_text() == "{"


def test_prune_keeps_versions_with_a_label(store: ArtifactStore, publish_fake: Publish) -> None:
    for _ in range(4):
        publish_fake(store)
    store.label("toy", "stable", 2)
    assert store.prune("toy", 1) == [1, 3]

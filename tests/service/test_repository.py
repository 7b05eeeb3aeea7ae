from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact, write_manifest
from models.golden import Golden
from models.store import ArtifactStore
from service.repository import ModelRepository
from service.runtimes.selection import Selection
from service.versions import LoadedModel, State
from tests.service.fakes import FakeRuntimes, publish_fake, selected

ROW = {"x": np.array([[1.0, 2.0]], np.float32)}


@pytest.fixture
def repository(store: ArtifactStore, runtimes: FakeRuntimes) -> ModelRepository:
    return ModelRepository(store, runtimes.load)


def serving(repository: ModelRepository, name: str = "demo") -> int | None:
    model = repository.current(name)
    return model.version if model else None


def answer(repository: ModelRepository, name: str = "demo") -> float:
    """What the model makes of 1, which is its factor."""
    with held(repository, name) as model:
        return float(model.runtime.run(ROW)["y"][0, 0])


@contextmanager
def held(repository: ModelRepository, name: str = "demo") -> Iterator[LoadedModel]:
    """The version that serves, kept loaded until the block ends."""
    model = repository.current(name)
    while model is None or not model.hold():
        model = repository.current(name)
    yield model
    model.release()


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pin_by_hand(store: ArtifactStore, content: str, name: str = "demo") -> None:
    (store.root / name / "pin.json").write_text(content)


def test_new_version_replaces_the_old_one(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, factor=2)
    repository.reconcile()
    publish_fake(store, factor=3)
    repository.reconcile()
    assert (serving(repository), answer(repository)) == (2, 3.0)
    assert repository.problem("demo") == ""


def test_unchanged_version_is_not_loaded_again(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    for _ in range(3):
        repository.reconcile()
    assert runtimes.versions == [1]


def test_version_answers_its_golden_rows_and_then_one_row_before_it_serves(store: ArtifactStore) -> None:
    artifact, seen = publish_fake(store), []

    def load(artifact: Artifact, golden: Golden) -> Selection:
        return selected(Spy(), artifact, golden)

    class Spy:
        name = "spy"

        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            seen.append((len(inputs["x"]), serving(repository)))
            return {"y": inputs["x"] * 2}

        def close(self) -> None:
            raise AssertionError("closed while it serves")

    repository = ModelRepository(store, load)
    repository.reconcile()
    assert (seen, serving(repository)) == ([(2, None), (1, None)], artifact.manifest.version)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("manifest.json", "`manifest.json` is damaged"),
        ("manifest.sha256", "`manifest.json` is damaged"),
        ("golden.npz", "`golden.npz` is damaged"),
        ("model.keras", "`model.keras` is damaged"),
    ],
)
def test_flipped_byte_is_refused_while_the_old_version_serves(
    store: ArtifactStore, repository: ModelRepository, file: str, reason: str
) -> None:
    publish_fake(store, factor=2)
    repository.reconcile()
    flip_a_byte(publish_fake(store, factor=3).path / file)
    repository.reconcile()
    assert (serving(repository), answer(repository)) == (1, 2.0)
    assert repository.statuses("demo")[2].state is State.UNAVAILABLE
    assert repository.statuses("demo")[2].reason.startswith(reason)
    assert repository.problem("demo").startswith(f"Version 2 cannot be served: {reason}")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("manifest.sha256", "`manifest.sha256` is missing"),
        ("golden.npz", "`golden.npz` is missing"),
        ("model.keras", "`model.keras` is missing"),
    ],
)
def test_incomplete_version_is_refused(
    store: ArtifactStore, repository: ModelRepository, file: str, reason: str
) -> None:
    (publish_fake(store).path / file).unlink()
    repository.reconcile()
    assert serving(repository) is None
    assert repository.statuses("demo")[1].reason.startswith(reason)


def test_folder_without_a_manifest_is_no_version(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    (publish_fake(store).path / "manifest.json").unlink()
    repository.reconcile()
    assert (serving(repository), repository.problem("demo")) == (1, "")


def test_file_that_the_manifest_does_not_list_is_refused(store: ArtifactStore, repository: ModelRepository) -> None:
    (publish_fake(store).path / "extra.py").write_text("")
    repository.reconcile()
    assert "`extra.py` is not in the manifest" in repository.problem("demo")


def test_version_copied_under_another_number_is_refused(store: ArtifactStore, repository: ModelRepository) -> None:
    path = publish_fake(store).path
    shutil.copytree(path, path.with_name("2"))
    repository.reconcile()
    assert serving(repository) == 1
    assert "belongs to demo@1" in repository.problem("demo")


def test_golden_mismatch_is_refused_and_its_runtime_closed(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, factor=2)
    publish_fake(store, factor=3, golden_factor=4)
    repository.reconcile()
    assert serving(repository) == 1
    assert "output `y`: 2 of 2 golden rows differ by more than 1e-05" in repository.problem("demo")
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("`Swish` is unknown. Name its module: --layers swish."), "`Swish` is unknown."),
        (RuntimeError("secret detail"), "Loading failed with RuntimeError; the log says more."),
        (MemoryError(), "Loading failed with MemoryError; the log says more."),
        (SystemExit(1), "Loading failed with SystemExit; the log says more."),
        (
            PermissionError(13, "Permission denied", "/srv/model.onnx"),
            "`model.onnx` cannot be read: Permission denied.",
        ),
    ],
)
def test_runtime_that_does_not_load_is_refused(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, error: BaseException, reason: str
) -> None:
    publish_fake(store)
    repository.reconcile()
    publish_fake(store)
    runtimes.error = error
    repository.reconcile()
    assert serving(repository) == 1
    assert repository.problem("demo").startswith(f"Version 2 cannot be served: {reason}")


def test_unforeseen_failure_to_load_is_logged_with_its_traceback(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(store)
    runtimes.error = RuntimeError("secret detail")
    repository.reconcile()
    assert "demo@1 is not served" in caplog.text
    assert "Traceback" in caplog.text


def test_reason_names_no_folder_but_the_log_does(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, caplog: pytest.LogCaptureFixture
) -> None:
    path = publish_fake(store).path
    runtimes.error = ValueError(f"cannot import `a` from `b` ({path}/b.py), see https://keras.io/api")
    repository.reconcile()
    assert repository.statuses("demo")[1].reason == "cannot import `a` from `b` (b.py), see https://keras.io/api"
    assert str(path) in caplog.text


def test_reason_can_be_told_whatever_a_file_is_called(store: ArtifactStore, repository: ModelRepository) -> None:
    (publish_fake(store).path / os.fsdecode(b"\xff.bin")).touch()
    repository.reconcile()
    assert repository.statuses("demo")[1].reason.startswith("`\\udcff.bin` is not in the manifest.")


def test_pin_holds_a_version_until_it_is_taken_away(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, factor=2)
    publish_fake(store, factor=3)
    store.pin("demo", 1)
    repository.reconcile()
    pinned = serving(repository)
    store.unpin("demo")
    repository.reconcile()
    assert (pinned, serving(repository)) == (1, 2)


def test_pin_rolls_back_a_version_that_serves(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, factor=2)
    publish_fake(store, factor=3)
    repository.reconcile()
    store.pin("demo", 1)
    repository.reconcile()
    assert (serving(repository), answer(repository)) == (1, 2.0)


def test_pin_to_a_missing_version_keeps_what_serves(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    repository.reconcile()
    pin_by_hand(store, '{"version": 9}')
    repository.reconcile()
    assert serving(repository) == 1
    assert repository.problem("demo") == "Version 9 cannot be served: `demo` has no version 9. Versions: 1."


def test_pin_to_a_missing_version_is_obeyed_once_it_is_published(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store)
    pin_by_hand(store, '{"version": 2}')
    repository.reconcile()
    before = serving(repository)
    publish_fake(store)
    repository.reconcile()
    assert (before, serving(repository)) == (None, 2)


def test_pin_to_a_missing_version_may_come_and_go(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    for _ in range(2):
        pin_by_hand(store, '{"version": 9}')
        repository.reconcile()
        assert repository.statuses("demo")[9].state is State.UNAVAILABLE
        store.unpin("demo")
        repository.reconcile()
        assert (serving(repository), repository.problem("demo")) == (1, "")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "2"}', '{"version": 0}', "[" * 100_000])
def test_damaged_pin_keeps_what_serves_and_says_so(
    store: ArtifactStore, repository: ModelRepository, content: str
) -> None:
    publish_fake(store)
    repository.reconcile()
    publish_fake(store)
    pin_by_hand(store, content)
    repository.reconcile()
    assert serving(repository) == 1
    assert repository.problem("demo") != ""


def test_damaged_pin_of_one_model_leaves_the_others_alone(store: ArtifactStore, repository: ModelRepository) -> None:
    for name in ("a", "b", "c"):
        publish_fake(store, name)
    pin_by_hand(store, "[" * 100_000, "b")
    repository.reconcile()
    assert [serving(repository, name) for name in ("a", "b", "c")] == [1, None, 1]


def test_cold_start_falls_back_to_an_older_whole_version(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, factor=2)
    for _ in range(2):
        flip_a_byte(publish_fake(store).path / "model.keras")
    repository.reconcile()
    assert serving(repository) == 1
    assert repository.problem("demo").startswith("Version 3 cannot be served: `model.keras` is damaged")
    assert {v: s.state for v, s in repository.statuses("demo").items()} == {
        1: State.READY,
        2: State.UNAVAILABLE,
        3: State.UNAVAILABLE,
    }


def test_cold_start_does_not_fall_back_from_a_pinned_version(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    damaged = publish_fake(store)
    store.pin("demo", 2)
    flip_a_byte(damaged.path / "model.keras")
    repository.reconcile()
    assert serving(repository) is None


def test_version_that_failed_for_want_of_a_resource_is_tried_again(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    runtimes.error = OSError(24, "Too many open files")
    repository.reconcile()
    assert repository.current("demo") is None
    runtimes.error = None
    repository.reconcile()
    assert repository.current("demo") is not None


def test_failed_version_is_tried_again_only_when_its_files_change(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    artifact = publish_fake(store)
    runtimes.error = RuntimeError("no memory")
    repository.reconcile()
    repository.reconcile()
    tries = len(runtimes.versions)
    runtimes.error = None
    write_manifest(artifact.path, artifact.manifest)
    repository.reconcile()
    assert (tries, len(runtimes.versions), serving(repository)) == (1, 2, 1)


def test_failed_version_may_be_moved_away_and_back(
    store: ArtifactStore, repository: ModelRepository, tmp_path: Path
) -> None:
    publish_fake(store)
    path = publish_fake(store).path
    flip_a_byte(path / "model.keras")
    repository.reconcile()
    for source, target in ((path, tmp_path / "aside"), (tmp_path / "aside", path)):
        source.rename(target)
        repository.reconcile()
    assert repository.statuses("demo")[2].state is State.UNAVAILABLE
    assert repository.problem("demo").startswith("Version 2 cannot be served: `model.keras` is damaged")


def test_same_version_with_other_content_is_loaded_again(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, factor=2)
    repository.reconcile()
    shutil.rmtree(store.root / "demo")
    publish_fake(store, factor=5)
    repository.reconcile()
    assert (serving(repository), answer(repository)) == (1, 5.0)
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0]


def test_withdrawn_version_gives_way_to_the_one_before(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, factor=2)
    second = publish_fake(store, factor=3)
    repository.reconcile()
    shutil.rmtree(second.path)
    repository.reconcile()
    assert (serving(repository), answer(repository)) == (1, 2.0)


def test_removed_model_is_dropped_and_closed(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, "stays")
    publish_fake(store, "goes")
    repository.reconcile()
    shutil.rmtree(store.root / "goes")
    repository.reconcile()
    assert (repository.names(), serving(repository, "goes")) == (["stays"], None)
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0]


def test_artifacts_folder_that_is_gone_keeps_what_serves(
    store: ArtifactStore, repository: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    publish_fake(store)
    repository.reconcile()
    shutil.rmtree(store.root)
    repository.reconcile()
    assert answer(repository) == 2.0
    assert "The artifacts folder is gone; what is loaded goes on serving." in caplog.text


def test_model_that_cannot_be_looked_at_leaves_the_others_alone(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    for name in ("a", "b"):
        publish_fake(store, name)
    (store.root / "a" / "pin.json").mkdir()
    repository.reconcile()
    assert (serving(repository, "a"), serving(repository, "b")) == (None, 1)
    assert repository.problem("a") == "The artifacts folder cannot be read: Is a directory."


@pytest.mark.parametrize("unreadable", ["bad", "bad/1"])
def test_folder_that_cannot_be_read_leaves_the_other_models_alone(
    store: ArtifactStore, repository: ModelRepository, unreadable: str
) -> None:
    publish_fake(store, "good")
    repository.reconcile()
    publish_fake(store, "good")
    (store.root / unreadable).parent.mkdir(exist_ok=True)
    (store.root / unreadable).symlink_to("x" * 300)  # not even root may look at it
    repository.reconcile()
    assert (serving(repository, "good"), repository.names()) == (2, ["bad", "good"])
    assert "cannot be read: File name too long." in repository.problem("bad")


def test_model_whose_folder_cannot_be_read_goes_on_serving(
    store: ArtifactStore, repository: ModelRepository, tmp_path: Path
) -> None:
    publish_fake(store)
    repository.reconcile()
    (store.root / "demo").rename(tmp_path / "aside")
    (store.root / "demo").symlink_to("x" * 300)
    repository.reconcile()
    assert answer(repository) == 2.0


def test_missing_folder_is_an_empty_store(repository: ModelRepository) -> None:
    repository.reconcile()
    assert repository.names() == []


@pytest.mark.parametrize(("question", "nothing"), [("current", None), ("statuses", {}), ("problem", "")])
def test_nothing_is_known_of_an_unknown_model(repository: ModelRepository, question: str, nothing: object) -> None:
    assert getattr(repository, question)("nobody") == nothing


def test_replaced_runtime_is_closed_once_and_only_after_its_last_request(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    repository.reconcile()
    with held(repository):
        with held(repository):
            publish_fake(store)
            repository.reconcile()
        assert (serving(repository), runtimes.loaded[0].times_closed) == (2, 0)
    repository.reconcile()
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0]


def test_replaced_version_that_is_closed_cannot_be_held(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    repository.reconcile()
    old = repository.current("demo")
    assert old is not None
    publish_fake(store)
    repository.reconcile()
    assert not old.hold()


def test_close_lets_a_running_request_finish(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    repository.reconcile()
    with held(repository) as model:
        repository.close()
        assert model.runtime.run(ROW)["y"].tolist() == [[2.0, 4.0]]
    assert (repository.names(), runtimes.loaded[0].times_closed) == ([], 1)


def test_runtime_that_fails_to_close_is_logged_and_harms_nobody(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, caplog: pytest.LogCaptureFixture
) -> None:
    runtimes.close_error = "stuck"
    publish_fake(store, factor=2)
    repository.reconcile()
    publish_fake(store, factor=3)
    repository.reconcile()
    assert (answer(repository), repository.problem("demo")) == (3.0, "")
    assert repository.statuses("demo")[2].state is State.READY
    assert "stuck" in caplog.text


def test_every_answer_during_swaps_is_exactly_one_versions(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, factor=1)
    repository.reconcile()
    over, rows = threading.Event(), {"x": np.ones((50, 2), np.float32)}

    def ask() -> set[tuple[int, float]]:
        seen: set[tuple[int, float]] = set()
        while not over.is_set():
            with held(repository) as model:
                seen |= {(model.version, float(value)) for value in model.runtime.run(rows)["y"].ravel()}
        return seen

    with ThreadPoolExecutor(2) as pool:
        askers = [pool.submit(ask) for _ in range(2)]
        for factor in range(2, 22):
            publish_fake(store, factor=factor)
            repository.reconcile()
        over.set()
        seen = set().union(*(asker.result() for asker in askers))
    assert len(seen) > 1
    assert all(version == factor for version, factor in seen)
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1] * 20 + [0]

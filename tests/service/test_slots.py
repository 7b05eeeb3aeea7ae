"""Several versions of a model at once, and labels; `test_repository.py` has the rules for the one that serves."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from models.store import ArtifactStore
from service.metrics import Metrics
from service.repository import ModelRepository
from service.versions import State
from tests.service.fakes import FakeRuntimes, publish_fake

Of = Callable[[int], ModelRepository]
ALL = 10**9


@pytest.fixture
def of(store: ArtifactStore, runtimes: FakeRuntimes) -> Of:
    """A repository that loads so many of the highest versions."""
    return lambda newest: ModelRepository(store, runtimes.load, lambda name: newest)


def publish(store: ArtifactStore, count: int) -> None:
    for _ in range(count):
        publish_fake(store)


def damage(store: ArtifactStore, version: int) -> None:
    (store.root / "demo" / str(version) / "model.keras").write_text("scale 77")


def serving(repository: ModelRepository) -> tuple[int | None, list[int], dict[str, int]]:
    """The version that answers by itself, those that answer to their number, and those that answer to a label."""
    current = repository.current("demo")
    labelled = {label: model.version for label, model in repository.labelled("demo").items()}
    return current.version if current else None, sorted(repository.loaded("demo")), labelled


@pytest.mark.parametrize(
    ("newest", "loaded"), [(0, [4]), (1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4]), (ALL, [1, 2, 3, 4])]
)
def test_newest_versions_are_loaded_and_the_highest_serves(
    store: ArtifactStore, of: Of, newest: int, loaded: list[int]
) -> None:
    publish(store, 4)
    repository = of(newest)
    repository.reconcile()
    assert serving(repository) == (4, loaded, {})
    assert {status.state for status in repository.statuses("demo").values()} == {State.READY}


def test_pinned_version_serves_beside_the_newest(store: ArtifactStore, of: Of) -> None:
    publish(store, 4)
    store.pin("demo", 1)
    repository = of(2)
    repository.reconcile()
    assert serving(repository) == (1, [1, 3, 4], {})


def test_version_that_is_no_longer_among_the_newest_is_closed_and_the_others_are_not(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes
) -> None:
    repository = of(2)
    for _ in range(3):
        publish(store, 1)
        repository.reconcile()
    assert serving(repository) == (3, [2, 3], {})
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0, 0]


def test_version_that_serves_is_loaded_first_then_the_others_from_the_highest(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes
) -> None:
    publish(store, 4)
    store.pin("demo", 2)
    of(ALL).reconcile()
    assert runtimes.versions == [2, 4, 3, 1]


def test_version_that_fails_touches_no_other_and_returns_once_it_is_mended(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes
) -> None:
    publish(store, 3)
    whole = (store.root / "demo" / "2" / "model.keras").read_text()
    damage(store, 2)
    repository = of(ALL)
    repository.reconcile()
    assert serving(repository) == (3, [1, 3], {})
    assert repository.problem("demo").startswith("Version 2 cannot be served: `model.keras` is damaged")
    assert repository.statuses("demo")[2].state is State.UNAVAILABLE
    (store.root / "demo" / "2" / "model.keras").write_text(whole)
    repository.reconcile()
    assert (serving(repository), repository.problem("demo")) == ((3, [1, 2, 3], {}), "")
    assert runtimes.versions == [3, 1, 2]


def test_highest_version_that_is_whole_serves_where_all_are_loaded(store: ArtifactStore, of: Of) -> None:
    publish(store, 3)
    damage(store, 3)
    repository = of(ALL)
    repository.reconcile()
    assert serving(repository) == (2, [1, 2], {})


def test_old_version_serves_on_beside_the_newest_until_the_desired_one_is_ready(store: ArtifactStore, of: Of) -> None:
    publish(store, 1)
    repository = of(2)
    repository.reconcile()
    publish(store, 2)
    damage(store, 3)
    repository.reconcile()
    assert serving(repository) == (1, [1, 2], {})


@pytest.mark.parametrize("file", ["manifest.json", "model.keras", "golden.npz"])
def test_loaded_version_whose_files_go_wrong_stays_ready_and_says_so_until_they_are_mended(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes, file: str
) -> None:
    publish(store, 2)
    repository = of(ALL)
    repository.reconcile()
    path = store.root / "demo" / "1" / file
    whole = path.read_bytes()
    path.write_bytes(b"{")
    for _ in range(2):
        repository.reconcile()
        assert serving(repository) == (2, [1, 2], {})
        status = repository.statuses("demo")[1]
        assert status.state is State.READY
        assert f"`{file}` is damaged" in status.reason
        assert repository.problem("demo") == f"Version 1 cannot be loaded again: {status.reason}"
    path.write_bytes(whole)
    repository.reconcile()
    assert (repository.statuses("demo")[1].reason, repository.problem("demo")) == ("", "")
    assert runtimes.versions == [2, 1]


def test_withdrawn_version_is_closed(store: ArtifactStore, of: Of, runtimes: FakeRuntimes) -> None:
    publish(store, 3)
    repository = of(ALL)
    repository.reconcile()
    shutil.rmtree(store.root / "demo" / "2")
    repository.reconcile()
    assert serving(repository) == (3, [1, 3], {})
    assert list(repository.statuses("demo")) == [1, 3]
    assert [runtime.times_closed for runtime in runtimes.loaded] == [0, 1, 0]


def test_drift_is_that_of_the_version_that_takes_over_and_of_no_other(
    store: ArtifactStore, runtimes: FakeRuntimes
) -> None:
    for factor in (2, 3, 5):
        publish_fake(store, factor=factor)
    metrics = Metrics()
    repository = ModelRepository(store, runtimes.load, lambda name: ALL, metrics)
    repository.reconcile()
    before = metrics.snapshot().get("layerserve_drift_max_abs_error")
    store.pin("demo", 1)
    repository.reconcile()
    after = metrics.snapshot()["layerserve_drift_max_abs_error"]
    assert (before, after) == (None, [(("demo", "1", "3"), 9.0)])


def test_label_loads_its_version_and_lets_go_of_it(store: ArtifactStore, of: Of, runtimes: FakeRuntimes) -> None:
    publish(store, 3)
    store.label("demo", "stable", 1)
    repository = of(0)
    repository.reconcile()
    assert serving(repository) == (3, [1, 3], {"stable": 1})
    store.unlabel("demo", "stable")
    repository.reconcile()
    assert serving(repository) == (3, [3], {})
    assert [runtime.times_closed for runtime in runtimes.loaded] == [0, 1]


def test_label_moves_only_to_a_version_that_is_ready(store: ArtifactStore, of: Of) -> None:
    publish(store, 3)
    store.label("demo", "stable", 1)
    repository = of(0)
    repository.reconcile()
    store.label("demo", "stable", 2)
    whole = (store.root / "demo" / "2" / "model.keras").read_text()
    damage(store, 2)
    repository.reconcile()
    assert serving(repository) == (3, [1, 3], {"stable": 1})
    assert "Version 2 cannot be served" in repository.problem("demo")
    (store.root / "demo" / "2" / "model.keras").write_text(whole)
    repository.reconcile()
    assert serving(repository) == (3, [2, 3], {"stable": 2})


def test_label_of_a_version_that_cannot_serve_is_known_and_names_nothing(store: ArtifactStore, of: Of) -> None:
    publish(store, 2)
    store.label("demo", "stable", 1)
    damage(store, 1)
    repository = of(0)
    repository.reconcile()
    assert serving(repository) == (2, [2], {})
    assert repository.labels("demo") == {"stable": 1}


def test_labelled_version_does_not_stand_in_for_a_pinned_one(store: ArtifactStore, of: Of) -> None:
    publish(store, 2)
    store.label("demo", "stable", 1)
    store.pin("demo", 2)
    damage(store, 2)
    repository = of(0)
    repository.reconcile()
    assert serving(repository) == (None, [1], {"stable": 1})


def test_cold_start_falls_back_to_the_highest_whole_version_not_to_a_labelled_one(store: ArtifactStore, of: Of) -> None:
    publish(store, 3)
    store.label("demo", "stable", 1)
    damage(store, 3)
    repository = of(0)
    for _ in range(2):
        repository.reconcile()
        assert serving(repository) == (2, [1, 2], {"stable": 1})


def test_damaged_labels_stay_what_they_were_while_versions_move(store: ArtifactStore, of: Of) -> None:
    publish(store, 1)
    store.label("demo", "stable", 1)
    repository = of(0)
    repository.reconcile()
    (store.root / "demo" / "labels.json").write_text("[" * 100_000)
    publish(store, 1)
    repository.reconcile()
    assert serving(repository) == (2, [1, 2], {"stable": 1})
    assert repository.problem("demo").startswith("`labels.json` of `demo` cannot be read.")


def test_version_made_anew_takes_over_its_number_and_its_labels(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes
) -> None:
    publish(store, 1)
    repository = of(ALL)
    repository.reconcile()
    shutil.rmtree(store.root / "demo")
    publish_fake(store, factor=5)
    store.label("demo", "stable", 1)
    repository.reconcile()
    models = [repository.current("demo"), repository.loaded("demo")[1], repository.labelled("demo")["stable"]]
    assert [model.runtime if model else None for model in models] == [runtimes.loaded[1]] * 3
    assert [runtime.times_closed for runtime in runtimes.loaded] == [1, 0]


def test_retired_version_is_closed_once_however_often_it_is_retired(
    store: ArtifactStore, of: Of, runtimes: FakeRuntimes
) -> None:
    publish(store, 1)
    repository = of(0)
    repository.reconcile()
    model = repository.current("demo")
    assert model is not None
    assert model.hold()
    for _ in range(2):
        model.retire()
    model.release()
    model.retire()
    assert runtimes.loaded[0].times_closed == 1


def test_labels_that_are_given_win_over_those_on_disk(store: ArtifactStore, runtimes: FakeRuntimes) -> None:
    publish(store, 4)
    store.label("demo", "stable", 1)
    store.label("demo", "canary", 3)
    given = {"demo": {"stable": 2}}
    repository = ModelRepository(store, runtimes.load, labels=lambda name: given.get(name, {}))
    repository.reconcile()
    assert serving(repository) == (4, [2, 3, 4], {"stable": 2, "canary": 3})


def test_label_that_is_given_and_names_no_version_serves_nothing(store: ArtifactStore, runtimes: FakeRuntimes) -> None:
    publish(store, 1)
    repository = ModelRepository(store, runtimes.load, labels=lambda name: {"stable": 9})
    repository.reconcile()
    assert serving(repository) == (1, [1], {})
    assert repository.statuses("demo")[9].state is State.UNAVAILABLE


def test_given_labels_outlive_a_damaged_file(store: ArtifactStore, runtimes: FakeRuntimes) -> None:
    publish(store, 2)
    (store.root / "demo" / "labels.json").write_text("{")
    repository = ModelRepository(store, runtimes.load, labels=lambda name: {"stable": 1})
    repository.reconcile()
    assert serving(repository) == (2, [1, 2], {"stable": 1})
    assert "`labels.json` of `demo` cannot be read" in repository.problem("demo")

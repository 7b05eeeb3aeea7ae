"""Whatever is published, pinned, labelled, damaged, mended and withdrawn: whole versions serve, and all are closed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from models.store import ArtifactStore
from service.repository import ModelRepository
from service.versions import LoadedModel
from tests.examples import examples
from tests.service.fakes import FakeRuntimes, publish_fake

NAME = "demo"
ROW = {"x": np.array([[1.0, 2.0]], np.float32)}
CHOICES = st.integers(0, 3)
LABELS = st.sampled_from(["stable", "canary"])


class Operator(RuleBasedStateMachine):
    """One model's folder, changed in any order. Version n multiplies by n, so an answer says who gave it."""

    @initialize(newest=st.sampled_from([0, 1, 2, 100]))
    def build(self, newest: int) -> None:
        self.folder, self.newest = Path(tempfile.mkdtemp()), newest
        self.store, self.runtimes = ArtifactStore(self.folder), FakeRuntimes()
        self.repository = ModelRepository(self.store, self.runtimes.load, lambda name: newest)
        self.published: dict[int, str] = {}
        self.broken: set[int] = set()
        self.in_flight: list[LoadedModel] = []
        self.publish(is_right=True)
        self.publish(is_right=True)

    @rule(is_right=st.booleans(), batch_safe=st.booleans())
    def publish(self, is_right: bool, batch_safe: bool = False) -> None:
        """A number that was withdrawn may come again, with the same answers and perhaps another manifest."""
        number = max([0, *self.published]) + 1
        golden = number if is_right else -1
        artifact = publish_fake(self.store, NAME, factor=number, golden_factor=golden, batch_safe=batch_safe)
        assert artifact.manifest.version == number
        self.published[number] = self.file(number).read_text()
        self.broken -= {number}
        if not is_right:
            self.broken.add(number)

    @precondition(lambda self: self.published)
    @rule(choice=CHOICES)
    def damage(self, choice: int) -> None:
        self.file(self.chosen(choice)).write_text("no model")

    @precondition(lambda self: self.published)
    @rule(choice=CHOICES)
    def mend(self, choice: int) -> None:
        version = self.chosen(choice)
        self.file(version).write_text(self.published[version])

    @precondition(lambda self: self.published)
    @rule(choice=CHOICES)
    def withdraw(self, choice: int) -> None:
        version = self.chosen(choice)
        del self.published[version]
        shutil.rmtree(self.file(version).parent)

    @precondition(lambda self: self.published)
    @rule(choice=CHOICES)
    def pin(self, choice: int) -> None:
        self.store.pin(NAME, self.chosen(choice))

    @precondition(lambda self: self.published)
    @rule(batch_safe=st.booleans())
    def make_anew(self, batch_safe: bool) -> None:
        self.withdraw(0)
        self.publish(is_right=True, batch_safe=batch_safe)

    @rule()
    def unpin(self) -> None:
        self.store.unpin(NAME)

    @precondition(lambda self: self.published)
    @rule(label=LABELS, choice=CHOICES)
    def label(self, label: str, choice: int) -> None:
        self.store.label(NAME, label, self.chosen(choice))

    @rule(label=LABELS)
    def unlabel(self, label: str) -> None:
        if self.published and label in self.store.labels(NAME):
            self.store.unlabel(NAME, label)

    @rule(choice=CHOICES)
    def begin_request(self, choice: int) -> None:
        models = list(self.repository.loaded(NAME).values())
        if models:
            assert models[choice % len(models)].hold()
            self.in_flight.append(models[choice % len(models)])

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def end_request(self, data: st.DataObject) -> None:
        model = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        assert answer(model) == model.version
        model.release()

    @rule()
    def look(self) -> None:
        self.reconcile()

    @rule()
    def reconcile(self) -> None:
        current, labelled = self.current(), self.labelled()
        self.repository.reconcile()
        loaded = self.repository.loaded(NAME)
        if not self.published:
            assert not loaded
            return
        self.check_current(current)
        self.check_labels(labelled)
        whole = {version for version in self.wanted() if self.is_whole(version)}
        serving = {*self.labelled().values(), *filter(None, [self.current()])}
        assert whole | serving <= loaded.keys()
        assert all(loaded[version].artifact == self.store.open(NAME, version) for version in whole)
        assert loaded.keys() <= self.wanted() | serving
        assert [answer(model) for model in loaded.values()] == list(loaded)

    def chosen(self, choice: int) -> int:
        """One of the published versions, counted from the highest."""
        return sorted(self.published, reverse=True)[choice % len(self.published)]

    def check_current(self, before: int | None) -> None:
        desired, loaded = self.store.desired(NAME), self.repository.loaded(NAME)
        if desired in loaded:
            assert self.current() == desired
        elif before or self.store.pinned(NAME):
            assert self.current() == before
        else:
            assert self.current() == max(filter(self.is_whole, self.published), default=None)
        if any(version not in loaded for version in self.wanted()):
            assert self.repository.problem(NAME)
        elif all(map(self.is_whole, self.wanted())):
            assert not self.repository.problem(NAME)

    def check_labels(self, before: dict[str, int]) -> None:
        loaded, labels = self.repository.loaded(NAME), self.store.labels(NAME)
        expected = {label: version if version in loaded else before.get(label) for label, version in labels.items()}
        assert self.labelled() == {label: version for label, version in expected.items() if version}

    def current(self) -> int | None:
        model = self.repository.current(NAME)
        return model.version if model else None

    def labelled(self) -> dict[str, int]:
        return {label: model.version for label, model in self.repository.labelled(NAME).items()}

    def wanted(self) -> set[int]:
        newest = sorted(self.published)[max(0, len(self.published) - self.newest) :]
        return {*newest, *self.store.labels(NAME).values(), *filter(None, [self.store.desired(NAME)])}

    def is_whole(self, version: int) -> bool:
        if version not in self.published or version in self.broken:
            return False
        return self.file(version).read_text() == self.published[version]

    def file(self, version: int) -> Path:
        return self.folder / NAME / str(version) / "model.keras"

    def teardown(self) -> None:
        """In the end all are closed, once, those with requests in flight after the last of these."""
        shutil.rmtree(self.folder)  # first, since what follows may fail
        self.repository.close()
        for model in self.in_flight:
            assert answer(model) == model.version
            model.release()
        assert [runtime.times_closed for runtime in self.runtimes.loaded] == [1] * len(self.runtimes.loaded)


def answer(model: LoadedModel) -> float:
    """What it makes of 1. A fake runtime refuses to run once it is closed."""
    return float(model.runtime.run(ROW)["y"][0, 0])


Operator.TestCase.settings = settings(
    max_examples=examples(30), stateful_step_count=30, deadline=None, derandomize=True
)
TestOperator = pytest.mark.filterwarnings("default")(Operator.TestCase)

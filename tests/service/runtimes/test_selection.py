"""The rules of the choice, on fake runtimes that differ in speed and answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.artifact import Artifact, ArtifactError
from models.golden import Golden, read_golden
from models.manifest import FormatRecord, Tensors
from models.store import ArtifactStore
from service.runtimes import RUNTIMES, Runtime
from service.runtimes.selection import fastest, only
from service.runtimes.trial import DifferentAnswersError
from tests.service.fakes import publish_fake

FORMATS = ("keras", "saved_model", "onnx", "litert", "openvino")


class Worker:
    """Doubles its input after so many steps of work."""

    def __init__(self, name: str, steps: int, factor: float = 2.0) -> None:
        self.name = name
        self.steps = steps
        self.factor = factor
        self.is_closed = False

    def run(self, inputs: Tensors) -> Tensors:
        assert not self.is_closed
        sum(range(self.steps))
        return {"y": inputs["x"] * np.float32(self.factor)}

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Loader:
    """Loads what `make` gives, and keeps it."""

    make: Callable[[str, int], Worker | BaseException]
    loaded: list[Worker] = field(default_factory=list)

    def __call__(self, name: str, threads: int) -> Runtime:
        made = self.make(name, threads)
        if isinstance(made, BaseException):
            raise made
        self.loaded.append(made)
        return made

    def names(self) -> list[str]:
        return [worker.name for worker in self.loaded]

    def open(self) -> list[Worker]:
        return [worker for worker in self.loaded if not worker.is_closed]


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in RUNTIMES.items():
        monkeypatch.setitem(RUNTIMES, name, replace(kind, package="numpy"))
    monkeypatch.setattr("service.runtimes.selection.available_cores", lambda: 1)


def version(store: ArtifactStore, *formats: str) -> tuple[Artifact, Golden]:
    artifact = publish_fake(store)
    records = {name: FormatRecord(path="model.keras", max_abs_error=0.0, tolerance=1e-5) for name in formats or FORMATS}
    manifest = artifact.manifest.model_copy(update={"formats": records})
    return replace(artifact, manifest=manifest), read_golden(artifact)


@pytest.mark.parametrize("quick", ["litert", "onnx", "openvino"])
def test_fastest_that_agrees_serves_and_the_others_are_closed(store: ArtifactStore, quick: str) -> None:
    load = Loader(lambda name, _: Worker(name, 0 if name == quick else 5000))
    selection = fastest(load, *version(store))
    trials = {trial.runtime: trial for trial in selection.trials}
    assert (selection.runtime.name, [worker.name for worker in load.open()]) == (quick, [quick])
    assert [name for name, trial in trials.items() if trial.is_chosen] == [quick]
    slower = [trial for name, trial in trials.items() if trial.agrees and name != quick]
    assert [trial.reason for trial in slower] == [f"Slower than {quick}."] * 2
    assert all(set(trial.microseconds or {}) == {1, 8, 32} for trial in slower)


def test_tensorflow_is_not_loaded_where_a_light_runtime_agrees(store: ArtifactStore) -> None:
    load = Loader(lambda name, _: Worker(name, 0))
    selection = fastest(load, *version(store))
    assert load.names() == ["litert", "onnx", "openvino"]
    reasons = {trial.runtime: trial.reason for trial in selection.trials}
    assert reasons["keras"].startswith("Not tried: ")
    assert reasons["saved_model"].startswith("Not tried: ")


def test_less_exact_runtime_is_taken_only_by_name(store: ArtifactStore) -> None:
    load = Loader(lambda name, _: Worker(name, 0, factor=2.01))
    assert only(load, "openvino-bf16", *version(store)).runtime.name == "openvino-bf16"
    with pytest.raises(ArtifactError, match=r"openvino-bf16: Not tried: it is less exact"):
        fastest(load, *version(store))


def test_runtime_with_other_answers_is_closed_however_fast_it_is(store: ArtifactStore) -> None:
    load = Loader(lambda name, _: Worker(name, 0, 3.0) if name == "litert" else Worker(name, 1000))
    selection = fastest(load, *version(store, "litert", "onnx"))
    litert = selection.trials[0]
    assert (selection.runtime.name, litert.agrees, litert.max_abs_error) == ("onnx", False, 3.0)
    assert "The golden answers are not reproduced: output `y`: 2 of 2 golden rows differ" in litert.reason
    assert [worker.name for worker in load.open()] == ["onnx"]


def test_answers_of_another_dtype_do_not_agree(store: ArtifactStore) -> None:
    class Wide(Worker):
        def run(self, inputs: Tensors) -> Tensors:
            return {"y": (inputs["x"] * 2).astype(np.float64)}

    with pytest.raises(DifferentAnswersError, match="output `y` is float64 instead of float32"):
        only(Loader(lambda name, _: Wide(name, 0)), "onnx", *version(store))


@pytest.mark.parametrize("error", [RuntimeError("no such operator"), ValueError("not a model"), SystemExit(1)])
def test_runtime_that_cannot_load_leaves_the_others(store: ArtifactStore, error: BaseException) -> None:
    load = Loader(lambda name, _: error if name == "litert" else Worker(name, 0))
    selection = fastest(load, *version(store, "litert", "onnx"))
    assert selection.runtime.name == "onnx"
    assert selection.trials[0].reason == f"It cannot be used. {type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("formats", "served"), [(("keras", "saved_model"), "keras"), (("saved_model",), "saved_model")]
)
def test_without_a_light_runtime_the_first_heavy_one_serves(
    store: ArtifactStore, formats: tuple[str, ...], served: str
) -> None:
    load = Loader(lambda name, _: Worker(name, 0))
    assert fastest(load, *version(store, *formats)).runtime.name == served
    assert load.names() == [served]


def test_when_nothing_can_serve_every_reason_is_given(store: ArtifactStore) -> None:
    load = Loader(lambda name, _: Worker(name, 0, factor=3.0))
    with pytest.raises(ArtifactError) as caught:
        fastest(load, *version(store, "keras", "onnx"))
    assert str(caught.value).startswith("No runtime can serve this version. litert: The version has no format `litert`")
    assert "onnx: The golden answers are not reproduced" in str(caught.value)
    assert "keras: The golden answers are not reproduced" in str(caught.value)
    assert load.open() == []


def test_named_runtime_must_agree_too(store: ArtifactStore) -> None:
    load = Loader(lambda name, _: Worker(name, 0, factor=3.0))
    with pytest.raises(DifferentAnswersError, match="The golden answers are not reproduced"):
        only(load, "onnx", *version(store))
    assert load.open() == []


@pytest.mark.parametrize(("steps_when_shared", "threads"), [(0, 4), (400_000, 1)])
def test_long_call_is_shared_among_the_cores_if_that_is_faster(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, steps_when_shared: int, threads: int
) -> None:
    monkeypatch.setattr("service.runtimes.selection.available_cores", lambda: 4)
    load = Loader(lambda name, given: Worker(name, 200_000 if given == 1 else steps_when_shared))
    selection = only(load, "onnx", *version(store))
    assert (selection.trials[0].threads, len(load.loaded), len(load.open())) == (threads, 2, 1)


def test_short_call_stays_on_one_core(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.runtimes.selection.available_cores", lambda: 4)
    load = Loader(lambda name, _: Worker(name, 0))
    assert only(load, "onnx", *version(store)).trials[0].threads == 1
    assert len(load.loaded) == 1


@pytest.mark.parametrize("failure", ["load", "answers"])
def test_runtime_that_fails_with_all_cores_serves_with_one(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    monkeypatch.setattr("service.runtimes.selection.available_cores", lambda: 4)

    def make(name: str, threads: int) -> Worker | BaseException:
        if threads > 1 and failure == "load":
            return RuntimeError("no threads to be had")
        return Worker(name, 200_000 if threads == 1 else 0, factor=2.0 if threads == 1 else 2.001)

    load = Loader(make)
    selection = only(load, "onnx", *version(store))
    assert (selection.trials[0].threads, selection.trials[0].agrees) == (1, True)
    assert load.open() == [selection.runtime]

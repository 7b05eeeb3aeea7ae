from __future__ import annotations

import numpy as np
import pytest

from models.golden import read_golden
from models.manifest import Tensors
from models.store import ArtifactStore
from service.drift import drift
from service.runtimes import Runtime
from service.versions import LoadedModel
from tests.service.fakes import MODELS, FakeRuntime, publish_fake


class Raising:
    name = "raising"

    def run(self, inputs: Tensors) -> Tensors:
        raise RuntimeError("no kernel for this")

    def close(self) -> None: ...


def loaded(
    store: ArtifactStore, kind: str = "scale", factor: float = 1.0, runtime: Runtime | None = None
) -> LoadedModel:
    """The next version, which multiplies by `factor`."""
    artifact = publish_fake(store, kind=kind, factor=factor)
    return LoadedModel(artifact, runtime or FakeRuntime(MODELS[kind].function, factor), read_golden(artifact))


@pytest.fixture
def old(store: ArtifactStore) -> LoadedModel:
    return loaded(store, factor=2.0)


def test_drift_is_the_largest_difference_on_the_old_golden_rows(store: ArtifactStore, old: LoadedModel) -> None:
    assert drift(loaded(store, factor=4.0), old) == (1, 6.0)


def test_same_answers_drift_by_nothing(store: ArtifactStore, old: LoadedModel) -> None:
    assert drift(loaded(store, factor=2.0), old) == (1, 0.0)


def test_version_with_other_inputs_has_no_drift(store: ArtifactStore, old: LoadedModel) -> None:
    assert drift(loaded(store, "classify"), old) is None


def test_version_that_fails_on_the_old_rows_is_logged_and_has_no_drift(
    store: ArtifactStore, old: LoadedModel, caplog: pytest.LogCaptureFixture
) -> None:
    assert drift(loaded(store, runtime=Raising()), old) is None
    assert caplog.messages == ["demo@2 cannot answer the golden rows of version 1."]


def test_answer_that_is_not_a_number_drifts_by_infinity(store: ArtifactStore, old: LoadedModel) -> None:
    nan = FakeRuntime(MODELS["scale"].function, np.nan)
    assert drift(loaded(store, runtime=nan), old) == (1, np.inf)

from __future__ import annotations

import numpy as np
import pytest

from models.artifact import Artifact
from models.golden import read_golden
from models.manifest import Tensors
from models.store import ArtifactStore
from service.drift import drift
from tests.service.fakes import MODELS, FakeRuntime, publish_fake


class Raising:
    name = "raising"

    def run(self, inputs: Tensors) -> Tensors:
        raise RuntimeError("no kernel for this")

    def close(self) -> None: ...


def runtime(kind: str, factor: float) -> FakeRuntime:
    return FakeRuntime(MODELS[kind].function, factor)


@pytest.fixture
def old(store: ArtifactStore) -> Artifact:
    return publish_fake(store, factor=2.0)


def test_drift_is_the_largest_difference_on_the_old_golden_rows(store: ArtifactStore, old: Artifact) -> None:
    new = publish_fake(store, factor=4.0)
    assert drift(new, runtime("scale", 4.0), old, read_golden(old)) == (1, 6.0)


def test_same_answers_drift_by_nothing(store: ArtifactStore, old: Artifact) -> None:
    new = publish_fake(store, factor=2.0)
    assert drift(new, runtime("scale", 2.0), old, read_golden(old)) == (1, 0.0)


def test_version_with_other_inputs_has_no_drift(store: ArtifactStore, old: Artifact) -> None:
    new = publish_fake(store, kind="classify")
    assert drift(new, runtime("classify", 2.0), old, read_golden(old)) is None


def test_version_that_fails_on_the_old_rows_is_logged_and_has_no_drift(
    store: ArtifactStore, old: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    new = publish_fake(store)
    assert drift(new, Raising(), old, read_golden(old)) is None
    assert caplog.messages == ["demo@2 cannot answer the golden rows of version 1."]


def test_answer_that_is_not_a_number_drifts_by_infinity(store: ArtifactStore, old: Artifact) -> None:
    new = publish_fake(store)
    assert drift(new, runtime("scale", np.nan), old, read_golden(old)) == (1, np.inf)

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable

import pytest

from models.store import ArtifactStore
from service.engine import Engine
from service.limits import Limits
from service.metrics import Metrics
from service.protocols import v2_together
from service.protocols.predict import Predictor, Target, parse_url
from service.repository import ModelRepository
from tests.service.fakes import FakeRuntimes, publish_fake

LIMITS = Limits(max_batch_size=64, max_queue_size=1000, max_queue_delay_ms=0, request_timeout=60, threads=2)


@pytest.fixture
def repository(store: ArtifactStore, runtimes: FakeRuntimes) -> ModelRepository:
    return ModelRepository(store, runtimes.load)


@pytest.fixture
def predictor(repository: ModelRepository) -> Predictor:
    return Predictor(Engine(repository, default_model=None, reload_interval=3600, limits=LIMITS), Metrics())


def test_plan_is_made_once_for_a_version(
    store: ArtifactStore, repository: ModelRepository, predictor: Predictor
) -> None:
    publish_fake(store)
    repository.reconcile()
    plans = {predictor.plan(target) for target in (Target(), Target("demo"), Target("demo", "1"))}
    assert len(plans) == 1


def test_plan_is_dropped_with_its_version(
    store: ArtifactStore, repository: ModelRepository, predictor: Predictor
) -> None:
    plans = []
    for _ in range(3):
        publish_fake(store)
        repository.reconcile()
        plans.append(weakref.ref(predictor.plan(Target())))
    gc.collect()
    assert [plan() is None for plan in plans] == [True, True, False]


@pytest.mark.parametrize("parse", [parse_url, v2_together.parse_url])
def test_long_url_is_none_of_ours_and_is_not_kept(parse: Callable[[bytes], object]) -> None:
    url = b"/models/%b/predict" % (b"a" * 60_000)
    before = sys.getrefcount(url)
    assert parse(url) is None
    assert sys.getrefcount(url) == before

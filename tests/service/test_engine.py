from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest

from models.manifest import Tensors
from models.store import ArtifactStore
from service.engine import Engine
from service.errors import DeadlineExceeded, InvalidRequest, NotFound, NotReady
from service.inference import InferenceRequest, InferenceResponse
from service.limits import Limits
from service.repository import ModelRepository
from service.versions import LoadedModel
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

pytestmark = pytest.mark.anyio

ROWS = {"x": np.array([[1.0, 2.0]], np.float32)}
NEVER = 3600.0
LIMITS = Limits(max_batch_size=64, max_queue_size=1000, max_queue_delay_ms=0, request_timeout=NEVER, threads=2)


def engine_of(repository: ModelRepository, *, default_model: str | None = None, interval: float = NEVER) -> Engine:
    return Engine(repository, default_model=default_model, reload_interval=interval, limits=LIMITS)


@pytest.fixture
def repository(store: ArtifactStore, runtimes: FakeRuntimes) -> ModelRepository:
    return ModelRepository(store, runtimes.load)


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def happens(condition: Callable[[], bool]) -> None:
    """Waits without holding up the event loop."""
    await asyncio.to_thread(wait_until, condition)


async def test_answer_carries_outputs_model_version_and_runtime(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    artifact = publish_fake(store, factor=3)
    repository.reconcile()
    response = await engine_of(repository).infer(InferenceRequest(ROWS))
    assert response.outputs["y"].tolist() == [[3.0, 6.0]]
    assert (response.model, response.version, response.runtime) == ("demo", 1, "fake")
    assert response.signature == artifact.manifest.signature


async def test_metadata_describes_the_version_that_serves(store: ArtifactStore, repository: ModelRepository) -> None:
    artifact = publish_fake(store)
    repository.reconcile()
    metadata = engine_of(repository).metadata("demo")
    assert (metadata.name, metadata.version, metadata.runtime) == ("demo", 1, "fake")
    assert (metadata.signature, metadata.metrics) == (artifact.manifest.signature, {"test_accuracy": 0.5})
    assert metadata.golden.outputs["y"].tolist() == [[2.0, 4.0], [1.0, -6.0]]
    assert metadata.created_at == "2025-01-02T00:00:00+00:00"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"z": ROWS["x"]}, "The inputs must be `x`. Received: `z`."),
        ({"x": ROWS["x"][:, :1]}, "Input `x` must have shape (rows, 2). Received: shape (1, 1)."),
    ],
)
async def test_inputs_are_checked_before_they_run(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, inputs: Tensors, message: str
) -> None:
    publish_fake(store)
    repository.reconcile()
    runtimes.loaded[0].started.clear()
    with pytest.raises(InvalidRequest) as caught:
        await engine_of(repository).infer(InferenceRequest(inputs))
    assert str(caught.value) == message
    assert not runtimes.loaded[0].started.is_set()


async def test_several_models_without_a_default_must_be_named(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store, "ants", factor=2)
    publish_fake(store, "bees", factor=3)
    repository.reconcile()
    engine = engine_of(repository)
    with pytest.raises(NotFound) as caught:
        engine.metadata()
    assert str(caught.value) == (
        "Several models are served: ants, bees. POST to /models/{name}/predict, or set LAYERSERVE_DEFAULT_MODEL."
    )
    assert (await engine.infer(InferenceRequest(ROWS, "bees"))).outputs["y"].tolist() == [[3.0, 6.0]]


async def test_default_model_of_the_settings_answers(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store, "ants")
    publish_fake(store, "bees")
    repository.reconcile()
    response = await engine_of(repository, default_model="bees").infer(InferenceRequest(ROWS))
    assert response.model == "bees"


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("nobody", None, "There is no model `nobody`. Models: demo."),
        ("nobody", 1, "There is no model `nobody`. Models: demo."),
        ("n" * 5000, None, f"There is no model `{'n' * 100}…`. Models: demo."),
        ("demo", 1, "Version 1 of `demo` is not served. Served: 2. Published: 1, 2."),
        ("demo", 3, "Version 3 of `demo` is not served. Served: 2. Published: 1, 2."),
    ],
)
async def test_unknown_model_or_version_is_not_found(
    store: ArtifactStore, repository: ModelRepository, name: str, version: int | None, message: str
) -> None:
    publish_fake(store)
    publish_fake(store)
    async with running(engine_of(repository)) as engine:
        await engine.wait_for_first_look()  # until then, a model may still be there to be loaded
        with pytest.raises(NotFound) as caught:
            await engine.infer(InferenceRequest(ROWS, name, version))
    assert str(caught.value) == message


@pytest.fixture
def both(store: ArtifactStore, runtimes: FakeRuntimes) -> ModelRepository:
    """Two versions, both loaded: `stable` is the first, `broken` one that is damaged."""
    for factor in (1, 2, 3):
        publish_fake(store, factor=factor)
    store.label("demo", "stable", 1)
    store.label("demo", "broken", 2)
    (store.root / "demo" / "2" / "model.keras").write_text("")
    repository = ModelRepository(store, runtimes.load)
    repository.reconcile()
    return repository


@pytest.mark.parametrize(
    ("version", "label", "factor"), [(None, None, 3), (1, None, 1), (3, None, 3), (None, "stable", 1)]
)
async def test_version_answers_by_its_number_and_by_its_label(
    both: ModelRepository, version: int | None, label: str | None, factor: int
) -> None:
    engine = engine_of(both)
    response = await engine.infer(InferenceRequest(ROWS, "demo", version, None, label))
    assert (response.version, response.outputs["y"].tolist()) == (factor, [[factor, 2 * factor]])
    assert engine.metadata("demo", version, label).version == factor
    assert engine.queued_rows() == {("demo", 1): 0, ("demo", 3): 0}


@pytest.mark.parametrize(
    ("version", "label", "error", "message"),
    [
        (2, None, NotReady, "Version 2 of `demo` cannot be served: `model.keras` is damaged"),
        (4, None, NotFound, "Version 4 of `demo` is not served. Served: 1, 3. Published: 1, 2, 3."),
        (None, "broken", NotReady, "Version 2 of `demo` cannot be served: `model.keras` is damaged"),
        (None, "nobody", NotFound, "`demo` has no label `nobody`. Labels: broken, stable."),
    ],
)
async def test_version_or_label_that_is_not_served_is_told(
    both: ModelRepository, version: int | None, label: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        await engine_of(both).infer(InferenceRequest(ROWS, "demo", version, None, label))
    assert str(caught.value).startswith(message)


async def test_label_leads_to_a_version_number(both: ModelRepository) -> None:
    engine = engine_of(both)
    assert (engine.version_of("demo", "stable"), engine.version_of(None, "stable")) == (1, 1)
    assert engine.describe("demo").labels == {"stable": 1}
    for label, error in (("broken", NotReady), ("nobody", NotFound)):
        with pytest.raises(error):
            engine.version_of("demo", label)


async def test_label_before_the_first_look_at_the_disk_is_not_ready(repository: ModelRepository) -> None:
    with pytest.raises(NotReady, match="`demo` is being loaded"):
        engine_of(repository).version_of("demo", "stable")


async def test_wait_until_ready_ends_once_a_model_serves(
    store: ArtifactStore, repository: ModelRepository, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(engine_of(repository)) as engine:
        waiting = asyncio.create_task(engine.wait_until_ready())
        await happens(lambda: "Not listening yet: No model is published." in caplog.text)
        assert not waiting.done()
        publish_fake(store)
        engine.reload()
        await waiting
        assert engine.unready_reason() is None


async def test_wait_until_ready_ends_where_the_service_is_to_end(repository: ModelRepository) -> None:
    async with running(engine_of(repository)) as engine:
        waiting = asyncio.create_task(engine.wait_until_ready())
        await asyncio.sleep(0)
        engine.drain()
        await waiting


def are_gone(references: list[weakref.ref[LoadedModel | None]]) -> list[bool]:
    gc.collect()
    return [reference() is None for reference in references]


async def test_swapped_versions_leave_nothing_behind(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    async with running(engine_of(repository)) as engine:
        references = []
        for number in range(1, 4):
            publish_fake(store)
            engine.reload()
            await happens(lambda number=number: engine.unready_reason() is None and len(runtimes.loaded) == number)
            await happens(lambda number=number: engine.metadata().version == number)
            await engine.infer(InferenceRequest(ROWS))
            references.append(weakref.ref(repository.current("demo")))
        await happens(lambda: [runtime.times_closed for runtime in runtimes.loaded] == [1, 1, 0])
        await happens(lambda: are_gone(references) == [True, True, False])  # which the loader may hold for a moment


async def test_model_that_is_still_loading_is_not_ready(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    runtimes.may_load.clear()
    async with running(engine_of(repository)) as engine:
        await happens(lambda: runtimes.versions == [1])
        assert engine.unready_reason() == "The models are being loaded."
        with pytest.raises(NotReady, match="`demo` is being loaded"):
            engine.metadata("demo")
        runtimes.may_load.set()
        await happens(lambda: engine.unready_reason() is None)


async def test_one_of_several_models_is_not_enough_to_be_ready(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, "ants")
    await asyncio.to_thread(repository.reconcile)
    publish_fake(store, "bees")
    runtimes.may_load.clear()
    async with running(engine_of(repository)) as engine:
        await happens(lambda: runtimes.versions == [1, 1])
        assert engine.unready_reason() == "The models are being loaded."
        runtimes.may_load.set()
        await happens(lambda: engine.unready_reason() is None)


@pytest.mark.parametrize(
    ("default", "reason"),
    [(None, "No model is published."), ("digits", "digits: no version is published.")],
)
async def test_empty_store_is_not_ready(repository: ModelRepository, default: str | None, reason: str) -> None:
    async with running(engine_of(repository, default_model=default)) as engine:
        await happens(lambda: engine.unready_reason() == reason)


async def test_damaged_only_version_is_the_reason_for_not_being_ready(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    (publish_fake(store).path / "model.keras").unlink()
    async with running(engine_of(repository)) as engine:
        await happens(lambda: engine.unready_reason() != "The models are being loaded.")
        assert engine.unready_reason() == (
            "demo: Version 1 cannot be served: `model.keras` is missing, the manifest lists it."
        )
        with pytest.raises(NotReady, match="Version 1 cannot be served"):
            await engine.infer(InferenceRequest(ROWS))


async def test_missing_default_is_not_ready_though_another_model_serves(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store)
    async with running(engine_of(repository, default_model="digits")) as engine:
        await happens(lambda: engine.unready_reason() == "digits: no version is published.")
        assert (await engine.infer(InferenceRequest(ROWS, "demo"))).version == 1


async def test_draining_engine_is_not_ready_but_answers(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    async with running(engine_of(repository)) as engine:
        await happens(lambda: engine.unready_reason() is None)
        engine.drain()
        assert engine.unready_reason() == "The service is shutting down."
        assert (await engine.infer(InferenceRequest(ROWS))).version == 1


@pytest.mark.parametrize("turns", range(5))
async def test_engine_stops_whatever_else_it_was_told_before(
    store: ArtifactStore, repository: ModelRepository, turns: int
) -> None:
    publish_fake(store)
    engine = engine_of(repository)
    await engine.start()
    await engine.wait_for_first_look()
    engine.reload()
    for _ in range(turns):
        await asyncio.sleep(0)
    await happens(asyncio.create_task(engine.stop()).done)


async def test_loader_that_died_makes_the_engine_unready_and_the_log_says_why(
    runtimes: FakeRuntimes, store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Unlucky(ArtifactStore):
        def names(self) -> list[str]:
            raise RuntimeError("a bug of ours")

    async with running(engine_of(ModelRepository(Unlucky(store.root), runtimes.load))) as engine:
        await happens(lambda: engine.unready_reason() == "The loader has stopped; restart the service.")
        assert "RuntimeError: a bug of ours" in caplog.text


async def test_no_model_is_called_unknown_while_the_folder_cannot_be_read(
    store: ArtifactStore, runtimes: FakeRuntimes
) -> None:
    class Unreadable(ArtifactStore):
        def names(self) -> list[str]:
            raise PermissionError(13, "Permission denied")

    async with running(engine_of(ModelRepository(Unreadable(store.root), runtimes.load))) as engine:
        await engine.wait_for_first_look()
        with pytest.raises(NotReady, match="is being loaded"):
            engine.metadata("demo")


async def test_store_that_cannot_be_read_is_tried_again(
    store: ArtifactStore, runtimes: FakeRuntimes, caplog: pytest.LogCaptureFixture
) -> None:
    class Flaky(ArtifactStore):
        tries = 0

        def names(self) -> list[str]:
            self.tries += 1
            if self.tries == 1:
                raise OSError("input/output error")
            return super().names()

    publish_fake(store)
    async with running(engine_of(ModelRepository(Flaky(store.root), runtimes.load), interval=0.01)) as engine:
        await happens(lambda: engine.unready_reason() is None)
    assert "The artifacts folder cannot be read; what is loaded goes on serving." in caplog.text


async def test_reload_looks_at_the_disk_at_once(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    async with running(engine_of(repository, interval=NEVER)) as engine:
        await happens(lambda: engine.unready_reason() is None)
        publish_fake(store)
        engine.reload()
        await happens(lambda: engine.metadata().version == 2)


async def test_disk_is_looked_at_again_after_the_interval(store: ArtifactStore, repository: ModelRepository) -> None:
    publish_fake(store)
    async with running(engine_of(repository, interval=0.01)) as engine:
        await happens(lambda: engine.unready_reason() is None)
        publish_fake(store)
        await happens(lambda: engine.metadata().version == 2)


async def test_index_lists_models_that_do_not_serve_with_the_reason(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store, "ants")
    (publish_fake(store, "bees").path / "golden.npz").unlink()
    repository.reconcile()
    ants, bees = engine_of(repository).index()
    assert (ants.name, ants.version, ants.problem) == ("ants", 1, "")
    assert (bees.name, bees.version) == ("bees", None)
    assert bees.problem == "Version 1 cannot be served: `golden.npz` is missing, the manifest lists it."


async def test_describing_an_unknown_model_lists_those_that_exist(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store)
    repository.reconcile()
    with pytest.raises(NotFound, match=r"There is no model `nobody`\. Models: demo\."):
        engine_of(repository).describe("nobody")


async def test_error_that_lists_many_models_stays_short(store: ArtifactStore, repository: ModelRepository) -> None:
    for number in range(12):
        publish_fake(store, f"{'m' * 90}{number}")
    repository.reconcile()
    with pytest.raises(NotFound) as caught:
        engine_of(repository).describe("nobody")
    assert (len(str(caught.value)) < 1100, str(caught.value)[-2:]) == (True, "….")


async def test_runtime_runs_beside_the_event_loop(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    repository.reconcile()
    runtimes.loaded[0].hold()
    request = asyncio.create_task(engine_of(repository).infer(InferenceRequest(ROWS)))
    await happens(runtimes.loaded[0].started.is_set)
    runtimes.loaded[0].release()
    assert (await request).version == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_cancelled_request_keeps_its_runtime_open_until_it_has_run(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, times: int
) -> None:
    publish_fake(store)
    repository.reconcile()
    old = runtimes.loaded[0]
    old.hold()
    request = asyncio.create_task(engine_of(repository).infer(InferenceRequest(ROWS)))
    await happens(old.started.is_set)
    for _ in range(times):
        request.cancel()
        await asyncio.wait([request], timeout=0)
    publish_fake(store)
    repository.reconcile()
    assert old.times_closed == 0
    old.release()
    with pytest.raises(asyncio.CancelledError):
        await request
    await happens(old.closed.is_set)
    assert old.times_closed == 1


async def test_stop_waits_for_what_runs_and_closes_the_models(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    async with running(engine_of(repository)) as engine:
        await happens(lambda: engine.unready_reason() is None)
        runtimes.loaded[0].hold()
        request = asyncio.create_task(engine.infer(InferenceRequest(ROWS)))
        await happens(runtimes.loaded[0].started.is_set)
        stop = asyncio.create_task(engine.stop())
        runtimes.loaded[0].release()
        assert (await request).outputs["y"].tolist() == [[2.0, 4.0]]
        await stop
    assert runtimes.loaded[0].times_closed == 1


async def collect(engine: Engine, requests: list[InferenceRequest]) -> list[InferenceResponse | BaseException]:
    """What each request got, all submitted in one turn of the event loop."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[InferenceResponse | BaseException]] = [loop.create_future() for _ in requests]
    for request, future in zip(requests, futures, strict=True):
        engine.submit(request, future.set_result)
    return await asyncio.gather(*futures)


@pytest.mark.parametrize(
    ("batch_safe", "sizes"), [(True, [3]), (False, [1, 1, 1]), (None, [1, 1, 1])], ids=["safe", "unsafe", "unknown"]
)
async def test_callers_share_a_run_only_where_the_certificate_allows_it(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes, batch_safe: bool | None, sizes: list[int]
) -> None:
    publish_fake(store, batch_safe=batch_safe)
    repository.reconcile()
    runtimes.loaded[0].batch_sizes.clear()
    requests = [InferenceRequest({"x": np.full((1, 2), number, np.float32)}) for number in range(3)]
    responses = await collect(engine_of(repository), requests)
    assert [r.outputs["y"].tolist() for r in responses if isinstance(r, InferenceResponse)] == [
        [[0.0, 0.0]], [[2.0, 2.0]], [[4.0, 4.0]],
    ]  # fmt: skip
    assert runtimes.loaded[0].batch_sizes == sizes


async def test_what_was_submitted_before_a_swap_is_answered_by_the_old_version_which_is_then_closed(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, factor=2, batch_safe=True)
    repository.reconcile()
    engine, old = engine_of(repository), runtimes.loaded[0]
    old.hold()
    running = [asyncio.create_task(engine.infer(InferenceRequest(ROWS))) for _ in range(2)]
    await happens(old.started.is_set)
    queued = [asyncio.create_task(engine.infer(InferenceRequest(ROWS))) for _ in range(70)]
    await asyncio.sleep(0)
    publish_fake(store, factor=3, batch_safe=True)
    await asyncio.to_thread(repository.reconcile)
    after = asyncio.create_task(engine.infer(InferenceRequest(ROWS)))
    old.release()
    answers = {(r.version, float(r.outputs["y"][0, 0])) for r in await asyncio.gather(*running, *queued)}
    assert answers == {(1, 2.0)}
    assert (await after).version == 2
    await happens(old.closed.is_set)


async def test_version_that_is_replaced_while_it_is_looked_up_gives_way_to_the_next(
    store: ArtifactStore, runtimes: FakeRuntimes
) -> None:
    class SwapsAtTheWorstMoment(ModelRepository):
        def current(self, name: str) -> LoadedModel | None:
            model = super().current(name)
            if model and len(runtimes.loaded) == 1:
                publish_fake(store, factor=3)
                self.reconcile()
            return model

    publish_fake(store, factor=2)
    repository = SwapsAtTheWorstMoment(store, runtimes.load)
    repository.reconcile()
    response = await engine_of(repository).infer(InferenceRequest(ROWS))
    assert (response.version, response.outputs["y"].tolist()) == (2, [[3.0, 6.0]])
    assert runtimes.loaded[0].times_closed == 1


async def test_swaps_under_load_answer_each_request_by_exactly_one_version(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, factor=1, batch_safe=True)
    repository.reconcile()
    engine, swaps = engine_of(repository), 15

    async def ask(seen: set[tuple[int, float]]) -> None:
        while len(runtimes.loaded) <= swaps:
            response = await engine.infer(InferenceRequest({"x": np.ones((3, 2), np.float32)}))
            seen |= {(response.version, float(value)) for value in response.outputs["y"].ravel()}
            await asyncio.sleep(
                0.001
            )  # a loop that never rests lets the other thread have Python's lock every 5 ms only

    def swap() -> None:
        for factor in range(2, swaps + 2):
            publish_fake(store, factor=factor, batch_safe=True)
            repository.reconcile()

    seen: set[tuple[int, float]] = set()
    await asyncio.gather(asyncio.to_thread(swap), *(ask(seen) for _ in range(8)))
    assert len(seen) > 1
    assert all(version == factor for version, factor in seen)
    await happens(lambda: [runtime.times_closed for runtime in runtimes.loaded] == [1] * swaps + [0])


async def test_request_that_takes_too_long_is_told_so(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    repository.reconcile()
    runtimes.loaded[0].hold()
    with pytest.raises(DeadlineExceeded, match="The request was not answered within 10 ms"):
        await engine_of(repository).infer(InferenceRequest(ROWS, timeout=0.01))
    runtimes.loaded[0].release()


async def test_model_that_hangs_makes_the_engine_unready_until_it_answers(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store)
    limits = replace(LIMITS, request_timeout=0.01)
    async with running(Engine(repository, default_model=None, reload_interval=NEVER, limits=limits)) as engine:
        await happens(lambda: engine.unready_reason() is None)
        runtimes.loaded[0].hold()
        for _ in range(limits.threads):
            with pytest.raises(DeadlineExceeded):
                await engine.infer(InferenceRequest(ROWS))
        await happens(lambda: engine.unready_reason() == "demo: It has not answered for 0 s.")
        runtimes.loaded[0].release()
        await happens(lambda: engine.unready_reason() is None)


async def test_model_that_hangs_holds_up_no_other(
    store: ArtifactStore, repository: ModelRepository, runtimes: FakeRuntimes
) -> None:
    publish_fake(store, "ants")
    publish_fake(store, "bees")
    repository.reconcile()
    engine = engine_of(repository)
    runtimes.loaded[0].hold()
    hanging = [asyncio.ensure_future(engine.infer(InferenceRequest(ROWS, "ants"))) for _ in range(5)]
    assert (await engine.infer(InferenceRequest(ROWS, "bees"))).model == "bees"
    runtimes.loaded[0].release()
    await asyncio.gather(*hanging)


async def test_observer_learns_of_each_run_and_rows_in_the_queue_can_be_read(
    store: ArtifactStore, repository: ModelRepository
) -> None:
    publish_fake(store, batch_safe=True)
    repository.reconcile()
    batches: list[tuple[str, int, int, float, float, int]] = []
    engine = Engine(
        repository, default_model=None, reload_interval=NEVER, limits=LIMITS, on_batch=lambda *b: batches.append(b)
    )
    answers = asyncio.ensure_future(collect(engine, [InferenceRequest(ROWS)] * 3))
    await asyncio.sleep(0)
    assert engine.queued_rows() == {("demo", 1): 3}
    await answers
    [(model, version, rows, queued, ran, requests)] = batches
    assert (model, version, rows, requests) == ("demo", 1, 3, 3)
    assert min(queued, ran) >= 0


async def test_engine_that_never_started_is_not_ready(repository: ModelRepository) -> None:
    assert engine_of(repository).unready_reason() == "The loader has stopped; restart the service."

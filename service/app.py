"""The application: the only place that wires settings, store, runtimes, engine and protocols together."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import simdjson
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from models.artifact import Artifact
from models.golden import Golden
from models.store import ArtifactStore
from service import errors, metrics_page
from service.engine import Engine
from service.exchange import RequestIds
from service.kept_lane import WAYS
from service.limits import Limits, RequestLimits
from service.metrics import Metrics
from service.observer import Observer, Observing
from service.openapi import Document
from service.protocols import native, tfs, v2, v2_repository
from service.protocols.predict import Predictor
from service.protocols.ways import Plans, Serving
from service.repository import ModelRepository
from service.runs import Runs
from service.runtimes.cores import available_cores
from service.runtimes.selection import Selection, choose
from service.settings import Settings
from service.statistics import Statistics
from service.turn import Turn
from service.version import VERSION
from service.versions import LoadRuntime
from service.worker import Worker

if TYPE_CHECKING:
    from service.grpc_server import GrpcServer

_DESCRIPTION = "Keras models on your own layers, each checked against its golden answers before it serves."


def create_app(settings: Settings, *, load_runtime: LoadRuntime | None = None, worker: Worker | None = None) -> FastAPI:
    """Makes the application. It answers at once when started; models are loaded in the background.

    Args:
        settings: Of the service.
        load_runtime: Turns a verified version into a runtime; the one that `settings.runtime` says if not given.
        worker: This process, where it is one of several.
    """
    metrics, statistics = Metrics(), Statistics()
    runs = Runs(metrics, statistics)
    observing = Observing(metrics, RequestIds(), settings.access_log)
    share = worker.share(metrics.snapshot) if worker else None

    def load_chosen(artifact: Artifact, golden: Golden) -> Selection:
        return choose(artifact, golden, settings.runtime_of(artifact.manifest.name), settings.layers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        engine = Engine(
            ModelRepository(
                ArtifactStore(settings.artifacts),
                load_runtime or load_chosen,
                settings.newest_of,
                metrics,
                settings.labels_of,
            ),
            default_model=settings.default_model,
            reload_interval=settings.reload_interval,
            limits=Limits(
                max_batch_size=settings.max_batch_size,
                max_queue_size=settings.max_queue_size,
                max_queue_delay_ms=settings.max_queue_delay_ms,
                request_timeout=settings.request_timeout,
                threads=available_cores(),
            ),
            request_limits=RequestLimits(settings.max_rows, settings.max_elements),
            on_batch=runs.add,
        )
        app.state.engine, app.state.predictor = engine, Predictor(engine, metrics)
        metrics.watch(lambda: metrics_page.state(engine))
        await engine.start()
        if worker and worker.is_replacement:  # the others answer meanwhile
            await engine.wait_for_first_look()
        elif settings.reuse_port:  # whoever listens on the port answers meanwhile
            await engine.wait_until_ready()
        try:
            app.state.grpc = await _start_grpc(settings, engine, statistics, observing) if settings.grpc_port else None
        except OSError:
            await engine.stop()
            raise
        async with share.kept_up_to_date() if share else nullcontext():
            # Which uvicorn hands to each of its connections.
            serving = Serving(engine, metrics, statistics, simdjson.Parser())
            turn = Turn(app.state.predictor, {way: Plans(serving, way) for way in WAYS})
            yield {"predictor": app.state.predictor, "observing": observing, "turn": turn}
        if app.state.grpc:
            await app.state.grpc.stop()
        await engine.stop()

    # /docs brings its own scripts, so the page needs no internet and no third party learns of its use.
    app = FastAPIOffline(title="Layerserve", version=VERSION, description=_DESCRIPTION, lifespan=lifespan)
    app.state.settings, app.state.statistics = settings, statistics
    app.state.snapshot = share.of_all_workers if share else metrics.snapshot
    for part in (native, v2, v2_repository, tfs, metrics_page):
        app.include_router(part.router)
    app.include_router(v2_repository.control_router, include_in_schema=settings.control_api)
    errors.install(app)
    inner = app.build_middleware_stack
    app.build_middleware_stack = lambda: Observer(inner(), observing)  # type: ignore[method-assign] # outside of all else
    app.openapi = Document(app)  # type: ignore[method-assign] # FastAPI's documented way
    return app


async def _start_grpc(settings: Settings, engine: Engine, statistics: Statistics, observing: Observing) -> GrpcServer:
    # Imported here, since its packages are an extra.
    from service.grpc_calls import Calls  # noqa: PLC0415
    from service.grpc_server import GrpcServer  # noqa: PLC0415
    from service.protocols import v2_grpc  # noqa: PLC0415

    protocols, others = dict(v2_grpc.PROTOCOLS), {}
    # Another extra, whose stubs load TensorFlow, and may be installed without.
    if all(importlib.util.find_spec(name) for name in ("tensorflow_serving", "tensorflow")):
        from service.protocols import tfs_grpc  # noqa: PLC0415

        protocols |= tfs_grpc.PROTOCOLS
        others = tfs_grpc.services(engine, settings.max_body_bytes)
    calls = Calls(observing, settings.max_body_bytes, protocols)
    inference = v2_grpc.InferenceService(
        engine,
        statistics,
        calls,
        max_batch_size=settings.max_batch_size,
        max_queue_delay_ms=settings.max_queue_delay_ms,
        may_control=settings.control_api,
    )
    server = GrpcServer(settings, engine, calls, {v2_grpc.SERVICE: inference.register, **others})
    await server.start()
    return server

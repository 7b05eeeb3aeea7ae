"""The application: the only place that wires settings, store, runtimes, engine and protocols together."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from models.artifact import Artifact
from models.golden import Golden
from models.store import ArtifactStore
from service import errors
from service.engine import Engine
from service.errors import ServiceError
from service.limits import Limits
from service.protocols import native, v2, v2_repository
from service.repository import LoadRuntime, ModelRepository
from service.runtimes.cores import available_cores
from service.runtimes.selection import Selection, choose
from service.settings import Settings
from service.statistics import Statistics

if TYPE_CHECKING:
    from service.grpc_server import GrpcServer

_DESCRIPTION = "Keras models on your own layers, each checked against its golden answers before it serves."


def create_app(settings: Settings, *, load_runtime: LoadRuntime | None = None) -> FastAPI:
    """Makes the application. It answers at once when started; models are loaded in the background.

    Args:
        settings: Of the service.
        load_runtime: Turns a verified version into a runtime; the one that `settings.runtime` says if not given.
    """

    def load_chosen(artifact: Artifact, golden: Golden) -> Selection:
        return choose(artifact, golden, settings.runtime_of(artifact.manifest.name), settings.layers)

    statistics = Statistics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = Engine(
            ModelRepository(ArtifactStore(settings.artifacts), load_runtime or load_chosen),
            default_model=settings.default_model,
            reload_interval=settings.reload_interval,
            limits=Limits(
                max_batch_size=settings.max_batch_size,
                max_queue_size=settings.max_queue_size,
                max_queue_delay_ms=settings.max_queue_delay_ms,
                request_timeout=settings.request_timeout,
                threads=available_cores(),
            ),
            on_batch=statistics.on_batch,
        )
        app.state.engine = engine
        await engine.start()
        app.state.grpc = await _start_grpc(settings, engine, statistics) if settings.grpc_port else None
        yield
        if app.state.grpc:
            await app.state.grpc.stop()
        await engine.stop()

    # /docs brings its own scripts, so the page needs no internet and no third party learns of its use.
    app = FastAPIOffline(title="Layerserve", description=_DESCRIPTION, lifespan=lifespan)
    app.state.settings, app.state.statistics = settings, statistics
    for door in (native, v2, v2_repository):
        app.include_router(door.router)
    errors.install(app)
    app.openapi = _with_examples(app, app.openapi)  # type: ignore[method-assign] # FastAPI's documented way
    return app


async def _start_grpc(settings: Settings, engine: Engine, statistics: Statistics) -> GrpcServer:
    # Imported here, since its packages are an extra.
    from service.grpc_server import GrpcServer  # noqa: PLC0415
    from service.protocols import v2_grpc  # noqa: PLC0415

    inference = v2_grpc.InferenceService(
        engine,
        statistics,
        max_batch_size=settings.max_batch_size,
        max_queue_delay_ms=settings.max_queue_delay_ms,
        may_control=settings.control_api,
    )
    server = GrpcServer(settings, engine, {v2_grpc.SERVICE: inference.register})
    await server.start()
    return server


def _with_examples(app: FastAPI, openapi: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Adds a golden row of the default model to the document, so that /docs can send a request that works."""

    def document() -> dict[str, Any]:
        bare = openapi()
        try:
            metadata = app.state.engine.metadata()
        except (AttributeError, ServiceError):  # not started, nothing loaded, or several models
            return bare
        filled = copy.deepcopy(bare)
        example = native.example(metadata)
        values = {"name": metadata.name, "version": str(metadata.version)}
        for path in filled["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", []):
                    if parameter["name"] in values:
                        parameter["example"] = values[parameter["name"]]
                if "requestBody" in operation:
                    operation["requestBody"]["content"]["application/json"]["example"] = example["request"]
                    operation["responses"]["200"]["content"]["application/json"]["example"] = example["response"]
        return filled

    return document

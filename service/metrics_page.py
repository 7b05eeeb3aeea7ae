"""`GET /metrics`: what the application counted, and the state of its models, as Prometheus reads them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter, Request, Response

from service.engine import Engine
from service.errors import ServiceError
from service.exposition import render
from service.families import Snapshot

router = APIRouter()


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The page, in Prometheus's text format or as OpenMetrics."""
    snapshot = request.app.state.snapshot()
    # Writing hundreds of lines takes longer than a request should have to wait for the event loop.
    page, media_type = await asyncio.to_thread(render, snapshot, request.headers.get("accept", ""))
    return Response(page, headers={"content-type": media_type})


def state(engine: Engine) -> Snapshot:
    """What is true of the engine at this moment."""
    served = {item.name: item.version for item in engine.index()}
    runtimes = {}
    for name, version in ((name, version) for name, version in served.items() if version is not None):
        with suppress(ServiceError):  # another thread may replace or drop it at any time
            runtimes[name] = engine.metadata(name, version).runtime
    return {
        "layerserve_ready": [((), float(engine.unready_reason() is None))],
        "layerserve_model_ready": [((name,), float(version is not None)) for name, version in served.items()],
        "layerserve_model_info": [((name, str(served[name]), runtime), 1.0) for name, runtime in runtimes.items()],
        "layerserve_queue_rows": [
            ((name, str(version)), float(rows)) for (name, version), rows in engine.queued_rows().items()
        ],
    }

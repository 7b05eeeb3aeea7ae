"""The model repository of the Open Inference Protocol's extension, and the extensions that are not offered."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Request, Response

from service.errors import InvalidRequest, NotAllowed, NotSupported
from service.protocols import v2_schema
from service.protocols.application import EngineOf
from service.protocols.tensors import describe
from service.protocols.v2 import json_object
from service.protocols.v2_models import repository_index

router = APIRouter()
control_router = APIRouter()
_NOT_OFFERED: dict[str, Any] = {"methods": ["GET", "POST"], "include_in_schema": False}
Content = Annotated[dict[str, Any], Depends(json_object)]


@router.post("/v2/repository/index", **v2_schema.INDEX)
async def index(engine: EngineOf, content: Content) -> Response:
    """Every version that was asked for, with its state."""
    only_ready = content.get("ready", False)
    if not isinstance(only_ready, bool):
        raise InvalidRequest(f"`ready` must be true or false. Received: {describe(only_ready)}.")
    return Response(
        orjson.dumps(repository_index(engine.index(), only_ready=only_ready)), media_type="application/json"
    )


@control_router.post("/v2/repository/models/{name}/load", **v2_schema.LOAD)
async def load(request: Request, engine: EngineOf, content: Content, name: str) -> Response:
    """Looks at the folder now, and answers once the version that should serve does."""
    _check_allowed(request)
    if content.get("parameters"):
        raise NotSupported("A model is loaded as it was published. Load it without parameters.")
    await engine.load(name)
    return Response()


@control_router.post("/v2/repository/models/{name}/unload", **v2_schema.UNLOAD)
async def unload(request: Request, engine: EngineOf, content: Content, name: str) -> Response:  # noqa: ARG001 - read
    """Lets go of a model until it is loaded again, by this call's twin or a restart."""
    _check_allowed(request)
    await engine.unload(name)
    return Response()


@router.api_route("/v2/systemsharedmemory/{rest:path}", **_NOT_OFFERED)
@router.api_route("/v2/cudasharedmemory/{rest:path}", **_NOT_OFFERED)
async def shared_memory(rest: str) -> Response:  # noqa: ARG001 - part of the path
    """Not offered: a request's tensors are in its body."""
    raise NotSupported("Shared memory is not supported. Send tensors in the body.")


@router.api_route("/v2/trace/setting", **_NOT_OFFERED)
@router.api_route("/v2/models/{name}/trace/setting", **_NOT_OFFERED)
@router.api_route("/v2/logging", **_NOT_OFFERED)
async def observation() -> Response:
    """Not offered: a caller who may choose the file of a log may write anywhere."""
    raise NotSupported("Tracing and logging are not set by request. Set them where the service is started.")


def _check_allowed(request: Request) -> None:
    if not request.app.state.settings.control_api:
        raise NotAllowed(
            "Models are not loaded or unloaded by request here. Start the service with LAYERSERVE_CONTROL_API=true."
        )

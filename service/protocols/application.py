"""What `create_app` gave the application, as routes ask for it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from service.engine import Engine


def engine_of(request: Request) -> Engine:
    """The engine that answers."""
    engine: Engine = request.app.state.engine
    return engine


async def _engine(request: Request) -> Engine:
    """A coroutine, since FastAPI calls anything else in a thread, which takes longer than all that it does itself."""
    return engine_of(request)


EngineOf = Annotated[Engine, Depends(_engine)]

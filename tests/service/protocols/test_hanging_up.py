from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from models.store import ArtifactStore
from service.app import create_app
from service.engine import Engine
from service.settings import Settings
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.waiting import wait_until

pytestmark = pytest.mark.anyio

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/predict",
    "query_string": b"",
    "headers": [(b"content-type", b"application/json")],
}


class Caller:
    """A request as an ASGI server hands it on, and a caller who may hang up."""

    def __init__(self, app: FastAPI) -> None:
        self.is_watched, self.hung_up = asyncio.Event(), asyncio.Event()
        self.sent: list[Any] = []
        self._messages = [{"type": "http.request", "body": b'{"instances": [[1, 2]]}', "more_body": False}]
        self.task = asyncio.ensure_future(app(dict(SCOPE), self._receive, self._send))

    async def _receive(self) -> Any:
        if self._messages:
            return self._messages.pop()
        self.is_watched.set()
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


@asynccontextmanager
async def busy(store: ArtifactStore, runtimes: FakeRuntimes) -> AsyncIterator[tuple[FastAPI, list[Caller]]]:
    """An application whose one model has all its threads held by callers who wait."""
    publish_fake(store)
    app = create_app(Settings(artifacts=store.root), load_runtime=runtimes.load)
    async with app.router.lifespan_context(app):
        engine: Engine = app.state.engine
        await asyncio.to_thread(wait_until, lambda: engine.unready_reason() is None)
        runtimes.loaded[0].hold()
        runtimes.loaded[0].batch_sizes.clear()
        started = runtimes.loaded[0].times_started
        waiting: list[Caller] = []
        for number in range(1, (os.cpu_count() or 1) + 1):  # one by one, for they may overtake each other on their way
            waiting.append(Caller(app))
            await asyncio.to_thread(wait_until, lambda n=number: runtimes.loaded[0].times_started == started + n)
        waiting.append(Caller(app))
        await asyncio.to_thread(wait_until, lambda: engine.queued_rows() == {("demo", 1): 1})
        yield app, waiting
        runtimes.loaded[0].release()
        await asyncio.gather(*(caller.task for caller in waiting))


async def test_rows_of_a_caller_who_hung_up_never_reach_the_runtime(
    store: ArtifactStore, runtimes: FakeRuntimes
) -> None:
    async with busy(store, runtimes) as (app, waiting):
        waiting[-1].hung_up.set()
        await waiting[-1].task
        assert app.state.engine.queued_rows() == {("demo", 1): 0}
    assert len(runtimes.loaded[0].batch_sizes) == len(waiting) - 1
    assert [caller.sent[0]["status"] for caller in waiting[:-1]] == [200] * (len(waiting) - 1)


async def test_caller_who_waits_patiently_is_answered(store: ArtifactStore, runtimes: FakeRuntimes) -> None:
    async with busy(store, runtimes) as (_, waiting):
        await asyncio.gather(*(caller.is_watched.wait() for caller in waiting))
    assert [caller.sent[0]["status"] for caller in waiting] == [200] * len(waiting)


async def test_cancelled_handler_is_cancelled_and_not_taken_for_a_caller_who_left(
    store: ArtifactStore, runtimes: FakeRuntimes
) -> None:
    async with busy(store, runtimes) as (app, waiting):
        waiting[-1].task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[-1].task
        assert app.state.engine.queued_rows() == {("demo", 1): 0}
        waiting.pop()

"""Callers who leave before they have been answered."""

from __future__ import annotations

import asyncio
from types import TracebackType

from fastapi import Request
from starlette.requests import ClientDisconnect

_WATCH_AFTER_SECONDS = 0.05


class ends_with_caller:  # noqa: N801 - reads as what it does: `with ends_with_caller(request):`
    """Cancels what the block awaits when the caller hangs up, and raises ClientDisconnect then.

    To be entered once the body has been read. What is answered quickly is not watched, as a task for each request
    would cost more than a small model's run.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._watcher: asyncio.Task[None] | None = None
        self._has_left = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher:
            self._watcher.cancel()
        if self._has_left and kind is asyncio.CancelledError and self._task and not self._task.uncancel():
            raise ClientDisconnect from error

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        if self._task:
            self._has_left = True
            self._task.cancel()

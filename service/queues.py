"""The batch queue of each loaded version, and its hold on the version while there is work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from models.manifest import Tensors
from service.batching import Batcher
from service.inference import InferenceResponse
from service.limits import Limits
from service.versions import LoadedModel

OnBatch = Callable[[str, int, int, float, float, int], None]
"""Called after each run: model, version, rows, seconds that its first request waited, seconds it ran, requests.

It must not raise.
"""


class Queues:
    """Belongs to one event loop. Work that was taken in keeps its version loaded until it has ended."""

    def __init__(self, limits: Limits, on_batch: OnBatch | None) -> None:
        self._limits = limits
        self._on_batch = on_batch
        self._holds = 0
        self._idle: asyncio.Event | None = None  # where somebody waits for it

    def of(self, model: LoadedModel) -> Batcher[InferenceResponse]:
        """The queue of a version; made when it is first asked for."""
        return model.batcher or self._make(model)

    def rows(self, model: LoadedModel) -> int:
        """How many rows wait for a version."""
        return model.batcher.queued_rows if model.batcher else 0

    def problem(self, model: LoadedModel | None) -> str:
        """Why the queue of a version gets nothing done; empty where all is well, or there is no queue."""
        return model.batcher.problem() if model and model.batcher else ""

    async def ended(self) -> None:
        """Returns once no queue has work, and the replaced versions among them are closed."""
        if self._holds:
            self._idle = asyncio.Event()
            await self._idle.wait()

    def _make(self, model: LoadedModel) -> Batcher[InferenceResponse]:
        manifest, runtime = model.artifact.manifest, model.runtime
        who = (manifest.signature, manifest.name, manifest.version, runtime.name)

        def answer(outputs: Tensors) -> InferenceResponse:
            return InferenceResponse(outputs, *who)

        model.batcher = Batcher(
            runtime.run,
            answer,
            joins=manifest.certificate is not None and manifest.certificate.batch_safe,
            ragged=tuple(
                spec.name for spec in manifest.signature.inputs if None in spec.shape[1:] or spec.dtype == "string"
            ),
            limits=self._limits,
            # Threads of its own, so that a model that hangs holds up no other.
            executor=ThreadPoolExecutor(self._limits.threads, thread_name_prefix="inference"),
            hold=partial(self._hold, model),
            release=partial(self._release, model),
            on_batch=partial(self._on_batch, manifest.name, manifest.version) if self._on_batch else None,
        )
        return model.batcher

    def _hold(self, model: LoadedModel) -> bool:
        if not model.hold():
            return False
        self._holds += 1
        return True

    def _release(self, model: LoadedModel) -> None:
        if model.retired:  # this closes it, which may take a while
            closing = asyncio.get_running_loop().run_in_executor(None, model.release)
            closing.add_done_callback(lambda _: self._end_hold())
        else:
            model.release()
            self._end_hold()

    def _end_hold(self) -> None:
        self._holds -= 1
        if self._idle and not self._holds:
            self._idle.set()

"""The hall that every protocol enters: finds the model, checks the request, runs it, says what is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from models.golden import Golden
from models.manifest import Signature
from service.batching import Closed
from service.errors import InvalidRequest, NotFound, NotReady, ServiceError
from service.inference import InferenceRequest, InferenceResponse
from service.limits import Limits
from service.queues import OnBatch, Queues
from service.repository import LoadedModel, ModelRepository, VersionStatus
from service.runtimes.trial import Trial
from service.tickets import Ticket

_log = logging.getLogger(__name__)

Done = Callable[[InferenceResponse | BaseException], None]


@dataclass(frozen=True)
class ModelMetadata:
    """What is known of a model that serves: its version, signature, a worked example, and how it came about."""

    name: str
    version: int
    runtime: str
    runtimes: tuple[Trial, ...]
    signature: Signature
    golden: Golden
    metrics: dict[str, float]
    created_at: str


@dataclass(frozen=True)
class ModelIndex:
    """A model by name, served or not: the version that serves, the state of those asked for, and what is wrong."""

    name: str
    version: int | None
    statuses: dict[int, VersionStatus]
    problem: str


class Engine:
    """Runs inferences, and keeps the repository in step with the disk. Its methods belong to one event loop."""

    def __init__(
        self,
        repository: ModelRepository,
        *,
        default_model: str | None,
        reload_interval: float,
        limits: Limits,
        on_batch: OnBatch | None = None,
    ) -> None:
        self._repository = repository
        self._default_model = default_model
        self._reload_interval = reload_interval
        self._queues = Queues(repository, limits, on_batch)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._reload = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._has_reconciled = False
        self._is_draining = False

    async def start(self) -> None:
        """Begins to load, and returns at once. `unready_reason` says when that is done."""
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Lets go of the models once all that was submitted has ended."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        self._loader.shutdown(wait=False, cancel_futures=True)  # a load under way is of no use any more
        await asyncio.to_thread(self._repository.close)
        await self._queues.ended()

    def reload(self) -> None:
        """Looks at the disk now instead of at the next interval."""
        self._reload.set()

    async def load(self, name: str) -> None:
        """Looks at the disk now, and returns once the version of `name` that should serve does; ends `unload`.

        Raises:
            NotFound: there is no such model.
            InvalidRequest: its version cannot be served. The one before it goes on serving.
        """
        self._repository.allow(name)
        await self._reconcile()
        self.describe(name)
        problem = self._repository.problem(name)
        if problem:
            raise InvalidRequest(problem)

    async def unload(self, name: str) -> None:
        """Lets go of a model, in this process, until `load` or a restart; requests in flight are still answered.

        Raises:
            NotFound: there is no such model.
        """
        self.describe(name)
        self._repository.forbid(name)
        await self._reconcile()

    def drain(self) -> None:
        """Makes `unready_reason` say so, for good; requests are still answered."""
        self._is_draining = True

    def unready_reason(self) -> str | None:
        """Why this process should get no traffic; None where it should."""
        if self._is_draining:
            return "The service is shutting down."
        if self._watcher is None or self._watcher.done():
            return "The loader has stopped; restart the service."
        name = self.default_model()
        names = [name] if name else self._repository.names()
        stuck = [f"{name}: {problem}" for name in names if (problem := self._queue_problem(name))]
        if stuck:
            return " ".join(stuck)
        # Without a default every model counts, so all must have had their turn to load.
        if any(self._repository.current(name) for name in names) and (name or self._has_reconciled):
            return None
        if not self._has_reconciled:
            return "The models are being loaded."
        problems = [f"{name}: {self._repository.problem(name) or 'no version is published.'}" for name in names]
        return " ".join(problems) or "No model is published."

    def default_model(self) -> str | None:
        """The model that a request without a name asks: the one in the settings, else the only one."""
        if self._default_model:
            return self._default_model
        names = self._repository.names()
        return names[0] if len(names) == 1 else None

    def index(self) -> list[ModelIndex]:
        """All models, served or not."""
        return [self._index(name) for name in self._repository.names()]

    def describe(self, name: str) -> ModelIndex:
        """One model, served or not.

        Raises:
            NotFound: there is no such model.
        """
        if name not in self._repository.names():
            raise self._no_such_model(name)
        return self._index(name)

    def metadata(self, name: str | None = None, version: int | None = None) -> ModelMetadata:
        """The model that answers a request for `name` (None: the default model) and `version` (None: the served one).

        Raises:
            NotFound: there is no such model or version.
            NotReady: nothing of that name is loaded yet.
        """
        model = self._find(name, version)
        manifest = model.artifact.manifest
        return ModelMetadata(
            name=manifest.name,
            version=manifest.version,
            runtime=model.runtime.name,
            runtimes=model.trials,
            signature=manifest.signature,
            golden=model.golden,
            metrics=manifest.metrics,
            created_at=manifest.created_at.isoformat(),
        )

    def submit(self, request: InferenceRequest, done: Done) -> Ticket[InferenceResponse]:
        """Takes in a request. One version answers all of its rows, also if it is replaced meanwhile.

        Args:
            request: Its arrays must not be changed before `done` has been called.
            done: Called once, on the event loop and never before this method has returned, with the answer or the
                error; never if the ticket was cancelled before. It must not raise.

        Raises:
            NotFound, NotReady: as `metadata`.
            InvalidRequest: the inputs are not what the signature says.
            QueueFull: too many rows wait.
            DeadlineExceeded: the timeout is not above 0.
        """
        while True:
            model = self._find(request.model, request.version)
            model.check(request.inputs)
            try:
                return self._queues.of(model).submit(request.inputs, done, request.timeout)
            except Closed:  # replaced by the loader's thread since it was found
                continue

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answers a request; cancels it where the caller is cancelled.

        Raises:
            NotFound, NotReady, InvalidRequest, QueueFull: as `submit`.
            DeadlineExceeded: it was not answered in time.
            Exception: whatever the model raised.
        """
        answer: asyncio.Future[InferenceResponse] = asyncio.get_running_loop().create_future()
        ticket = self.submit(request, partial(_settle, answer))
        try:
            return await answer
        finally:
            ticket.cancel()

    def queued_rows(self) -> dict[tuple[str, int], int]:
        """How many rows wait, by model and version, for those that serve."""
        models = filter(None, map(self._repository.current, self._repository.names()))
        return {(model.artifact.manifest.name, model.version): self._queues.rows(model) for model in models}

    async def _watch(self) -> None:
        while True:
            try:
                await self._reconcile()
            except OSError:
                _log.exception("The artifacts folder cannot be read; what is loaded goes on serving.")
            self._has_reconciled = True
            try:
                await asyncio.wait_for(self._reload.wait(), self._reload_interval)
            except TimeoutError:
                continue
            self._reload.clear()

    async def _reconcile(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._loader, self._repository.reconcile)

    def _find(self, name: str | None, version: int | None) -> LoadedModel:
        chosen = name or self.default_model()
        if chosen is None:
            raise self._no_default_model()
        model = self._repository.current(chosen)
        if model is None:
            if self._has_reconciled and chosen not in self._repository.names():
                raise self._no_such_model(chosen)
            raise NotReady(self._repository.problem(chosen) or f"`{chosen}` is being loaded.")
        if version is not None and version != model.version:
            published = ", ".join(map(str, self._repository.versions(chosen)))
            raise NotFound(
                f"Version {version} of `{chosen}` is not served. Served: {model.version}. Published: {published}."
            )
        return model

    def _queue_problem(self, name: str) -> str:
        model = self._repository.current(name)
        return model.batcher.problem() if model and model.batcher else ""

    def _index(self, name: str) -> ModelIndex:
        model = self._repository.current(name)
        version = model.version if model else None
        return ModelIndex(name, version, self._repository.statuses(name), self._repository.problem(name))

    def _no_such_model(self, name: str) -> NotFound:
        return NotFound(f"There is no model `{name}`. Models: {self._known()}.")

    def _no_default_model(self) -> ServiceError:
        if not self._repository.names():
            return NotReady("No model is published." if self._has_reconciled else "The models are being loaded.")
        return NotFound(
            f"Several models are served: {self._known()}. POST to /models/{{name}}/predict, "
            "or set LAYERSERVE_DEFAULT_MODEL."
        )

    def _known(self) -> str:
        return ", ".join(self._repository.names()) or "none"


def _settle(answer: asyncio.Future[InferenceResponse], result: InferenceResponse | BaseException) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)

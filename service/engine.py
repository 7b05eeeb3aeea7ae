"""The hall that every protocol enters: finds the model, checks the request, runs it, says what is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from weakref import ReferenceType, WeakKeyDictionary

from models.manifest import Tensors
from service.errors import InvalidRequest
from service.finding import find, no_default_model, no_such_model
from service.inference import InferenceRequest, InferenceResponse, are_within, check_size
from service.limits import NO_LIMITS, Limits, RequestLimits
from service.metadata import ModelIndex, ModelMetadata, metadata_of
from service.queues import OnBatch, Queues
from service.refusals import Closed
from service.repository import ModelRepository
from service.tickets import Ticket
from service.versions import LoadedModel

_log = logging.getLogger(__name__)

Done = Callable[[InferenceResponse | BaseException], None]
Model = ReferenceType[LoadedModel]  # what `ModelMetadata.model` is


class Engine:
    """Runs inferences, and keeps the repository in step with the disk. Its methods belong to one event loop."""

    def __init__(
        self,
        repository: ModelRepository,
        *,
        default_model: str | None,
        reload_interval: float,
        limits: Limits,
        request_limits: RequestLimits = NO_LIMITS,
        on_batch: OnBatch | None = None,
    ) -> None:
        self._repository = repository
        self._default_model = default_model
        self._reload_interval = reload_interval
        self._queues = Queues(limits, on_batch)
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reload = asyncio.Event()
        self._has_looked = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._has_reconciled = self._is_draining = False
        self._request_limits = request_limits
        self._metadata: WeakKeyDictionary[LoadedModel, ModelMetadata] = WeakKeyDictionary()

    async def start(self) -> None:
        """Begins to load, and returns at once. `unready_reason` says when that is done."""
        self._loop = asyncio.get_running_loop()
        self._watcher = asyncio.create_task(self._watch())
        self._watcher.add_done_callback(lambda _: self._has_looked.set())

    async def stop(self) -> None:
        """Lets go of the models once all that was submitted has ended."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        self._loader.shutdown(wait=False, cancel_futures=True)  # a load under way is of no use any more
        await asyncio.to_thread(self._repository.close)
        await self._queues.ended()

    def reload(self) -> None:
        """Looks at the disk now instead of at the next interval. Safe from any thread and from a signal's handler."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._reload.set)

    async def wait_for_first_look(self) -> None:
        """Waits until every model has had its turn to load, or the service is to end."""
        await self._has_looked.wait()

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
        """Makes `unready_reason` say so, for good; requests are still answered. Safe where `reload` is."""
        self._is_draining = True
        if self._loop:
            self._loop.call_soon_threadsafe(self._has_looked.set)

    async def wait_until_ready(self) -> None:
        """Waits until there is no `unready_reason`, and logs each; ends early where the service is to end."""
        logged = ""
        while (reason := self.unready_reason()) and not self._is_draining:
            if reason != logged:
                _log.info("Not listening yet: %s", reason)
                logged = reason
            self._has_looked.clear()
            await self._has_looked.wait()

    def unready_reason(self) -> str | None:
        """Why this process should get no traffic; None where it should."""
        if self._is_draining:
            return "The service is shutting down."
        if self._watcher is None or self._watcher.done():
            return "The loader has stopped; restart the service."
        name = self.default_model()
        names = [name] if name else self._repository.names()
        serving = [(name, self._repository.current(name)) for name in names]
        stuck = [f"{name}: {problem}" for name, model in serving if (problem := self._queues.problem(model))]
        if stuck:
            return " ".join(stuck)
        # Without a default every model counts, so all must have had their turn to load.
        if any(model for _, model in serving) and (name or self._has_reconciled):
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
            raise no_such_model(self._repository, name)
        return self._index(name)

    def version_of(self, name: str | None, label: str) -> int:
        """The version that answers under a label, which may move at any time.

        Raises:
            NotFound: there is no such model or label.
            NotReady: no version that the label named has been ready yet.
        """
        return self._find(name, None, label).version

    def metadata(self, name: str | None = None, version: int | None = None, label: str | None = None) -> ModelMetadata:
        """The model that answers a request for `name` (None: the default model) and `version` (None: the served one).

        Raises:
            NotFound: there is no such model, version or label.
            NotReady: nothing of that name is loaded yet.
        """
        model = self._find(name, version, label)
        metadata = self._metadata.get(model)
        if metadata is None:
            metadata = self._metadata[model] = metadata_of(model)
        return metadata

    def submit(self, request: InferenceRequest, done: Done) -> Ticket[InferenceResponse]:
        """Takes in a request. One version answers all of its rows, also if it is replaced meanwhile.

        Args:
            request: Its arrays must not be changed before `done` has been called.
            done: Called once, on the event loop and never before this method has returned, with the answer or the
                error; never if the ticket was cancelled before. It must not raise.

        Raises:
            NotFound, NotReady: as `metadata`.
            InvalidRequest: the inputs are not what the signature says.
            TooManyValues: they are more than the limits allow.
            QueueFull: too many rows wait.
            DeadlineExceeded: the timeout is not above 0.
        """
        return self._submit(self._find(request.model, request.version, request.label), request, done)

    def submit_to(self, model: Model, request: InferenceRequest, done: Done) -> Ticket[InferenceResponse]:
        """As `submit`, to the model of a version's metadata while it is loaded, which is not looked up again then."""
        return self._submit(model() or self._find(request.model, request.version, request.label), request, done)

    def run_at_once(self, model: Model, inputs: Tensors, counts: list[int], waited: float) -> Tensors | None:
        """Runs rows of the signature's form, `counts` of each request; None if `submit` must see to each of them."""
        loaded = model()
        if loaded is None or not are_within(inputs, counts, self._request_limits):
            return None
        return self._queues.of(loaded).run_at_once(inputs, counts, waited)

    def may_run_at_once(self, model: Model) -> bool:
        """Whether `run_at_once` answers any rows of a model now; asked before they are decoded for it."""
        return (loaded := model()) is not None and self._queues.of(loaded).may_run_at_once()

    def _submit(self, model: LoadedModel, request: InferenceRequest, done: Done) -> Ticket[InferenceResponse]:
        while True:
            model.check(request.inputs)
            check_size(request.inputs, self._request_limits)
            try:
                return self._queues.of(model).submit(request.inputs, done, request.timeout)
            except Closed:  # replaced by the loader's thread since it was found
                model = self._find(request.model, request.version, request.label)

    @property
    def generation(self) -> int:
        """Another number after each change of which version answers which request."""
        return self._repository.generation

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answers a request; cancels it where the caller is cancelled.

        Raises:
            NotFound, NotReady, InvalidRequest, TooManyValues, QueueFull: as `submit`.
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
        return {
            (name, version): self._queues.rows(model)
            for name in self._repository.names()
            for version, model in self._repository.loaded(name).items()
        }

    async def _watch(self) -> None:
        while True:
            try:
                await self._reconcile()
                self._has_reconciled = True
            except OSError:
                _log.exception("The artifacts folder cannot be read; what is loaded goes on serving.")
            except Exception:
                _log.critical("The loader has stopped; restart the service.", exc_info=True)
                return
            self._has_looked.set()
            try:
                async with asyncio.timeout(self._reload_interval):  # `wait_for` may swallow a cancellation
                    await self._reload.wait()
            except TimeoutError:
                continue
            self._reload.clear()

    async def _reconcile(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._loader, self._repository.reconcile)

    def _find(self, name: str | None, version: int | None, label: str | None = None) -> LoadedModel:
        chosen = name or self.default_model()
        if chosen is None:
            raise no_default_model(self._repository, has_looked=self._has_reconciled)
        return find(self._repository, chosen, version, label, has_looked=self._has_reconciled)

    def _index(self, name: str) -> ModelIndex:
        model = self._repository.current(name)
        return ModelIndex(
            name,
            version=model.version if model else None,
            statuses=self._repository.statuses(name),
            labels={label: model.version for label, model in self._repository.labelled(name).items()},
            problem=self._repository.problem(name),
        )


def _settle(answer: asyncio.Future[InferenceResponse], result: InferenceResponse | BaseException) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)

"""The hall that every protocol enters: finds the model, checks the request, runs it, says what is ready."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from models.golden import Golden
from models.manifest import Signature
from service.errors import NotFound, NotReady, ServiceError
from service.inference import InferenceRequest, InferenceResponse, check_inputs
from service.repository import LoadedModel, ModelRepository, VersionStatus

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ModelMetadata:
    """What is known of a model that serves: its version, signature, a worked example, and how it came about.

    There is one for each loaded version, as long as it is loaded: what a door prepares for a version may hang on it.
    """

    name: str
    version: int
    runtime: str
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
        self, repository: ModelRepository, *, default_model: str | None, reload_interval: float, threads: int
    ) -> None:
        self._repository = repository
        self._default_model = default_model
        self._reload_interval = reload_interval
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="inference")
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._reload = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._has_reconciled = False
        self._is_draining = False
        self._metadata: WeakKeyDictionary[LoadedModel, ModelMetadata] = WeakKeyDictionary()

    async def start(self) -> None:
        """Begins to load, and returns at once. `unready_reason` says when that is done."""
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Lets go of the models once running inferences have ended."""
        if self._watcher:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
        await asyncio.to_thread(self._shut_down)

    def reload(self) -> None:
        """Looks at the disk now instead of at the next interval."""
        self._reload.set()

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
        # Without a default every model counts, so all must have had their turn to load.
        if any(self._repository.current(name) for name in names) and (name or self._has_reconciled):
            return None
        if not self._has_reconciled:
            return "The models are being loaded."
        problems = [f"{name}: {self._repository.problem(name) or 'no version is published.'}" for name in names]
        return " ".join(problems) or "No model is published."

    def default_model(self) -> str | None:
        """The model that a request without a name asks: the one in the settings, else the only one."""
        names = self._repository.names()
        return self._default_model or (names[0] if len(names) == 1 else None)

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
        metadata = self._metadata.get(model)
        if metadata is None:
            metadata = self._metadata[model] = _metadata_of(model)
        return metadata

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answers a request.

        Raises:
            NotFound, NotReady: as `metadata`.
            InvalidRequest: the inputs are not what the signature says.
        """
        name = self._find(request.model, request.version).artifact.manifest.name
        with ExitStack() as stack:
            model = stack.enter_context(self._repository.lease(name))
            if model is None or request.version not in {None, model.version}:
                raise NotReady(f"`{name}` has just been replaced. Send the request again.")
            signature = model.artifact.manifest.signature
            check_inputs(signature, request.inputs)
            running = asyncio.get_running_loop().run_in_executor(self._workers, model.runtime.run, request.inputs)
            # A caller may leave, but the runtime must not be closed under a running inference.
            lease = stack.pop_all()
            running.add_done_callback(lambda _: lease.close())
        outputs = await asyncio.shield(running)
        return InferenceResponse(outputs, signature, name, model.version, model.runtime.name)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._loader, self._repository.reconcile)
            except OSError:
                _log.exception("The artifacts folder cannot be read; what is loaded goes on serving.")
            self._has_reconciled = True
            try:
                await asyncio.wait_for(self._reload.wait(), self._reload_interval)
            except TimeoutError:
                continue
            self._reload.clear()

    def _shut_down(self) -> None:
        self._loader.shutdown(wait=False, cancel_futures=True)  # a load under way is of no use any more
        self._workers.shutdown()
        self._repository.close()

    def _find(self, name: str | None, version: int | None) -> LoadedModel:
        chosen = name or self.default_model()
        if chosen is None:
            raise self._no_default_model()
        model = self._repository.current(chosen)
        if model is None:
            if self._has_reconciled and chosen not in self._repository.names():
                raise self._no_such_model(chosen)
            raise NotReady(self._repository.problem(chosen) or f"`{chosen}` is being loaded.")
        if version not in {None, model.version}:
            published = ", ".join(map(str, self._repository.versions(chosen)))
            raise NotFound(
                f"Version {version} of `{chosen}` is not served. Served: {model.version}. Published: {published}."
            )
        return model

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


def _metadata_of(model: LoadedModel) -> ModelMetadata:
    manifest = model.artifact.manifest
    return ModelMetadata(
        name=manifest.name,
        version=manifest.version,
        runtime=model.runtime.name,
        signature=manifest.signature,
        golden=model.golden,
        metrics=manifest.metrics,
        created_at=manifest.created_at.isoformat(),
    )

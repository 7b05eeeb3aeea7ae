"""The Open Inference Protocol, version 2, over gRPC: Triton's `GRPCInferenceService` but for shared memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2, service_pb2_grpc
from tritonclient.grpc import service_pb2 as messages

from models.manifest import Tensors
from service.engine import Engine
from service.errors import UNFORESEEN, InvalidRequest, NotAllowed, NotFound, NotReady, NotSupported, ServiceError
from service.exchange import Exchange
from service.grpc_calls import Calls
from service.inference import InferenceRequest, row_count
from service.metadata import ModelMetadata as Metadata  # a method has its name
from service.protocols import v2_models
from service.protocols.v2_infer import (
    Which,
    check_outputs,
    choose_outputs,
    decode_inputs,
    infer,
    shortest,
    which_version,
)
from service.protocols.v2_messages import document_of, response_of
from service.protocols.v2_request import InferMessage, parse_message
from service.statistics import Statistics
from service.version import VERSION

_LARGE_BYTES = 256 * 2**10

SERVICE: str = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_IS_LAST = "triton_final_response"
_STREAM = f"/{SERVICE}/ModelStreamInfer"
PROTOCOLS = dict.fromkeys([f"/{SERVICE}/ModelInfer", _STREAM], "v2-grpc")
"""What the methods that infer are counted as."""


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers as the REST door does. What its methods raise is answered by whoever serves it.

    Args:
        engine: That is asked.
        statistics: Where this door counts.
        calls: See each request of a stream through, as whoever serves this does with each other call.
        max_batch_size, max_queue_delay_ms: As the configuration of a model tells them.
        may_control: Whether callers may load and unload models.
    """

    def __init__(
        self,
        engine: Engine,
        statistics: Statistics,
        calls: Calls,
        *,
        max_batch_size: int,
        max_queue_delay_ms: float,
        may_control: bool,
    ) -> None:
        self._engine = engine
        self._statistics = statistics
        self._calls = calls
        self._max_batch_size = max_batch_size
        self._max_queue_delay_ms = max_queue_delay_ms
        self._may_control = may_control

    def register(self, server: Any) -> None:
        """Adds this service to a `grpc.aio.Server`."""
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, server)

    async def ServerLive(self, request: Any, context: Any) -> Any:
        """Whether the process works at all."""
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:
        """Whether this process should get traffic."""
        return messages.ServerReadyResponse(ready=self._engine.unready_reason() is None)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        """Whether a model can be asked."""
        try:
            self._metadata(request)
        except (NotFound, NotReady):
            return messages.ModelReadyResponse(ready=False)
        return messages.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:
        """Name, version and extensions of the server."""
        return messages.ServerMetadataResponse(**v2_models.server_metadata(VERSION))

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        """A model's versions, inputs and outputs."""
        metadata = self._metadata(request)
        content = v2_models.model_metadata(metadata, self._engine.describe(metadata.name))
        return json_format.ParseDict(content, messages.ModelMetadataResponse())

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        """A model's configuration, as Triton has it."""
        content = v2_models.model_config(
            self._metadata(request), max_batch_size=self._max_batch_size, max_queue_delay_ms=self._max_queue_delay_ms
        )
        config = json_format.ParseDict(content, model_config_pb2.ModelConfig())
        return messages.ModelConfigResponse(config=config)

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        """What versions have done since the service started."""
        if request.name:
            metadata = self._metadata(request)
            served = [(metadata.name, metadata.version)]
        else:
            served = v2_models.serving(self._engine.index())
        content = v2_models.all_statistics(served, self._statistics)
        return json_format.ParseDict(content, messages.ModelStatisticsResponse())

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:
        """Every version that was asked for, with its state."""
        items = v2_models.repository_index(self._engine.index(), only_ready=request.ready)
        return messages.RepositoryIndexResponse(
            models=[messages.RepositoryIndexResponse.ModelIndex(**item) for item in items]
        )

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        """Looks at the folder now, and answers once the version that should serve does."""
        self._check_control()
        if request.parameters:
            raise NotSupported("A model is loaded as it was published. Load it without parameters.")
        await self._engine.load(request.model_name)
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        """Lets go of a model until it is loaded again or the service restarts."""
        self._check_control()
        await self._engine.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """Asks a model."""
        return await self._answer(request, context.time_remaining(), Exchange.current())

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """Asks a model, once for each request of a stream, and answers in their order; errors end no stream."""
        try:
            async for request in request_iterator:
                yield await self._answer_in_stream(request, context)
        except DecodeError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "A message of the stream is no ModelInferRequest.")

    async def _answer_in_stream(self, request: Any, context: Any) -> Any:
        message = ""
        try:
            with self._calls.seen(_STREAM, context) as exchange:
                answer = await self._answer(request, context.time_remaining(), exchange)
        except Exception as error:
            answer = messages.ModelInferResponse(model_name=request.model_name, id=request.id)
            message = str(error) if isinstance(error, ServiceError) else UNFORESEEN
        # Triton's models may answer a request several times, so its clients wait for the answer that says this.
        answer.parameters[_IS_LAST].bool_param = True
        return messages.ModelStreamInferResponse(error_message=message, infer_response=answer)

    async def _not_offered(self, request: Any, context: Any) -> Any:
        raise NotSupported("Shared memory, tracing and logging are not set by request here.")

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = SystemSharedMemoryUnregister = _not_offered
    CudaSharedMemoryStatus = CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _not_offered
    TraceSetting = LogSettings = _not_offered

    async def _answer(self, request: Any, remaining: float | None, exchange: Exchange) -> Any:
        which = which_version(request.model_version)
        metadata = self._engine.metadata(_required(request.model_name), *which)
        exchange.model, exchange.version = metadata.name, metadata.version
        counted = self._statistics.of(metadata.name, metadata.version)
        try:
            answer = await self._infer(request, metadata, which, remaining, exchange)
        except Exception:
            counted.failed.add(time.perf_counter() - exchange.received)
            raise
        counted.decoded.add(exchange.decode)
        counted.encoded.add(exchange.encode)
        return answer

    async def _infer(
        self, request: Any, metadata: Metadata, which: Which, remaining: float | None, exchange: Exchange
    ) -> Any:
        if _is_slow(request):  # so that health checks and small requests are answered meanwhile
            message, inputs = await asyncio.to_thread(_decode, metadata, request)
        else:
            message, inputs = _decode(metadata, request)
        choices = check_outputs(metadata.signature, message)
        exchange.decode = time.perf_counter() - exchange.received
        exchange.rows = row_count(inputs)
        timeout = shortest(message.timeout, remaining)
        asked = InferenceRequest(inputs, metadata.name, which.version, timeout, which.label)
        response = await infer(self._engine, metadata, asked)
        exchange.version = response.version
        began = time.perf_counter()
        outputs = choose_outputs(response, choices)
        is_raw = bool(request.raw_input_contents)
        answer = response_of(response.model, response.version, request.id, outputs, is_raw=is_raw)
        exchange.encode = time.perf_counter() - began
        return answer

    def _metadata(self, request: Any) -> Metadata:
        return self._engine.metadata(_required(request.name), *which_version(request.version))

    def _check_control(self) -> None:
        if not self._may_control:
            raise NotAllowed(
                "Models are not loaded or unloaded by request here. Start the service with LAYERSERVE_CONTROL_API=true."
            )


def _required(name: str) -> str:
    if not name:
        raise InvalidRequest("The name of the model must be given.")
    return name


def _is_slow(request: Any) -> bool:
    has_values = not request.raw_input_contents or any(item.datatype == "BYTES" for item in request.inputs)
    return has_values and request.ByteSize() > _LARGE_BYTES


def _decode(metadata: Metadata, request: Any) -> tuple[InferMessage, Tensors]:
    message = parse_message(document_of(request))
    pieces = [memoryview(piece) for piece in request.raw_input_contents]
    return message, decode_inputs(metadata.signature, message.inputs, pieces)

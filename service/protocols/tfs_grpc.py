"""TensorFlow Serving over gRPC: `PredictionService` and `ModelService`, by the stubs of tensorflow-serving-api.

Those stubs load TensorFlow, so this is imported only where it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from models.manifest import Signature, Tensors
from service.engine import Engine
from service.errors import InvalidRequest, NotFound
from service.exchange import Exchange
from service.inference import InferenceRequest, InferenceResponse, row_count
from service.protocols.tfs_decode import SIGNATURE_NAME, Document, check_signature_name, decode_examples
from service.protocols.tfs_encode import check_output, labels_of
from service.protocols.tfs_faults import inputs_fault, metadata_fault, outputs_fault
from service.protocols.tfs_messages import array_of, features_of, proto_of
from service.protocols.tfs_target import Target, metadata_of, statuses_of

_LARGE_BYTES = 256 * 2**10
# By their descriptors, which reflection tells of: the stubs alone do not load them.
_PREDICTION = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
_MODELS = model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name
_METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}

PROTOCOLS = dict.fromkeys(
    [f"/{_PREDICTION}/{name}" for name in ("Predict", "Classify", "Regress", "MultiInference")], "tfs-grpc"
)
"""What the methods that infer are counted as."""


def services(engine: Engine, limit: int) -> dict[str, Callable[[Any], None]]:
    """What adds each of the two services to a `grpc.aio.Server` that has not started, by the service's full name.

    Args:
        engine: That is asked.
        limit: Most bytes that a tensor may have, which a message can say in fewer.
    """
    add_prediction = prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server
    add_models = model_service_pb2_grpc.add_ModelServiceServicer_to_server
    return {
        _PREDICTION: partial(add_prediction, _Prediction(engine, limit)),
        _MODELS: partial(add_models, _Models(engine)),
    }


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc] # generated, untyped
    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine = engine
        self._limit = limit

    async def Predict(self, request: Any, context: Any) -> Any:
        """All outputs, or those that `output_filter` names."""
        exchange = Exchange.current()
        target = _target(request.model_spec).resolved(self._engine)
        signature = self._signature(target, exchange)
        names = [spec.name for spec in signature.outputs]
        if fault := outputs_fault(request.output_filter, names):
            raise InvalidRequest(fault)
        inputs = await _decoded(request, _arrays, request.inputs, signature, self._limit)
        response = await self._infer(target, inputs, context.time_remaining(), exchange)
        began = perf_counter()
        answer = predict_pb2.PredictResponse()
        _name(answer.model_spec, response)
        for name in request.output_filter or names:
            proto_of(response.outputs[name], answer.outputs[name])
        exchange.encode = perf_counter() - began
        return answer

    async def Classify(self, request: Any, context: Any) -> Any:
        """Labels and scores of each example."""
        response = await self._examples(request.model_spec, request.input, "classify", context.time_remaining())
        answer = classification_pb2.ClassificationResponse()
        _name(answer.model_spec, response)
        _fill_classes(answer.result, response)
        return answer

    async def Regress(self, request: Any, context: Any) -> Any:
        """A number for each example."""
        response = await self._examples(request.model_spec, request.input, "regress", context.time_remaining())
        answer = regression_pb2.RegressionResponse()
        _name(answer.model_spec, response)
        _fill_values(answer.result, response)
        return answer

    async def MultiInference(self, request: Any, context: Any) -> Any:
        """The same examples classified and regressed."""
        answer = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            verb = _METHODS.get(task.method_name)
            if verb is None:
                raise InvalidRequest(f"Unsupported signature method_name: {task.method_name}")
            response = await self._examples(task.model_spec, request.input, verb, context.time_remaining())
            result = answer.results.add()
            _name(result.model_spec, response)
            if verb == "classify":
                _fill_classes(result.classification_result, response)
            else:
                _fill_values(result.regression_result, response)
        return answer

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """The signature."""
        if fault := metadata_fault(request.metadata_field):
            raise InvalidRequest(fault)
        target = _target(request.model_spec).resolved(self._engine)
        document = metadata_of(self._engine, target)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        json_format.ParseDict(document["model_spec"], answer.model_spec)
        definition = {"signature_def": document["metadata"]["signature_def"]["signature_def"]}
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Pack(json_format.ParseDict(definition, signatures))
        return answer

    async def _examples(self, spec: Any, given: Any, verb: str, timeout: float | None) -> InferenceResponse:
        exchange = Exchange.current()
        target = _target(spec).resolved(self._engine)
        signature = self._signature(target, exchange)
        check_output(signature, verb)
        inputs = await _decoded(given, _columns, given, signature)
        return await self._infer(target, inputs, timeout, exchange)

    def _signature(self, target: Target, exchange: Exchange) -> Signature:
        try:
            metadata = self._engine.metadata(target.name, target.version)
        except NotFound as error:
            raise target.not_found() from error
        exchange.model, exchange.version = metadata.name, metadata.version
        return metadata.signature

    async def _infer(
        self, target: Target, inputs: Tensors, timeout: float | None, exchange: Exchange
    ) -> InferenceResponse:
        exchange.decode = perf_counter() - exchange.received
        exchange.rows = row_count(inputs)
        try:
            response = await self._engine.infer(InferenceRequest(inputs, target.name, target.version, timeout))
        except NotFound as error:
            raise target.not_found() from error
        exchange.version = response.version
        return response


class _Models(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc] # generated, untyped
    """A version is chosen by what is on disk, so `HandleReloadConfigRequest` stays unimplemented, as generated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """The states of a model's versions."""
        document = statuses_of(self._engine, _target(request.model_spec).resolved(self._engine))
        states = {"model_version_status": document["model_version_status"]}
        return json_format.ParseDict(states, get_model_status_pb2.GetModelStatusResponse())


def _target(spec: Any) -> Target:
    if not spec.name:
        raise InvalidRequest("Missing ModelSpec")
    check_signature_name(spec.signature_name)
    return Target(spec.name, spec.version.value or None, spec.version_label or None)


async def _decoded(message: Any, decode: Callable[..., Tensors], *given: Any) -> Tensors:
    """The arrays in a message; a large one is decoded in a thread, so that others are answered meanwhile."""
    if message.ByteSize() > _LARGE_BYTES:
        return await asyncio.to_thread(decode, *given)
    return decode(*given)


def _arrays(protos: Any, signature: Signature, limit: int) -> Tensors:
    """The arrays of TensorProtos by the names of the inputs."""
    specs = {spec.name: spec for spec in signature.inputs}
    if fault := inputs_fault(protos, specs):
        raise InvalidRequest(fault)
    return {name: array_of(specs[name], proto, limit) for name, proto in protos.items()}


def _columns(given: Any, signature: Signature) -> Tensors:
    """The arrays of a list of Examples."""
    with_context = given.example_list_with_context
    examples = [*given.example_list.examples, *with_context.examples]
    if not examples:
        raise InvalidRequest("Input is empty.")
    members = {"examples": [features_of(example) for example in examples], "context": features_of(with_context.context)}
    return decode_examples(Document(members, is_finite=False), signature)


def _name(spec: Any, response: InferenceResponse) -> None:
    spec.name = response.model
    spec.version.value = response.version
    spec.signature_name = SIGNATURE_NAME


def _fill_classes(result: Any, response: InferenceResponse) -> None:
    labels, scores = labels_of(response.outputs, response.signature)
    for row in scores.tolist():
        classes = result.classifications.add().classes
        for label, score in zip(labels, row, strict=True):
            classes.add(label=label, score=score)


def _fill_values(result: Any, response: InferenceResponse) -> None:
    (values,) = response.outputs.values()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)

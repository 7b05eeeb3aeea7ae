"""TensorFlow Serving over gRPC: `PredictionService` and `ModelService`, by the stubs of tensorflow-serving-api.

Those stubs load TensorFlow, so this is imported only where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from service.engine import Engine
from service.errors import InvalidRequest, NotFound
from service.inference import InferenceRequest, InferenceResponse
from service.protocols.tfs_decode import SIGNATURE_NAME, Document, check_signature_name, decode_examples
from service.protocols.tfs_encode import check_output, labels_of
from service.protocols.tfs_messages import array_of, features_of, proto_of
from service.protocols.tfs_target import Target, metadata_of, statuses_of

_METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}


def services(engine: Engine, limit: int) -> dict[str, Callable[[Any], None]]:
    """What adds each of the two services to a `grpc.aio.Server` that has not started, by the service's full name.

    Args:
        engine: That is asked.
        limit: Most bytes that a tensor may have, which a message can say in fewer.
    """
    add_prediction = prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server
    add_models = model_service_pb2_grpc.add_ModelServiceServicer_to_server
    return {
        "tensorflow.serving.PredictionService": partial(add_prediction, _Prediction(engine, limit)),
        "tensorflow.serving.ModelService": partial(add_models, _Models(engine)),
    }


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc] # generated, untyped
    def __init__(self, engine: Engine, limit: int) -> None:
        self._engine = engine
        self._limit = limit

    async def Predict(self, request: Any, context: Any) -> Any:
        """All outputs, or those that `output_filter` names."""
        return await self._predict(request, context.time_remaining())

    async def Classify(self, request: Any, context: Any) -> Any:
        """Labels and scores of each example."""
        return await self._classify(request, context.time_remaining())

    async def Regress(self, request: Any, context: Any) -> Any:
        """A number for each example."""
        return await self._regress(request, context.time_remaining())

    async def MultiInference(self, request: Any, context: Any) -> Any:
        """The same examples classified and regressed."""
        return await self._multi_inference(request, context.time_remaining())

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """The signature."""
        return await self._metadata(request, context.time_remaining())

    async def _predict(self, request: Any, timeout: float | None) -> Any:
        target = _target(request.model_spec).resolved(self._engine)
        signature = _metadata(self._engine, target).signature
        specs = {spec.name: spec for spec in signature.inputs}
        inputs = {
            name: array_of(specs[name], proto, self._limit) for name, proto in request.inputs.items() if name in specs
        }
        if inputs.keys() != specs.keys() or len(request.inputs) != len(specs):
            raise InvalidRequest(f"input keys must be {sorted(specs)}. Received: {sorted(request.inputs)}.")
        names = [spec.name for spec in signature.outputs]
        unknown = sorted(set(request.output_filter) - set(names))
        if unknown:
            raise InvalidRequest(f"output tensor alias not found in signature: {unknown[0]} Outputs are: {names}.")
        response = await self._infer(target, InferenceRequest(inputs, target.name, target.version, timeout))
        answer = predict_pb2.PredictResponse()
        _name(answer.model_spec, response)
        for name in request.output_filter or names:
            proto_of(response.outputs[name], answer.outputs[name])
        return answer

    async def _classify(self, request: Any, timeout: float | None) -> Any:
        response = await self._examples(request.model_spec, request.input, "classify", timeout)
        answer = classification_pb2.ClassificationResponse()
        _name(answer.model_spec, response)
        _fill_classes(answer.result, response)
        return answer

    async def _regress(self, request: Any, timeout: float | None) -> Any:
        response = await self._examples(request.model_spec, request.input, "regress", timeout)
        answer = regression_pb2.RegressionResponse()
        _name(answer.model_spec, response)
        _fill_values(answer.result, response)
        return answer

    async def _multi_inference(self, request: Any, timeout: float | None) -> Any:
        answer = inference_pb2.MultiInferenceResponse()
        for task in request.tasks:
            verb = _METHODS.get(task.method_name)
            if verb is None:
                raise InvalidRequest(f"Unsupported signature method_name: {task.method_name}")
            response = await self._examples(task.model_spec, request.input, verb, timeout)
            result = answer.results.add()
            _name(result.model_spec, response)
            if verb == "classify":
                _fill_classes(result.classification_result, response)
            else:
                _fill_values(result.regression_result, response)
        return answer

    async def _metadata(self, request: Any, timeout: float | None) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            raise InvalidRequest(f"Metadata field {list(request.metadata_field)} is not supported. Ask: signature_def.")
        target = _target(request.model_spec).resolved(self._engine)
        document = metadata_of(self._engine, target)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        json_format.ParseDict(document["model_spec"], answer.model_spec)
        definition = {"signature_def": document["metadata"]["signature_def"]["signature_def"]}
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Pack(json_format.ParseDict(definition, signatures))
        return answer

    async def _examples(self, spec: Any, given: Any, verb: str, timeout: float | None) -> InferenceResponse:
        target = _target(spec).resolved(self._engine)
        signature = _metadata(self._engine, target).signature
        check_output(signature, verb)
        with_context = given.example_list_with_context
        examples = [*given.example_list.examples, *with_context.examples]
        members = {
            "examples": [features_of(example) for example in examples],
            "context": features_of(with_context.context),
        }
        if not examples:
            raise InvalidRequest("Input is empty.")
        inputs = decode_examples(Document(members, is_finite=False), signature)
        return await self._infer(target, InferenceRequest(inputs, target.name, target.version, timeout))

    async def _infer(self, target: Target, request: InferenceRequest) -> InferenceResponse:
        try:
            return await self._engine.infer(request)
        except NotFound as error:
            raise target.not_found() from error


class _Models(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc] # generated, untyped
    """A version is chosen by what is on disk, so `HandleReloadConfigRequest` stays unimplemented, as generated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """The states of a model's versions."""
        return await self._status(request, context.time_remaining())

    async def _status(self, request: Any, timeout: float | None) -> Any:
        document = statuses_of(self._engine, _target(request.model_spec).resolved(self._engine))
        states = {"model_version_status": document["model_version_status"]}
        return json_format.ParseDict(states, get_model_status_pb2.GetModelStatusResponse())


def _target(spec: Any) -> Target:
    if not spec.name:
        raise InvalidRequest("Missing ModelSpec")
    check_signature_name(spec.signature_name)
    return Target(spec.name, spec.version.value or None, spec.version_label or None)


def _metadata(engine: Engine, target: Target) -> Any:
    try:
        return engine.metadata(target.name, target.version)
    except NotFound as error:
        raise target.not_found() from error


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

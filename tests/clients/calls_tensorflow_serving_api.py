"""By the published stubs, with the TensorFlow that they ask for, as TensorFlow Serving's own examples call it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

ROWS = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def channel(grpc_address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def models(channel: grpc.Channel) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict(model: str, values: Any, **spec: Any) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_default"
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values))
    return request


def with_examples(request: Any, model: str, rows: list[list[float]]) -> Any:
    request.model_spec.name = model
    for row in rows:
        features = {"features": tf.train.Feature(float_list=tf.train.FloatList(value=row))}
        example = tf.train.Example(features=tf.train.Features(feature=features))
        request.input.example_list.examples.add().CopyFrom(example)
    return request


@pytest.mark.parametrize("spec", [{}, {"version": 1}, {"label": "stable"}])
def test_predict(stub: Any, spec: dict[str, Any]) -> None:
    answer = stub.Predict(predict("scale", ROWS, **spec), timeout=30)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), ROWS * 2)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("scale", 1)


@pytest.mark.parametrize("rows", [1, 500])
def test_predict_without_waiting(stub: Any, rows: int) -> None:
    values = np.resize(ROWS, (rows, 2))
    answer = stub.Predict.future(predict("scale", values), 30).result()
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), values * 2)


def test_strings(stub: Any) -> None:
    answer = stub.Predict(predict("words", [["alpha", "βeta"]]))
    assert tf.make_ndarray(answer.outputs["y"]).tolist() == [[b"alpha", "βeta".encode()]]


def test_classify_and_multi_inference(stub: Any) -> None:
    request = with_examples(classification_pb2.ClassificationRequest(), "classify", [[0, 0, 9]])
    classes = stub.Classify(request).result.classifications[0].classes
    assert max(classes, key=lambda item: item.score).label == "cat"
    several = inference_pb2.MultiInferenceRequest(input=request.input)
    several.tasks.add(method_name="tensorflow/serving/classify").model_spec.name = "classify"
    (result,) = stub.MultiInference(several).results
    assert [item.label for item in result.classification_result.classifications[0].classes] == ["ant", "bee", "cat"]


def test_regress(stub: Any) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "scalar-float32"
    for value in (1.5, -2):
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        request.input.example_list.examples.add().CopyFrom(
            tf.train.Example(features=tf.train.Features(feature={"x": feature}))
        )
    assert [item.value for item in stub.Regress(request).result.regressions] == [1.5, -2]


def test_regress_needs_a_number_a_row(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Regress(with_examples(regression_pb2.RegressionRequest(), "classify", [[0, 0, 9]]))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata(stub: Any) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "scale"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert stub.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["x"].dtype == tf.float32.as_datatype_enum


def test_status(models: Any) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "scale"
    (version,) = models.GetModelStatus(request).model_version_status
    assert (version.version, version.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


def test_configuration_is_not_reloaded(models: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_services_have_no_other_calls_than_those_asked_here() -> None:
    files = (prediction_service_pb2, model_service_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert {service.full_name: {method.name for method in service.methods} for service in services} == {
        "tensorflow.serving.PredictionService": {
            "Classify",
            "GetModelMetadata",
            "MultiInference",
            "Predict",
            "Regress",
        },
        "tensorflow.serving.ModelService": {"GetModelStatus", "HandleReloadConfigRequest"},
    }


def test_errors(stub: Any) -> None:
    for request, code, message in (
        (predict("other", ROWS), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(other)"),
        (predict("scale", ROWS[:, :1]), grpc.StatusCode.INVALID_ARGUMENT, "Input `x` must have shape (rows, 2)."),
        (predict("scale", ROWS, label="none"), grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(request)
        assert (caught.value.code(), caught.value.details()[: len(message)]) == (code, message)

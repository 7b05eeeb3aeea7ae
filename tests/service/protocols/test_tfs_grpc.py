"""TensorFlow Serving's gRPC API by its own stubs. They load TensorFlow, so these tests are slow to start."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.service.fakes import FakeRuntimes, publish_fake
from tests.service.test_metrics_page import sample
from tests.service.waiting import wait_until

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow_serving", reason="make setup installs requirements/tfs.txt")

DTYPES = {
    "bool": [True, False],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [0, 2**16 - 1],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "float16": [0.5, 65504.0],
    "float32": [0.1, float("nan")],
    "float64": [0.1, float("inf")],
    "string": ["", "Łódź"],
}
KINDS = ("half_plus_two", "scale", "combine", "classify", "broken")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The application with a model of each kind and one that echoes each dtype."""
    store = ArtifactStore(tmp_path_factory.mktemp("tfs") / "artifacts")
    publish_fake(store, "counted", "half_plus_two")
    for kind in (*KINDS, *(f"echo-{dtype}" for dtype in DTYPES)):
        publish_fake(store, kind, kind)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings(artifacts=store.root, grpc_port=port, max_body_bytes=10_000)
    with TestClient(create_app(settings, load_runtime=FakeRuntimes().load)) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200)
        yield client


@pytest.fixture(scope="module")
def channel(client: TestClient) -> Iterator[grpc.Channel]:
    """A channel to both services."""
    settings = client.app.state.settings  # type: ignore[attr-defined] # Starlette's type says less
    with grpc.insecure_channel(f"127.0.0.1:{settings.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> Any:
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict_request(name: str, **inputs: Any) -> Any:
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value))
    return request


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("letter", ["m", "ö", "\U0001f600"])
def test_error_that_names_something_long_still_arrives(stub: Any, letter: str) -> None:
    code, details = refused(lambda: stub.Predict(predict_request(letter * (9000 // len(letter.encode())), x=ROW)))
    assert code is grpc.StatusCode.NOT_FOUND, details
    assert details.startswith(f"Servable not found for request: Latest({letter}")
    assert details.endswith("…")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_raw", [True, False])
def test_every_dtype_comes_back_as_it_went(stub: Any, dtype: str, is_raw: bool) -> None:
    import tensorflow as tf

    from service.protocols.tfs_messages import proto_of

    values = np.array([DTYPES[dtype]] * 2, np.str_ if dtype == "string" else dtype)
    proto = tf.make_tensor_proto(values, tf.as_dtype(dtype))
    if not is_raw:
        proto = type(proto)()
        proto_of(values, proto)
    answer = tf.make_ndarray(stub.Predict(predict_request(f"echo-{dtype}", x=proto)).outputs["y"])
    got = np.char.decode(answer.astype(np.bytes_), "utf-8") if dtype == "string" else answer
    np.testing.assert_array_equal(got, values)


def test_last_value_stands_for_the_rest(stub: Any) -> None:
    request = predict_request("half_plus_two", x=np.ones(3, np.float32))
    request.inputs["x"].ClearField("tensor_content")
    del request.inputs["x"].float_val[:]
    request.inputs["x"].float_val.append(2.0)
    assert list(stub.Predict(request).outputs["y"].float_val) == [3.0, 3.0, 3.0]


def test_filter_chooses_outputs_and_spec_tells_who_answered(stub: Any) -> None:
    request = predict_request("combine", amounts=np.ones((1, 2), np.float32), city=["Graz"])
    request.output_filter.append("greeting")
    answer = stub.Predict(request)
    assert dict(answer.outputs).keys() == {"greeting"}
    assert list(answer.outputs["greeting"].string_val) == [b"to Graz"]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("combine", 1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["total", "total"], "duplicate output tensor alias: total"),
        (
            ["sum"],
            (
                "output tensor alias not found in signature: sum "
                "Outputs expected to be in the set {greeting,is_large,total}."
            ),
        ),
    ],
)
def test_filter_names_outputs_of_the_model_each_once(stub: Any, asked: list[str], message: str) -> None:
    request = predict_request("combine", amounts=np.ones((1, 2), np.float32), city=["Graz"])
    request.output_filter.extend(asked)
    assert refused(lambda: stub.Predict(request)) == (grpc.StatusCode.INVALID_ARGUMENT, message)


def examples_request(kind: Any, name: str, rows: list[list[float]], feature: str) -> Any:
    request = kind()
    request.model_spec.name = name
    for row in rows:
        example = request.input.example_list.examples.add()
        example.features.feature[feature].float_list.value.extend(row)
    return request


def test_examples_are_classified_and_regressed(stub: Any) -> None:
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    request = examples_request(classification_pb2.ClassificationRequest, "classify", [[0, 0, 0]], "features")
    classes = stub.Classify(request).result.classifications[0].classes
    assert [item.label for item in classes] == ["ant", "bee", "cat"]
    assert [item.score for item in classes] == pytest.approx([1 / 3] * 3)
    request = examples_request(regression_pb2.RegressionRequest, "half_plus_two", [[1], [2]], "x")
    assert [item.value for item in stub.Regress(request).result.regressions] == [2.5, 3.0]


def test_tasks_share_their_examples(stub: Any) -> None:
    from tensorflow_serving.apis import inference_pb2

    request = inference_pb2.MultiInferenceRequest()
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    for method in ("classify", "regress"):
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "half_plus_two"
    classified, regressed = stub.MultiInference(request).results
    assert classified.classification_result.classifications[0].classes[0].score == 2.5
    assert regressed.regression_result.regressions[0].value == 2.5


def test_metadata_and_status_are_told(stub: Any, channel: grpc.Channel) -> None:
    from tensorflow_serving.apis import (
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
    )

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "scale"
    packed = stub.GetModelMetadata(request).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    (found,) = signatures.signature_def["serving_default"].inputs.values()
    assert [dim.size for dim in found.tensor_shape.dim] == [-1, 2]
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "scale"
    (version,) = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status).model_version_status
    assert (version.version, version.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "GetModelMetadataRequest must specify at least one metadata_field"),
        (["signature_def", "other"], "Metadata field other is not supported"),
    ],
)
def test_only_the_signature_is_known_of_a_model(stub: Any, fields: list[str], message: str) -> None:
    from tensorflow_serving.apis import get_model_metadata_pb2

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "scale"
    assert refused(lambda: stub.GetModelMetadata(request)) == (grpc.StatusCode.INVALID_ARGUMENT, message)


ROW = np.ones((1, 2), np.float32)


@pytest.mark.parametrize(
    ("name", "inputs", "code", "message"),
    [
        ("other", {"x": ROW}, "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ("", {"x": ROW}, "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            "scale",
            {"z": ROW},
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
        ),
        (
            "scale",
            {"x": ROW, "z": ROW},
            "INVALID_ARGUMENT",
            (
                "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
                "Sent extra: {z}. Missing but required: {}."
            ),
        ),
        ("scale", {"x": ROW.astype(int)}, "INVALID_ARGUMENT", "Input `x` must be float32. Received: int64."),
        ("scale", {"x": np.ones((1, 3), np.float32)}, "INVALID_ARGUMENT", "Input `x` must have shape (rows, 2)."),
        ("scale", {"x": np.ones((1, 2), np.complex64)}, "INVALID_ARGUMENT", "Received: DT_COMPLEX64."),
    ],
)
def test_mistakes_have_their_status(stub: Any, name: str, inputs: Any, code: str, message: str) -> None:
    found = refused(lambda: stub.Predict(predict_request(name, **inputs)))
    assert found[0].name == code
    assert message in found[1]


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ([10**12], [1.0], "must have values, of at most 10000 bytes"),
        ([10**12, 0], [], "must have values, of at most 10000 bytes"),
        ([-1, -2], [1.0], "must have a known shape"),
        ([1, 2], [], "must have 2 values for its shape. Received: 0."),
        ([1, 2], [1.0, 2.0, 3.0], "must have 2 values for its shape. Received: 3."),
        ([1] * 100, [1.0], "must have a known shape"),
    ],
)
def test_shapes_that_lie_are_refused(stub: Any, sizes: list[int], values: list[float], message: str) -> None:
    request = predict_request("scale", x=np.float32(0))
    tensor = request.inputs["x"]
    tensor.Clear()
    tensor.dtype = 1
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)
    tensor.float_val.extend(values)
    code, details = refused(lambda: stub.Predict(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details


def test_failure_of_the_model_is_internal_and_tells_nothing(stub: Any) -> None:
    code, details = refused(lambda: stub.Predict(predict_request("broken", x=np.full((1, 2), 500, np.float32))))
    assert (code, details) == (grpc.StatusCode.INTERNAL, "The service failed on this request. Its log says why.")


@pytest.mark.parametrize("name", ["PredictionService", "ModelService"])
def test_reflection_describes_the_services(channel: grpc.Channel, name: str) -> None:
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"tensorflow.serving.{name}")
    (answer,) = reflection.ServerReflectionInfo(iter([asked]))
    assert answer.file_descriptor_response.file_descriptor_proto, answer.error_response


def test_configuration_is_not_to_be_reloaded(channel: grpc.Channel) -> None:
    from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

    models = model_service_pb2_grpc.ModelServiceStub(channel)
    code, _ = refused(lambda: models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest()))
    assert code is grpc.StatusCode.UNIMPLEMENTED


def test_raw_bytes_must_be_those_of_the_shape(stub: Any) -> None:
    request = predict_request("scale", x=ROW)
    request.inputs["x"].tensor_content = bytes(9)
    code, details = refused(lambda: stub.Predict(request))
    assert (code, "Received: 9." in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def counted(client: TestClient, status: int, model: str = "counted", version: str = "1") -> float:
    labels = {"model": model, "version": version, "protocol": "tfs-grpc", "status": str(status)}
    return sample(client, "layerserve_requests_total", **labels) or 0


def test_calls_that_infer_are_counted_with_their_times(client: TestClient, stub: Any) -> None:
    from tensorflow_serving.apis import classification_pb2, regression_pb2

    stub.Predict(predict_request("counted", x=np.ones(2, np.float32)))
    stub.Classify(examples_request(classification_pb2.ClassificationRequest, "counted", [[1]], "x"))
    stub.Regress(examples_request(regression_pb2.RegressionRequest, "counted", [[1]], "x"))
    refused(lambda: stub.Predict(predict_request("counted", x=ROW)))
    assert (counted(client, 200), counted(client, 400)) == (3, 1)
    labels = {"model": "counted", "version": "1", "protocol": "tfs-grpc"}
    assert sample(client, "layerserve_codec_seconds_count", **labels, phase="decode") == 3
    before = counted(client, 404, "", "")
    refused(lambda: stub.Predict(predict_request("nobody", x=ROW)))
    assert counted(client, 404, "", "") == before + 1

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import hypothesis.extra.numpy as some
import numpy as np
import pytest
from fastapi import FastAPI
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from models.store import ArtifactStore
from service.app import create_app
from service.runtimes.cores import available_cores
from service.settings import Settings
from tests.examples import examples
from tests.service.fakes import DTYPES, FakeRuntimes, publish_fake
from tests.service.v2_client import DATATYPES, NUMPY, pack, unpack
from tests.service.waiting import wait_until

ROWS = np.array([[1, 2], [3, 4]], np.float32)
LIMIT = 10_000
SHAPES = {
    "scalar": st.tuples(st.integers(0, 40)),
    "cube": st.tuples(st.integers(0, 4), *[st.integers(0, 3)] * 4),
}
ECHOES = [f"{kind}-{dtype}" for kind in SHAPES for dtype in DTYPES]
MODELS = sorted(["scale", "held", "combine", "broken", *ECHOES])
TYPED = {"bool": "bool", "float32": "fp32", "float64": "fp64", "string": "bytes", "int64": "int64", "uint64": "uint64"}
TYPED |= {f"{sign}int{bits}": f"{sign}int" for sign in ("", "u") for bits in (8, 16, 32)}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda text: not text.endswith("\0"))
few = settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def runtimes() -> FakeRuntimes:
    return FakeRuntimes()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, runtimes: FakeRuntimes) -> Iterator[FastAPI]:
    store = ArtifactStore(tmp_path_factory.mktemp("grpc"))
    for name in MODELS:
        publish_fake(store, name, "scale" if name == "held" else name)
    publish_fake(store, "labelled", "scale", factor=3)
    publish_fake(store, "labelled", "scale")
    store.label("labelled", "stable", 1)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings(artifacts=store.root, grpc_port=port, max_body_bytes=LIMIT)
    app = create_app(settings, load_runtime=runtimes.load)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
        wait_until(lambda: client.get("/v2/models/labelled/versions/stable/ready").status_code == 200)
        yield app


@pytest.fixture(scope="module")
def channel(app: FastAPI) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{app.state.settings.grpc_port}") as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> Any:
    return GRPCInferenceServiceStub(channel)


def request(values: np.ndarray = ROWS, model: str = "scale", **content: Any) -> Any:
    """A request whose one input `x` is raw."""
    asked = messages.ModelInferRequest(model_name=model, raw_input_contents=[pack(values)], **content)
    asked.inputs.add(name="x", datatype=datatype(values), shape=values.shape)
    return asked


def typed(values: np.ndarray, model: str = "scale", **content: Any) -> Any:
    """The same with its values typed."""
    dtype = "string" if values.dtype.kind in "UO" else values.dtype.name
    asked = messages.ModelInferRequest(model_name=model, **content)
    tensor = asked.inputs.add(name="x", datatype=datatype(values), shape=values.shape)
    leaves = values.ravel().tolist()
    getattr(tensor.contents, f"{TYPED[dtype]}_contents").extend(
        [leaf.encode() if isinstance(leaf, str) else leaf for leaf in leaves]
    )
    return asked


def datatype(values: np.ndarray) -> str:
    return DATATYPES["string" if values.dtype.kind in "UO" else values.dtype.name]


def array(response: Any) -> np.ndarray:
    """The first output of an answer, raw or typed."""
    output = response.outputs[0]
    if response.raw_output_contents:
        values = unpack(response.raw_output_contents[0], output.datatype)
    else:
        values = [value for _, field in output.contents.ListFields() for value in field]
        values = [value.decode() if isinstance(value, bytes) else value for value in values]
    return np.array(values, NUMPY[output.datatype]).reshape(output.shape)


def failure(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def some_array(draw: Any, kind: str, dtype: str) -> np.ndarray:
    elements = TEXTS if dtype == "string" else None
    values: np.ndarray = draw(some.arrays(object if dtype == "string" else dtype, SHAPES[kind], elements=elements))
    return values


def shape_of_answer(values: np.ndarray) -> list[int]:
    """Of no rows the golden row tells the free sizes, which are all 1."""
    return list(values.shape) if len(values) else [0, *[1] * (values.ndim - 1)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SHAPES)
@few
@given(data=st.data())
def test_raw_tensors_come_back_byte_by_byte(stub: Any, kind: str, dtype: str, data: st.DataObject) -> None:
    values = some_array(data.draw, kind, dtype)
    answer = stub.ModelInfer(request(values, f"{kind}-{dtype}"))
    assert answer.raw_output_contents[0] == pack(values)
    assert list(answer.outputs[0].shape) == shape_of_answer(values)


@few
@given(bits=some.arrays(np.uint16, st.integers(0, 40)))
def test_bfloat16_is_taken_exactly_where_float32_is(stub: Any, bits: np.ndarray) -> None:
    asked = request(bits, "scalar-float32")
    asked.inputs[0].datatype = "BF16"
    answer = stub.ModelInfer(asked)
    assert answer.raw_output_contents[0] == b"".join(b"\0\0" + value.tobytes() for value in bits)


@pytest.mark.parametrize("dtype", sorted(TYPED))
@pytest.mark.parametrize("kind", SHAPES)
@few
@given(data=st.data())
def test_typed_tensors_come_back_typed(stub: Any, kind: str, dtype: str, data: st.DataObject) -> None:
    values = some_array(data.draw, kind, dtype)
    answer = stub.ModelInfer(typed(values, f"{kind}-{dtype}"))
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].shape) == shape_of_answer(values)
    np.testing.assert_array_equal(array(answer).ravel(), values.ravel())


def test_answer_has_model_version_and_id(stub: Any) -> None:
    answer = stub.ModelInfer(request(id="7", model_version="1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("scale", "1", "7")
    assert array(answer).tolist() == [[2, 4], [6, 8]]


def test_outputs_are_chosen(stub: Any) -> None:
    asked = messages.ModelInferRequest(
        model_name="combine", raw_input_contents=[pack(ROWS), pack(np.array(["a", "b"]))]
    )
    asked.inputs.add(name="amounts", datatype="FP32", shape=[2, 2])
    asked.inputs.add(name="city", datatype="BYTES", shape=[2])
    asked.outputs.add(name="greeting")
    assert array(stub.ModelInfer(asked)).tolist() == ["to a", "to b"]


def test_classes_are_asked_for_by_a_parameter(stub: Any) -> None:
    asked = request(ROWS[:1])
    asked.outputs.add(name="y").parameters["classification"].int64_param = 1
    assert array(stub.ModelInfer(asked)).tolist() == [["4.000000:1"]]


def test_server_tells_of_itself_and_its_models(stub: Any) -> None:
    assert stub.ServerLive(messages.ServerLiveRequest()).live
    assert stub.ServerReady(messages.ServerReadyRequest()).ready
    assert stub.ModelReady(messages.ModelReadyRequest(name="scale", version="1")).ready
    assert not stub.ModelReady(messages.ModelReadyRequest(name="scale", version="2")).ready
    assert stub.ServerMetadata(messages.ServerMetadataRequest()).name == "layerserve"
    metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name="scale"))
    assert (metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == ("FP32", [-1, 2])
    config = stub.ModelConfig(messages.ModelConfigRequest(name="scale")).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (128, [2])


def test_label_stands_in_the_place_of_a_version(stub: Any) -> None:
    answer = stub.ModelInfer(request(model="labelled", model_version="stable"))
    assert (answer.model_version, array(answer).tolist()) == ("1", [[3, 6], [9, 12]])
    assert stub.ModelReady(messages.ModelReadyRequest(name="labelled", version="stable")).ready
    metadata = stub.ModelMetadata(messages.ModelMetadataRequest(name="labelled", version="stable"))
    assert list(metadata.versions) == ["1", "2"]


def test_statistics_are_those_of_the_rest_door(stub: Any) -> None:
    stub.ModelInfer(request(np.ones(3, np.int8), "scalar-int8"))
    found = stub.ModelStatistics(messages.ModelStatisticsRequest(name="scalar-int8")).model_stats[0]
    assert found.inference_count >= 3
    assert found.execution_count == found.inference_stats.compute_infer.count
    assert len(stub.ModelStatistics(messages.ModelStatisticsRequest()).model_stats) > 1


def test_index_lists_the_models(stub: Any) -> None:
    found = stub.RepositoryIndex(messages.RepositoryIndexRequest(ready=True)).models
    assert ("scale", "1", "READY") in [(item.name, item.version, item.state) for item in found]


def test_loading_is_off_unless_it_is_set(stub: Any) -> None:
    for call, asked in (
        (stub.RepositoryModelLoad, messages.RepositoryModelLoadRequest(model_name="scale")),
        (stub.RepositoryModelUnload, messages.RepositoryModelUnloadRequest(model_name="scale")),
    ):
        code, message = failure(lambda call=call, asked=asked: call(asked))  # type: ignore[misc]
        assert (code, message.split()[-1]) == ("PERMISSION_DENIED", "LAYERSERVE_CONTROL_API=true.")


def test_what_is_not_offered_is_unimplemented(stub: Any) -> None:
    for call, asked in (
        (stub.SystemSharedMemoryStatus, messages.SystemSharedMemoryStatusRequest()),
        (stub.CudaSharedMemoryUnregister, messages.CudaSharedMemoryUnregisterRequest()),
        (stub.LogSettings, messages.LogSettingsRequest()),
        (stub.TraceSetting, messages.TraceSettingRequest()),
    ):
        assert failure(lambda call=call, asked=asked: call(asked))[0] == "UNIMPLEMENTED"  # type: ignore[misc]


def both(values: np.ndarray) -> Any:
    asked = typed(values)
    asked.raw_input_contents.append(pack(values))
    return asked


def changed(**changes: Any) -> Any:
    asked = request()
    for name, value in changes.items():
        if name == "shape":
            del asked.inputs[0].shape[:]
            asked.inputs[0].shape.extend(value)
        else:
            setattr(asked.inputs[0], name, value)
    return asked


def with_raw(*pieces: bytes) -> Any:
    asked = request()
    del asked.raw_input_contents[:]
    asked.raw_input_contents.extend(pieces)
    return asked


def shared() -> Any:
    asked = request()
    asked.inputs[0].parameters["shared_memory_region"].string_param = "r"
    return asked


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        (messages.ModelInferRequest(), "INVALID_ARGUMENT", "The name of the model must be given."),
        (request(model="nobody"), "NOT_FOUND", "There is no model `nobody`."),
        (request(model_version="0"), "NOT_FOUND", "A version is a number or a label. Received: '0'."),
        (request(model_version="x"), "NOT_FOUND", "`scale` has no label `x`. Labels: none."),
        (request(ROWS.astype(np.float64)), "INVALID_ARGUMENT", "Input `x` must be FP32. Received: FP64."),
        (request(ROWS[:, :1]), "INVALID_ARGUMENT", "Input `x` must have shape (rows, 2)."),
        (request(ROWS[0, 0]), "INVALID_ARGUMENT", "Input `x` must have shape (rows, 2). Received: shape ()."),
        (both(ROWS), "INVALID_ARGUMENT", "Input 'x' must be in `contents` or raw, not both."),
        (with_raw(b"", b""), "INVALID_ARGUMENT", "`raw_input_contents` must hold all 1 inputs or none. Received: 2."),
        (with_raw(b"123"), "INVALID_ARGUMENT", "Input `x` of shape [2, 2] must have 16 bytes. Received: 3."),
        (with_raw(), "INVALID_ARGUMENT", "Input `x` of shape [2, 2] must have 4 values. Received: 0."),
        (changed(shape=[-1, 2]), "INVALID_ARGUMENT", "`shape` of input `x` must be a list of at most 32 sizes"),
        (changed(shape=[2**62, 2**62]), "INVALID_ARGUMENT", "`shape` of input `x` must be a list of at most 32 sizes"),
        (changed(datatype="FP8"), "INVALID_ARGUMENT", "`datatype` of input `x` must be one of"),
        (changed(name=""), "INVALID_ARGUMENT", "Each input must have a `name`."),
        (shared(), "UNIMPLEMENTED", "Shared memory is not supported."),
        (request(np.zeros((LIMIT, 2), np.float32)), "RESOURCE_EXHAUSTED", "SERVER: Received message larger than max"),
    ],
)
def test_request_that_cannot_be_answered_says_why(stub: Any, asked: Any, code: str, reason: str) -> None:
    found = failure(lambda: stub.ModelInfer(asked))
    assert (found[0], found[1][: len(reason)]) == (code, reason)
    assert array(stub.ModelInfer(request())).tolist() == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (typed(np.array([300], np.int32), "scalar-int8"), "Input `x` must be INT8. Received: INT32."),
        (typed(np.array([1], np.float32), "scalar-float64"), "Input `x` must be FP64. Received: FP32."),
    ],
)
def test_typed_values_must_be_of_the_datatype(stub: Any, asked: Any, reason: str) -> None:
    assert failure(lambda: stub.ModelInfer(asked)) == ("INVALID_ARGUMENT", reason)
    asked.inputs[0].datatype = reason.split()[4].rstrip(".")
    assert failure(lambda: stub.ModelInfer(asked))[0] == "INVALID_ARGUMENT"


def test_half_floats_must_be_raw(stub: Any) -> None:
    asked = messages.ModelInferRequest(model_name="scalar-float16")
    asked.inputs.add(name="x", datatype="FP16", shape=[1]).contents.fp32_contents.append(1)
    reason = "Input 'x' must be raw: `contents` cannot carry FP16."
    assert failure(lambda: stub.ModelInfer(asked)) == ("INVALID_ARGUMENT", reason)


def test_failing_model_is_internal_and_keeps_its_reasons(stub: Any) -> None:
    found = failure(lambda: stub.ModelInfer(request(np.array([[500, 0]], np.float32), "broken")))
    assert found == ("INTERNAL", "The service failed on this request. Its log says why.")


def test_parameter_and_deadline_limit_the_time(stub: Any) -> None:
    asked = request()
    asked.parameters["timeout"].int64_param = 1
    assert failure(lambda: stub.ModelInfer(asked))[0] == "DEADLINE_EXCEEDED"


def test_cancelled_and_late_requests_never_reach_the_runtime(app: FastAPI, stub: Any, runtimes: FakeRuntimes) -> None:
    runtime = runtimes.loaded[MODELS.index("held")]
    runtime.hold()
    started = runtime.times_started + available_cores()
    running = [stub.ModelInfer.future(request(model="held")) for _ in range(available_cores())]
    wait_until(lambda: runtime.times_started == started)

    def waits_for_a_thread(rows: int) -> bool:
        queued: dict[tuple[str, int], int] = app.state.engine.queued_rows()
        return queued["held", 1] == rows

    waiting = stub.ModelInfer.future(request(np.ones((5, 2), np.float32), "held"))
    wait_until(lambda: waits_for_a_thread(5))
    waiting.cancel()
    wait_until(lambda: waits_for_a_thread(0))
    late = request(np.ones((5, 2), np.float32), "held")
    assert failure(lambda: stub.ModelInfer(late, timeout=0.2))[0] == "DEADLINE_EXCEEDED"
    wait_until(lambda: waits_for_a_thread(0))
    runtime.release()
    assert [array(call.result()).tolist() for call in running] == [[[2, 4], [6, 8]]] * available_cores()
    assert 5 not in runtime.batch_sizes


def test_stream_answers_in_order_and_errors_do_not_end_it(stub: Any) -> None:
    asked = [request(ROWS, id="1"), request(ROWS.astype(np.int32), id="2"), request(ROWS * 2, id="3")]
    first, second, third = stub.ModelStreamInfer(iter(asked))
    assert (first.infer_response.id, array(first.infer_response).tolist()) == ("1", [[2, 4], [6, 8]])
    assert (second.infer_response.id, second.error_message) == ("2", "Input `x` must be FP32. Received: INT32.")
    assert (third.infer_response.id, third.error_message) == ("3", "")
    for answer in (first, second, third):
        assert answer.infer_response.parameters["triton_final_response"].bool_param


def test_stream_ends_with_what_is_no_request(channel: grpc.Channel) -> None:
    stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = stream(iter([request().SerializeToString(), b"\xff\xff"]))
    first = messages.ModelStreamInferResponse.FromString(next(answers))
    assert array(first.infer_response).tolist() == [[2, 4], [6, 8]]
    reason = "A message of the stream is no ModelInferRequest."
    assert failure(lambda: next(answers)) == ("INVALID_ARGUMENT", reason)


def test_failing_model_does_not_end_a_stream_nor_tell_why(stub: Any) -> None:
    asked = [request(np.array([[500, 0]], np.float32), "broken"), request(ROWS)]
    first, second = stub.ModelStreamInfer(iter(asked))
    assert (first.error_message, second.error_message) == ("The service failed on this request. Its log says why.", "")


def test_health_service_tells_whether_the_service_is_ready(channel: grpc.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    unknown = health_pb2.HealthCheckRequest(service="nobody")
    assert failure(lambda: health.Check(unknown)) == ("NOT_FOUND", "There is no service `nobody`.")
    watched = health.Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
    watched.cancel()


def test_reflection_lists_the_services(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(stub.ServerReflectionInfo(iter([asked])))
    names = [item.name for item in answer.list_services_response.service]
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(names)
    for name in ("inference.GRPCInferenceService", "grpc.health.v1.Health"):
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        (answer,) = stub.ServerReflectionInfo(iter([asked]))
        assert answer.file_descriptor_response.file_descriptor_proto

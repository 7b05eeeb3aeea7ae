"""Whatever is sent comes back: every datatype, in JSON and in bytes, of no rows and many, of scalars and of rank 5."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import hypothesis.extra.numpy as some
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from models.store import ArtifactStore
from service.app import create_app
from service.settings import Settings
from tests.examples import examples
from tests.service.fakes import DTYPES, FakeRuntimes, publish_fake
from tests.service.v2_client import HEADER, arrays, as_json, binary_body
from tests.service.waiting import wait_until

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(lambda text: not text.endswith("\0"))
SHAPES = {
    "scalar": st.tuples(st.integers(0, 40)),
    "cube": st.tuples(st.integers(0, 4), *[st.integers(0, 3)] * 4),
}
few = settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Models that answer with what they get: `scalar-int8` one value a row, `cube-int8` rows of four free sizes."""
    store = ArtifactStore(tmp_path_factory.mktemp("echo"))
    for kind in SHAPES:
        for dtype in DTYPES:
            publish_fake(store, f"{kind}-{dtype}", f"{kind}-{dtype}", batch_safe=True)
    app = create_app(Settings(artifacts=store.root), load_runtime=FakeRuntimes().load)
    with TestClient(app) as client:
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
        yield client


def some_array(draw: Any, kind: str, dtype: str, *, in_json: bool) -> np.ndarray:
    shape = draw(SHAPES[kind])
    if dtype == "string":
        return draw(some.arrays(object, shape, elements=TEXTS))
    elements = {"allow_infinity": not in_json} if dtype.startswith("float") else {}
    return draw(some.arrays(dtype, shape, elements=elements))


def check(answer: np.ndarray, values: np.ndarray) -> None:
    """That an answer is what was sent. Of no rows the golden row tells the free sizes, which are all 1."""
    shape = values.shape if len(values) else (0, *[1] * (values.ndim - 1))
    assert (answer.shape, answer.dtype) == (shape, values.dtype)
    np.testing.assert_array_equal(answer.ravel(), values.ravel())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SHAPES)
@few
@given(data=st.data())
def test_binary_tensors_come_back_byte_by_byte(echo: TestClient, kind: str, dtype: str, data: st.DataObject) -> None:
    values = some_array(data.draw, kind, dtype, in_json=False)
    body, headers = binary_body({"x": values}, parameters={"binary_data_output": True})
    answer = arrays(echo.post(f"/v2/models/{kind}-{dtype}/infer", content=body, headers=headers))["y"]
    check(answer, values)
    if dtype != "string":  # which compare equal only if they are; of numbers NaN's bits and the sign of 0 count, too
        assert answer.tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SHAPES)
@few
@given(data=st.data(), nested=st.booleans())
def test_json_comes_back_the_same(echo: TestClient, kind: str, dtype: str, data: st.DataObject, nested: bool) -> None:
    values = some_array(data.draw, kind, dtype, in_json=True)
    tensor = as_json("x", values)
    if nested:
        tensor["data"] = values.tolist()
    text = json.dumps({"inputs": [tensor]})  # which writes NaN as the token, as Triton's client does
    answer = arrays(echo.post(f"/v2/models/{kind}-{dtype}/infer", content=text))["y"]
    check(answer, values)


@few
@given(data=st.data())
def test_bfloat16_is_taken_exactly_where_float32_is(echo: TestClient, data: st.DataObject) -> None:
    bits = data.draw(some.arrays(np.uint16, st.integers(0, 40)))
    wide = np.array([int(value) << 16 for value in bits], np.uint32).view(np.float32)
    body, headers = binary_body({"x": bits}, parameters={"binary_data_output": True})
    body = body.replace(b'"UINT16"', b'"BF16"')
    headers = {HEADER: str(int(headers[HEADER]) - len("UINT16") + len("BF16"))}
    answer = arrays(echo.post("/v2/models/scalar-float32/infer", content=body, headers=headers))["y"]
    assert answer.tobytes() == wide.tobytes()

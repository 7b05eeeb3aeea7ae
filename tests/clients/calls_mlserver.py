"""Over REST alone: `mlserver infer` lists gRPC among its transports, and refuses it itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

REQUEST = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


@pytest.mark.parametrize("flags", [(), ("--binary-data",), ("--batch-size", "2")])
def test_infer_command(address: str, tmp_path: Path, flags: tuple[str, ...]) -> None:
    given, found = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text(f"{json.dumps(REQUEST)}\n" * 3)
    program = Path(sys.executable).with_name("mlserver")
    command = [program, "infer", "-u", address, "-m", "scale", "-i", given, "-o", found, "--transport", "rest", *flags]
    subprocess.run(command, check=True, capture_output=True)
    answers = [json.loads(line) for line in found.read_text().splitlines()]
    assert [answer["outputs"][0]["data"] for answer in answers] == [[2.0, 4.0, 6.0, 8.0]] * 3


@pytest.mark.parametrize(
    ("model", "codec", "values"),
    [
        ("scalar-float32", NumpyCodec, np.array([0.5, 2], np.float32)),
        ("scalar-int64", NumpyCodec, np.array([-1, 2**62])),
        ("scalar-string", StringCodec, ["alpha", "βeta"]),
        ("scale", NumpyCodec, np.array([[1, 2]], np.float32)),
    ],
)
def test_requests_and_answers_of_its_codecs(address: str, model: str, codec: Any, values: Any) -> None:
    request = InferenceRequest(inputs=[codec.encode_input("x", values)])
    url = f"http://{address}/v2/models/{model}/infer"
    answer = httpx.post(url, content=request.model_dump_json(), trust_env=False, timeout=30)
    found = codec.decode_output(InferenceResponse.model_validate_json(answer.content).outputs[0])
    wanted = values * 2 if model == "scale" else values
    assert np.ravel(found).tolist() == np.ravel(wanted).tolist()


def test_infer_command_itself_refuses_grpc(grpc_address: str, tmp_path: Path) -> None:
    given, found = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text(f"{json.dumps(REQUEST)}\n")
    program = Path(sys.executable).with_name("mlserver")
    command = [program, "infer", "-u", grpc_address, "-m", "scale", "-i", given, "-o", found, "--transport", "grpc"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "The 'grpc' transport is not yet supported." in done.stderr

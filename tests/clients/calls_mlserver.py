"""Over REST alone: `mlserver infer` lists gRPC among its transports, and refuses it itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_infer_command_itself_refuses_grpc(grpc_address: str, tmp_path: Path) -> None:
    given, found = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text(f"{json.dumps(REQUEST)}\n")
    program = Path(sys.executable).with_name("mlserver")
    command = [program, "infer", "-u", grpc_address, "-m", "scale", "-i", given, "-o", found, "--transport", "grpc"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "The 'grpc' transport is not yet supported." in done.stderr

"""Our layers agree with Keras's on every backend that is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
# A few units in the last place of numbers up to 4.
TOLERANCE = {"float32": 5e-6, "mixed_float16": 4e-3, "bfloat16": 6e-2, "mixed_bfloat16": 3.2e-2}


def report_from(backend: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("backend_parity.py")],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_layers_agree_with_keras_on(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")

    report = report_from(backend)

    assert report["backend"] == backend
    assert report["moved axis"] <= TOLERANCE["float32"]
    for case, differences in report["differences"].items():
        assert max(differences.values()) <= TOLERANCE[case.split()[-1]], (case, differences)

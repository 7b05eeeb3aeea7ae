"""Keras's own tests, as its wheel ships them, pass with our layers in place of Keras's.

One child process runs them under `keras_own_tests_plugin`, with a configuration of its own: Keras's tests warn and
know other markers. The plugin lists what is excluded, and why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).resolve().parents[3]
KERAS = Path(keras.__file__).parent / "src"
# How many tests of each module must pass in which a layer of ours was made: all that do with Keras 3.15.1.
MODULES = {
    "layers/core/dense_test.py": 16,
    "layers/core/wrapper_test.py": 1,
    "layers/layer_test.py": 12,
    "layers/normalization/layer_normalization_test.py": 5,
    "layers/normalization/spectral_normalization_test.py": 3,
    "layers/rnn/time_distributed_test.py": 10,
    "models/cloning_test.py": 12,
    "models/functional_test.py": 25,
    "models/sequential_test.py": 12,
    "ops/function_test.py": 2,
    "optimizers/multi_optimizer_test.py": 5,
    "saving/file_editor_test.py": 3,
    "saving/saving_api_test.py": 59,
    "saving/saving_lib_test.py": 53,
    "saving/serialization_lib_test.py": 9,
    "legacy/saving/legacy_h5_format_test.py": 10,
    "utils/summary_utils_test.py": 5,
    "backend/tensorflow/saved_model_test.py": 6,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each test, by its id: `passed`, `passed without us`, `excluded`, `skipped` or `failed`."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "pytest.ini").write_text("[pytest]\n")
    options = ["-p", "keras_own_tests_plugin", "-p", "no:cacheprovider", "-c", "pytest.ini", f"--rootdir={KERAS}", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(KERAS / module for module in MODULES)],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "KERAS_OWN_TESTS_REPORT": "report.json"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (folder / "report.json").exists(), done.stdout + done.stderr
    print(done.stdout[-3000:])  # the failures, where there are any
    report: dict[str, str] = json.loads((folder / "report.json").read_text())
    print(Counter(report.values()))
    return report


@pytest.mark.parametrize("module", MODULES)
def test_keras_own_tests_pass_with_our_layers(outcomes: dict[str, str], module: str) -> None:
    counts = Counter(outcome for test, outcome in outcomes.items() if test.startswith(module))

    assert counts["failed"] == 0, [test for test, outcome in outcomes.items() if outcome == "failed"]
    assert counts["passed"] >= MODULES[module]


def test_only_what_is_left_out_is_excluded(outcomes: dict[str, str]) -> None:
    excluded = Counter(test.split("::")[0] for test, outcome in outcomes.items() if outcome == "excluded")

    assert excluded == {
        "layers/core/dense_test.py": 56,
        "layers/layer_test.py": 2,
        "layers/normalization/layer_normalization_test.py": 2,
        "saving/saving_lib_test.py": 2,
        "saving/serialization_lib_test.py": 3,
    }

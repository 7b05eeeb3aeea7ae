"""The digits models as others load them: by each library's own interface, in a process that has none of our code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.store import ArtifactStore
from tests.integration.conftest import run_module

pytestmark = pytest.mark.slow

FORMATS = ("keras", "saved_model", "onnx", "litert")
# Each script defines `predict`, as the documentation of its library shows it.
LOADING = {
    "saved_model": """
import tensorflow as tf
loaded = tf.saved_model.load(folder)
predict = lambda rows: loaded.signatures["serving_default"](features=tf.constant(rows))
""",
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(folder + "/model.onnx", providers=["CPUExecutionProvider"])
predict = lambda rows: {session.get_outputs()[0].name: session.run(None, {"features": rows})[0]}
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(folder + "/model.tflite").get_signature_runner()
predict = lambda rows: runner(features=rows)
""",
}
CHECK = """
import sys
import numpy as np
folder = sys.argv[1]
golden = np.load(folder + "/golden.npz")
{loading}
for rows in (1, 3, len(golden["inputs/features"])):
    answers = predict(golden["inputs/features"][:rows])
    assert list(answers) == ["probabilities"], list(answers)
    np.testing.assert_allclose(
        np.asarray(answers["probabilities"]), golden["outputs/probabilities"][:rows], rtol=0, atol=1e-5
    )
assert not {{"models", "export", "service"}} & set(sys.modules)
print("agrees")
"""


@pytest.fixture(scope="module", params=["mlp", "encoder"])
def version(request: pytest.FixtureRequest, digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of the digits model: digits@1, and a quickly trained encoder."""
    if request.param == "mlp":
        return digits / "digits" / "1"
    artifacts = tmp_path_factory.mktemp("encoder") / "artifacts"
    done = run_module("export", "train", "--model", "encoder", "--epochs", "2", "--artifacts", str(artifacts))
    assert done.returncode == 0, done.stderr
    return artifacts / "digits" / "1"


def test_every_format_is_proved_within_the_tolerance(version: Path) -> None:
    manifest = ArtifactStore(version.parents[1]).open("digits", 1).manifest
    assert (tuple(manifest.formats), manifest.left_out) == (FORMATS, {})
    for record in manifest.formats.values():
        assert record.max_abs_error <= record.tolerance == 1e-5


@pytest.mark.parametrize("name", LOADING)
def test_format_loads_and_answers_without_our_code(version: Path, tmp_path: Path, name: str) -> None:
    script = CHECK.format(loading=LOADING[name])
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(version)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "agrees\n"), done.stderr

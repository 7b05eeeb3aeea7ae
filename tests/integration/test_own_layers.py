"""A user's own layers, from their module through the fresh process to the server, and what happens without them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, ServerProcess

pytestmark = pytest.mark.slow

Serve = Callable[..., ServerProcess]

LAYER = """
    import keras

    DECORATOR
    class Shift(keras.layers.Layer):
        def __init__(self, by=1.0, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def call(self, inputs):
            return inputs + self.by

        def get_config(self):
            return {**super().get_config(), "by": self.by}
"""

PUBLISH = """
    import sys
    from pathlib import Path

    import keras
    import numpy as np

    from export.publish import Candidate, publish
    from models.store import ArtifactStore
    from shifting import Shift

    inputs = keras.Input((2,), name="point")
    model = keras.Model(inputs, Shift(3.0, name="moved")(inputs), name="shift")
    rows = {"point": np.array([[0, 0], [1, 2]], "float32")}
    candidate = Candidate("shift", model, rows)
    publish(ArtifactStore(Path(sys.argv[1])), candidate, layers=("shifting",), formats=("keras", "litert"))
"""

KERAS = ("--runtime", "keras")  # the other runtimes need none of the layers' code
REGISTERED = '@keras.saving.register_keras_serializable("shifting")'
UNREGISTERED = ""


@pytest.fixture(scope="module", params=[REGISTERED, UNREGISTERED], ids=["registered", "custom_objects"])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: `shifting.py` with a layer, and a store with a model that uses it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "shifting.py").write_text(textwrap.dedent(LAYER).replace("DECORATOR", request.param))
    (folder / "publish.py").write_text(textwrap.dedent(PUBLISH))
    subprocess.run(
        [sys.executable, "publish.py", "artifacts"], cwd=folder, env=environment(folder), check=True, timeout=120
    )
    return folder


def environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_model_on_own_layers_is_served(project: Path, serve: Serve) -> None:
    server = serve(project / "artifacts", *KERAS, "--layers", "shifting", **environment(project))
    server.wait_until_ready()
    answer = server.client.post("/predict", json={"instances": [[1, 2]]}).json()
    assert answer == {"predictions": [[4.0, 5.0]], "model": "shift", "version": 1}


def test_another_format_is_served_without_the_layers(project: Path, serve: Serve) -> None:
    server = serve(project / "artifacts", **environment(project))
    server.wait_until_ready()
    response = server.client.post("/predict", json={"instances": [[1, 2]]})
    assert (response.json()["predictions"], response.headers["x-runtime"] != "keras") == ([[4.0, 5.0]], True)


def test_without_the_layers_the_service_says_which_option_is_missing(project: Path, serve: Serve) -> None:
    server = serve(project / "artifacts", *KERAS, **environment(project))
    status = server.wait_until(lambda answer: answer.get("problem"), "shift")
    assert "Shift` (defined in shifting)" in status["problem"]
    assert "--layers shifting, or LAYERSERVE_LAYERS=shifting" in status["problem"]
    ready = server.client.get("/health/ready")
    assert (ready.status_code, status["problem"] in ready.json()["error"]) == (503, True)
    assert server.client.post("/predict", json={"instances": [[1, 2]]}).status_code == 503


def test_layer_that_answers_otherwise_than_it_did_is_refused(project: Path, tmp_path: Path, serve: Serve) -> None:
    changed = shutil.copytree(project, tmp_path / "changed")
    source = changed / "shifting.py"
    source.write_text(source.read_text().replace("inputs + self.by", "inputs - self.by"))
    server = serve(changed / "artifacts", *KERAS, "--layers", "shifting", **environment(changed))
    status = server.wait_until(lambda answer: answer.get("problem"), "shift")
    assert "The golden answers are not reproduced" in status["problem"]
    assert "was made with another source of" in server.log.read_text()
    assert server.client.post("/predict", json={"instances": [[1, 2]]}).status_code == 503


def test_layer_whose_source_changed_but_not_its_answers_is_served_with_a_warning(
    project: Path, tmp_path: Path, serve: Serve
) -> None:
    changed = shutil.copytree(project, tmp_path / "changed")
    source = changed / "shifting.py"
    source.write_text(source.read_text().replace("inputs + self.by", "self.by + inputs"))
    server = serve(changed / "artifacts", *KERAS, "--layers", "shifting", **environment(changed))
    server.wait_until_ready()
    assert "was made with another source of" in server.log.read_text()

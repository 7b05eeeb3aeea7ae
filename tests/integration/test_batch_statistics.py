"""A model that normalizes over its batch: refused by the export, or certified and never joined across callers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.store import ArtifactStore
from tests.integration.conftest import ROOT, ServerProcess

pytestmark = pytest.mark.slow

LAYER = """
    import keras

    @keras.saving.register_keras_serializable("centring")
    class Centre(keras.layers.Layer):
        def call(self, inputs):
            return inputs - keras.ops.mean(inputs, axis=0, keepdims=True)
"""
PUBLISH = """
    import sys
    from pathlib import Path

    import keras
    import numpy as np

    from centring import Centre
    from export.publish import Candidate, publish
    from models.store import ArtifactStore

    inputs = keras.Input((2,), name="point")
    model = keras.Model(inputs, Centre(name="centred")(inputs), name="centre")
    rows = {"point": np.array(ROWS, "float32")}
    candidate = Candidate("centre", model, rows)
    publish(ArtifactStore(Path(sys.argv[1])), candidate, layers=("centring",), formats=("litert",))
"""


DIFFERENT, ALIKE = "[[0, 0], [1, 2], [5, 4]]", "[[1, 2], [1, 2], [1, 2]]"


def publish(folder: Path, rows: str) -> subprocess.CompletedProcess[str]:
    (folder / "centring.py").write_text(textwrap.dedent(LAYER))
    (folder / "publish.py").write_text(textwrap.dedent(PUBLISH).replace("ROWS", rows))
    return subprocess.run(
        [sys.executable, "publish.py", "artifacts"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_export_refuses_it_where_golden_rows_find_it_out(tmp_path: Path) -> None:
    done = publish(tmp_path, DIFFERENT)
    assert done.returncode != 0
    assert "an answer must not depend on what else is in the batch" in done.stderr


def test_answers_do_not_depend_on_who_else_asks_where_they_do_not(
    tmp_path: Path, serve: Callable[..., ServerProcess]
) -> None:
    done = publish(tmp_path, ALIKE)
    assert done.returncode == 0, done.stderr
    certificate = ArtifactStore(tmp_path / "artifacts").open("centre", 1).manifest.certificate
    assert certificate is not None
    assert not certificate.batch_safe

    server = serve(tmp_path / "artifacts", "--layers", "centring", **environment(tmp_path))
    server.wait_until_ready()

    def ask(number: int) -> object:
        rows = [[number, 0], [number + 2, 8]]
        return server.client.post("/predict", json={"instances": rows}).json()["predictions"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(200)))
    assert answers == [[[-1.0, -4.0], [1.0, 4.0]]] * 200

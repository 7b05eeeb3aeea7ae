"""The service where TensorFlow and Keras cannot be imported, as `pip install .[slim]` leaves it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, ServerProcess

pytestmark = pytest.mark.slow

Serve = Callable[..., ServerProcess]


@pytest.fixture
def no_tensorflow(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that find neither: None in `sys.modules` stands for a module that is not there."""
    blocked = 'import sys\nsys.modules.update(dict.fromkeys(("tensorflow", "keras")))\n'
    (tmp_path / "sitecustomize.py").write_text(blocked)
    return {"PYTHONPATH": f"{tmp_path}:{ROOT}"}


def test_digits_are_served_by_a_light_runtime(digits: Path, serve: Serve, no_tensorflow: dict[str, str]) -> None:
    server = serve(digits, **no_tensorflow)
    server.wait_until_ready()
    model = server.client.get("/models/digits").json()
    answer = server.client.post("/predict", json=model["example"]["request"])
    assert answer.headers["x-runtime"] in {"litert", "onnx"}
    assert answer.json()["predictions"][0] == pytest.approx(model["example"]["response"]["predictions"][0], abs=1e-5)
    reasons = {trial["runtime"]: trial["reason"] for trial in model["runtimes"]}
    assert reasons["keras"] == "The package keras is not installed: pip install 'layerserve[keras]'."


def test_runtime_that_is_asked_for_and_not_installed_is_named(
    digits: Path, serve: Serve, no_tensorflow: dict[str, str]
) -> None:
    server = serve(digits, "--runtime", "auto,digits=saved_model", **no_tensorflow)
    problem = server.wait_until(lambda answer: bool(answer.get("problem")))["problem"]
    assert "The package tensorflow is not installed: pip install 'layerserve[keras]'." in problem
    assert server.client.get("/health/ready").status_code == 503

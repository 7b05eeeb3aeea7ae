"""From training to an answer over HTTP: what was trained is what is served, and nothing else ever is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from models.store import ArtifactStore
from tests.integration.conftest import ServerProcess, run_module

pytestmark = pytest.mark.slow

Serve = Callable[..., ServerProcess]
NUM_TAMPERED = 20


@pytest.fixture(scope="module")
def server(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(digits, tmp_path_factory.mktemp("server") / "log") as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="module")
def held_out(digits: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test rows of digits@1, from the configuration in its manifest."""
    from export.config import TrainConfig
    from export.datasets import load_dataset
    from export.splitting import Part

    training = ArtifactStore(digits).open("digits", 1).manifest.training
    assert training is not None
    test = load_dataset(TrainConfig.model_validate(training.config)).load(Part.TEST)
    return test.inputs["features"], test.targets


def answers(server: ServerProcess, rows: np.ndarray) -> np.ndarray:
    response = server.client.post("/predict", json={"instances": rows.tolist()})
    assert response.status_code == 200, response.text
    return np.array(response.json()["predictions"])


def test_held_out_accuracy_over_http_is_the_one_in_the_manifest(
    server: ServerProcess, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    rows, targets = held_out
    accuracy = np.mean(answers(server, rows).argmax(axis=1) == targets)
    published = server.client.get("/models/digits").json()["metrics"]["test_accuracy"]
    assert accuracy == published
    assert accuracy >= 0.97


def test_every_held_out_answer_over_http_is_keras_own(
    server: ServerProcess, digits: Path, held_out: tuple[np.ndarray, np.ndarray]
) -> None:
    import keras

    import models.layers  # noqa: F401 - registers what the model is made of

    model = keras.saving.load_model(digits / "digits" / "1" / "model.keras", compile=False)
    expected = model.predict(held_out[0], verbose=0)
    # One row and many rows sum in another order, which moves the last bits of a float32.
    np.testing.assert_allclose(answers(server, held_out[0]), expected, rtol=0, atol=1e-5)


def test_golden_rows_over_http_give_the_golden_answers(server: ServerProcess) -> None:
    example = server.client.get("/models/digits").json()["example"]
    answer = server.client.post("/predict", json=example["request"]).json()
    np.testing.assert_allclose(answer["predictions"], example["response"]["predictions"], rtol=0, atol=1e-5)


def test_labels_name_the_likeliest_class(server: ServerProcess, held_out: tuple[np.ndarray, np.ndarray]) -> None:
    rows = held_out[0][:5]
    response = server.client.post("/predict?labels=true", json={"instances": rows.tolist()})
    probabilities = answers(server, rows)
    expected = [(str(row.argmax()), pytest.approx(row.max(), abs=1e-6)) for row in probabilities]
    assert [(item["label"], item["probability"]) for item in response.json()["predictions"]] == expected


def test_twenty_tampered_versions_are_refused_while_the_earlier_one_serves(
    digits: Path, tmp_path: Path, serve: Serve
) -> None:
    artifacts = shutil.copytree(digits, tmp_path / "artifacts")
    assert run_module("export", "reexport", "digits", "--artifacts", str(artifacts)).returncode == 0
    whole = artifacts / "digits" / "2"
    whole.rename(tmp_path / "whole")
    server = serve(artifacts)
    server.wait_until_ready()
    for reason in tampered_reasons(server, tmp_path / "whole", artifacts / "digits" / "2"):
        assert "damaged" in reason or "missing" in reason, reason
        assert server.client.post("/models/digits/predict", json={"instances": [[0.0] * 64]}).json()["version"] == 1


def tampered_reasons(server: ServerProcess, whole: Path, place: Path) -> Iterator[str]:
    """Puts a copy of `whole` with one changed byte to `place`, again and again; gives the service's reasons."""
    random = np.random.default_rng(0)
    names = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for number in range(NUM_TAMPERED):
        copy = shutil.copytree(whole, place.with_name(".tampering"))
        victim = copy / names[number % len(names)]
        content = bytearray(victim.read_bytes())
        content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        victim.write_bytes(content)
        copy.rename(place)
        server.reload()
        status = server.wait_until(lambda answer: any(v["state"] == "UNAVAILABLE" for v in answer["versions"]))
        yield next(v["reason"] for v in status["versions"] if v["version"] == int(place.name))
        shutil.rmtree(place)
        server.reload()
        server.wait_until(lambda answer: all(v["state"] == "READY" for v in answer["versions"]))


def test_half_copied_version_is_no_version(digits: Path, tmp_path: Path, serve: Serve) -> None:
    artifacts = shutil.copytree(digits, tmp_path / "artifacts")
    half = artifacts / "digits" / "2"
    half.mkdir()
    shutil.copy(artifacts / "digits" / "1" / "model.keras", half)
    server = serve(artifacts)
    server.wait_until_ready()
    assert [item["version"] for item in server.client.get("/models/digits").json()["versions"]] == [1]


def test_pin_rolls_back_and_unpin_forward_without_a_restart(digits: Path, tmp_path: Path, serve: Serve) -> None:
    artifacts = shutil.copytree(digits, tmp_path / "artifacts")
    arguments = ["--formats", "keras", "--artifacts", str(artifacts)]
    assert run_module("export", "reexport", "digits", *arguments).returncode == 0
    server = serve(artifacts)
    server.wait_until(lambda answer: answer.get("version") == 2)
    for command, version in ([("pin", "digits", "1"), 1], [("unpin", "digits"), 2]):
        assert run_module("models", *command, LAYERSERVE_ARTIFACTS=str(artifacts)).returncode == 0
        server.reload()
        server.wait_until(lambda answer, version=version: answer["version"] == version)
        response = server.client.post("/predict", json={"instances": [[0.0] * 64]})
        assert response.headers["x-model-version"] == str(version)

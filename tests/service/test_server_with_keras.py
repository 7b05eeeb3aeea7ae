"""The service as a user starts it: `python -m service` in its own process, on versions that the real export made."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact
from models.manifest import DatasetRecord, Tensors, TrainingRecord
from models.quiet import quiet_import
from models.store import ArtifactStore
from tests.service.processes import REAL, ServerProcess
from tests.service.waiting import wait_until

with quiet_import():
    import keras

    from export.publish import Candidate, publish
    from models.layers import Dense, LayerNorm
    from models.loading import eager

pytestmark = pytest.mark.slow

LABELS = ("ant", "bee", "cat")
LAYER = """
import keras


class Stretched(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0
"""
Start = Callable[..., ServerProcess]


@dataclass(frozen=True)
class Published:
    """A published version and the live model that it was made of."""

    store: ArtifactStore
    artifact: Artifact
    model: keras.Model

    def answers(self, inputs: Tensors) -> Tensors:
        return eager(self.model, self.artifact.manifest.signature)(inputs)


def export(store: ArtifactStore, model: keras.Model, rows: Tensors, *, layers: tuple[str, ...] = ()) -> Published:
    labels = None if layers else LABELS
    dataset = DatasetRecord(name="made up", sha256="0" * 64, rows=2)
    training = TrainingRecord(config={}, dataset=dataset, seed=3, metrics={"test_accuracy": 0.5})
    candidate = Candidate("tiny", model, rows, labels, training)
    return Published(store, publish(store, candidate, layers=layers, formats=("keras",)), model)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,), name="features")
    outputs = Dense(3, activation="softmax", name="classes")(LayerNorm()(Dense(8, activation="relu")(inputs)))
    rows = {"features": np.random.default_rng(5).normal(size=(4, 4)).astype(np.float32)}
    return export(ArtifactStore(tmp_path_factory.mktemp("published")), keras.Model(inputs, outputs, name="tiny"), rows)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the service on a store, in the folder where the test's layer modules lie."""
    servers: list[ServerProcess] = []

    def run(store: ArtifactStore, *flags: str) -> ServerProcess:
        servers.append(ServerProcess(REAL, "--artifacts", str(store.root), "--runtime", "keras", *flags, cwd=tmp_path))
        return servers[-1]

    yield run
    for server in servers:
        server.kill()


def publish_again(artifact: Artifact, store: ArtifactStore) -> None:
    """The next version, with the same content."""
    with store.stage(artifact.manifest.name) as staging:
        for name in artifact.manifest.files:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(artifact.path / name, staging / name)
        store.publish(staging, artifact.manifest)


def test_service_is_ready_only_once_loaded_and_answers_as_keras_does(published: Published, start: Start) -> None:
    server = start(published.store)
    before = server.client.get("/health/ready")
    assert (before.status_code, before.json()) == (503, {"error": "The models are being loaded."})
    server.wait_ready()
    features = np.random.default_rng(9).normal(size=(200, 4)).astype(np.float32)
    response = server.client.post("/predict", json={"instances": features.tolist()})
    found = np.array(response.json()["predictions"], np.float32)
    # The export's own promise; the same float32 operations in another order differ by about 1e-7.
    np.testing.assert_allclose(found, published.answers({"features": features})["classes"], rtol=0, atol=1e-5)
    assert (response.headers["x-model-version"], response.headers["x-runtime"]) == ("1", "keras")
    assert "tiny@1 is served by keras." in server.log


def test_labels_reload_and_end_of_a_real_server(published: Published, start: Start, tmp_path: Path) -> None:
    store = ArtifactStore(shutil.copytree(published.store.root, tmp_path / "copy"))
    server = start(store, "--reload-interval", "3600").wait_ready()
    example = server.client.get("/models/tiny").json()["example"]
    labelled = server.client.post("/predict?labels=true", json=example["request"]).json()["predictions"]
    best = int(np.argmax(example["response"]["predictions"][0]))
    assert labelled[0]["label"] == LABELS[best]
    publish_again(published.artifact, store)
    server.send(signal.SIGHUP)
    wait_until(lambda: server.client.post("/predict", json=example["request"]).json()["version"] == 2, seconds=30)
    server.send(signal.SIGTERM)
    assert (server.exit_code(), "Traceback" in server.log) == (0, False)


@pytest.fixture
def stretched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A version that needs a layer of the user's own, defined in a module in the working directory."""
    (tmp_path / "stretching.py").write_text(LAYER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "stretching", raising=False)
    layer = __import__("stretching").Stretched
    inputs = keras.Input((2,), name="x")
    model = keras.Model(inputs, layer(name="y")(inputs), name="stretched")
    rows = {"x": np.ones((1, 2), np.float32)}
    return export(ArtifactStore(tmp_path / "artifacts"), model, rows, layers=("stretching",))


def test_layer_of_the_users_own_needs_its_module_named(stretched: Published, start: Start, tmp_path: Path) -> None:
    server = start(stretched.store)
    wait_until(lambda: "--layers stretching" in server.client.get("/health/ready").json()["error"], seconds=60)
    message = server.client.post("/predict", json={"instances": [[1, 2]]}).json()["error"]
    assert "`Stretched` (defined in stretching). Name the module that defines them: --layers stretching" in message
    assert str(tmp_path) not in message
    helped = start(stretched.store, "--layers", "stretching").wait_ready()
    assert helped.client.post("/predict", json={"instances": [[1, 2]]}).json()["predictions"] == [[2.0, 4.0]]


def test_changed_source_is_warned_of_and_other_numbers_are_refused(
    stretched: Published, start: Start, tmp_path: Path
) -> None:
    (tmp_path / "stretching.py").write_text(LAYER.replace("inputs * 2.0", "2.0 * inputs"))
    same = start(stretched.store, "--layers", "stretching").wait_ready()
    assert "tiny@1 was made with another source of Stretched (`call` differs); its golden answers decide" in same.log
    (tmp_path / "stretching.py").write_text(LAYER.replace("2.0", "2.5"))
    other = start(stretched.store, "--layers", "stretching")
    wait_until(lambda: "being loaded" not in other.client.get("/health/ready").json()["error"], seconds=60)
    assert "The golden answers are not reproduced" in other.client.get("/health/ready").json()["error"]

"""What the tests of `export` share: custom layers in a real module, tiny models, and versions of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from export.publish import Candidate, publish
from models import layers, registry
from models.artifact import Artifact
from models.manifest import DatasetRecord, Tensors, TrainingRecord
from models.store import ArtifactStore

ROWS = np.array([[1, 2, 3, 4], [-1, 0, 1, 0.5], [9, 9, 9, 9]], dtype=np.float32)
TRAINING = TrainingRecord(
    config={"epochs": 1}, dataset=DatasetRecord(name="rows", sha256="0" * 64, rows=3), seed=0, metrics={"accuracy": 0.5}
)

# Nobody registers these: they are found through `--layers tiny_layers` alone.
TINY_LAYERS = '''
import keras
import numpy as np


class TinyScale(keras.layers.Layer):
    """Multiplies by a weight, up to a limit."""

    def __init__(self, factor=2.0, limit=float("inf"), **options):
        super().__init__(**options)
        self.factor = factor
        self.limit = limit

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.factor))

    def call(self, x):
        return keras.ops.minimum(x * self.scale, self.limit)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "limit": self.limit}


class TinyForgetful(TinyScale):
    """Loses its limit on save."""

    def get_config(self):
        config = super().get_config()
        del config["limit"]
        return config


class TinyStateful(keras.layers.Layer):
    """Keeps what it adds in an attribute that Keras does not save."""

    offset = np.zeros(4, dtype="float32")

    def call(self, x):
        return x + self.offset


class TinyTwoFaced(keras.layers.Layer):
    """Answers otherwise in a graph than eagerly."""

    def call(self, x):
        import tensorflow as tf

        return x if tf.executing_eagerly() else x + 1


class TinyRenamed(keras.layers.Layer):
    """Takes its weight's name from a count that starts anew in each process."""

    count = 0

    def build(self, input_shape):
        TinyRenamed.count += 1
        self.bias = self.add_weight(shape=(input_shape[-1],), name=f"bias_{TinyRenamed.count}")

    def call(self, x):
        return x + self.bias


class TinySquare(keras.layers.Layer):
    """Promises another shape than it gives."""

    def call(self, x):
        return x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)


class TinyMixed(keras.layers.Layer):
    """Gives one row whatever it is given."""

    def call(self, x):
        return keras.ops.sum(x, axis=0, keepdims=True)

    def compute_output_shape(self, input_shape):
        return input_shape


class TinyTwins(keras.layers.Layer):
    """Has two weights of one name."""

    def build(self, input_shape):
        self.first = self.add_weight(shape=(input_shape[-1],), name="twin", initializer="zeros")
        self.second = self.add_weight(shape=(input_shape[-1],), name="twin", initializer="ones")

    def call(self, x):
        return x * self.first + self.second


class TinyFragile(keras.layers.Layer):
    """Fails when it is called, once it is broken."""

    is_broken = False

    def call(self, x):
        if self.is_broken:
            raise AttributeError("it broke")
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


def tiny_triple(x):
    return x * 3
'''


@pytest.fixture(scope="session")
def tiny_layers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The module `tiny_layers`, importable here and in every process that starts from here; its folder."""
    folder = tmp_path_factory.mktemp("layers")
    (folder / "tiny_layers.py").write_text(TINY_LAYERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        for name in [name for name in os.environ if name.startswith("LAYERSERVE_")]:
            patch.delenv(name)
        registry.load_plugins(["tiny_layers"])
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture(scope="session")
def build(tiny_layers: Path) -> Callable[..., keras.Model]:
    """Builds a model of one path per output: `build(y=[layer, ...])`, from the input `x` of four numbers."""

    def build(**paths: list[keras.layers.Layer]) -> keras.Model:
        inputs = keras.Input((4,), name="x")
        outputs = {name: keras.Sequential(path, name=name)(inputs) for name, path in paths.items()}
        return keras.Model(inputs, outputs, name="tiny")

    return build


@pytest.fixture(scope="session")
def candidate(tiny_layers: Path) -> Callable[..., Candidate]:
    """A model as it comes to `publish`, by default with three golden rows for `x`."""

    def candidate(model: keras.Model, name: str = "tiny", inputs: Tensors | None = None) -> Candidate:
        return Candidate(name, model, {"x": ROWS} if inputs is None else inputs, None, TRAINING)

    return candidate


@pytest.fixture(scope="session")
def published(
    tmp_path_factory: pytest.TempPathFactory, tiny_layers: Path, build: Callable[..., keras.Model]
) -> Artifact:
    """A published version of a model with our layers and an unregistered one: copy before you write."""
    keras.utils.set_random_seed(0)
    model = build(y=[layers.Dense(3, name="dense"), layers.LayerNorm(), registry.find("TinyScale")(factor=1.5)])
    store = ArtifactStore(tmp_path_factory.mktemp("artifacts"))
    return publish(store, Candidate("tiny", model, {"x": ROWS}, None, TRAINING), layers=("tiny_layers",))

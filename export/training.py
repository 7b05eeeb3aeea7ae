"""Training: a configuration and a data set in, a trained model with its test metrics out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from export.config import TrainConfig
from export.datasets import Dataset, Split, split
from models.builders import build_mlp


@dataclass(frozen=True)
class TrainResult:
    """A trained model, the rows it saw and did not see, and its metrics on those it did not."""

    model: keras.Model
    split: Split
    metrics: dict[str, float]


def train(config: TrainConfig, dataset: Dataset, *, show_progress: bool = True) -> TrainResult:
    """Trains a classifier. The same arguments on the same machine give the same weights.

    Seeds the random generators of the process and makes TensorFlow's operations deterministic in it.
    """
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    parts = split_for(config, dataset)
    features = parts.train.inputs["features"]
    model = build_mlp(
        name=dataset.name,
        mean=features.mean(axis=0),
        variance=features.var(axis=0),
        num_classes=len(dataset.labels),
        hidden_units=config.hidden_units,
        dropout=config.dropout,
    )
    model.compile(
        optimizer=keras.optimizers.Adam(config.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    with tqdm(total=config.epochs, desc="training", unit="epoch", disable=not show_progress) as bar:
        model.fit(
            features,
            parts.train.targets,
            batch_size=config.batch_size,
            epochs=config.epochs,
            validation_data=(parts.validation.inputs["features"], parts.validation.targets),
            callbacks=[
                keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True),
                _Progress(bar),
            ],
            verbose=0,
        )
    # The same layers without the optimizer, whose state would triple the saved file.
    inference_model = keras.Model(model.input, model.output, name=model.name)
    return TrainResult(inference_model, parts, _metrics(model, parts.test))


def split_for(config: TrainConfig, dataset: Dataset) -> Split:
    """The parts of `dataset` that `train` uses under `config`."""
    return split(
        dataset,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
    )


def _metrics(model: keras.Model, test: Dataset) -> dict[str, float]:
    probabilities = model.predict(test.inputs["features"], batch_size=1024, verbose=0).astype(np.float64)
    of_true_class = probabilities[np.arange(test.rows), test.targets]
    return {
        "test_accuracy": float(np.mean(probabilities.argmax(axis=1) == test.targets)),
        "test_loss": float(-np.log(np.clip(of_true_class, 1e-12, 1)).mean()),
    }


class _Progress(keras.callbacks.Callback):  # type: ignore[misc] # Keras ships no types
    """One bar over the epochs, with the time left and the validation figures."""

    def __init__(self, bar: tqdm[NoReturn]) -> None:
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - Keras names it
        figures = logs or {}
        self.bar.set_postfix_str(
            f"loss {figures['loss']:.3f}, validation loss {figures['val_loss']:.3f}, "
            f"validation accuracy {figures['val_accuracy']:.3f}"
        )
        self.bar.update()

"""Training: a configuration and a data set in, a trained model with its test metrics out."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import models.builders as _registers_our_builders  # noqa: F401
from export.batches import batch_size_for, batches
from export.checkpoints import Checkpoint, Progress, uninterrupted
from export.config import TrainConfig
from export.datasets import Dataset, Rows
from export.evaluation import Evaluator
from export.metrics import Predict, evaluate
from export.report_data import Evaluation
from export.splitting import Part
from models import registry
from models.loading import reason, signature_of, traced
from models.manifest import Signature, Tensors
from models.problem import Problem


@dataclass(frozen=True)
class TrainResult:
    """A trained model, its metrics on the test rows, a figure an epoch of what was watched, and more of the test."""

    model: keras.Model
    metrics: dict[str, float]
    history: dict[str, tuple[float, ...]]
    evaluation: Evaluation


def train(
    config: TrainConfig,
    dataset: Dataset,
    *,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    show_progress: bool = True,
    check: Callable[[keras.Model], None] | None = None,
) -> TrainResult:
    """Trains a model. The same arguments on the same machine give the same weights, interrupted or not.

    Seeds the random generators of the process and makes TensorFlow's operations deterministic in it.

    Args:
        config: How.
        dataset: On what.
        checkpoint: Where the state is written while it trains, and when Ctrl-C or SIGTERM ends it.
        resume: Whether to begin with the state that is there.
        show_progress: Whether to draw a bar.
        check: Called with the untrained model, before the time is spent.

    Raises:
        ValueError: there is no such builder, its model does not fit the data, or the loss is no number any more.
    """
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    model = build(config, dataset.problem)
    if check is not None:
        check(model)
    trainer = _compiled(model, dataset.problem, config.learning_rate)
    progress = checkpoint.restore(trainer) if checkpoint and resume else Progress()
    weights = _class_weights(dataset) if config.balance else None
    predict = _predictor(model)
    majority = int(np.argmax(dataset.target.counts)) if dataset.target.counts else 0
    with (
        checkpoint.saved_on_interrupt(trainer, progress) if checkpoint else nullcontext(),
        _bar(config, dataset, progress, disable=not show_progress) as bar,
    ):
        while progress.epoch < config.epochs and progress.epochs_without_gain < config.patience:
            loss = _run_epoch(config, dataset, trainer, progress, weights, checkpoint, bar)
            found = evaluate(predict, dataset.stream(Part.VALIDATION), dataset.problem, majority, weights)
            with uninterrupted():
                _note(progress, model, {"loss": loss, **{f"validation_{key}": value for key, value in found.items()}})
            bar.set_postfix_str(_figures(progress, config.epochs))
    model.set_weights(progress.best_weights)
    evaluator = Evaluator(dataset.problem, config.seed)
    metrics = evaluate(predict, dataset.stream(Part.TEST), dataset.problem, majority, observe=evaluator.add)
    return TrainResult(
        model,
        {f"test_{name}": value for name, value in metrics.items()},
        {name: tuple(values) for name, values in progress.history.items()},
        evaluator.evaluation(),
    )


def build(config: TrainConfig, problem: Problem) -> keras.Model:
    """The untrained model that the configuration names, checked against the problem.

    Raises:
        ValueError: there is no such builder, it fails, or its model does not fit the data.
    """
    options: dict[str, Any] = {"hidden_units": config.hidden_units}
    if config.dropout is not None:
        options["dropout"] = config.dropout
    name = config.builder or config.model
    builder = registry.find_builder(name)
    try:
        model = builder(problem, **options)
    except Exception as error:  # a builder is anybody's code
        cause = f"{type(error).__name__}: {reason(error).rstrip('.')}"
        called = ", ".join(["problem", *(f"{key}={value}" for key, value in options.items())])
        raise ValueError(
            f"The builder `{name}`, called with ({called}), failed: {cause}. "
            "A builder is a function build(problem, *, hidden_units, dropout)."
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(f"The builder `{name}` must return a keras.Model. Received: {type(model).__name__}")
    signature = signature_of(model, problem.labels)
    wanted = {feature.name: (feature.dtype, (None, *feature.shape)) for feature in problem.features}
    found = {spec.name: (spec.dtype, spec.shape) for spec in signature.inputs}
    if found != wanted:
        raise ValueError(f"The builder `{name}` must take the inputs {wanted}. Its model takes {found}.")
    shape = (None,) if problem.labels is None else (None, len(problem.labels))
    if [spec.shape for spec in signature.outputs] != [shape]:
        shapes = ", ".join(str(spec.shape) for spec in signature.outputs)
        raise ValueError(f"The builder `{name}` must give one output of shape {shape}. Its model gives {shapes}.")
    return model


def _compiled(model: keras.Model, problem: Problem, learning_rate: float) -> keras.Model:
    """The same layers with an optimizer, whose state would triple the saved file; inputs by name."""
    trainer = keras.Model({tensor.name: tensor for tensor in model.inputs}, model.outputs[0])
    loss = "sparse_categorical_crossentropy" if problem.labels else _squared_error(problem.spread)
    trainer.compile(optimizer=keras.optimizers.Adam(learning_rate), loss=loss)
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _squared_error(spread: float) -> Callable[[Any, Any], Any]:
    """The squared error in units of the target's spread, so that learning rates mean the same for every target."""
    return lambda targets, answers: keras.ops.square((targets - answers) / spread)


def _predictor(model: keras.Model) -> Predict:
    signature = signature_of(model)
    run = traced(model, signature)
    return lambda inputs: run(inputs)[signature.outputs[0].name]


def _run_epoch(
    config: TrainConfig,
    dataset: Dataset,
    trainer: keras.Model,
    progress: Progress,
    weights: np.ndarray | None,
    checkpoint: Checkpoint | None,
    bar: tqdm[NoReturn],
) -> float:
    """Learns from every training row once, but those of the batches that were, and gives the mean loss."""
    size = _batch_size(config, dataset)
    signature = signature_of(trainer)
    found = batches(dataset.stream(Part.TRAIN), size, (config.seed, progress.epoch))
    for batch in islice(found, progress.step, None):
        with uninterrupted():
            progress.loss_sum += len(batch) * _step(trainer, signature, batch, weights)
            progress.step += 1
        bar.update(len(batch))
        if checkpoint:
            checkpoint.save_if_due(trainer, progress)
    return progress.loss_sum / dataset.sizes[Part.TRAIN]


def _batch_size(config: TrainConfig, dataset: Dataset) -> int:
    return config.batch_size or batch_size_for(dataset.sizes[Part.TRAIN])


def _bar(config: TrainConfig, dataset: Dataset, progress: Progress, *, disable: bool) -> tqdm[NoReturn]:
    """A bar over the rows of all epochs, with the time left."""
    rows = dataset.sizes[Part.TRAIN]
    done = progress.epoch * rows + min(progress.step * _batch_size(config, dataset), rows)
    return tqdm(total=config.epochs * rows, initial=done, desc="training", unit="row", unit_scale=True, disable=disable)


def _step(trainer: keras.Model, signature: Signature, batch: Rows, weights: np.ndarray | None) -> float:
    inputs: Tensors = {spec.name: tf.constant(batch.inputs[spec.name], spec.dtype) for spec in signature.inputs}
    row_weights = None if weights is None else weights[batch.targets]
    logs = trainer.train_on_batch(inputs, batch.targets, sample_weight=row_weights, return_dict=True)
    return float(logs["loss"])


def _class_weights(dataset: Dataset) -> np.ndarray | None:
    """A weight for each class that makes all count alike, 1 on average."""
    counts = np.array(dataset.target.counts, dtype=np.float32)
    return counts.sum() / (len(counts) * counts) if len(counts) else None


def _note(progress: Progress, model: keras.Model, figures: dict[str, float]) -> None:
    """Writes down an epoch's figures, and keeps the weights where they are the best so far."""
    for name, value in figures.items():
        progress.history.setdefault(name, []).append(value)
    watched = figures.get("validation_loss", figures.get("validation_rmse", math.inf))
    if not math.isfinite(figures["loss"]) or not math.isfinite(watched):
        raise ValueError("The loss is no longer a number. Try a smaller --learning-rate, such as 1e-4.")
    progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
    progress.epochs_without_gain += 1
    if watched < progress.best_loss:
        progress.best_loss, progress.epochs_without_gain = watched, 0
        progress.best_weights = model.get_weights()


def _figures(progress: Progress, epochs: int) -> str:
    shown = ("loss", "validation_loss", "validation_accuracy", "validation_rmse")
    figures = [
        f"{name.replace('_', ' ')} {values[-1]:.4g}" for name, values in progress.history.items() if name in shown
    ]
    return ", ".join([f"epoch {progress.epoch}/{epochs}", *figures])

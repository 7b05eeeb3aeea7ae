"""The training configuration, apart from the code that trains, so that `--help` needs no TensorFlow."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.command_line import Sizes


class TrainConfig(BaseModel):
    """What decides the trained weights, beside the data. It goes into the manifest as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden_units: Sizes = Field((256, 256), min_length=1, description="Units of each hidden layer.")
    dropout: float = Field(0.5, ge=0, lt=1, description="Share of activations dropped in training.")
    epochs: int = Field(100, ge=1, description="Most passes over the training rows.")
    patience: int = Field(20, ge=1, description="Epochs without a better validation loss before training stops.")
    batch_size: int = Field(64, ge=1, description="Rows in a training step.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's step size.")
    validation_fraction: float = Field(0.1, gt=0, lt=0.5, description="Share of the rows that early stopping watches.")
    test_fraction: float = Field(0.2, gt=0, lt=0.5, description="Share of the rows kept for the published metrics.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of the split, the weights and the shuffling.")

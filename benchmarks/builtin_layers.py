"""Keras's own layers, configured so that each can be called, with the inputs to call it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import activations
from keras import layers as k


@dataclass(frozen=True)
class Builtin:
    """One of Keras's layers: how to make it, and what to call it on."""

    make: Callable[[], Any]
    shape: Any
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of its class."""
        return type(self.make()).__name__


def _case(make: Callable[[], Any], shape: Any, **options: Any) -> Builtin:
    return Builtin(make, shape, options)


STEPS, IMAGE, VOLUME = (6, 4), (8, 8, 3), (6, 6, 6, 2)
_IDS = {"dtype": "int32"}
_PIXELS = {"inputs": np.random.default_rng(0).uniform(0, 255, (4, *IMAGE)).astype("float32")}

CORE = [
    _case(lambda: k.Dense(5), (6,)),
    _case(lambda: k.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d"), STEPS),
    _case(lambda: k.Embedding(10, 4), (6,), **_IDS),
    _case(lambda: k.ReversibleEmbedding(10, 4), (6,), **_IDS),
    _case(k.Identity, (6,)),
    _case(k.Masking, STEPS, mask=True),
    _case(lambda: k.Activation("tanh"), (6,)),
    _case(k.ReLU, (6,)),
    _case(k.LeakyReLU, (6,)),
    _case(k.PReLU, (6,)),
    _case(k.ELU, (6,)),
    _case(k.Softmax, (6,)),
    _case(k.Flatten, STEPS),
    _case(lambda: k.Reshape((3, 8)), STEPS),
    _case(lambda: k.Permute((2, 1)), STEPS),
    _case(lambda: k.RepeatVector(3), (6,)),
    _case(lambda: k.Rescaling(0.5, 1.0), (6,)),
    _case(lambda: k.ActivityRegularization(l1=0.1), (6,)),
    _case(lambda: k.Lambda(activations.relu), (6,)),
]
MERGING = [
    *(_case(make, [(6,), (6,)]) for make in (k.Add, k.Average, k.Concatenate, k.Maximum, k.Minimum, k.Multiply)),
    _case(k.Subtract, [(6,), (6,)]),
    _case(lambda: k.Dot(1), [(6,), (6,)]),
]
NORMALIZING = [
    _case(k.BatchNormalization, (6,)),
    _case(k.LayerNormalization, STEPS),
    _case(lambda: k.GroupNormalization(2), STEPS),
    _case(k.RMSNormalization, STEPS),
    _case(k.UnitNormalization, STEPS),
    _case(lambda: k.SpectralNormalization(k.Dense(5)), (6,)),
]
REGULARIZING = [
    _case(lambda: k.Dropout(0.5), (6,)),
    _case(lambda: k.AlphaDropout(0.5), (6,)),
    _case(lambda: k.GaussianDropout(0.5), (6,)),
    _case(lambda: k.GaussianNoise(0.5), (6,)),
    _case(lambda: k.SpatialDropout1D(0.5), STEPS),
    _case(lambda: k.SpatialDropout2D(0.5), IMAGE),
    _case(lambda: k.SpatialDropout3D(0.5), VOLUME),
]
ATTENDING = [
    _case(k.Attention, [STEPS, STEPS]),
    _case(k.AdditiveAttention, [STEPS, STEPS]),
    _case(lambda: k.MultiHeadAttention(2, 3), {"query": STEPS, "value": STEPS}),
    _case(lambda: k.GroupQueryAttention(3, 4, 2), {"query": STEPS, "value": STEPS}),
]
RECURRENT = [
    _case(lambda: k.SimpleRNN(3), STEPS),
    _case(lambda: k.GRU(3), STEPS),
    _case(lambda: k.LSTM(3), STEPS, mask=True),
    _case(lambda: k.LSTM(3, return_sequences=True), STEPS),
    _case(lambda: k.RNN(k.GRUCell(3)), STEPS),
    _case(lambda: k.RNN([k.GRUCell(3), k.LSTMCell(2)]), STEPS),
    _case(lambda: k.Bidirectional(k.GRU(3)), STEPS),
    _case(lambda: k.TimeDistributed(k.Dense(3)), STEPS),
    _case(lambda: k.ConvLSTM1D(2, 2), (3, 6, 2)),
    _case(lambda: k.ConvLSTM2D(2, 2), (3, 5, 5, 2)),
]
CONVOLVING = [
    _case(lambda: k.Conv1D(3, 2), STEPS),
    _case(lambda: k.Conv2D(3, 2), IMAGE),
    _case(lambda: k.Conv3D(3, 2), VOLUME),
    _case(lambda: k.Conv1DTranspose(3, 2), STEPS),
    _case(lambda: k.Conv2DTranspose(3, 2), IMAGE),
    _case(lambda: k.Conv3DTranspose(3, 2), VOLUME),
    _case(lambda: k.DepthwiseConv1D(2), STEPS),
    _case(lambda: k.DepthwiseConv2D(2), IMAGE),
    _case(lambda: k.SeparableConv1D(3, 2), STEPS),
    _case(lambda: k.SeparableConv2D(3, 2), IMAGE),
]
_POOLED = ((STEPS, "1D"), (IMAGE, "2D"), (VOLUME, "3D"))
POOLING = [
    *(
        _case(lambda kind=kind, rank=rank: getattr(k, f"{kind}Pooling{rank}")(2), s)
        for kind in ("Max", "Average")
        for s, rank in _POOLED
    ),
    *(_case(getattr(k, f"Global{kind}Pooling{rank}"), s) for kind in ("Max", "Average") for s, rank in _POOLED),
    *(
        _case(lambda kind=kind, rank=rank: getattr(k, f"Adaptive{kind}Pooling{rank}")(2), s)
        for kind in ("Max", "Average")
        for s, rank in _POOLED
    ),
]
RESHAPING = [
    *(
        _case(getattr(k, f"{kind}{rank}"), s)
        for kind in ("Cropping", "UpSampling", "ZeroPadding")
        for s, rank in _POOLED
    ),
]
PREPROCESSING = [
    _case(lambda: k.CategoryEncoding(4), (3,), **_IDS),
    _case(lambda: k.Discretization([-0.5, 0.0, 0.5]), (6,)),
    _case(lambda: k.Normalization(mean=0.5, variance=2.0), (6,)),
    _case(lambda: k.Hashing(5), (3,), dtype="string"),
    _case(lambda: k.HashedCrossing(5), [(1,), (1,)], dtype="string"),
    _case(lambda: k.StringLookup(vocabulary=["red", "green"]), (3,), dtype="string"),
    _case(lambda: k.IntegerLookup(vocabulary=[0, 1, 5]), (3,), dtype="int64"),
    _case(
        lambda: k.TextVectorization(vocabulary=["red", "green"], output_sequence_length=3),
        (),
        inputs=np.array(["red car", "green red", "a blue one", "red"]),
    ),
    _case(lambda: k.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16), (64, 1)),
    _case(lambda: k.MelSpectrogram(fft_length=32, sequence_stride=16, sampling_rate=160, num_mel_bins=4), (128,)),
]
IMAGES = [
    _case(lambda: k.CenterCrop(4, 4), IMAGE),
    _case(lambda: k.Resizing(4, 4), IMAGE),
    *(
        _case(make, IMAGE, **_PIXELS)
        for make in (
            k.AutoContrast,
            k.AugMix,
            k.CutMix,
            k.Equalization,
            lambda: k.ContrastLimitedAdaptiveHistogramEqualization(tile_grid_size=(2, 2)),
            k.MixUp,
            k.RandAugment,
            lambda: k.RandomBrightness(0.2),
            lambda: k.RandomColorDegeneration(0.5),
            lambda: k.RandomColorJitter(brightness_factor=0.2),
            lambda: k.RandomContrast(0.2),
            lambda: k.RandomCrop(4, 4),
            lambda: k.RandomElasticTransform(1.0),
            lambda: k.RandomErasing(1.0),
            k.RandomFlip,
            k.RandomGaussianBlur,
            k.RandomGrayscale,
            lambda: k.RandomHue(0.2),
            k.RandomInvert,
            k.RandomPerspective,
            lambda: k.RandomPosterization(4),
            lambda: k.RandomRotation(0.2),
            lambda: k.RandomSaturation(0.2),
            lambda: k.RandomSharpness(0.2),
            lambda: k.RandomShear(0.2),
            lambda: k.RandomTranslation(0.2, 0.2),
            lambda: k.RandomZoom(0.2),
            k.Solarization,
        )
    ),
]
FAST = [*CORE, *MERGING, *NORMALIZING, *REGULARIZING]
BUILTINS = [*FAST, *ATTENDING, *RECURRENT, *CONVOLVING, *POOLING, *RESHAPING, *PREPROCESSING, *IMAGES]

"""No false alarm: layers that keep the contract pass every rule; Keras's own break only what is known of them."""

from __future__ import annotations

import keras
import pytest

from benchmarks.builtin_layers import FAST, Builtin
from benchmarks.builtin_traits import reason_for
from models import layers as ours
from models.checks import LayerCase, check_layer, parametrize_with_checks
from tests.models.checks import realistic_layers as realistic
from tests.models.checks import realistic_sequences as sequences

pytestmark = pytest.mark.slow
STEPS = (5, 8)


@parametrize_with_checks(
    [
        LayerCase(lambda: realistic.AttentionBlock(2, 12), STEPS, mask=True, name="AttentionBlock"),
        LayerCase(lambda: realistic.FactorizationMachine(3, "l2"), (6,), name="FactorizationMachine"),
        LayerCase(lambda: realistic.SpectralDense(4, 2), (6,), name="SpectralDense"),
        LayerCase(realistic.MaskedMeanPooling, STEPS, mask=True),
        LayerCase(realistic.Standardize, (6,)),
        LayerCase(lambda: realistic.Residual(keras.layers.Dense(6), 0.5), (6,), name="Residual"),
        LayerCase(realistic.GatedFusion, {"first": (6,), "second": (6,)}),
        LayerCase(realistic.WeightedSum, [(6,), (6,), (6,)]),
        LayerCase(realistic.SeededDropout, (6,)),
        LayerCase(lambda: sequences.PatchEmbedding(2, 5), (4, 6, 3), name="PatchEmbedding"),
        LayerCase(sequences.Rotary, STEPS, mask=True),
        LayerCase(sequences.TwoHeads, (6,)),
        LayerCase(sequences.GRUStack, STEPS),
    ]
)
def test_realistic_layer_keeps_the_contract(check) -> None:
    check()


@parametrize_with_checks(
    [
        LayerCase(lambda: ours.Dense(4, activation="relu", kernel_regularizer="l2"), (6,), name="Dense"),
        LayerCase(lambda: ours.LayerNorm(epsilon=1e-4), STEPS, mask=True, name="LayerNorm"),
        LayerCase(lambda: ours.LayerNorm(axis=[1, 2]), STEPS, name="LayerNorm over two axes"),
    ]
)
def test_our_layer_keeps_the_contract(check) -> None:
    check()


@pytest.mark.parametrize("builtin", FAST, ids=lambda builtin: builtin.name)
def test_layer_of_keras_breaks_only_what_is_known_of_it(builtin: Builtin) -> None:
    report = check_layer(builtin.make, builtin.shape, **builtin.options)
    assert [failure for failure in report.failures if reason_for(report.layer, failure) is None] == []

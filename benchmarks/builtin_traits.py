"""Why Keras's own layers break a rule of the contract: a trait of the layer, or a fault of Keras 3.15.1."""

from __future__ import annotations

from models.checks import CheckResult

_LATE = "Keras does not look at the argument's type first, so Python or TensorFlow stumbles over it, or nobody does"
_LORA = "the LoRA arguments are saved only when LoRA is on; `lora_alpha` alone does nothing"
_FLASH = "`flash_attention`, a choice of kernel, is left out of the config"
_UNUSED = "the base class takes `factor` for every augmentation; this one neither uses nor saves it"
_CANONICAL = "build replaces the axis by what it found, and the config then holds that"
_POPPED = "from_config takes the nested layer out of the dict it is given; Keras's loader hands it a dict of its own"
_ALIASED = "get_config returns the layer's own list"
_LISTED = "the pair is kept as it was given, and JSON has no tuples"
_DTYPE = "the config holds the dtype of the variables, not the policy"
_WHOLE = "the lookup gives whole numbers and overrides a dtype that isn't one"
_CPU = "TensorFlow has no half-precision kernel for this pooling on the CPU"
_BROADCAST = "input_spec says nothing of the width, so a width of 1 is broadcast over the weights"
_DRAWS = "the random transformation is drawn, and the seed advanced, whatever `training` says"
_AUGMENTS = "an augmentation: `training` is true unless it is said otherwise"
_CROP = "a fault of RandomCrop: at inference it neither crops to the announced size nor casts"
_SHEAR = "a fault of RandomShear: its config holds a range with a negative end, which its __init__ refuses"

TRAITS: dict[str, dict[str, str]] = {
    "check_bad_argument_is_named": {"*": _LATE},
    "check_config_is_complete": {
        **dict.fromkeys(("Dense", "EinsumDense", "Embedding", "ReversibleEmbedding"), _LORA),
        **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _LORA),
        **dict.fromkeys(("MultiHeadAttention", "GroupedQueryAttention"), _FLASH),
        **dict.fromkeys(("Equalization", "MixUp", "RandomColorJitter", "RandomCrop"), _UNUSED),
        "ContrastLimitedAdaptiveHistogramEqualization": _UNUSED,
        "CategoryEncoding": "a fault of CategoryEncoding: `sparse` is not in its config",
        "RandomGrayscale": "a fault of RandomGrayscale: `seed` is not in its config",
        "SimpleRNN": "a fault of SimpleRNN: `seed` is not in its config, which GRU's and LSTM's hold",
    },
    "check_config_is_the_same_after_build": dict.fromkeys(
        ("LayerNormalization", "RMSNormalization", "MultiHeadAttention"), _CANONICAL
    ),
    "check_config_is_a_copy": {
        **dict.fromkeys(("SpectralNormalization", "RNN", "TimeDistributed"), _POPPED),
        **dict.fromkeys(("Discretization", "StringLookup", "TextVectorization"), _ALIASED),
        **dict.fromkeys(("AutoContrast", "Equalization", "RandomBrightness", "RandomColorDegeneration"), _ALIASED),
        **dict.fromkeys(("RandomPosterization", "RandomSaturation", "RandomSharpness", "Solarization"), _ALIASED),
    },
    "check_values_keep_their_type": {
        **dict.fromkeys(("AugMix", "RandAugment", "RandomColorJitter", "RandomContrast", "RandomErasing"), _LISTED),
        **dict.fromkeys(("RandomElasticTransform", "RandomGaussianBlur", "RandomHue", "RandomInvert"), _LISTED),
        "ContrastLimitedAdaptiveHistogramEqualization": _LISTED,
    },
    "check_base_arguments_are_kept": {
        **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), _DTYPE),
        **dict.fromkeys(("Discretization", "HashedCrossing"), _DTYPE),
        **dict.fromkeys(("StringLookup", "IntegerLookup"), _WHOLE),
    },
    "check_revives_from_its_config": {"RandomShear": _SHEAR},
    "check_reloads_in_a_fresh_process": {"RandomShear": _SHEAR},
    "check_building_twice_keeps_the_weights": {
        "AdditiveAttention": "its build sets `scale` to None before Keras refuses the second weight",
    },
    "check_works_in_a_functional_model": {
        "Equalization": "a fault of Equalization: its announced output is its input itself, a cycle in the model",
    },
    "check_output_shape_is_as_announced": {"RandomCrop": _CROP},
    "check_no_float64": {"RandomCrop": _CROP},
    "check_jit_compiled_like_eager": {"MixUp": "XLA has no gamma distribution on the CPU"},
    "check_deterministic_at_inference": {
        **dict.fromkeys(("AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "Solarization"), _AUGMENTS),
        **dict.fromkeys(("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter"), _AUGMENTS),
        **dict.fromkeys(("RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing"), _AUGMENTS),
        **dict.fromkeys(("RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue"), _AUGMENTS),
        **dict.fromkeys(("RandomInvert", "RandomPerspective", "RandomPosterization", "RandomRotation"), _AUGMENTS),
        **dict.fromkeys(("RandomSaturation", "RandomSharpness", "RandomShear"), _AUGMENTS),
        **dict.fromkeys(("RandomTranslation", "RandomZoom"), _AUGMENTS),
    },
    "check_inference_changes_no_state": {
        **dict.fromkeys(("MixUp", "RandomColorDegeneration", "RandomGrayscale", "RandomHue"), _DRAWS),
        **dict.fromkeys(("RandomPosterization", "RandomSaturation", "RandomSharpness"), _DRAWS),
    },
    "check_rows_are_independent": {
        "MelSpectrogram": "a fault of MelSpectrogram: it clips at a level below the maximum of the whole batch",
        "ContrastLimitedAdaptiveHistogramEqualization": "pixels are indices of a table: one NaN fails the whole batch",
    },
    "check_mixed_precision": {
        **dict.fromkeys(("MaxPooling3D", "AveragePooling3D"), _CPU),
        **dict.fromkeys(("AdaptiveMaxPooling3D", "AdaptiveAveragePooling3D"), _CPU),
        "CategoryEncoding": "a data-preparation layer: it computes in float32 whatever the policy",
        "STFTSpectrogram": "TensorFlow's Fourier transform takes no bfloat16",
        "RandomCrop": _CROP,
    },
    "check_wrong_input_is_named": {
        **dict.fromkeys(("PReLU", "RMSNormalization", "AdditiveAttention"), _BROADCAST),
        "TimeDistributed": "it takes the width for the steps when the steps are missing",
    },
}


def reason_for(layer: str, failure: CheckResult) -> str | None:
    """The known reason of a report; None where there is none."""
    known = TRAITS.get(failure.rule, {})
    return known.get(layer) or known.get("*")


def unseen(reports: list[tuple[str, str]]) -> list[str]:
    """The reasons that explain none of these reports."""
    return [
        f"{rule} of {layer}"
        for rule, known in TRAITS.items()
        for layer in known
        if layer != "*" and (layer, rule) not in reports
    ]

"""Our layers. Importing this package registers them with Keras."""

from models.layers.dense import Dense
from models.layers.layer_norm import LayerNorm

__all__ = ["Dense", "LayerNorm"]

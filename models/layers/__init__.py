"""Our layers. Importing this package registers them with Keras."""

from models.layers.date_parts import DateParts
from models.layers.dense import Dense
from models.layers.impute import Impute
from models.layers.layer_norm import LayerNorm
from models.layers.position_embedding import PositionEmbedding
from models.layers.self_attention import SelfAttention

__all__ = ["DateParts", "Dense", "Impute", "LayerNorm", "PositionEmbedding", "SelfAttention"]

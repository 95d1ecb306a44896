"""Networks: `forward(x, t, condition=None) -> Tensor`, time in [0, 1]. A leaf: imports torch alone."""

from .attention import SelfAttention, SpatialAttention
from .columns import ColumnTransformer
from .dit import DiT
from .embedding import DDPM, SLOW, Condition, Conditioning, FourierFeatures, grid_positions, sinusoidal
from .growth import grown
from .layout import placed
from .mlp import MLP
from .unet import UNet

ALL: tuple[type[MLP] | type[UNet] | type[DiT] | type[ColumnTransformer], ...] = (MLP, UNet, DiT, ColumnTransformer)

__all__ = [
    "ALL",
    "DDPM",
    "MLP",
    "SLOW",
    "ColumnTransformer",
    "Condition",
    "Conditioning",
    "DiT",
    "FourierFeatures",
    "SelfAttention",
    "SpatialAttention",
    "UNet",
    "grid_positions",
    "grown",
    "placed",
    "sinusoidal",
]

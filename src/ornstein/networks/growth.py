"""A network with one more input, which changes no answer yet."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from .columns import ColumnTransformer
    from .dit import DiT
    from .mlp import MLP
    from .unet import UNet

NetworkT = TypeVar("NetworkT", "MLP", "UNet", "DiT", "ColumnTransformer")


def grown(network: NetworkT) -> NetworkT:
    """The network of the same weights that also takes an aim: for every aim its answers are those of `network`, bit for bit.

    It lies on the same device, in the same type, and is a copy, also where `network` takes an aim already.
    """
    made = type(network)(**{**network.config, "aim": True})
    first = next(network.parameters())
    made.to(first.device, first.dtype).load_state_dict(network.state_dict(), strict=False)
    return made.train(network.training)

"""The uncertainty of each noise level, learned with the network and used to weight its loss.

    L = E [ e^{−u(c)} · w·‖q̂ − q‖² + u(c) ]

At its minimum u(c) is the logarithm of the mean loss at the noise level c, so every level contributes alike to the gradient
(Kendall et al. 2018; Karras et al. 2024, equations 14 and 15). It is trained and saved with the network and never exported.
"""

import torch
from torch import Tensor, nn

from ornstein.networks import FourierFeatures


class Uncertainty(nn.Module):
    """u(c), linear in Fourier features of the clock c in [0, 1], zero at first: clock (B,) -> (B,)."""

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        self.features = FourierFeatures.gaussian(1, features, scale=1.0)
        self.head = nn.Linear(2 * features, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, clock: Tensor) -> Tensor:
        with torch.autocast(clock.device.type, enabled=False):  # an exponent follows
            return self.head(self.features(clock.float().unsqueeze(-1))).squeeze(-1)

    def weigh(self, loss: Tensor, clock: Tensor) -> Tensor:
        """e^{−u}·loss + u for the losses (B,) of rows at noise levels clock (B,)."""
        u = self(clock)
        return torch.exp(-u) * loss + u

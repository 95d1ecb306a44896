"""Predictions of data that are coded states and numbers, by what each alone says of itself and what the network adds.

With z = x_t/σ and r = α/σ, the exact posterior mean of a state that is one of K codes c_k with shares p_k, given its own
dimensions alone, is

    E[x | x_t] = Σ_k w_k·c_k        w = softmax_k( log p_k + r·z·c_k − r²·|c_k|²/2 )

and that of a number of N(0, 1) is r·z/(1 + r²). A network adds logits f_k to the first, and to the second f/√(1 + r²), which is
the preconditioning of Karras et al. 2022, table 1:

    x̂ = Σ_k softmax_k( log p_k + r·z·c_k − r²·|c_k|²/2 + f_k )·c_k        x̂ = r·z/(1 + r²) + f/√(1 + r²)

So a network of zeros is the exact denoiser of independent columns, what is learned is how they hang together, and an estimate of
a state lies among the codes. That holds for jumps of flow maps too: their clean part is a mean of posterior means.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

RAREST = 1e-4  # the least share of a state: one that the data do not have can be learned
NOISELESS = 1e-4  # the least c_noise, so that r is finite


class Codes(nn.Module):
    """From outputs of a network (B, D) to the data (B, D), given its inputs c_in·x_t (B, D) and c_noise () or (B,).

    data_std: σ_d of c_in = 1/√(α²σ_d² + σ²).
    states: of each state its first dimension, the shares of its values and the scale: `scale·(1[value = k] − share_k)`, or of one
        share, that of the second of two values, one dimension `scale·(value − share)`. All other dimensions are numbers.
    """

    prior: Tensor
    square: Tensor
    scale: Tensor
    low: Tensor
    numbers: Tensor
    single: Tensor
    several: Tensor
    groups: Tensor
    place: Tensor
    back: Tensor

    def __init__(self, dim: int, data_std: float, states: Sequence[tuple[int, Sequence[float], float]]) -> None:
        """Raises ValueError for states that do not fit into `dim` dimensions."""
        super().__init__()
        self.dim, self.data_std = dim, data_std
        prior, square, scales, low, kind = [0.0] * dim, [0.0] * dim, [1.0] * dim, [0.0] * dim, [0] * dim
        groups = []
        for first, shares, scale in states:
            places = range(first, first + len(shares))
            if first < 0 or not shares or places[-1] >= dim or any(kind[i] for i in places):
                raise ValueError(f"a state of {len(shares)} dimensions from {first} on does not fit into {dim}")
            if len(shares) > 1:
                groups.append(list(places))
            for i, share in zip(places, shares, strict=True):
                p = min(max(share, RAREST), 1 - RAREST)
                prior[i] = math.log(p) if len(shares) > 1 else math.log(p / (1 - p))
                square[i] = scale**2 * (1 - 2 * share) / 2  # of |c_k|²/2 what differs between the values
                scales[i], low[i], kind[i] = scale, -scale * share, 2 if len(shares) > 1 else 1
        longest = max(map(len, groups), default=0)
        kinds = [[i for i in range(dim) if kind[i] == k] for k in range(3)]
        order = [i for some in kinds for i in some]
        indices: dict[str, Any] = {
            "numbers": kinds[0],
            "single": kinds[1],
            "several": kinds[2],
            "groups": [group + [dim] * (longest - len(group)) for group in groups],  # `dim`: none
            "place": [i * longest + k for i, group in enumerate(groups) for k in range(len(group))],
            "back": sorted(range(dim), key=order.__getitem__),
        }
        for name, value in indices.items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.long), persistent=False)
        for name, value in {"prior": prior, "square": square, "scale": scales, "low": low}.items():
            self.register_buffer(name, torch.tensor(value), persistent=False)

    def forward(self, f: Tensor, x: Tensor, c_noise: Tensor) -> Tensor:
        """The data (B, D), and behind them what a network says besides."""
        f, more = f[:, : self.dim], f[:, self.dim :]
        r = torch.tan(math.pi / 2 * (1 - c_noise.reshape(-1, 1).clamp(min=NOISELESS)))
        z = x * (1 + (r * self.data_std) ** 2).sqrt()
        wide = 1 + r**2
        parts = [(r * z / wide + f * wide.rsqrt())[:, self.numbers]]
        logits = self.prior + r * self.scale * z - r**2 * self.square + f
        if len(self.single):
            one = torch.sigmoid(logits[:, self.single])
            parts.append(one * self.scale[self.single] + self.low[self.single])
        if len(self.several):
            each = torch.cat([logits, logits.new_full((len(logits), 1), -math.inf)], 1)[:, self.groups]
            chances = each.softmax(-1).flatten(1)[:, self.place]
            parts.append(chances * self.scale[self.several] + self.low[self.several])
        return torch.cat([torch.cat(parts, 1)[:, self.back], more], 1)

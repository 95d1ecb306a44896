"""Classifier two-sample test: can a network tell samples from real data?"""

import torch
from torch import Tensor, nn

from ornstein.metrics.metric import TwoSample
from ornstein.metrics.score import Score, proportion, usable


def c2st(samples: Tensor, real: Tensor, steps: int = 500, seed: int = 0) -> Score:
    """The accuracy on unseen items of a small network trained to tell samples (N, D) from real items (M, D).

    0.5: it cannot; 1: always. Half of min(N, M) of each side is learned from, the other half is classified.
    Lopez-Paz and Oquab 2017, section 3. Raises UsageError below 200 items, and for items that cannot be compared.
    """
    usable(200, "C2ST", samples=samples, real=real)
    generator = torch.Generator().manual_seed(seed)
    count = min(len(samples), len(real)) // 2 * 2
    sides = [
        side.flatten(1)[torch.randperm(len(side), generator=generator)[:count]].float() for side in (samples, real)
    ]
    x = torch.stack(sides, 1)  # (count, 2, D): a sample beside a real item
    train, test = x[: count // 2].flatten(0, 1), x[count // 2 :].flatten(0, 1)
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    train, test = (train - mean) / std, (test - mean) / std
    truth = torch.tensor([1.0, 0.0]).repeat(count // 2)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        width = 64
        net = nn.Sequential(nn.Linear(train.shape[1], width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        net.append(nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / steps)
        rows = torch.randint(count, (256,), generator=generator)
        nn.functional.binary_cross_entropy_with_logits(net(train[rows])[:, 0], truth[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.inference_mode():
        return proportion("C2ST accuracy", (net(test)[:, 0] > 0) == (truth > 0.5))


METRICS = (TwoSample("c2st", place=70, kinds=("vector", "series", "volume", "table"), function=c2st),)

"""Learned weights: the minimum is the logarithm of the mean loss, and every level then counts alike."""

import torch

from ornstein.training.uncertainty import Uncertainty


def test_it_learns_the_logarithm_of_the_mean_loss() -> None:
    u, generator = Uncertainty(), torch.Generator().manual_seed(0)
    assert torch.equal(u.weigh(torch.tensor([2.0, 3.0]), torch.tensor([0.1, 0.9])), torch.tensor([2.0, 3.0]))
    optimizer = torch.optim.Adam(u.parameters(), lr=1e-2)
    for step in range(600):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 600)
        clock = torch.rand(256, generator=generator)
        noise = -torch.rand(256, generator=generator).log()  # mean 1
        u.weigh(torch.exp(3 * clock - 4) * noise, clock).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    clock = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(u(clock).detach(), 3 * clock - 4, rtol=0, atol=0.15)

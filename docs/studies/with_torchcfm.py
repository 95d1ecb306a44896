import numpy as np
import torch
from moons import figure, moons
from torch import nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, VariancePreservingConditionalFlowMatcher
from torchdiffeq import odeint


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Linear(2 + 16, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(128, 2))

    def forward(self, t, x):
        features = t.expand(len(x))[:, None] * torch.arange(1, 9) * np.pi
        return self.body(torch.cat([x, features.sin(), features.cos()], 1))


def straight(t):  # x_t = sigma noise + alpha data, and derivatives
    return 1 - t, t, -1.0, 1.0


def circle(t):
    angle = t * np.pi / 2
    return np.cos(angle), np.sin(angle), -np.pi / 2 * np.sin(angle), np.pi / 2 * np.cos(angle)


def estimate(net, levels, t, x):  # noise and data from the velocity
    sigma, alpha, d_sigma, d_alpha = levels(t)
    velocity, determinant = net(torch.tensor(t), x), sigma * d_alpha - alpha * d_sigma
    return (d_alpha * x - alpha * velocity) / determinant, (sigma * velocity - d_sigma * x) / determinant


@torch.no_grad()
def by_sde(net, levels, x, steps=30):  # ancestral
    for t, s in np.stack([np.arange(steps), np.arange(1, steps + 1)], 1) / steps:
        t, s = float(t), min(float(s), 0.999)
        noise, clean = estimate(net, levels, t, x)
        (sigma, alpha, *_), (sigma_s, alpha_s, *_) = levels(t), levels(s)
        fresh = sigma_s * np.sqrt(max(1 - (alpha * sigma_s / (alpha_s * sigma)) ** 2, 0.0))
        x = alpha_s * clean + np.sqrt(sigma_s**2 - fresh**2) * noise + fresh * torch.randn_like(x)
    return x.float()


@torch.no_grad()
def by_pc(net, levels, x, steps=30, size=0.1):  # Euler and a Langevin step
    for t in np.arange(steps) / steps:
        x = x + net(torch.tensor(float(t)), x) / steps
        s = min(float(t) + 1 / steps, 0.999)
        noise, _ = estimate(net, levels, s, x)
        scale = size * levels(s)[0]
        x = x - scale * noise * size / 2 + scale * torch.randn_like(x)
    return x.float()


def log_prob(net, x, scale):
    def slope(t, state):
        x, _ = state
        flow = lambda row: net(t, row[None])[0]  # noqa: E731
        jacobian = torch.func.vmap(torch.func.jacrev(flow))(x)
        return net(t, x), jacobian.diagonal(dim1=1, dim2=2).sum(1)

    with torch.no_grad():
        ends, change = odeint(slope, (x, torch.zeros(len(x))), torch.tensor([1.0, 0.0]), rtol=1e-5, atol=1e-5)
    prior = torch.distributions.Normal(0.0, 1.0)
    return (prior.log_prob(ends[-1]).sum(1) + change[-1]).mean() - np.log(scale).sum()


points = moons(4000, 0)
centre, scale = points.mean(0), points.std(0)
data = torch.tensor((points - centre) / scale, dtype=torch.float32)
held_out = torch.tensor((moons(64, 1) - centre) / scale, dtype=torch.float32)
matchers = {
    "flow matching": (ConditionalFlowMatcher(sigma=0.0), straight),
    "DDPM": (VariancePreservingConditionalFlowMatcher(sigma=0.0), circle),
}
samples, nats = {}, {}
for name, (matcher, levels) in matchers.items():
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        x = data[torch.randint(len(data), (256,))]
        t, x_t, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(x), x)
        (net(t, x_t) - velocity).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    net.requires_grad_(False)
    start = torch.randn(300, 2)
    made = {
        "ODE": odeint(net, start, torch.linspace(0, 1, 31), method="midpoint")[-1],
        "SDE": by_sde(net, levels, start),
        "PC": by_pc(net, levels, start),
    }
    samples |= {f"{name}, {kind}": x.numpy() * scale + centre for kind, x in made.items()}
    nats[name] = log_prob(net, held_out, scale).item()
figure(samples, nats, "moons.png")

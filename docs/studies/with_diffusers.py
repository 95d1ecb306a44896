import itertools

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from moons import figure, moons
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Linear(2 + 16, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(128, 2))

    def forward(self, x, t):  # t of 1000
        features = t.expand(len(x))[:, None] / 1000 * torch.arange(1, 9) * np.pi
        return self.body(torch.cat([x, features.sin(), features.cos()], 1))


def train(loss):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        x = data[torch.randint(len(data), (256,))]
        loss(net, x, torch.randn_like(x)).backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    return net.requires_grad_(False)


def ddpm_loss(net, x, noise):
    t = torch.randint(1000, (len(x),))
    return (net(ddpm.add_noise(x, noise, t), t) - noise).square().mean()


def flow_loss(net, x, noise):
    t = torch.rand(len(x))
    return (net(x + t[:, None] * (noise - x), 1000 * t) - (noise - x)).square().mean()


@torch.no_grad()
def run(net, scheduler, steps=30, correct=0.0, levels=None):
    torch.manual_seed(1)
    scheduler.set_timesteps(steps)
    x = torch.randn(300, 2)
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(net(x, t), t, x).prev_sample
        if correct and i + 1 < steps:  # a Langevin step at the new level
            s = scheduler.timesteps[i + 1]
            alpha, sigma = levels(s / 1000)
            output = net(x, s)
            noise = output if levels is vp else x + alpha * output
            x = x - correct**2 * sigma * noise / 2 + correct * sigma * torch.randn_like(x)
    return x


@torch.no_grad()
def flow_sde(net, steps=30):  # ancestral, by hand: diffusers has no SDE for it with these times
    torch.manual_seed(1)
    x, times = torch.randn(300, 2), torch.linspace(1, 0, steps + 1)
    for t, s in itertools.pairwise(times):
        velocity = net(x, 1000 * t)
        noise, clean = x + (1 - t) * velocity, x - t * velocity
        fresh = s * (1 - ((1 - t) * s / ((1 - s) * t).clamp(min=1e-9)) ** 2).clamp(min=0).sqrt() if s > 0 else s
        x = (1 - s) * clean + (s**2 - fresh**2).clamp(min=0).sqrt() * noise + fresh * torch.randn_like(x)
    return x


def linear(t):
    return 1 - t, t


def vp(t):  # between the steps of the table
    place = (1000 * t).clamp(0, 999)
    low = place.floor().long().clamp(max=998)
    log = torch.lerp(table[low], table[low + 1], place - low)
    return (log / 2).exp(), (-torch.expm1(log)).sqrt()


def log_prob(net, levels, first, last, steps=200):
    def flow(row, t):
        if levels is linear:
            return net(row[None], 1000 * t)[0]
        (alpha, sigma), step = levels(t), 1e-3
        ahead, behind = levels(t + step), levels(t - step)
        d_alpha, d_sigma = ((a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True))
        noise = net(row[None], 1000 * t)[0]
        return d_alpha * (row - sigma * noise) / alpha + d_sigma * noise

    def slope(x, t):
        jacobian = torch.func.vmap(torch.func.jacrev(flow), (0, None))(x, t)
        return torch.func.vmap(flow, (0, None))(x, t), jacobian.diagonal(dim1=1, dim2=2).sum(1)

    x, change, times = held_out, torch.zeros(len(held_out)), torch.linspace(first, last, steps + 1)
    for t, s in itertools.pairwise(times):
        velocity, divergence = slope(x, t)
        ahead, further = slope(x + (s - t) * velocity, s)
        x, change = x + (s - t) * (velocity + ahead) / 2, change + (s - t) * (divergence + further) / 2
    return ((torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1) + change).mean() - np.log(scale).sum()).item()


points = moons(4000, 0)
centre, scale = points.mean(0), points.std(0)
data = torch.tensor((points - centre) / scale, dtype=torch.float32)
held_out = torch.tensor((moons(64, 1) - centre) / scale, dtype=torch.float32)
ddpm = DDPMScheduler(clip_sample=False, timestep_spacing="trailing")
table = ddpm.alphas_cumprod.log()
ddim = DDIMScheduler.from_config(ddpm.config)
flow = FlowMatchEulerDiscreteScheduler()
flow_net, ddpm_net = train(flow_loss), train(ddpm_loss)
samples = {
    "flow matching, ODE": run(flow_net, flow),
    "flow matching, SDE": flow_sde(flow_net),
    "flow matching, PC": run(flow_net, flow, correct=0.1, levels=linear),
    "DDPM, ODE": run(ddpm_net, ddim),
    "DDPM, SDE": run(ddpm_net, ddpm),
    "DDPM, PC": run(ddpm_net, ddim, correct=0.1, levels=vp),
}
samples = {name: x.numpy() * scale + centre for name, x in samples.items()}
nats = {"flow matching": log_prob(flow_net, linear, 0.0, 1.0), "DDPM": log_prob(ddpm_net, vp, 2e-3, 0.997)}
figure(samples, nats, "moons.png")

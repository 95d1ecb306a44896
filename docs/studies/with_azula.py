import itertools

import numpy as np
import torch
from azula.denoise import KarrasDenoiser
from azula.noise import CosineSchedule, RectifiedSchedule
from azula.sample import DDIMSampler, DDPMSampler, PCSampler
from moons import figure, moons
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Linear(2 + 16, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(128, 2))

    def forward(self, x, t):
        features = t.expand(len(x))[:, None] * torch.arange(1, 9) / 4
        return self.body(torch.cat([x, features.sin(), features.cos()], 1))


def log_prob(denoiser, x, scale, steps=100):  # dx/dt = f x - g²/2 score, and its divergence, by Heun
    def slope(x, t):
        t = t.clone().requires_grad_()
        alpha, sigma = denoiser.schedule(t)
        d_alpha, d_sigma = (torch.autograd.grad(v, t, retain_graph=True)[0] for v in (alpha, sigma))

        def flow(x):
            mean = denoiser(x[None], t).mean[0]
            return d_alpha * mean + d_sigma * (x - alpha * mean) / sigma

        velocity, jacobian = torch.func.vmap(flow)(x), torch.func.vmap(torch.func.jacrev(flow))(x)
        return velocity.detach(), jacobian.diagonal(dim1=1, dim2=2).sum(1).detach()

    change, times = torch.zeros(len(x)), torch.linspace(1e-3, 1, steps + 1)
    for t, s in itertools.pairwise(times):
        velocity, divergence = slope(x, t)
        ahead, further = slope(x + (s - t) * velocity, s)
        x, change = x + (s - t) * (velocity + ahead) / 2, change + (s - t) * (divergence + further) / 2
    alpha, sigma = denoiser.schedule(torch.ones(()))
    prior = torch.distributions.Normal(0.0, (alpha**2 + sigma**2).sqrt())
    return (prior.log_prob(x).sum(1) + change).mean() - np.log(scale).sum()


points = moons(4000, 0)
centre, scale = points.mean(0), points.std(0)
data = torch.tensor((points - centre) / scale, dtype=torch.float32)
held_out = torch.tensor((moons(64, 1) - centre) / scale, dtype=torch.float32)
samplers = {"ODE": DDIMSampler, "SDE": DDPMSampler, "PC": PCSampler}
samples, nats = {}, {}
for name, schedule in {"flow matching": RectifiedSchedule(), "DDPM": CosineSchedule()}.items():
    torch.manual_seed(0)
    denoiser = KarrasDenoiser(Net(), schedule)
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        loss = denoiser.loss(data[torch.randint(len(data), (256,))], torch.rand(256))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        decay.step()
    denoiser.eval().requires_grad_(False)
    for kind, sampler in samplers.items():
        made = sampler(denoiser, steps=30, silent=True)
        samples[f"{name}, {kind}"] = made(made.init((300, 2))).numpy() * scale + centre
    nats[name] = log_prob(denoiser, held_out, scale).item()
figure(samples, nats, "moons.png")

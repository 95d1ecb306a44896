"""Sampling, guidance, editing, likelihood, tuning and metrics: a GPU gives what the CPU gives, in float32, within rounding."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import (
    NetworkDenoiser,
    editing,
    encode,
    exact,
    guidance,
    likelihood,
    metrics,
    networks,
    path,
    sample,
    sde,
    solvers,
    target,
    tilting,
    trajectory,
    tuning,
)
from ornstein.editing import Measurement, operators
from ornstein.noise import BrownianNoise, PerSampleNoise
from ornstein.preconditioning import UnitVariance

MEANS = [[-1.0, 0.5], [1.2, 0.3], [0.2, -1.0]]
SHAPE = (1, 8, 8)
P = path.Linear()
Device = torch.device


def normals(count: int, shape: tuple[int, ...], device: Device, first: int = 0) -> Tensor:
    """Rows that are the same on every device."""
    return PerSampleNoise(7, first)(torch.zeros(count, *shape, device=device), 1.0, 1.0)


def mixture(p: path.Path, device: Device) -> exact.GaussianMixture:
    return exact.GaussianMixture(torch.ones(3, device=device) / 3, torch.tensor(MEANS, device=device), 0.1, p)


@pytest.fixture
def network_on(unet: networks.UNet) -> Callable[..., NetworkDenoiser]:
    """The U-Net as a denoiser on a device, told classes where there are any."""

    def on(device: Device, classes: Tensor | None = None) -> NetworkDenoiser:
        network = networks.placed(unet, device)
        return NetworkDenoiser(network, P, target.Velocity(), UnitVariance(0.5), classes)

    return on


@pytest.mark.parametrize("p", path.ALL, ids=lambda p: str(p)[:40])
def test_paths_and_targets(place, p):
    """Every path at times and points of the device; every target's matrix there."""

    def work(device):
        t = torch.linspace(0.1, 0.9, 9, device=device)
        x = normals(9, (2,), device)
        point = p.at(t, x)
        entries = [*point, p.drift(t), p.diffusion(t), *p.transition(t / 2, t), *p.posterior(t / 2, t)]
        entries += [p.log_snr(t), p.time(p.log_snr(t))]
        for q in target.ALL:
            entries += [*q(point)]
        return torch.cat([e.expand(9, 1) if not e.ndim else e.reshape(9, -1) for e in entries], 1).float()

    place.compare(work, atol=1e-3, rtol=1e-3)


def runnable(solver: Any) -> bool:
    return not isinstance(solver, solvers.AdaptiveODE) or find_spec("torchdiffeq") is not None


EVERY = [s for s in (*solvers.ALL, *solvers.LOOPS, solvers.Langevin(0.3)) if runnable(s)]


@pytest.mark.parametrize("solver", EVERY, ids=str)
def test_every_solver(place, solver):
    """Exact denoisers, so that only the solver's own arithmetic differs; noise by sample, drawn alike everywhere."""
    adaptive = isinstance(solver, (solvers.AdaptiveODE, solvers.AdaptiveSDE))
    if adaptive:
        solver = type(solver)(1e-1, 1e-1) if place.small else solver
    noise = PerSampleNoise(3)

    def work(device):
        return sample(mixture(P, device), start=normals(16, (2,), device), solver=solver, steps=6, noise=noise)

    place.compare(work, atol=2e-2 if adaptive else 1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "solver",
    [None, solvers.DDIM(1.0), solvers.Heun(), solvers.Ancestral(), solvers.ERSDE(), solvers.PredictorCorrector()],
    ids=str,
)
def test_networks_and_samples_alone(place, network_on, solver):
    """A U-Net and its samples: as on the CPU, and sample i the same alone and in a batch, within the network's rounding."""
    steps, last = place.size(3, 10), 3

    def work(device, first=0, count=4):
        classes = torch.arange(first, first + count, device=device) % 3
        start = normals(count, SHAPE, device, first)
        made = sample(
            network_on(device, classes), start=start, solver=solver, steps=steps, noise=PerSampleNoise(3, first)
        )
        return made

    together, _ = place.compare(work, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(work(place.device, last, 1)[0], together[last], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_types(place, dtype):
    """float64 on a GPU, and half precision: samples stay in the type and on the device of the start."""
    made = sample(mixture(P, place.device), start=normals(8, (2,), place.device).to(dtype), steps=5)
    assert made.dtype == dtype
    assert made.device.type == place.device.type
    there = sample(mixture(P, torch.device("cpu")), start=normals(8, (2,), torch.device("cpu")), steps=5)
    atol = 1e-4 if dtype == torch.float64 else 0.1
    torch.testing.assert_close(made.cpu().double(), there.double(), atol=atol, rtol=0)


@pytest.mark.parametrize("noise", [PerSampleNoise(5), BrownianNoise(5)], ids=lambda n: type(n).__name__)
def test_noise_is_the_same_to_the_bit(place, noise):
    def work(device):
        x = torch.zeros(4, *SHAPE, device=device)
        each = torch.linspace(0.2, 0.8, 4, device=device)
        return torch.stack([noise(x, 0.7, 0.5), noise(x, each, each / 2)])

    here, there = place.compare(work)
    assert torch.equal(here.cpu(), there)


def test_trajectories_and_the_way_back(place, network_on):
    def work(device):
        x = normals(4, SHAPE, device)
        steps = list(trajectory(network_on(device), x, steps=4))
        back = encode(network_on(device), x, solver=solvers.DDIM(), steps=4)
        return torch.stack([*(step.x for step in steps), *(step.estimate.clean for step in steps), back])

    place.compare(work, atol=1e-3, rtol=1e-3)


def test_stochastic_differential_equations(place):
    def work(device):
        model, x, times = mixture(P, device), normals(8, (2,), device), torch.linspace(0.9, 0.1, 6)
        made = [sde.simulate(of, x, times) for of in (sde.reverse(model), sde.probability_flow(model))]
        made.append(sde.simulate(sde.forward(P), x, times.flip(0)))
        return torch.stack(made)

    place.compare(work, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("method", guidance.CONTRASTS, ids=lambda m: m.__name__)
@pytest.mark.parametrize("options", [{}, {"levels": (0.1, 2.0), "rescale": 0.5}], ids=["plain", "interval, rescaled"])
def test_guidance_by_contrast(place, network_on, method, options):
    place.only_if(bool(options))

    def work(device):
        classes = torch.arange(4, device=device) % 3
        guided = guidance.GuidanceConfig(2.5, method, **options)(network_on(device), classes)
        return sample(guided, start=normals(4, SHAPE, device), steps=4)

    place.compare(work, atol=2e-3, rtol=2e-3)


def energies(device: Device) -> list[Any]:
    model = mixture(P, device)
    return [
        guidance.Classifier(model, lambda x, t: -(x - 1).square().sum(1), 2.0),
        guidance.Energy(model, lambda x: x.square().sum(1), 0.3),
        guidance.Clip(model, -1.0, 1.0),
        guidance.DynamicThreshold(model, 0.7, 0.5),
    ]


@pytest.mark.parametrize("i", range(4), ids=["Classifier", "Energy", "Clip", "DynamicThreshold"])
def test_guidance_by_gradients_and_bounds(place, i):
    place.compare(lambda device: sample(energies(device)[i], start=normals(8, (2,), device), steps=5), atol=1e-3)


EDITS: dict[str, Callable[[NetworkDenoiser, Tensor, Tensor], Tensor]] = {
    "sdedit": lambda model, x, kept: editing.sdedit(model, x, 0.6, steps=4),
    "inpaint": lambda model, x, kept: editing.inpaint(model, x, kept, steps=4),
    "repaint": lambda model, x, kept: editing.inpaint(model, x, kept, solver=editing.RePaint(2, 1), steps=4),
    "interpolate": lambda model, x, kept: editing.interpolate(model, x[:1], x[1:2], 3, steps=4),
    "reconstruct": lambda model, x, kept: editing.reconstruct(model, x, steps=4),
}


@pytest.mark.parametrize("name", EDITS)
def test_editing(place, network_on, name):
    def work(device):
        kept = torch.zeros(SHAPE, device=device)
        kept[..., :4] = 1
        return EDITS[name](network_on(device), normals(2, SHAPE, device).clamp(-1, 1), kept)

    place.compare(work, atol=2e-3, rtol=2e-3)


OPERATORS: dict[str, Callable[[Device], Any]] = {
    "blur": lambda device: operators.Blur(1.0),
    "downsample": lambda device: operators.Downsample(2),
    "mask": lambda device: operators.Mask((torch.arange(64, device=device).reshape(SHAPE) % 2).float()),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "method", [editing.DPS, editing.PiGDM, editing.MMPS, editing.DiffPIR], ids=lambda m: m.__name__
)
def test_restoring(place, network_on, method, operator):
    place.only_if(operator == "blur" or method is editing.DPS)

    def work(device):
        degrade = OPERATORS[operator](device)
        measured = Measurement(degrade, degrade(normals(2, SHAPE, device)), 0.1)
        return sample(method(network_on(device), measured), start=normals(2, SHAPE, device, 2), steps=3)

    place.compare(work, atol=1e-2, rtol=1e-2)


def vectors(alive: Callable[[Any], Any], device: Device) -> NetworkDenoiser:
    torch.manual_seed(0)
    return NetworkDenoiser(
        alive(networks.MLP(2, width=32, depth=2)).to(device), P, target.Velocity(), UnitVariance(1.0)
    )


@pytest.mark.parametrize("trace", likelihood.TRACES, ids=str)
def test_likelihood_by_the_ode(place, alive, trace):
    def work(device):
        model, x = vectors(alive, device), normals(6, (2,), device)
        return likelihood.log_prob(model, x, trace=trace, solver=likelihood.FixedSteps(place.size(6, 24)))

    place.compare(work, atol=1e-2, rtol=1e-3)


@pytest.mark.skipif(find_spec("torchdiffeq") is None, reason="needs torchdiffeq")
def test_likelihood_by_the_adaptive_ode(place):
    def work(device):
        return likelihood.log_prob(mixture(P, device), normals(6, (2,), device), solver=likelihood.Adaptive(1e-3, 1e-3))

    place.compare(work, atol=5e-2, rtol=1e-2)


CASES = {
    "densities, ode": (likelihood.ODE(solver=likelihood.FixedSteps(6)), False),
    "whole numbers, ode": (likelihood.ODE(dequantisation=likelihood.Uniform(), solver=likelihood.FixedSteps(6)), True),
    "whole numbers, truncated": (likelihood.ODE(solver=likelihood.FixedSteps(6)), True),
    "densities, elbo": (likelihood.ELBO(8), False),
    "whole numbers, elbo": (likelihood.ELBO(8), True),
    "densities, discrete bound": (likelihood.DiscreteBound(8), False),
    "whole numbers, discrete bound": (likelihood.DiscreteBound(8), True),
}


@pytest.mark.parametrize(("method", "whole"), CASES.values(), ids=CASES)
def test_likelihood_in_the_units_of_the_data(place, network_on, method, whole):
    place.only_if(not isinstance(method, likelihood.ODE) or (method.dequantisation is None) == whole)

    def work(device):
        width = torch.full(SHAPE, 2 / 255, device=device) if whole else None
        units = likelihood.Units(width, 1.0, -1.0, 1.0)
        x = normals(3, SHAPE, device).clamp(-1, 1)
        x = ((x * 127.5).round() / 127.5) if whole else x
        model = network_on(device)
        model.network.to(memory_format=torch.contiguous_format)  # as `Run.likelihood` does
        return method(model, x, units, PerSampleNoise(2), check=False).nats

    place.compare(work, atol=0.5, rtol=2e-3)


def test_dequantisation_is_fitted(place, alive):
    """It learns on the device: its loss there is that of the CPU."""

    def work(device):
        model, width = vectors(alive, device), torch.full((2,), 0.25, device=device)
        batches = ((model, normals(8, (2,), device, 8 * i)) for i in range(3))
        found = likelihood.fit_dequantisation(batches, width, 0.01, 3)
        return found(normals(4, (2,), device), width, PerSampleNoise(1))[1]

    place.compare(work, atol=1e-2, rtol=1e-2)


def test_tuning(place, alive):
    """Fitting magnifies rounding: the held-out error of the table is compared, and samples of one table made on both."""
    found = {}

    def work(device):
        count = place.size(12, 96)
        tuned = tuning.fit(
            vectors(alive, device), (2,), 3, starts=count, held_out=count, batch_size=count,
            iterations=place.size(2, 12), teacher=place.size(8, 40), device=device,
        )  # fmt: skip
        found[device.type] = tuned
        assert tuned.error <= tuned.untuned
        return torch.tensor([tuned.untuned], device=device)

    place.compare(work, atol=1e-5, rtol=1e-2)
    here, there = found[place.device.type], found["cpu"]
    assert here.error < 1.2 * there.error + 1e-5
    place.compare(lambda d: sample(vectors(alive, d), start=normals(8, (2,), d), solver=there, steps=3), atol=1e-3)
    assert tuning.effort(vectors(alive, place.device), (2,), 3, 5.0, device=place.device).starts > 0


def test_steering_by_rewards(place):
    def work(device):
        tilted = tilting.tilt(
            mixture(P, device), lambda x: -(x - 1).square().sum(1), start=normals(32, (2,), device), steps=6
        )
        return tilted.x.mean(0)

    place.compare(work, atol=5e-2, rtol=5e-2)


def test_features_are_extracted_where_the_network_is(place, network_on):
    """Items come from the CPU and features go there; the network is where it was put."""

    def work(device):
        model = network_on(device)
        extractor = metrics.Network("unet", model.network, lambda x: model(x, 0.5).clean)
        features = extractor(normals(4, SHAPE, torch.device("cpu")))
        assert features.device.type == "cpu"
        return features.to(device)

    place.compare(work, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "name", ["mmd", "sliced_wasserstein", "frechet", "kid", "density_coverage", "precision_recall"]
)
def test_metrics_take_samples_of_the_device(place, name):
    """Measured where the samples are, or on the CPU: the number is the same."""
    measure = getattr(metrics, name)

    def work(device):
        value = measure(normals(128, (2,), device), normals(128, (2,), device, 128))
        scores = value if isinstance(value, tuple) else (value,)
        return torch.tensor([score.value for score in scores], device=device)

    place.compare(work, atol=1e-4, rtol=1e-3)

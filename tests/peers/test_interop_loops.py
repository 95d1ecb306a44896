"""Networks of other libraries with random weights, wrapped: ten steps are those of each library's own loop, to 1e-5 relative.

Each is skipped where its library is not installed. What they ask for beyond that is more than a loop needs:
`pip install --no-deps k-diffusion torchsde trampoline boltons azula jaxtyping wadler_lindig denoising-diffusion-pytorch einops
ema-pytorch accelerate torchcfm POT torchdyn torchcde pytorch-lightning flow_matching`, then attrs, scikit-learn, scipy,
torchdiffeq and tqdm.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein import chart, interop, sample, solvers
from ornstein.denoiser import Denoiser
from ornstein.solvers import Solver

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
STEPS, ROWS, SIDE = 10, 3, 8


def agree(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 0.05
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def solved(denoiser: Denoiser, x: Tensor, solver: Solver, times: Tensor) -> Tensor:
    with torch.inference_mode():
        return sample(denoiser, start=x, solver=solver, grid=times)


class Net(nn.Module):
    """network(x, t): convolutions, with the time in their middle."""

    def __init__(self, channels: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.time = nn.Conv2d(channels, 16, 3, padding=1), nn.Linear(1, 16)
        self.last, self.scale = nn.Conv2d(16, channels, 3, padding=1), scale
        self.channels = self.out_dim = channels

    def forward(self, x: Tensor, t: Tensor, *_: Any, **__: Any) -> Tensor:
        at = torch.log1p(t.abs().reshape(-1, 1).to(x.dtype)).expand(len(x), 1)
        return self.scale * self.last(torch.tanh(self.first(x) + self.time(at)[..., None, None]))


def images(scale: float = 1.0) -> Tensor:
    return scale * torch.randn(ROWS, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def k_diffusion() -> ModuleType:
    """Its modules of samplers and of wrappers, without the package, which imports everything at once."""
    for name in ("torchsde", "torchdiffeq", "scipy", "tqdm"):
        pytest.importorskip(name, reason="needed by k-diffusion's samplers")
    there = importlib.util.find_spec("k_diffusion")
    if there is None or there.origin is None:
        pytest.skip("k-diffusion is not installed")
    package, utils = ModuleType("k_diffusion_loops"), ModuleType("k_diffusion_loops.utils")
    package.__path__ = [str(Path(there.origin).parent)]
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, utils.__name__: utils})
    package.utils = utils  # type: ignore[attr-defined]
    for name in ("sampling", "external"):
        setattr(package, name, importlib.import_module(f"k_diffusion_loops.{name}"))
    return package


@pytest.mark.parametrize(
    ("sampler", "solver"),
    [
        ("sample_euler", solvers.DDIM()),
        ("sample_heun", solvers.Heun(chart.Scaled())),
        ("sample_dpmpp_2m", solvers.DPMSolverPP(2)),
    ],
    ids=["euler", "heun", "dpmpp_2m"],
)
@pytest.mark.parametrize("kind", ["VDenoiser", "DiscreteEpsDDPMDenoiser"])
def test_k_diffusion(k_diffusion: Any, kind: str, sampler: str, solver: Solver) -> None:
    if kind == "VDenoiser":
        model = k_diffusion.external.VDenoiser(Net())
    else:
        alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)
        model = k_diffusion.external.DiscreteEpsDDPMDenoiser(Net(), alphas, quantize=False)
    sigmas = torch.cat([torch.logspace(1.1, -1.3, STEPS), torch.zeros(1)])
    x = images(float(sigmas[0]))
    with torch.inference_mode():
        theirs = getattr(k_diffusion.sampling, sampler)(model, x, sigmas, disable=True)
    wrapped = interop.k_diffusion.denoiser(model)
    times = torch.stack([interop.convention.time_of_noise(wrapped.path, s) for s in sigmas.double()])
    agree(solved(wrapped, x, solver, times), theirs)


def test_torchcfm() -> None:
    models = pytest.importorskip("torchcfm.models.models", reason="torchcfm is not installed")
    dynamics = pytest.importorskip("torchdyn.core", reason="torchcfm integrates by torchdyn")
    wrapper = pytest.importorskip("torchcfm.utils", reason="torchcfm's helpers need scikit-learn").torch_wrapper
    torch.manual_seed(0)
    net = models.MLP(dim=2, w=32, time_varying=True)
    x = torch.randn(ROWS, 2)
    span = torch.linspace(0, 1, STEPS + 1)
    node = dynamics.NeuralODE(wrapper(net), solver="euler", sensitivity="adjoint")
    with torch.no_grad():
        theirs = node.trajectory(x, t_span=span)[-1]

    def network(t: Tensor, x: Tensor) -> Tensor:  # its own networks take one input of both
        return net(torch.cat([x, t[:, None]], 1))  # type: ignore[no-any-return]

    agree(solved(interop.wrap(network, interop.flows.torchcfm()), x, solvers.Euler(), 1 - span.double()), theirs)


@pytest.mark.parametrize(("method", "solver"), [("euler", solvers.Euler()), ("midpoint", solvers.midpoint())])
def test_flow_matching(method: str, solver: Solver) -> None:
    theirs = pytest.importorskip("flow_matching.solver", reason="flow_matching is not installed")
    wrappers = importlib.import_module("flow_matching.utils")
    net = Net()

    class Velocity(wrappers.ModelWrapper):  # type: ignore[name-defined,misc]
        def forward(self, x: Tensor, t: Tensor, **_: Any) -> Tensor:
            return self.model(x, t.expand(len(x)))  # type: ignore[no-any-return]

    x, span = images(), torch.linspace(0, 1, STEPS + 1)
    ends = theirs.ODESolver(velocity_model=Velocity(net)).sample(
        x_init=x, step_size=None, method=method, time_grid=span
    )
    agree(solved(interop.wrap(net, interop.flows.flow_matching()), x, solver, 1 - span.double()), ends)


@pytest.mark.parametrize("schedule", ["VPSchedule", "VESchedule", "CosineSchedule", "RectifiedSchedule"])
@pytest.mark.parametrize("kind", ["KarrasDenoiser", "SimpleDenoiser"])
def test_azula(schedule: str, kind: str) -> None:
    theirs = pytest.importorskip("azula.sample", reason="azula is not installed")
    denoise, noise = (importlib.import_module(f"azula.{name}") for name in ("denoise", "noise"))
    module = getattr(denoise, kind)(Net(), getattr(noise, schedule)())
    sampler = theirs.DDIMSampler(module, eta=0.0, steps=STEPS, silent=True)
    x = images(float(module.schedule(torch.tensor(1.0))[1]))
    with torch.inference_mode():
        ends = sampler(x)
    wrapped, times = interop.azula.denoiser(module), sampler.timesteps.double()
    assert times[-1] == 0
    last = solved(wrapped, x, solvers.DDIM(), times)
    agree(last, ends)


@pytest.mark.parametrize("objective", ["pred_v", "pred_noise", "pred_x0"])
@pytest.mark.parametrize("schedule", ["sigmoid", "linear", "cosine"])
def test_denoising_diffusion_pytorch(objective: str, schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("denoising_diffusion_pytorch") is None:
        pytest.skip("denoising-diffusion-pytorch is not installed")
    if importlib.util.find_spec("torchvision") is None:  # which its loaders of images take, and no loop
        empty = ModuleType("torchvision")
        empty.transforms = empty.utils = empty.datasets = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torchvision", empty)
    there = importlib.util.find_spec("denoising_diffusion_pytorch")
    assert there is not None
    assert there.origin is not None
    package = ModuleType("lucidrains_loops")  # the one module, without the package, which imports all of its trainers
    package.__path__ = [str(Path(there.origin).parent)]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    module = importlib.import_module("lucidrains_loops.denoising_diffusion_pytorch")
    network = Net(scale=1.0 if objective == "pred_x0" else 0.2)
    network.self_condition = network.random_or_learned_sinusoidal_cond = False  # type: ignore[assignment]
    diffusion = module.GaussianDiffusion(
        network, image_size=SIDE, timesteps=1000, sampling_timesteps=STEPS, objective=objective, beta_schedule=schedule
    )
    # its loop holds estimates of the data to [-1, 1]: no solver here does, so they are left as they are in both
    own = diffusion.model_predictions
    monkeypatch.setattr(diffusion, "model_predictions", lambda x, t, c=None, **_: own(x, t, c))
    x = images(0.5)
    monkeypatch.setattr(module.torch, "randn", lambda *_, **__: x)
    with torch.inference_mode():
        theirs = 2 * diffusion.ddim_sample((ROWS, 1, SIDE, SIDE)) - 1
    monkeypatch.undo()
    steps = torch.tensor(sorted(torch.linspace(-1, 999, STEPS + 1).int().tolist(), reverse=True), dtype=torch.float64)
    agree(solved(interop.lucidrains.denoiser(diffusion), x, solvers.DDIM(), (steps + 1) / 1000), theirs)

"""Other libraries' samplers behind one call: their own code, given the exact denoiser and a grid of noise levels σ/α.

A `Peer` runs from x = START·noise in the variables x/α along decreasing ratios that end at 0. Libraries that are not installed
are left out with a sentence. Where two libraries have the same sampler (tests/peers shows which are equal step by step) it runs
once: k-diffusion's dpmpp_2m is diffusers' DPM-Solver++(2M) at full order, its euler is DDIM, its heun is diffusers' Heun, and
azula's zAB is lms.
"""

import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.problems import PATH, START, Problem
from ornstein import grid

Run = Callable[[Problem, Tensor], Tensor]
SMALLEST = 1e-3  # the last σ/α of samplers that cannot step to 0


@dataclass(frozen=True)
class Peer:
    """A sampler of another library: how many steps it makes of a number of network calls, and its run."""

    library: str
    name: str
    run: Run
    steps: Callable[[int], int] = lambda calls: calls


def _halves(calls: int) -> int:
    """Two calls a step, one for the last."""
    return (calls + 1) // 2


def _pairs(calls: int) -> int:
    """Two calls a step."""
    return calls // 2


def _ended(ratios: Tensor, last: float) -> Tensor:
    return torch.cat([ratios[:-1], torch.tensor([last], dtype=ratios.dtype)])


# --- grids -----------------------------------------------------------------------------------------------------------


def _ratios(times: Tensor) -> Tensor:
    return torch.cat([torch.tensor([START], dtype=torch.float64), (PATH.sigma(times[1:]) / PATH.alpha(times[1:]))])


def _karras(steps: int, low: float, high: float, rho: float) -> Tensor:
    """Karras et al. 2022 from `high` to `low` and to 0; where `high` is below the start, the start is one more level."""
    extra = high < START
    first, last = high ** (1 / rho), low ** (1 / rho)
    inner = torch.linspace(first, last, max(steps - extra, 1), dtype=torch.float64) ** rho
    return torch.cat([torch.tensor([START] * extra, dtype=torch.float64), inner, torch.zeros(1, dtype=torch.float64)])


def _log(steps: int, low: float, high: float = START) -> Tensor:
    """Even in log(σ/α): diffusers' exponential sigmas and "lu lambdas", DPM-Solver's log-SNR spacing."""
    extra = high < START
    inner = torch.logspace(math.log10(high), math.log10(low), max(steps - extra, 1), dtype=torch.float64)
    return torch.cat([torch.tensor([START] * extra, dtype=torch.float64), inner, torch.zeros(1, dtype=torch.float64)])


def _flow(steps: int, shift: float) -> Tensor:
    """Even in the time of flow matching, shifted as by Stable Diffusion 3; begins at the start."""
    s = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[1:]
    return torch.cat([torch.tensor([START], dtype=torch.float64), shift * s / (1 - s)])


def _angle(steps: int) -> Tensor:
    """Even in arctan(σ/α): the cosine schedule."""
    u = torch.linspace(math.atan(START), 0, steps + 1, dtype=torch.float64)
    return torch.tan(u)


def _beta(steps: int) -> Tensor:
    """Quantiles of Beta(0.6, 0.6) as times of the path: diffusers' beta sigmas."""
    from scipy.stats import beta

    return _ratios(torch.tensor(beta.ppf(torch.linspace(1, 0, steps + 1).numpy(), 0.6, 0.6), dtype=torch.float64))


GRIDS: dict[str, Callable[[int], Tensor]] = {
    "even in time (linspace, trailing)": lambda n: _ratios(torch.linspace(1, 0, n + 1, dtype=torch.float64)),
    "beta(0.6, 0.6)": _beta,
    "Karras 0.002": lambda n: _karras(n, 0.002, START, 7.0),
    "Karras 0.01": lambda n: _karras(n, 0.01, START, 7.0),
    "Karras 0.03": lambda n: _karras(n, 0.03, START, 7.0),
    "Karras 0.1": lambda n: _karras(n, 0.1, START, 7.0),
    "Karras 0.02 to 20": lambda n: _karras(n, 0.02, 20.0, 7.0),
    "Karras 0.05 to 10": lambda n: _karras(n, 0.05, 10.0, 7.0),
    "log-SNR 0.002": lambda n: _log(n, 0.002),
    "log-SNR 0.01": lambda n: _log(n, 0.01),
    "log-SNR 0.03 to 30": lambda n: _log(n, 0.03, 30.0),
    "log-SNR 0.05 to 10": lambda n: _log(n, 0.05, 10.0),
    "flow": lambda n: _flow(n, 1.0),
    "flow, shift 3": lambda n: _flow(n, 3.0),
    "cosine": _angle,
}
OURS: dict[str, Callable[[int], Tensor]] = {
    "ornstein's polynomial": lambda n: _ratios(grid.polynomial(PATH, n)),
    "ornstein's two_ended": lambda n: _ratios(grid.two_ended(PATH, n)),
}


# --- diffusers -------------------------------------------------------------------------------------------------------


def _diffusers_scheduler(cls: Any, **options: Any) -> Run:
    """A multistep scheduler on any levels: its `sigmas` are the grid, and the model is asked at exactly those."""
    last = options.pop("last", 0.0)

    def run(problem: Problem, ratios: Tensor) -> Tensor:
        ratios = _ended(ratios, last)
        scheduler = cls(prediction_type="sample", **options)
        scheduler.set_timesteps(len(ratios) - 1)
        scheduler.sigmas = ratios
        scheduler.timesteps = torch.arange(len(ratios) - 1, 0, -1)
        scheduler.set_begin_index(0)
        x = problem.noise * START / math.sqrt(1 + START**2)
        for ratio, t in zip(ratios.tolist(), scheduler.timesteps, strict=False):
            clean = problem.clean(x * math.sqrt(1 + ratio**2), ratio)
            x = scheduler.step(clean, t, x, return_dict=False)[0]
        return x

    return run


def diffusers() -> Iterator[Peer]:
    import diffusers as d

    d.logging.set_verbosity_error()
    multistep, unipc, deis = d.DPMSolverMultistepScheduler, d.UniPCMultistepScheduler, d.DEISMultistepScheduler
    yield Peer("diffusers", "DDIM", _diffusers_scheduler(multistep, solver_order=1))
    for order in (2, 3):
        name = f"DPM-Solver++({order}M)"
        yield Peer("diffusers", name, _diffusers_scheduler(multistep, solver_order=order))
        full = _diffusers_scheduler(multistep, solver_order=order, lower_order_final=False)
        yield Peer("diffusers", f"{name}, full order to the end", full)
        yield Peer("diffusers", f"DEIS {order}", _diffusers_scheduler(deis, solver_order=order, last=SMALLEST))
        for kind, last in (("bh1", SMALLEST), ("bh2", 0.0)):
            run = _diffusers_scheduler(unipc, solver_order=order, solver_type=kind, last=last)
            yield Peer("diffusers", f"UniPC {order} {kind}", run)
    yield Peer("diffusers", "DPM-Solver++(2M), heun", _diffusers_scheduler(multistep, solver_type="heun"))
    options = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min", "last": SMALLEST}
    yield Peer("diffusers", "DPM-Solver(2M)", _diffusers_scheduler(multistep, **options))


# --- k-diffusion -----------------------------------------------------------------------------------------------------


def k_samplers() -> Any:
    """k_diffusion.sampling by itself: its package imports training code that a sampler does not need."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or found.origin is None:
        raise ImportError("k_diffusion")
    package, utils = ModuleType("k_diffusion_samplers"), ModuleType("k_diffusion_samplers.utils")
    package.__path__ = [str(File(found.origin).parent)]
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    package.utils = utils  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, utils.__name__: utils})
    return importlib.import_module("k_diffusion_samplers.sampling")


def _k(sampler: Any, **options: Any) -> Run:
    def run(problem: Problem, ratios: Tensor) -> Tensor:
        return sampler(
            lambda x, sigma: problem.clean(x, float(sigma.flatten()[0])),
            problem.noise * START,
            ratios,
            disable=True,
            **options,
        )

    return run


def k_diffusion() -> Iterator[Peer]:
    k = k_samplers()
    yield Peer("k-diffusion", "dpmpp_3m_sde, eta 0", _k(k.sample_dpmpp_3m_sde, eta=0.0, noise_sampler=lambda *_: 0.0))
    yield Peer("k-diffusion", "heun", _k(k.sample_heun), _halves)
    yield Peer("k-diffusion", "dpm_2", _k(k.sample_dpm_2), _halves)
    yield Peer("k-diffusion", "dpmpp_2s, eta 0", _k(k.sample_dpmpp_2s_ancestral, eta=0.0), _halves)
    for order in (3, 4):
        yield Peer("k-diffusion", f"lms {order}", _k(k.sample_lms, order=order))


# --- azula -----------------------------------------------------------------------------------------------------------


def _azula(base: Any, order: int, last: float = 0.0) -> Run:
    from azula.denoise import DiracPosterior

    class Exact(torch.nn.Module):
        """Time is σ/α, on α = 1, σ = t."""

        def __init__(self, problem: Problem) -> None:
            super().__init__()
            self.problem = problem

        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.ones_like(t), t

        def forward(self, x: Tensor, t: Tensor) -> Any:
            return DiracPosterior(mean=self.problem.clean(x, float(t)))

    class OnGrid(base):  # type: ignore[misc]
        timesteps = None

    def run(problem: Problem, ratios: Tensor) -> Tensor:
        sampler = OnGrid(Exact(problem), order=order, silent=True)
        OnGrid.timesteps = _ended(ratios, last)
        return sampler(problem.noise * START)

    return run


def azula() -> Iterator[Peer]:
    from azula import sample

    for order in (2, 3, 4):
        yield Peer("azula", f"vAB {order}", _azula(sample.vABSampler, order))
    for order in (2, 3):
        yield Peer("azula", f"REAB {order}", _azula(sample.REABSampler, order, SMALLEST))
    yield Peer("azula", "zEAB 2", _azula(sample.zEABSampler, 2, SMALLEST))


# --- flow_matching ---------------------------------------------------------------------------------------------------


def _flow_matching(method: str) -> Run:
    from flow_matching.solver import ODESolver

    def run(problem: Problem, ratios: Tensor) -> Tensor:
        """Its time τ = 1 − s runs from noise to data on x = s·noise + (1 − s)·data."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            s = 1 - float(t)
            if s < 1e-12:
                return x  # not reached by methods that stay inside their steps
            clean = problem.clean(x / (1 - s), s / (1 - s))
            return (clean - x) / s

        s = ratios / (1 + ratios)
        return ODESolver(velocity_model=velocity).sample(
            x_init=problem.noise * s[0], time_grid=1 - s, method=method, step_size=None
        )

    return run


def flow_matching() -> Iterator[Peer]:
    yield Peer("flow_matching", "euler", _flow_matching("euler"))
    yield Peer("flow_matching", "midpoint", _flow_matching("midpoint"), _pairs)
    yield Peer("flow_matching", "heun3", _flow_matching("heun3"), lambda calls: calls // 3)


LIBRARIES: dict[str, Callable[[], Iterator[Peer]]] = {
    "diffusers": diffusers,
    "k-diffusion": k_diffusion,
    "azula": azula,
    "flow_matching": flow_matching,
}


def installed() -> tuple[list[Peer], list[str]]:
    """The samplers of the libraries that can be imported, and a sentence for each that cannot."""
    found: list[Peer] = []
    missing: list[str] = []
    warnings.filterwarnings("ignore")
    for library, peers in LIBRARIES.items():
        try:
            found += list(peers())
        except ImportError as error:
            missing.append(f"{library} is left out: {error}; the extra `peers` brings it")
    return found, missing

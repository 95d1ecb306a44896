"""Equality with k-diffusion's samplers: the same exact model at the same σ.

Its dependencies are more than a sampler needs and cannot all be installed, so install it alone with what its samplers import:
`pip install --no-deps k-diffusion torchsde trampoline boltons && pip install torchdiffeq scipy tqdm`. Its package imports
everything at once, so the module of samplers is loaded by itself.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import chart, exact, path, sample, solvers
from ornstein.solvers import Solver

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
F64 = torch.float64
P = path.EDM()
MODEL = exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, P)
SIGMAS = torch.tensor([60.0, 40.0, 22.0, 12.0, 7.0, 3.0, 1.2, 0.5, 0.2, 0.06], dtype=F64)
TO_ZERO = torch.cat([SIGMAS, torch.zeros(1, dtype=F64)])


@pytest.fixture(scope="module")
def peer() -> Any:
    """k_diffusion.sampling, with an empty `utils` that holds the one function it calls."""
    for name in ("torchsde", "torchdiffeq", "scipy", "tqdm"):
        pytest.importorskip(name, reason="needed by k-diffusion's samplers")
    found = importlib.util.find_spec("k_diffusion")
    if found is None or found.origin is None:
        pytest.skip("k-diffusion is not installed")
    package, utils = ModuleType("k_diffusion_samplers"), ModuleType("k_diffusion_samplers.utils")
    package.__path__ = [str(Path(found.origin).parent)]
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    sys.modules.update({package.__name__: package, utils.__name__: utils})
    package.utils = utils  # type: ignore[attr-defined]
    return importlib.import_module("k_diffusion_samplers.sampling")


def model(x: Tensor, sigma: Tensor) -> Tensor:
    return MODEL(x, sigma / 80).clean


def start() -> Tensor:
    return torch.randn(5, 2, dtype=F64) * 60


@pytest.mark.parametrize(
    ("name", "solver", "sigmas"),
    [
        ("sample_euler", solvers.DDIM(), TO_ZERO),
        ("sample_heun", solvers.Heun(chart.Scaled()), TO_ZERO),
        ("sample_lms", solvers.LMS(4), TO_ZERO),
        ("sample_dpm_2", solvers.DPMSolverSingle(2), SIGMAS),
        ("sample_dpmpp_2m", solvers.DPMSolverPP(2), TO_ZERO),
    ],
)
def test_deterministic(peer: Any, name: str, solver: Solver, sigmas: Tensor) -> None:
    """`sample_dpm_2` is DPM-Solver-2."""
    x = start()
    theirs = getattr(peer, name)(model, x, sigmas, disable=True)
    assert torch.allclose(theirs, sample(MODEL, start=x, solver=solver, grid=sigmas / 80), rtol=1e-6, atol=1e-6)


def replayed(draws: Tensor) -> Callable[..., Tensor]:
    rows = iter(draws)
    return lambda *_: next(rows)


@pytest.mark.parametrize(
    ("name", "options", "solver"),
    [
        ("sample_euler_ancestral", {}, solvers.Ancestral()),
        ("sample_dpmpp_2m_sde", {"solver_type": "midpoint"}, solvers.SDEDPMSolverPP(2)),
    ],
)
def test_stochastic(peer: Any, name: str, options: dict[str, Any], solver: Solver) -> None:
    x, draws = start(), torch.randn(len(SIGMAS), 5, 2, dtype=F64)
    theirs = getattr(peer, name)(model, x, TO_ZERO, disable=True, noise_sampler=replayed(draws), **options)
    ours = sample(MODEL, start=x, solver=solver, grid=TO_ZERO / 80, noise=replayed(draws))
    assert torch.allclose(theirs, ours, rtol=1e-6, atol=1e-6)


def test_third_order_multistep(peer: Any) -> None:
    """Its `dpmpp_3m_sde` weighs the second difference by half of its integral, as the other copies of that code; so the two
    differ, and both are near a fine solution without noise, ours nearer."""
    x = start()
    coarse, dense = (torch.linspace(4.0, -2.8, n, dtype=F64).exp() for n in (80, 400))
    fine = sample(MODEL, start=x, solver=solvers.rk4(), grid=dense / 80)
    theirs = peer.sample_dpmpp_3m_sde(model, x, coarse, eta=0.0, disable=True, noise_sampler=lambda *_: 0 * x)
    ours = sample(MODEL, start=x, solver=solvers.DPMSolverPP(3), grid=coarse / 80)
    assert (ours - fine).norm() < (theirs - fine).norm() < 1e-2 * fine.norm()

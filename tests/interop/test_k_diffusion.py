"""Samplers as k-diffusion and ComfyUI call them, on an exact mixture; no library needed."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ornstein import exact, grid, path, sample, solvers
from ornstein.interop import k_diffusion

F64 = torch.float64


def mixture(p: path.Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)


class Model:
    """model(x, σ) up to 80, as k-diffusion has it."""

    def __init__(self, flow: bool = False) -> None:
        self.mixture = mixture(path.Linear() if flow else path.EDM(80.0))
        self.top, self.seen = 1.0 if flow else 80.0, list[float]()

    def __call__(self, x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        assert sigma.shape == (len(x),)
        self.seen.append(float(sigma[0]))
        return self.mixture(x, sigma.double() / self.top).clean.to(x.dtype)


def karras(steps: int, low: float = 0.03, high: float = 80.0) -> Tensor:
    ramp = torch.linspace(0, 1, steps, dtype=F64)
    return torch.cat([(high ** (1 / 7) + ramp * (low ** (1 / 7) - high ** (1 / 7))) ** 7, torch.zeros(1, dtype=F64)])


@pytest.mark.parametrize("solver", ["abm", "dpmpp", "heun", "ddim"])
@pytest.mark.parametrize("own", [True, False])
def test_a_sampler_is_the_librarys_own_run(solver: str, own: bool) -> None:
    model, sigmas = Model(), karras(9)
    x = 80 * torch.randn(5, 2, dtype=F64)
    result = k_diffusion.sampler(solver, own_grid=own)(model, x, sigmas, disable=True)
    times = None if own else sigmas / 80
    expected = sample(model.mixture, start=x, solver=solver, steps=9, grid=times)
    assert (result - expected).abs().max() < (1e-2 if own and solver == "abm" else 1e-9)
    assert not own or min(model.seen) >= 0.03 - 1e-9
    assert len(model.seen) == (17 if solver == "heun" else 9)


def test_its_own_grid_keeps_the_callers_ends() -> None:
    model, sigmas = Model(), torch.tensor([5.0, 3.0, 1.0, 0.5], dtype=F64)
    x = 5 * torch.randn(5, 2, dtype=F64)
    result = k_diffusion.sampler("dpmpp")(model, x, sigmas, disable=True)
    assert model.seen[0] == 5.0
    assert len(model.seen) == 3
    assert min(model.seen) > 0.5
    fine = solvers.ABM(4)
    exactly = sample(model.mixture, start=x, solver=fine, grid=torch.linspace(5 / 80, 0.5 / 80, 400, dtype=F64))
    assert (result - exactly).abs().max() < 0.3


def test_flows_of_comfyui_are_recognised() -> None:
    class CONST:
        pass

    class Sampling(CONST):
        pass

    model: Any = Model(flow=True)
    model.model_sampling = Sampling()
    assert k_diffusion.is_flow(model)
    assert not k_diffusion.is_flow(Model())
    outer: Any = Model(flow=True)
    outer.inner_model = model
    assert k_diffusion.is_flow(outer)
    x = torch.randn(5, 2, dtype=F64)
    result = k_diffusion.sampler()(model, x, torch.linspace(1, 0, 11, dtype=F64), disable=True)
    expected = sample(model.mixture, start=x, grid=grid.two_ended(path.Linear(), 10))
    assert (result - expected).abs().max() < 2e-2
    assert min(model.seen) >= 0.1 - 1e-9
    with pytest.raises(ValueError, match="of a flow begin at 1 or below, not at 14"):
        k_diffusion.sampler()(model, x, torch.tensor([14.0, 0.0]))


def test_callbacks_arguments_and_seeds() -> None:
    reports: list[dict[str, Any]] = []
    extras = []

    def model(x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        extras.append(extra)
        return x * 0

    x, sigmas = 80 * torch.randn(4, 2), karras(6).float()
    k_diffusion.sampler("ddim")(model, x, sigmas, {"cond": 1}, reports.append, True)
    assert [report["i"] for report in reports] == list(range(6))
    assert all(set(report) == {"x", "i", "sigma", "sigma_hat", "denoised"} for report in reports)
    assert all(not report["denoised"].any() for report in reports)
    assert extras == [{"cond": 1}] * 6
    noisy = k_diffusion.sampler("ancestral")

    def shrinking(x: Tensor, sigma: Tensor, **extra: Any) -> Tensor:
        return x / (1 + sigma[:, None] ** 2)

    batch = noisy(shrinking, x, sigmas, {"seed": 3}, disable=True)
    assert torch.equal(noisy(shrinking, x[:1], sigmas, {"seed": 3}, disable=True), batch[:1])
    assert not torch.equal(noisy(shrinking, x, sigmas, seed=4, disable=True), batch)


def test_a_model_as_a_denoiser() -> None:
    model = Model()
    wrapped = k_diffusion.denoiser(model)
    x = torch.randn(4, 2, dtype=F64)
    assert torch.allclose(wrapped(x, 0.3).clean, model.mixture(x, 0.3).clean, rtol=0, atol=1e-10)
    model.sigmas = torch.tensor([0.03, 14.6])  # type: ignore[attr-defined]
    assert k_diffusion.denoiser(model).path == path.EDM(float(torch.tensor(14.6)))


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0], [1.0, 2.0], [1.0, -0.1]])
def test_sigmas_that_are_refused(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="sigmas must"):
        k_diffusion.sampler()(Model(), torch.randn(1, 2), torch.tensor(sigmas))

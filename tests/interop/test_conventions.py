"""Behind each convention stands an exact mixture that answers as that library's network would; clean and noise come back.

The answers are computed from the libraries' own formulas (ᾱ by cumulative products, the network's own count of time), not from
the conventions that are tested.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ornstein import grid, guidance, interop, path, sample, target
from ornstein.errors import UsageError
from ornstein.interop import azula, edm, flows, guided_diffusion, k_diffusion, lucidrains, score_sde
from ornstein.interop.convention import Convention, EDMClock, NoiseClock, TimeClock, time_of_noise
from ornstein.interop.diffusers import convention as diffusers

F64 = torch.float64
WEIGHTS = torch.tensor([0.3, 0.7], dtype=F64)
MEANS = torch.tensor([[-1.0, 0.4, 0.2], [1.0, 0.1, -0.6]], dtype=F64)
VARIANCE = 0.05
T = 1000
FLOW = "FlowMatchEulerDiscreteScheduler"


def posterior(x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(E[x | x_t], E[ε | x_t]) of the mixture by Bayes' rule; x (B, 3), α and σ (B,)."""
    alpha, sigma = alpha.to(F64)[:, None], sigma.to(F64)[:, None]
    spread = alpha**2 * VARIANCE + sigma**2
    gap = x[:, None] - alpha[..., None] * MEANS
    part = (WEIGHTS.log() - gap.square().sum(-1) / (2 * spread)).softmax(-1)
    noise = (part[..., None] * gap).sum(1) * sigma / spread
    clean = (part[..., None] * (MEANS + (alpha * VARIANCE / spread)[..., None] * gap)).sum(1)
    return clean, noise


class Row(NamedTuple):
    """A convention, and what its library's network answers: answer(x as it is called with, its time)."""

    name: str
    convention: Convention
    answer: Callable[[Tensor, Tensor], Tensor]
    at: tuple[float, ...]  # times of the path


STEPS = (1.0, 0.731, 0.2, 0.001)
ANY = (1.0, 0.6183, 0.2, 0.0021)


def table(betas: Tensor, kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """A network on a β-table, by its integer step."""
    bar = torch.cumprod(1 - betas.to(F64), 0)

    def answer(x: Tensor, i: Tensor) -> Tensor:
        assert torch.allclose(i, i.round(), rtol=0, atol=1e-9)
        alpha, sigma = bar[i.round().long()].sqrt(), (1 - bar[i.round().long()]).sqrt()
        clean, noise = posterior(x, alpha, sigma)
        v = alpha[:, None] * noise - sigma[:, None] * clean
        return {"epsilon": noise, "sample": clean, "v_prediction": v}[kind]

    return answer


def flow(x: Tensor, at: Tensor) -> Tensor:
    """ε − x at timestep 1000 σ."""
    clean, noise = posterior(x, 1 - at / T, at / T)
    return noise - clean


def towards_data(x: Tensor, at: Tensor) -> Tensor:
    clean, noise = posterior(x, at, 1 - at)
    return clean - noise


def denoised(x: Tensor, sigma: Tensor) -> Tensor:
    return posterior(x, torch.ones_like(sigma), sigma)[0]


def preconditioned(sigma_data: float) -> Callable[[Tensor, Tensor], Tensor]:
    def answer(x: Tensor, c_noise: Tensor) -> Tensor:
        sigma = (4 * c_noise).exp()
        size = (sigma**2 + sigma_data**2).sqrt()
        x_t = x * size[:, None]
        skip, out = sigma_data**2 / size**2, sigma * sigma_data / size
        return (denoised(x_t, sigma) - skip[:, None] * x_t) / out[:, None]

    return answer


def vp_sde(x: Tensor, at: Tensor, sub: bool = False) -> Tensor:
    t = at / 999
    alpha = (-0.25 * t**2 * 19.9 - 0.5 * t * 0.1).exp()
    return posterior(x, alpha, 1 - alpha**2 if sub else (1 - alpha**2).sqrt())[1]


def ve_sde(x: Tensor, sigma: Tensor) -> Tensor:
    return -posterior(x, torch.ones_like(sigma), sigma)[1] / sigma[:, None]


def azula_vp(t: Tensor) -> tuple[Tensor, Tensor]:
    alpha = (torch.log(torch.tensor(1e-3, dtype=F64)) * t**2).exp()
    return alpha, (1 - alpha**2 + 1e-6).sqrt()


def linear(total: int = T) -> Tensor:
    return torch.linspace(1e-4, 0.02, total, dtype=torch.float32)


SCALED = torch.linspace(0.00085**0.5, 0.012**0.5, T, dtype=torch.float32) ** 2
OWN = torch.linspace(1e-3, 0.3, 50, dtype=torch.float32)
COSINE = path.Betas.squared_cosine()
SIGMOID = torch.linspace(-6, 6, T).sigmoid() * (0.02 - 1e-4) + 1e-4


def rescaled(betas: Tensor) -> Tensor:
    """Lin et al. 2024, algorithm 1."""
    root = torch.cumprod(1 - betas.to(F64), 0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    bar = ((root - last) * first / (first - last)) ** 2
    return 1 - torch.cat([bar[:1], bar[1:] / bar[:-1]])


def beta_rows() -> list[Row]:
    rows = []
    for kind in ("epsilon", "v_prediction", "sample"):
        for name, config, betas in (
            ("linear", {}, linear()),
            ("scaled linear", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}, SCALED),
            ("squared cosine", {"beta_schedule": "squaredcos_cap_v2"}, torch.tensor(COSINE.betas, dtype=F64)),
            ("sigmoid", {"beta_schedule": "sigmoid"}, SIGMOID),
        ):
            rows.append(
                Row(
                    f"diffusers {kind} {name}",
                    diffusers({**config, "prediction_type": kind}),
                    table(betas, kind),
                    STEPS,
                )
            )
        own = diffusers({"trained_betas": OWN.tolist(), "prediction_type": kind})
        rows.append(Row(f"diffusers {kind} trained betas", own, table(OWN, kind), (1.0, 0.5, 0.02)))
    zero = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True}
    zero["prediction_type"] = "v_prediction"
    rows.append(Row("diffusers v zero SNR", diffusers(zero), table(rescaled(SCALED), "v_prediction"), STEPS))
    return rows


ROWS = [
    *beta_rows(),
    *[Row(f"diffusers flow, shift {shift}", diffusers({"_class_name": FLOW, "shift": shift}), flow, ANY) for shift in (1.0, 3.0)],
    Row(
        "diffusers flow by prediction_type",
        diffusers({"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0, "beta_schedule": "linear"}),
        flow,
        ANY,
    ),
    Row("diffusers EDM", diffusers({"sigma_data": 0.5, "sigma_max": 80.0}), preconditioned(0.5), ANY),
    Row("SiT", flows.sit(), towards_data, ANY),
    Row("SiT with variance", flows.sit(variance=True), lambda x, t: torch.cat([towards_data(x, t), x * 0 + 7], 1), ANY),
    Row("flow_matching", flows.flow_matching(), towards_data, ANY),
    Row("torchcfm", flows.torchcfm(), lambda t, x: towards_data(x, t), ANY),
    Row("EDM", edm.convention(), denoised, ANY),
    Row("EDM, raw network", edm.raw(0.5), preconditioned(0.5), ANY),
    Row("k-diffusion", k_diffusion.convention(14.6), denoised, ANY),
    Row("ComfyUI, flow", k_diffusion.convention(1.0, flow=True), lambda x, s: posterior(x, 1 - s, s)[0], ANY),
    Row("score_sde VP", score_sde.vp(), vp_sde, ANY),
    Row("score_sde sub-VP", score_sde.sub_vp(), lambda x, t: vp_sde(x, t, sub=True), ANY),
    Row("score_sde VE", score_sde.ve(), ve_sde, ANY),
    Row(
        "guided-diffusion",
        guided_diffusion.convention(),
        lambda x, i: torch.cat([table(torch.linspace(1e-4, 0.02, T, dtype=F64), "epsilon")(x, i), x * 0 - 3], 1),
        STEPS,
    ),
    *[
        Row(f"lucidrains {objective}", lucidrains.convention(SIGMOID, objective), table(SIGMOID, kind), STEPS)
        for objective, kind in (("pred_noise", "epsilon"), ("pred_x0", "sample"), ("pred_v", "v_prediction"))
    ],
    Row("azula", azula.convention(azula_vp), lambda x, t: posterior(x, *azula_vp(t))[0], ANY),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_clean_and_noise_come_back(row: Row) -> None:
    denoiser = interop.wrap(row.answer, row.convention)
    draw = torch.Generator().manual_seed(0)
    for t in row.at:
        x_t = torch.randn(8, 3, generator=draw, dtype=F64) * 1.3
        alpha, sigma = (level.reshape(-1) for level in denoiser.path.levels(t, x_t))
        if "k-diffusion" in row.name or "EDM" in row.name or "VE" in row.name:
            x_t = x_t * (1 + sigma)
        clean, noise = denoiser(x_t, t)
        expected = posterior(x_t, alpha.expand(8), sigma.expand(8))
        scale = 1 + float(x_t.abs().max())
        assert (clean - expected[0]).abs().max() <= 1e-10 * scale
        assert (noise - expected[1]).abs().max() <= 1e-10 * scale


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_clocks_are_read_back(row: Row) -> None:
    p, clock = row.convention.path, row.convention.clock
    times = torch.tensor(row.at, dtype=F64)
    assert torch.allclose(clock.time(p, clock(p, times)[1]), times, rtol=1e-9, atol=1e-12)


def test_samples_of_every_row_are_those_of_the_mixture() -> None:
    """Conventions of one path and mixture agree with each other along whole runs."""
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)
    same = [
        row
        for row in ROWS
        if row.name in ("SiT", "flow_matching", "torchcfm", "diffusers flow, shift 1.0", "ComfyUI, flow")
    ]
    ends = [sample(interop.wrap(row.answer, row.convention), start=start, steps=8) for row in same]
    assert len(ends) == 5
    assert all(torch.allclose(end, ends[0], rtol=0, atol=1e-10) for end in ends)


def test_a_shift_is_a_change_of_the_clock() -> None:
    shifted = diffusers({"_class_name": FLOW, "shift": 3.0})
    t = torch.tensor([0.25, 0.5], dtype=F64)
    assert torch.allclose(shifted.clock(shifted.path, t)[1], 1000 * 3 * t / (1 + 2 * t))


# --- levels ----------------------------------------------------------------------------------------------------------


class Lookup(nn.Module):
    """A network that knows its steps alone, by a list."""

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(betas), 1)
        self.betas, self.seen = betas, list[Tensor]()

    def forward(self, x: Tensor, i: Tensor) -> Tensor:
        assert i.dtype == torch.int64
        self.embedding(i)
        self.seen.append(i)
        return table(self.betas, "epsilon")(x, i.to(F64))


def test_discrete_networks_are_asked_for_whole_steps_alone() -> None:
    network = Lookup(linear())
    denoiser = interop.wrap(network, diffusers({}), discrete=True)
    x = torch.randn(4, 3, dtype=F64)
    end = sample(denoiser, start=x, steps=12)
    assert end.isfinite().all()
    assert all(((i >= 0) & (i < T)).all() for i in network.seen)
    exact = sample(interop.wrap(smooth(linear()), diffusers({})), start=x, steps=12)
    assert (end - exact).abs().max() < 0.05
    for t in (0.0001, 0.0004, 0.50049, 1.0):
        network.seen.clear()
        denoiser(x, t)
        assert int(network.seen[0][0]) == min(max(round(1000 * t) - 1, 0), 999)


def smooth(betas: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The mixture at any step, whole or not."""
    p = path.Betas(betas)

    def answer(x: Tensor, i: Tensor) -> Tensor:
        t = (i + 1) / T
        return posterior(x, p.alpha(t), p.sigma(t))[1]

    return answer


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50, 200, 1000])
def test_snapped_grids_fall_through_trained_levels(steps: int) -> None:
    rule = diffusers({}, discrete=True)
    times = rule.snapped(grid.two_ended(rule.path, steps))
    i = times[:-1] * T
    assert torch.allclose(i, i.round(), rtol=0, atol=1e-9)
    assert bool((times.diff() < 0).all())
    assert times[-1] == 0
    assert times[0] == 1
    assert float(times[:-1].min()) >= 1 / T - 1e-12


def test_more_calls_than_levels_are_refused() -> None:
    rule = diffusers({"trained_betas": OWN.tolist()}, discrete=True)
    with pytest.raises(ValueError, match="more than the 50 trained levels"):
        rule.snapped(torch.linspace(1, 0, 60, dtype=F64))
    with pytest.raises(ValueError, match="no levels"):
        flows.sit().snapped(torch.linspace(1, 0, 6, dtype=F64))
    with pytest.raises(ValueError, match="discrete needs levels"):
        Convention(path.Linear(), target.Velocity(), discrete=True)


# --- calls -----------------------------------------------------------------------------------------------------------


def test_conditions_become_keywords_or_the_third_argument() -> None:
    def by_keyword(x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return x * 0 + (0 if y is None else y[:, None])

    label = torch.arange(4, dtype=F64)
    x = torch.randn(4, 3, dtype=F64)
    plain = interop.wrap(by_keyword, edm.convention())
    assert torch.equal(plain(x, 0.5).clean, 0 * x)
    for condition in (label, {"y": label}):
        assert torch.allclose(plain.given(condition)(x, 0.5).clean, label[:, None].expand(4, 3))


def test_guided_conditions_in_a_dict_are_one_call() -> None:
    calls = []

    def network(x: Tensor, sigma: Tensor, y: Tensor, more: dict[str, Tensor]) -> Tensor:
        calls.append(len(x))
        return x * 0 + y[:, None] + more["z"][:, None]

    x, y = torch.randn(4, 3, dtype=F64), torch.arange(4, dtype=F64)
    one = interop.wrap(network, edm.convention(), {"y": y, "more": {"z": 2 * y}})
    null = one.given({"y": 0 * y, "more": {"z": 0 * y}})
    guided = guidance.ClassifierFree(one, null, 3.0)
    assert torch.allclose(guided(x, 0.5).clean, 9 * y[:, None].expand(4, 3))
    assert calls == [8]


def test_a_network_in_half_precision_runs_on_states_in_single() -> None:
    seen = []

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append((x.dtype, t.dtype))
            return x * self.weight

    x = sample(interop.wrap(Half(), diffusers({})), (2, 3), steps=4)
    assert x.dtype == torch.float32
    assert seen == [(torch.bfloat16, torch.float32)] * 4


def test_refusals() -> None:
    x = torch.randn(2, 3)
    with pytest.raises(ValueError, match=r"a prediction is shaped as its input; if the second half.*variance=True"):
        interop.wrap(lambda x, t: torch.cat([x, x], 1), edm.convention())(x, 0.5)
    with pytest.raises(ValueError, match=r"a prediction is shaped as its input$"):
        interop.wrap(lambda x, t: x[:, :2], edm.convention())(x, 0.5)
    with pytest.raises(TypeError, match="a prediction is a tensor"):
        interop.wrap(lambda x, t: "no", edm.convention())(x, 0.5)
    with pytest.raises(TypeError, match="needs a network"):
        interop.wrap("unet", edm.convention())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zero"):
        interop.wrap(lambda x, t: x, diffusers({"rescale_betas_zero_snr": True}))
    with pytest.raises(UsageError, match=r"holds code.*your own process.*give the object"):
        edm.denoiser("edm2.pkl")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="prediction_type: 'eps' is not one of"):
        diffusers({"prediction_type": "eps"})
    with pytest.raises(UsageError, match="beta_schedule: 'laplace' is not one of"):
        diffusers({"beta_schedule": "laplace"})
    with pytest.raises(UsageError, match=r"beta_start: 0.1 is of a β-table, but FlowMatch\w+ is of flows"):
        diffusers({"_class_name": "FlowMatchEulerDiscreteScheduler", "beta_start": 0.1})
    with pytest.raises(UsageError, match="objective: 'pred' is not one of"):
        lucidrains.convention(OWN, "pred")


@pytest.mark.parametrize("clock", [TimeClock(999.0), TimeClock(-1.0, 1.0), NoiseClock(1000.0), EDMClock(0.4)], ids=repr)
@pytest.mark.parametrize("p", path.ALL, ids=repr)
def test_every_clock_inverts_on_every_path(clock: Any, p: path.Path) -> None:
    times = torch.tensor([0.2, 0.5, 0.83], dtype=F64)
    assert torch.allclose(clock.time(p, clock(p, times)[1]), times, rtol=0, atol=1e-9)


def test_times_of_noise_end_with_the_path() -> None:
    p = path.EDM(80.0)
    times = time_of_noise(p, torch.tensor([0.0, 40.0, 80.0, 100.0], dtype=F64))
    assert torch.allclose(times, torch.tensor([0, 0.5, 1, 1], dtype=F64), rtol=0, atol=1e-12)
    assert times[[0, 2, 3]].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "ScoreSdeVeScheduler", "num_train_timesteps": 2000, "sigma_min": 0.01, "sigma_max": 1348.0},
        {"num_train_timesteps": 1000, "sigma_min": 0.02, "sigma_max": 100, "s_churn": 80},  # KarrasVe, as in a pipeline
        {"_class_name": "IPNDMScheduler", "num_train_timesteps": 1000, "trained_betas": [0.1, 0.2]},
        {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "clip_denoised": True},  # a consistency model
        {"_class_name": "CogVideoXDDIMScheduler", "beta_schedule": "scaled_linear", "snr_shift_scale": 3.0},
        {"_class_name": "DDPMWuerstchenScheduler", "scaler": 1.0, "s": 0.008},
    ],
)
def test_schedulers_of_other_processes_are_not_taken_for_beta_tables(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"is no β-table, flow or EDM level"):
        diffusers(config)

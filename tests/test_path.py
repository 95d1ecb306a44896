"""Every path: derivatives, log-SNR and its inverse, SDE coefficients, kernels and ends; and each path's own formula."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate
from torch import Tensor

from ornstein import path
from ornstein.path import Path

EPS = torch.finfo(torch.float64).eps
inner = st.floats(0.01, 0.99)
three_times = st.lists(inner, min_size=3, max_size=3, unique=True).map(sorted)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    t = t.clone().requires_grad_()
    value = function(t) + 0 * t  # a constant has a slope too
    (result,) = torch.autograd.grad(value.sum(), t)
    return result


every_path = pytest.mark.parametrize("p", path.ALL, ids=repr)
every_table = pytest.mark.parametrize("p", [p for p in path.ALL if isinstance(p, path.Betas)], ids=repr)
unit_variance = pytest.mark.parametrize(
    "p",
    [
        path.Cosine(),
        path.Trigonometric(),
        path.VariancePreserving(),
        *(p for p in path.ALL if isinstance(p, path.Betas)),
    ],
    ids=repr,
)


# --- every path ---


@every_path
def test_derivatives_are_those_of_alpha_and_sigma(p: Path) -> None:
    t = torch.rand(64, dtype=torch.float64) * 0.98 + 0.01
    h = 1e-6
    for function, derivative in ((p.alpha, p.d_alpha(t)), (p.sigma, p.d_sigma(t))):
        torch.testing.assert_close(derivative, slope(function, t), rtol=1e-11, atol=1e-12)
        central = (function(t + h) - function(t - h)) / (2 * h)
        torch.testing.assert_close(derivative, central, rtol=2e-3, atol=1e-6)  # across the knots of a table as well


@every_path
@given(t=inner)
def test_derivatives_do_not_jump(p: Path, t: float) -> None:
    before, after = p.at(t - 1e-9, torch.zeros(1)), p.at(t + 1e-9, torch.zeros(1))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@every_path
def test_log_snr_falls_strictly_and_alpha_and_sigma_move_one_way(p: Path) -> None:
    t = torch.linspace(0.001, 0.999, 2001, dtype=torch.float64)
    assert bool((p.log_snr(t).diff() < 0).all())
    assert bool((p.alpha(t).diff() <= 0).all())
    assert bool((p.sigma(t).diff() > 0).all())


@every_path
def test_time_inverts_log_snr(p: Path) -> None:
    t = torch.rand(200, dtype=torch.float64) * 0.98 + 0.01
    log_snr, point = p.log_snr(t), p.at(t, t)
    torch.testing.assert_close(log_snr, (point.alpha**2 / point.sigma**2).log(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_snr, point.log_snr, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(p.time(log_snr), t, rtol=0, atol=1e-12)


@every_path
def test_time_of_any_log_snr_stays_on_the_path(p: Path) -> None:
    levels = torch.linspace(-200, 200, 401, dtype=torch.float64)
    t = p.time(levels)
    assert bool(((t >= 0) & (t <= 1)).all())
    assert bool((t.diff() <= 0).all())
    inside = (t > 1e-3) & (t < 1 - 1e-6)
    assert bool(inside.any())
    torch.testing.assert_close(p.log_snr(t[inside]), levels[inside], rtol=1e-9, atol=1e-9)


@every_path
def test_infinite_log_snr_gives_the_ends(p: Path) -> None:
    assert math.isclose(p.time(math.inf), 0, abs_tol=1e-12)
    assert math.isclose(p.time(-math.inf), 1, abs_tol=1e-12)


@every_path
def test_forward_sde_moves_mean_and_variance_as_the_path_does(p: Path) -> None:
    t = torch.linspace(0.02, 0.98, 77, dtype=torch.float64)
    f, g = p.drift(t), p.diffusion(t)
    variance = p.sigma(t) ** 2
    torch.testing.assert_close(slope(p.alpha, t), f * p.alpha(t), rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(slope(lambda t: p.sigma(t) ** 2, t), 2 * f * variance + g**2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(g**2, -variance * slope(p.log_snr, t), rtol=1e-9, atol=1e-12)
    point = p.at(t, t)
    torch.testing.assert_close(g**2, 2 * point.sigma * point.wronskian / point.alpha, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("p", [p for p in path.ALL if not isinstance(p, path.Betas)], ids=repr)
def test_forward_sde_solved_as_an_ode_of_moments_is_the_path(p: Path) -> None:
    def moments(t: float, y: list[float]) -> list[float]:
        f, g = float(p.drift(t)), float(p.diffusion(t))
        return [f * y[0], 2 * f * y[1] + g**2]

    start = [float(p.alpha(number(0.1))), float(p.sigma(number(0.1))) ** 2]
    end = integrate.solve_ivp(moments, (0.1, 0.9), start, rtol=1e-9, atol=1e-12).y[:, -1]
    assert math.isclose(end[0], p.alpha(number(0.9)), rel_tol=1e-7)
    assert math.isclose(end[1], p.sigma(number(0.9)) ** 2, rel_tol=1e-7)


@every_path
@given(times=three_times)
def test_transitions_compose(p: Path, times: list[float]) -> None:
    s, u, t = times
    first, second, whole = p.transition(s, u), p.transition(u, t), p.transition(s, t)
    assert math.isclose(second.alpha * first.alpha, whole.alpha, rel_tol=1e-11)
    variance = second.alpha**2 * first.sigma**2 + second.sigma**2
    assert math.isclose(variance, whole.sigma**2, rel_tol=1e-9)
    # and they carry the marginal at s to the marginal at t
    assert math.isclose(whole.alpha * p.alpha(number(s)), p.alpha(number(t)), rel_tol=1e-12)
    carried = whole.alpha**2 * p.sigma(number(s)) ** 2 + whole.sigma**2
    assert math.isclose(carried, p.sigma(number(t)) ** 2, rel_tol=1e-12)


@every_path
@given(times=three_times, x=st.floats(-3, 3), x_t=st.floats(-3, 3))
def test_posterior_is_gaussian_conditioning(p: Path, times: list[float], x: float, x_t: float) -> None:
    s, _, t = times
    alpha_s, sigma_s, alpha_t, sigma_t = (float(f(number(u))) for u in (s, t) for f in (p.alpha, p.sigma))
    # the joint normal of (x_s, x_t) given x, conditioned on x_t
    covariance = alpha_t / alpha_s * sigma_s**2
    gain = covariance / sigma_t**2
    mean = alpha_s * x + gain * (x_t - alpha_t * x)
    variance = sigma_s**2 - gain * covariance
    posterior = p.posterior(s, t)
    assert math.isclose(posterior.on_x_t * x_t + posterior.on_clean * x, mean, rel_tol=1e-10, abs_tol=1e-10)
    assert math.isclose(posterior.sigma**2, variance, rel_tol=1e-10, abs_tol=1e-13 * sigma_s**2 + 1e-15)


@every_path
@given(times=three_times)
def test_posterior_of_the_marginal_gives_the_marginal(p: Path, times: list[float]) -> None:
    s, _, t = times
    k = p.posterior(s, t)
    alpha_t, sigma_t = p.alpha(number(t)), p.sigma(number(t))
    assert math.isclose(k.on_x_t * alpha_t + k.on_clean, p.alpha(number(s)), rel_tol=1e-12)
    assert math.isclose(k.on_x_t**2 * sigma_t**2 + k.sigma**2, p.sigma(number(s)) ** 2, rel_tol=1e-11)


@every_path
def test_kernels_from_a_time_to_itself_and_from_the_data(p: Path) -> None:
    still = p.transition(0.4, 0.4)
    assert float(still.alpha) == 1
    assert float(still.sigma) == 0
    back = p.posterior(0.4, 0.4)
    assert math.isclose(back.on_x_t, 1)
    assert float(back.on_clean) == 0
    assert float(back.sigma) == 0
    if float(p.sigma(number(0.0))) == 0:
        data = p.posterior(0.0, 0.7)
        assert [float(value) for value in data] == [0, 1, 0]
        whole = p.transition(0.0, 0.7)
        assert math.isclose(whole.alpha, p.alpha(number(0.7)))
        assert math.isclose(whole.sigma, p.sigma(number(0.7)))


@every_path
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_the_ends_are_finite_or_named(p: Path, end: float) -> None:
    alpha, sigma = p.levels(end, torch.zeros(1))
    assert math.isfinite(alpha)
    assert math.isfinite(sigma)
    assert alpha + sigma > 0
    other = 1 - end
    s, t = min(end, other), max(end, other)
    quantities: list[Callable[[], object]] = [
        lambda: p.at(end, torch.zeros(1)),
        lambda: (p.log_snr(end),),
        lambda: (p.drift(end),),
        lambda: (p.diffusion(end),),
        lambda: p.transition(s, t),
        lambda: p.transition(end, end),
        lambda: p.posterior(s, t),
        lambda: p.posterior(end, end),
    ]
    for quantity in quantities:
        try:
            values = quantity()
        except ValueError as error:
            assert f"infinite at t = {end:g}" in str(error)  # noqa: PT017
            assert type(p).__name__ in str(error)  # noqa: PT017
        else:
            assert all(math.isfinite(value) for value in values)  # type: ignore[attr-defined]


@every_path
def test_starts_at_the_data(p: Path) -> None:
    assert float(p.alpha(number(0.0))) == 1
    assert float(p.sigma(number(0.0))) == (p.sigma_min if isinstance(p, path.VarianceExploding) else 0)


@every_path
def test_times_may_be_numbers_tensors_or_batches(p: Path) -> None:
    x = torch.zeros(3, 2, 5)
    times = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    batch = p.at(times, x.double())
    for i, t in enumerate(times.tolist()):
        for one, zero_dim, many in zip(p.at(t, x.double()), p.at(times[i], x.double()), batch, strict=True):
            assert many.shape == (3, 1, 1)
            assert one.shape == ()
            torch.testing.assert_close(one, many[i, 0, 0], rtol=1e-14, atol=0)
            torch.testing.assert_close(zero_dim, many[i, 0, 0], rtol=1e-14, atol=0)
    assert all(value.dtype == torch.float32 for value in p.at(times, x))
    assert p.log_snr(times.float()).dtype == torch.float32
    assert (p.at(0.3, x).alpha * x).dtype == torch.float32


def test_times_that_do_not_fit_the_batch() -> None:
    with pytest.raises(ValueError, match=r"times of shape \(2,\) do not fit a batch of 3"):
        path.Linear().at(torch.tensor([0.1, 0.2]), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"times of shape \(3, 1\) do not fit"):
        path.Linear().at(torch.full((3, 1), 0.5), torch.zeros(3, 2))


@every_path
def test_kernels_refuse_times_in_the_wrong_order(p: Path) -> None:
    for kernel in (p.transition, p.posterior):
        with pytest.raises(ValueError, match="kernels need s <= t"):
            kernel(0.6, 0.5)


# --- one path at a time ---


@unit_variance
def test_variance_preserving_paths_have_unit_variance_and_g_squared_minus_2f(p: Path) -> None:
    t = torch.linspace(0, 1, 333, dtype=torch.float64)
    torch.testing.assert_close(p.alpha(t) ** 2 + p.sigma(t) ** 2, torch.ones_like(t), rtol=1e-13, atol=0)
    t = t[1:-1]
    torch.testing.assert_close(p.diffusion(t) ** 2, -2 * p.drift(t), rtol=1e-9, atol=0)


@given(t=inner, low=st.floats(0.01, 1), high=st.floats(2, 40))
def test_variance_preserving_integrates_its_rate(t: float, low: float, high: float) -> None:
    integral, _ = integrate.quad(lambda u: low + u * (high - low), 0, t)
    vp, sub = path.VariancePreserving(low, high), path.SubVariancePreserving(low, high)
    for p in (vp, sub):
        assert math.isclose(p.alpha(number(t)), math.exp(-integral / 2), rel_tol=1e-11)
        assert math.isclose(p.drift(t), -(low + t * (high - low)) / 2, rel_tol=1e-11)
    assert math.isclose(vp.sigma(number(t)) ** 2, 1 - math.exp(-integral), rel_tol=1e-10)
    assert math.isclose(sub.sigma(number(t)), 1 - math.exp(-integral), rel_tol=1e-10)
    assert math.isclose(vp.diffusion(t) ** 2, low + t * (high - low), rel_tol=1e-10)
    # equation 27 of Song et al. 2021: g² = β(t)(1 − exp(−2∫β))
    g_squared = (low + t * (high - low)) * (1 - math.exp(-2 * integral))
    assert math.isclose(sub.diffusion(t) ** 2, g_squared, rel_tol=1e-9)


@given(t=inner)
def test_values_of_the_other_formulas(t: float) -> None:
    at = number(t)
    angle = (t + 0.008) / 1.008 * math.pi / 2
    bar = (math.cos(angle) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2
    assert math.isclose(path.Cosine().alpha(at) ** 2, bar, rel_tol=1e-11)
    assert math.isclose(path.VarianceExploding(0.02, 30).sigma(at), 0.02 * 1500**t, rel_tol=1e-12)
    assert math.isclose(path.VarianceExploding(0.02, 30).diffusion(t), 0.02 * 1500**t * math.sqrt(2 * math.log(1500)))
    assert math.isclose(path.EDM(7).diffusion(t), math.sqrt(2 * 7 * 7 * t))
    assert math.isclose(path.Trigonometric().alpha(at), math.cos(math.pi * t / 2), rel_tol=1e-12)
    assert math.isclose(path.Trigonometric().sigma(at), math.sin(math.pi * t / 2), rel_tol=1e-12)
    assert math.isclose(path.Linear().drift(t), -1 / (1 - t))
    assert math.isclose(path.Linear().diffusion(t), math.sqrt(2 * t / (1 - t)), rel_tol=1e-12)


@given(t=inner, factor=st.floats(0.2, 8))
def test_shift_multiplies_the_noise_to_signal_ratio(t: float, factor: float) -> None:
    shifted, plain = path.TimeChange(path.Linear(), path.Shift(factor)), path.Linear()
    assert math.isclose(shifted.log_snr(t), plain.log_snr(t) - 2 * math.log(factor), rel_tol=1e-10, abs_tol=1e-10)


def test_a_time_change_and_its_base_are_one_path_in_log_snr() -> None:
    base = path.VariancePreserving()
    changed = path.TimeChange(base, lambda t: t**2)
    t = torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    torch.testing.assert_close(changed.alpha(t), base.alpha(t**2), rtol=0, atol=0)
    torch.testing.assert_close(changed.d_sigma(t), base.d_sigma(t**2) * 2 * t, rtol=1e-13, atol=0)
    torch.testing.assert_close(changed.time(base.log_snr(t)), t.sqrt(), rtol=1e-12, atol=0)


# --- tables of β ---


def ddpm(betas: tuple[float, ...]) -> dict[str, Tensor]:
    """Every coefficient of DDPM from its β alone, rows i = 1..T (Ho et al. 2020, equations 2, 4 and 7)."""
    beta = torch.tensor(betas, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, 0)
    before = torch.cat([torch.ones(1, dtype=torch.float64), bar[:-1]])
    return {
        "beta": beta,
        "alpha": bar.sqrt(),
        "sigma": (1 - bar).sqrt(),
        "step": (1 - beta).sqrt(),
        "on_clean": before.sqrt() * beta / (1 - bar),
        "on_x_t": (1 - beta).sqrt() * (1 - before) / (1 - bar),
        "tilde": (1 - before) / (1 - bar) * beta,
    }


@every_table
def test_a_table_is_ddpm(p: path.Betas) -> None:
    expected = ddpm(p.betas)
    i = torch.arange(1, p.steps + 1, dtype=torch.float64)
    t, s = i / p.steps, (i - 1) / p.steps
    transition, posterior = p.transition(s, t), p.posterior(s, t)
    found = {
        "beta": transition.sigma**2,
        "alpha": p.alpha(t),
        "sigma": p.sigma(t),
        "step": transition.alpha,
        "on_clean": posterior.on_clean,
        "on_x_t": posterior.on_x_t,
        "tilde": posterior.sigma**2,
    }
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")
    # Relative to β rounding leaves eps/β, in the reference and in the path alike, and eps/α where the signal is small
    for name in ("beta", "on_clean", "tilde"):
        error = (found[name] - expected[name]).abs()
        assert bool((error <= (1e-12 + 12 * EPS / expected["beta"] / p.alpha(t)) * expected[name]).all()), name


@every_table
def test_a_table_gives_its_values_at_every_step_however_the_time_was_rounded(p: path.Betas) -> None:
    expected = ddpm(p.betas)
    i = torch.arange(1, p.steps + 1, dtype=torch.float64)
    for t in (i * (1 / p.steps), 1 - (p.steps - i) / p.steps):
        torch.testing.assert_close(p.alpha(t), expected["alpha"], rtol=0, atol=1e-12)


@given(st.lists(st.floats(1e-4, 0.5), min_size=1, max_size=30))
def test_any_table_is_a_smooth_monotone_path(betas: list[float]) -> None:
    p = path.Betas(betas)
    t = torch.linspace(0, 1, 301, dtype=torch.float64)
    assert bool((p.log_snr(t[1:]).diff() < 0).all())
    torch.testing.assert_close(p.d_alpha(t), slope(p.alpha, t), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(p.d_sigma(t), slope(p.sigma, t), rtol=1e-9, atol=1e-12)
    assert bool(p.d_sigma(t).isfinite().all())
    steps = torch.arange(1, p.steps + 1, dtype=torch.float64) / p.steps
    torch.testing.assert_close(
        p.sigma(steps) ** 2, 1 - torch.cumprod(1 - torch.tensor(betas).double(), 0), rtol=1e-4, atol=0
    )


def test_schedules_are_those_of_their_papers() -> None:
    assert path.Betas.linear().betas[0] == pytest.approx(1e-4)
    assert path.Betas.linear().betas[500] == pytest.approx(1e-4 + (0.02 - 1e-4) * 500 / 999)
    middle = (math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * 500 / 999) ** 2
    assert path.Betas.scaled_linear().betas[500] == pytest.approx(middle)
    cosine = path.Betas.squared_cosine()

    def bar(i: int) -> float:
        return math.cos((i / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for i in (1, 2, 500, 998):
        assert cosine.betas[i - 1] == pytest.approx(1 - bar(i) / bar(i - 1), rel=1e-9)
    assert cosine.betas[-1] == 0.999


@every_table
def test_zero_terminal_snr_moves_the_root_of_alpha_bar_and_nothing_else(p: path.Betas) -> None:
    ended = p.zero_terminal_snr()
    t = torch.arange(1, p.steps + 1, dtype=torch.float64) / p.steps
    before, after = p.alpha(t), ended.alpha(t)
    assert float(after[-1]) == 0
    assert ended.betas[-1] == 1
    assert math.isclose(ended.betas[0], p.betas[0], rel_tol=1e-9)
    scale = before[0] / (before[0] - before[-1])
    torch.testing.assert_close(after, (before - before[-1]) * scale, rtol=0, atol=1e-12)
    point = ended.at(1.0, torch.zeros(1))
    assert all(math.isfinite(value) for value in point)
    assert float(point.sigma) == 1
    with pytest.raises(ValueError, match="log-SNR is infinite at t = 1; use t < 1"):
        ended.log_snr(1.0)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: path.Betas([]), "an empty table"),
        (lambda: path.Betas([0.1, -0.1]), r"beta\[1\] = -0.1"),
        (lambda: path.Betas([0.1, 1.0, 0.1]), r"beta\[1\] = 1.0"),
        (lambda: path.Betas([0.1, math.nan]), r"beta\[1\] = nan"),
        (lambda: path.Cosine(0.0), "offset = 0.0 must be positive"),
        (lambda: path.VariancePreserving(2.0, 1.0), "0 <= beta_min < beta_max, not 2.0 and 1.0"),
        (lambda: path.SubVariancePreserving(-1.0, 1.0), "SubVariancePreserving: needs 0 <= beta_min"),
        (lambda: path.VarianceExploding(0.0, 1.0), "0 < sigma_min < sigma_max"),
        (lambda: path.EDM(-1.0), "sigma_max = -1.0 must be positive"),
        (lambda: path.Shift(0.0), "factor = 0.0 must be positive"),
        (lambda: path.TimeChange(path.Linear(), lambda t: t / 2), "must map 0 to 0 and 1 to 1"),
    ],
)
def test_wrong_parameters_are_refused(make: Callable[[], Path], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_linear_log_snr_is_the_papers_divided_by_alpha_at_0() -> None:
    p, t = path.LinearLogSNR(13.3, -5.0), torch.linspace(0, 1, 11, dtype=torch.float64)
    log_snr = 13.3 - 18.3 * t
    start = torch.sigmoid(torch.tensor(13.3, dtype=torch.float64)).sqrt()
    torch.testing.assert_close(p.alpha(t), torch.sigmoid(log_snr).sqrt() / start, rtol=1e-12, atol=0)
    torch.testing.assert_close(p.sigma(t), torch.sigmoid(-log_snr).sqrt() / start, rtol=1e-12, atol=0)
    torch.testing.assert_close(p.log_snr(t), log_snr, rtol=1e-12, atol=1e-12)
    assert float(p.alpha(t)[0]) == 1
    with pytest.raises(ValueError, match=r"largest = 1\.0 must be above smallest = 1\.0"):
        path.LinearLogSNR(1.0, 1.0)


@pytest.mark.parametrize("name", ["ddpm", "ddpm-scaled-linear", "ddpm-cosine", "ddpm-zero-snr"])
def test_published_tables_have_the_names_of_the_command(name: str) -> None:
    from ornstein.names import PATHS

    made = getattr(path, name.replace("-", "_"))()
    assert PATHS[name] == made
    assert made in path.ALL
    assert made.steps == 1000
    assert made.sigma(torch.zeros((), dtype=torch.float64)) == 0

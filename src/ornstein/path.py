"""Gaussian probability paths: x_t = α(t)·x + σ(t)·ε with ε ~ N(0, I), t = 0 data and t = 1 noise.

A path is its two scalar functions. Everything else follows from them (Kingma et al. 2021, "Variational diffusion
models", section 3; Song et al. 2021, "Score-based generative modeling through SDEs", section 3.4):

    log-SNR             λ = log(α²/σ²), strictly falling in t
    forward SDE         dx = f x dt + g dw,  f = α̇/α,  g² = 2σσ̇ − 2fσ² = −σ²λ̇
    forward transition  x_t | x_s    ~ N(α_{t|s} x_s, σ²_{t|s} I),  α_{t|s} = α_t/α_s,  σ²_{t|s} = σ_t² − α²_{t|s} σ_s²
    forward posterior   x_s | x_t, x ~ N(α_{t|s}σ_s²/σ_t² x_t + α_s σ²_{t|s}/σ_t² x, σ²_{t|s}σ_s²/σ_t² I)
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

Time = float | Tensor


class Point(NamedTuple):
    """α, σ, dα/dt and dσ/dt at one time, shaped to broadcast against a batch (B, ...)."""

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    @property
    def log_snr(self) -> Tensor:
        """λ = 2 log(α/σ); infinite where α or σ is 0."""
        return 2 * (self.alpha.log() - self.sigma.log())

    @property
    def wronskian(self) -> Tensor:
        """ασ̇ − σα̇ > 0, finite wherever the derivatives are; −λ̇ = 2(ασ̇ − σα̇)/(ασ)."""
        return self.alpha * self.d_sigma - self.sigma * self.d_alpha


class Transition(NamedTuple):
    """x_t | x_s ~ N(alpha·x_s, sigma²), both shaped as the times."""

    alpha: Tensor
    sigma: Tensor


class Posterior(NamedTuple):
    """x_s | x_t, x ~ N(on_x_t·x_t + on_clean·x, sigma²), all shaped as the times."""

    on_x_t: Tensor
    on_clean: Tensor
    sigma: Tensor


def as_time(t: Time) -> Tensor:
    """A tensor of times; numbers become 0-dim float64 on the CPU, which combine with tensors of any device."""
    return t if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)


def align(value: Tensor, like: Tensor) -> Tensor:
    """Shape a per-sample scalar (B,) to broadcast against `like` (B, ...); 0-dim values stay as they are.

    Raises ValueError where a batch of times meets a batch of another size.
    """
    if value.ndim == 0:
        return value
    if value.ndim > 1 or len(value) not in (1, len(like)):
        raise ValueError(
            f"times of shape {tuple(value.shape)} do not fit a batch of {len(like)}: give one number or ({len(like)},)"
        )
    return value.to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def value_and_rate(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """(c(t), dc/dt) of an elementwise function by automatic differentiation; differentiable in t, and fine in no_grad."""
    with torch.inference_mode(False), torch.enable_grad():
        u = t.clone() if t.requires_grad else t.detach().clone().requires_grad_()
        value = function(u)
        (rate,) = torch.autograd.grad((value + 0 * u).sum(), u, create_graph=t.requires_grad)  # 0·u: c may be constant
    return (value if t.requires_grad else value.detach()), rate


@dataclass(frozen=True)
class Path:
    """Abstract: a subclass gives `alpha` and `sigma` as functions of a tensor of times; the rest has a default.

    What it promises on t in [0, 1] (`verify.path` checks it):
    - α(0) = 1, so that samples, x at t = 0, are in the units of the data. A schedule with α(0) = c < 1, such as a linear log-SNR
      with α² + σ² = 1, is divided by it: (α/c, σ/c) has the same log-SNR, and x_t in other units (`LinearLogSNR`).
    - σ(0) ≥ 0: above 0, samples hold noise of that level (variance exploding paths). σ(1) > 0 and α(1) ≥ 0.
    - The log-SNR falls strictly; α and σ are elementwise, and finite and continuous with their ends.

    Quantities that are infinite at an end (say, the drift where α = 0) raise a ValueError that names the end. The check
    looks at values, so it is made for times on the CPU and skipped on accelerators.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """α(t), the scale of the data, shaped as t."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """σ(t), the standard deviation of the noise, shaped as t."""
        raise NotImplementedError

    def d_alpha(self, t: Tensor) -> Tensor:
        """dα/dt, shaped as t: by reverse-mode differentiation unless the subclass knows it."""
        return value_and_rate(self.alpha, t)[1]

    def d_sigma(self, t: Tensor) -> Tensor:
        """dσ/dt, shaped as t: by reverse-mode differentiation unless the subclass knows it."""
        return value_and_rate(self.sigma, t)[1]

    def levels(self, t: Time, like: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ) shaped to broadcast against `like`; finite on all of [0, 1]."""
        alpha, sigma = self._scales(as_time(t))
        return align(alpha, like), align(sigma, like)

    def at(self, t: Time, like: Tensor) -> Point:
        """The path at t (a number, 0-dim or (B,)), shaped to broadcast against `like` of shape (B, ...).

        Raises ValueError where a derivative is infinite (dσ/dt of a variance preserving path at t = 0).
        """
        t = as_time(t)
        d_alpha, d_sigma = self._rates(t)
        d_alpha, d_sigma = self._finite("dα/dt", d_alpha, t), self._finite("dσ/dt", d_sigma, t)
        return Point(*self.levels(t, like), align(d_alpha, like), align(d_sigma, like))

    def log_snr(self, t: Time) -> Tensor:
        """λ(t) = log(α²/σ²). Raises ValueError at an end where it is infinite."""
        t = as_time(t)
        return self._finite("the log-SNR", self._log_snr(t), t)

    def time(self, log_snr: Time) -> Tensor:
        """The inverse of `log_snr`, shaped as its argument: by bisection unless the subclass knows it. ±inf gives the ends."""
        target = as_time(log_snr)
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(64 if target.dtype == torch.float64 else 32):
            middle = (low + high) / 2
            noisier = self._log_snr(middle) < target
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return (low + high) / 2

    def drift(self, t: Time) -> Tensor:
        """f = α̇/α of the forward SDE dx = f x dt + g dw. Raises ValueError where α = 0."""
        t = as_time(t)
        return self._finite("the drift α̇/α", self.d_alpha(t) / self.alpha(t), t)

    def diffusion(self, t: Time) -> Tensor:
        """g = √(2σσ̇ − 2fσ²) of the forward SDE, a standard deviation per √time. Raises ValueError where α = 0."""
        t = as_time(t)
        return self._finite("the diffusion g", self._diffusion_squared(t).clamp_min(0).sqrt(), t)

    def transition(self, s: Time, t: Time) -> Transition:
        """The forward kernel x_t | x_s for s ≤ t. Raises ValueError for s > t, or where α_s = 0."""
        s, t = self._ordered(s, t)
        alpha = self._finite("the transition α_t/α_s", self._retained(s, t), s)
        return Transition(alpha, self.sigma(t) * self._fresh(s, t).sqrt())

    def posterior(self, s: Time, t: Time) -> Posterior:
        """The kernel x_s | x_t, x for s ≤ t, t > 0. Raises ValueError for s > t, or where σ_t = 0.

        On a β-table with s, t neighbours these are DDPM's μ̃ and β̃ (Ho et al. 2020, equation 7).
        """
        s, t = self._ordered(s, t)
        fresh = self._fresh(s, t)
        ratio = self._finite("the posterior σ_s/σ_t", self.sigma(s) / self.sigma(t), t)
        return Posterior(self._retained(s, t) * ratio**2, self.alpha(s) * fresh, self.sigma(s) * fresh.sqrt())

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ), for paths where both come from one computation."""
        return self.alpha(t), self.sigma(t)

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(dα/dt, dσ/dt), likewise."""
        return self.d_alpha(t), self.d_sigma(t)

    def _log_snr(self, t: Tensor) -> Tensor:
        alpha, sigma = self._scales(t)
        return 2 * (alpha.log() - sigma.log())

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        sigma = self.sigma(t)
        return 2 * sigma * (self.d_sigma(t) - self.d_alpha(t) / self.alpha(t) * sigma)

    def _retained(self, s: Tensor, t: Tensor) -> Tensor:
        """α_t/α_s, which is 1 from a time to itself also where α = 0."""
        ratio = self.alpha(t) / self.alpha(s)
        return torch.where(s == t, torch.ones_like(ratio), ratio)

    def _fresh(self, s: Tensor, t: Tensor) -> Tensor:
        """σ²_{t|s}/σ_t² = 1 − e^{λ_t − λ_s}: the part of the noise at t that came after s, without cancellation."""
        gap = self._log_snr(t) - self._log_snr(s)
        return torch.where(s == t, torch.zeros_like(gap), -torch.expm1(gap))

    def _ordered(self, s: Time, t: Time) -> tuple[Tensor, Tensor]:
        s, t = as_time(s), as_time(t)
        if s.device.type == t.device.type == "cpu" and bool((s > t).any()):
            raise ValueError(
                f"kernels need s <= t (t = 0 is data, t = 1 noise), not s = {s.tolist()}, t = {t.tolist()}"
            )
        return s, t

    def _finite(self, what: str, value: Tensor, t: Tensor) -> Tensor:
        if value.device.type == "cpu" and not bool(value.isfinite().all()):
            t, value = torch.broadcast_tensors(t, value)
            where = float(t[~value.isfinite()].flatten()[0])
            side = {0.0: "; use t > 0", 1.0: "; use t < 1"}.get(where, "")
            raise ValueError(f"{type(self).__name__}: {what} is infinite at t = {where:g}{side}")
        return value


@dataclass(frozen=True)
class _UnitVariance(Path):
    """Abstract: paths with α² + σ² = 1, where σσ̇ = −αα̇ and therefore g² = −2f stays finite where σ̇ does not."""

    def d_sigma(self, t: Tensor) -> Tensor:
        return -self.alpha(t) * self.d_alpha(t) / self.sigma(t)

    def _diffusion_squared(self, t: Tensor) -> Tensor:
        return -2 * self.d_alpha(t) / self.alpha(t)


@dataclass(frozen=True)
class Linear(Path):
    """Rectified flow: α = 1 − t, σ = t (Liu et al. 2023; Lipman et al. 2023 with σ_min = 0).

    >>> import torch
    >>> from ornstein import path
    >>> path.Linear().alpha(torch.tensor(0.25)), path.Linear().log_snr(torch.tensor(0.5))
    (tensor(0.7500), tensor(0.))
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def d_alpha(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def time(self, log_snr: Time) -> Tensor:
        return torch.sigmoid(-as_time(log_snr) / 2)


@dataclass(frozen=True)
class Trigonometric(Path):
    """α = cos(πt/2), σ = sin(πt/2) (Albergo and Vanden-Eijnden 2023; TrigFlow, Lu and Song 2025)."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2))  # cos(πt/2), and exactly 0 at t = 1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.sigma(t) * (-math.pi / 2)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.alpha(t) * (math.pi / 2)

    def time(self, log_snr: Time) -> Tensor:
        return torch.atan(torch.exp(-as_time(log_snr) / 2)) * (2 / math.pi)


@dataclass(frozen=True)
class Cosine(_UnitVariance):
    """α = cos φ(t) / cos φ(0), φ(t) = (t + s)/(1 + s)·π/2, σ² = 1 − α² (Nichol and Dhariwal 2021, equation 17).

    Raises ValueError for an offset s that is not positive.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if self.offset <= 0:
            raise ValueError(f"Cosine: offset = {self.offset} must be positive; without an offset use Trigonometric()")

    @property
    def _start(self) -> float:
        return self.offset / (1 + self.offset) * math.pi / 2

    def _angle(self, t: Tensor) -> Tensor:
        return t * (math.pi / 2 / (1 + self.offset)) + self._start

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin((1 - t) * (math.pi / 2 / (1 + self.offset))) / math.cos(self._start)

    def sigma(self, t: Tensor) -> Tensor:
        # 1 − cos²φ/cos²φ₀ = sin(φ − φ₀) sin(φ + φ₀)/cos²φ₀ has no cancellation near the data
        rise, angle = t * (math.pi / 2 / (1 + self.offset)), self._angle(t) + self._start
        return (torch.sin(rise) * torch.sin(angle)).sqrt() / math.cos(self._start)

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.sin(self._angle(t)) * (-math.pi / 2 / (1 + self.offset) / math.cos(self._start))

    def time(self, log_snr: Time) -> Tensor:
        log_snr = as_time(log_snr)
        sine, cosine = math.sin(self._start), math.cos(self._start)
        height = (sine**2 + cosine**2 * torch.sigmoid(-log_snr)).sqrt()
        angle = torch.atan2(height, torch.sigmoid(log_snr).sqrt() * cosine)
        return (angle - self._start) * (2 / math.pi * (1 + self.offset))


@dataclass(frozen=True)
class _LinearBeta:
    """log α = −¼t²(β₁ − β₀) − ½tβ₀, shared by the variance preserving and the sub-VP path."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta_min < self.beta_max:
            raise ValueError(
                f"{type(self).__name__}: needs 0 <= beta_min < beta_max, not {self.beta_min} and {self.beta_max}"
            )

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -t * (t * ((self.beta_max - self.beta_min) / 4) + self.beta_min / 2)

    def alpha(self, t: Tensor) -> Tensor:
        return self._log_alpha(t).exp()

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t) * (self.beta_min + t * (self.beta_max - self.beta_min)) * -0.5

    def _time(self, minus_log_alpha: Tensor) -> Tensor:
        # the positive root of ¼(β₁ − β₀)t² + ½β₀t = −log α, written without cancellation; below the last log-SNR it is 1
        height = minus_log_alpha.clamp(max=(self.beta_max + self.beta_min) / 4)
        rise = self.beta_max - self.beta_min
        return 2 * height / (self.beta_min / 2 + (self.beta_min**2 / 4 + rise * height).sqrt())


@dataclass(frozen=True)
class VariancePreserving(_LinearBeta, _UnitVariance):
    """log α = −¼t²(β₁ − β₀) − ½tβ₀, σ² = 1 − α² (Song et al. 2021, equation 32).

    Raises ValueError unless 0 ≤ beta_min < beta_max.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(2 * self._log_alpha(t))).sqrt()

    def time(self, log_snr: Time) -> Tensor:
        log_snr = as_time(log_snr)
        return self._time(torch.nn.functional.softplus(-log_snr, threshold=700) / 2)


@dataclass(frozen=True)
class SubVariancePreserving(_LinearBeta, Path):
    """α as in the variance preserving path, σ = 1 − α² (Song et al. 2021, equation 29).

    Raises ValueError unless 0 ≤ beta_min < beta_max.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self._log_alpha(t))

    def d_sigma(self, t: Tensor) -> Tensor:
        return -2 * self.alpha(t) * self.d_alpha(t)

    def time(self, log_snr: Time) -> Tensor:
        # (1 − α²)/α = 2 sinh(−log α)
        return self._time(torch.asinh(torch.exp(-as_time(log_snr) / 2) / 2))


@dataclass(frozen=True)
class VarianceExploding(Path):
    """α = 1, σ = σ_min (σ_max/σ_min)^t (Song et al. 2021, equation 30). At t = 0 noise of σ_min is left.

    Raises ValueError unless 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"VarianceExploding: needs 0 < sigma_min < sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.exp(t * self._log_ratio) * self.sigma_min

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.sigma(t) * self._log_ratio

    def time(self, log_snr: Time) -> Tensor:
        return ((-as_time(log_snr) / 2 - math.log(self.sigma_min)) / self._log_ratio).clamp(0, 1)


@dataclass(frozen=True)
class EDM(Path):
    """α = 1, σ = σ_max·t: EDM's σ = time, scaled to end at t = 1 (Karras et al. 2022, table 1).

    Raises ValueError for a sigma_max that is not positive.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if self.sigma_max <= 0:
            raise ValueError(f"EDM: sigma_max = {self.sigma_max} must be positive")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t * self.sigma_max

    def d_alpha(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def d_sigma(self, t: Tensor) -> Tensor:
        return torch.full_like(t, self.sigma_max)

    def time(self, log_snr: Time) -> Tensor:
        return (torch.exp(-as_time(log_snr) / 2) / self.sigma_max).clamp(0, 1)


def _cubic(rise: Tensor, m0: Tensor, m1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of u, u², u³ of Hermite's cubic on [0, 1] from 0 to `rise` with slopes m0 and m1 at its ends."""
    return m0, 3 * rise - 2 * m0 - m1, m0 + m1 - 2 * rise


@dataclass(frozen=True)
class Betas(Path):
    """The path of any table of β_i, i = 1..T: at t = i/T, α = √ᾱ_i and σ = √(1 − ᾱ_i) with ᾱ_i = Π_{j≤i}(1 − β_j).

    Between the knots the angle arctan(σ/α) is a monotone cubic (Fritsch and Carlson 1980), so the path is smooth, stays
    on α² + σ² = 1 and is finite at both ends, also where the table ends at zero SNR (β_T = 1).
    `lowest` is the smallest time that networks on it are trained at, below which grids make no call: 1/T, the first level of the
    discrete process (None), or 0 for networks trained in continuous time, as here.
    Raises ValueError for values outside (0, 1], or a 1 before the last.
    """

    betas: tuple[float, ...]
    lowest: float

    def __init__(self, betas: Iterable[float] | Tensor, lowest: float | None = None) -> None:
        values = betas.tolist() if isinstance(betas, Tensor) else [float(beta) for beta in betas]
        bad = [i for i, b in enumerate(values) if not (0 < b < 1 or (b == 1 and i == len(values) - 1 > 0))]
        if bad or not values:
            what = f"beta[{bad[0]}] = {values[bad[0]]}" if bad else "an empty table"
            raise ValueError(f"Betas: {what} is not allowed; every β lies in (0, 1), and only the last may be 1")
        object.__setattr__(self, "betas", tuple(values))
        object.__setattr__(self, "lowest", 1 / len(values) if lowest is None else float(lowest))

    @cached_property
    def _hash(self) -> int:
        return hash((self.betas, self.lowest))

    def __hash__(
        self,
    ) -> int:  # as a key of caches it is hashed several times a run, and a table has a thousand numbers
        return self._hash

    def __repr__(self) -> str:
        return f"Betas({self.steps} steps, {self.betas[0]:.4g} to {self.betas[-1]:.4g})"

    @classmethod
    def linear(cls, steps: int = 1000, first: float = 1e-4, last: float = 0.02, lowest: float | None = None) -> "Betas":
        """Evenly spaced β (Ho et al. 2020, section 4)."""
        return cls(torch.linspace(first, last, steps, dtype=torch.float64), lowest)

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, first: float = 0.00085, last: float = 0.012, lowest: float | None = None
    ) -> "Betas":
        """Evenly spaced √β (latent diffusion, Rombach et al. 2022)."""
        return cls(torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2, lowest)

    @classmethod
    def squared_cosine(
        cls, steps: int = 1000, offset: float = 0.008, largest: float = 0.999, lowest: float | None = None
    ) -> "Betas":
        """β_i = min(1 − ᾱ(i/T)/ᾱ((i−1)/T), largest) (Nichol and Dhariwal 2021, equation 17)."""
        alpha_bar = Cosine(offset).alpha(torch.linspace(0, 1, steps + 1, dtype=torch.float64)) ** 2
        return cls((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest), lowest)

    def zero_terminal_snr(self) -> "Betas":
        """√ᾱ shifted and scaled so that it ends at 0 and keeps its first value (Lin et al. 2024, algorithm 1)."""
        root = torch.cumprod(1 - torch.tensor(self.betas, dtype=torch.float64), 0).sqrt()
        root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
        return Betas(1 - (root / torch.cat([torch.ones(1, dtype=root.dtype), root[:-1]])) ** 2, self.lowest)

    @property
    def steps(self) -> int:
        """T; step i of the discrete process is t = i/T."""
        return len(self.betas)

    @cached_property
    def _knots(self) -> tuple[Tensor, Tensor]:
        """Angles (T+1,) at t = i/T and their slopes dθ/dt, in float64."""
        log_alpha_bar = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64)).cumsum(0)
        alpha, sigma = (log_alpha_bar / 2).exp(), (-torch.expm1(log_alpha_bar)).sqrt()
        angle = torch.cat([torch.zeros(1, dtype=torch.float64), torch.atan2(sigma, alpha)])
        secant = angle.diff() * self.steps
        if self.steps == 1:
            return angle, secant.repeat(2)
        inner = 2 / (1 / secant[1:] + 1 / secant[:-1])  # the harmonic mean keeps the cubic monotone
        ends = [(1.5 * secant[i] - 0.5 * inner[i]).clamp(0 * secant[i], 3 * secant[i]).reshape(1) for i in (0, -1)]
        return angle, torch.cat([ends[0], inner, ends[1]])

    def _angle(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """θ(t) and dθ/dt."""
        angle, slope = (knots.to(t.device, t.dtype) for knots in self._knots)
        position = t.detach() * self.steps
        nearest = position.round()  # i/T·T may miss i by rounding; a knot must give the table's own value
        position = torch.where(
            (position - nearest).abs() < 64 * self.steps * torch.finfo(t.dtype).eps, nearest, position
        )
        left = position.floor().long().clamp(0, self.steps - 1)
        u = position - left + (t - t.detach()) * self.steps  # keeps the derivative in t
        rise = angle[left + 1] - angle[left]
        m0, c2, c3 = _cubic(rise, slope[left] / self.steps, slope[left + 1] / self.steps)
        return angle[left] + u * (m0 + u * (c2 + u * c3)), (m0 + u * (2 * c2 + 3 * u * c3)) * self.steps

    def time(self, log_snr: Time) -> Tensor:
        """The knots on both sides by search, then the cubic between them by Newton steps kept between the knots."""
        target = as_time(log_snr)
        angle, slope = (knots.to(target.device, target.dtype) for knots in self._knots)
        wanted = torch.atan(torch.exp(target / -2))
        left = (torch.searchsorted(angle, wanted, right=True) - 1).clamp(0, self.steps - 1)
        rise = angle[left + 1] - angle[left]
        m0, c2, c3 = _cubic(rise, slope[left] / self.steps, slope[left + 1] / self.steps)
        height = wanted - angle[left]
        low, high = torch.zeros_like(height), torch.ones_like(height)
        u = (height / rise).clamp(0, 1)
        for _ in range(64):
            error = u * (m0 + u * (c2 + u * c3)) - height
            if bool((error.abs() <= torch.finfo(wanted.dtype).eps * wanted).all()):
                break
            low, high = torch.where(error < 0, u, low), torch.where(error > 0, u, high)
            moved = u - error / (m0 + u * (2 * c2 + 3 * u * c3))
            u = torch.where((moved >= low) & (moved <= high), moved, (low + high) / 2)
        return (left + u).clamp(0, self.steps) / self.steps

    def _scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = self._angle(t)[0]
        return torch.where(t >= 1, torch.sin(math.pi / 2 - angle), torch.cos(angle)), torch.sin(angle)  # α(1) may be 0

    def _rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle, slope = self._angle(t)
        return -torch.sin(angle) * slope, torch.cos(angle) * slope

    def alpha(self, t: Tensor) -> Tensor:
        return self._scales(t)[0]

    def sigma(self, t: Tensor) -> Tensor:
        return self._scales(t)[1]

    def d_alpha(self, t: Tensor) -> Tensor:
        return self._rates(t)[0]

    def d_sigma(self, t: Tensor) -> Tensor:
        return self._rates(t)[1]


@dataclass(frozen=True)
class Shift:
    """c(u) = f·u/(1 + (f − 1)·u), which multiplies σ/α of the linear path by f (Esser et al. 2024, equation 23).

    Raises ValueError for a factor f that is not positive.
    """

    factor: float = 3.0

    def __post_init__(self) -> None:
        if self.factor <= 0:
            raise ValueError(f"Shift: factor = {self.factor} must be positive")

    def __call__(self, u: Tensor) -> Tensor:
        return self.factor * u / (self.factor * u + (1 - u))  # this order gives exactly 1 at u = 1


@dataclass(frozen=True)
class TimeChange(Path):
    """Another path run by another clock: α(t) = α_base(c(t)), c increasing with c(0) = 0 and c(1) = 1.

    Raises ValueError where the clock misses an end.
    """

    base: Path
    clock: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        ends = self.clock(torch.tensor([0.0, 1.0], dtype=torch.float64))
        if ends.tolist() != [0.0, 1.0]:
            raise ValueError(f"TimeChange: the clock must map 0 to 0 and 1 to 1, not to {ends.tolist()}")

    def alpha(self, t: Tensor) -> Tensor:
        return self.base.alpha(self.clock(t))

    def sigma(self, t: Tensor) -> Tensor:
        return self.base.sigma(self.clock(t))

    def d_alpha(self, t: Tensor) -> Tensor:
        u, rate = value_and_rate(self.clock, t)
        return self.base.d_alpha(u) * rate

    def d_sigma(self, t: Tensor) -> Tensor:
        u, rate = value_and_rate(self.clock, t)
        return self.base.d_sigma(u) * rate


@dataclass(frozen=True)
class LinearLogSNR(Path):
    """λ = λ_max − (λ_max − λ_min)·t, with α² + σ² constant (Kingma et al. 2021, "Variational diffusion models", appendix D).

    α² = sigmoid(λ)/sigmoid(λ_max) and σ² = sigmoid(−λ)/sigmoid(λ_max): the paper's variance preserving α² = sigmoid(λ), divided
    by α(0), so that samples are in the units of the data. At t = 0 noise of σ = e^(−λ_max/2) is left.
    Raises ValueError unless largest > smallest.
    """

    largest: float = 13.3
    smallest: float = -5.0

    def __post_init__(self) -> None:
        if not self.largest > self.smallest:
            raise ValueError(f"LinearLogSNR: largest = {self.largest} must be above smallest = {self.smallest}")

    def _falling(self, t: Tensor) -> Tensor:
        return self.largest - (self.largest - self.smallest) * t

    def alpha(self, t: Tensor) -> Tensor:
        start = torch.as_tensor(self.largest, dtype=t.dtype, device=t.device)
        return (0.5 * (torch.nn.functional.logsigmoid(self._falling(t)) - torch.nn.functional.logsigmoid(start))).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return self.alpha(t) * (-0.5 * self._falling(t)).exp()

    def d_alpha(self, t: Tensor) -> Tensor:
        return self.alpha(t) * torch.sigmoid(-self._falling(t)) * (-0.5 * (self.largest - self.smallest))

    def d_sigma(self, t: Tensor) -> Tensor:
        return self.sigma(t) * torch.sigmoid(self._falling(t)) * (0.5 * (self.largest - self.smallest))

    def time(self, log_snr: Time) -> Tensor:
        return ((self.largest - as_time(log_snr)) / (self.largest - self.smallest)).clamp(0, 1)


def ddpm() -> Betas:
    """The β-table of DDPM (Ho et al. 2020, section 4), in continuous time down to 0: what the command calls `ddpm`."""
    return Betas.linear(lowest=0)


def ddpm_scaled_linear() -> Betas:
    """The β-table of latent diffusion (Rombach et al. 2022), in continuous time down to 0: `ddpm-scaled-linear`."""
    return Betas.scaled_linear(lowest=0)


def ddpm_cosine() -> Betas:
    """The β-table of improved DDPM (Nichol and Dhariwal 2021, equation 17), in continuous time down to 0: `ddpm-cosine`."""
    return Betas.squared_cosine(lowest=0)


def ddpm_zero_snr() -> Betas:
    """The β-table of latent diffusion with zero SNR at t = 1 (Lin et al. 2024), in continuous time down to 0: `ddpm-zero-snr`."""
    return Betas.scaled_linear(lowest=0).zero_terminal_snr()


ALL: tuple[Path, ...] = (
    Linear(),
    Cosine(),
    Trigonometric(),
    VariancePreserving(),
    SubVariancePreserving(),
    VarianceExploding(),
    EDM(),
    ddpm(),
    ddpm_scaled_linear(),
    ddpm_cosine(),
    ddpm_zero_snr(),
    TimeChange(Linear(), Shift(3.0)),
)

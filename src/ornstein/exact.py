"""Denoisers in closed form: data whose posterior mean, score, velocity, density and samples are known exactly.

Data x ~ N(m, C) on a path x_t = αx + σε gives x_t ~ N(αm, V), V = α²C + σ²I, and by Gaussian conditioning

    E[x | x_t] = m + αC V⁻¹(x_t − αm)      E[ε | x_t] = σV⁻¹(x_t − αm)      ∇log p_t(x_t) = −V⁻¹(x_t − αm)

(Bishop 2006, section 2.3.3). A mixture averages these over the posterior weights of its components; a finite data set is the
mixture of points, weighed by softmax(−‖x_t − αx_i‖²/2σ²) (Karras et al. 2022, equation 57). They are the oracles of tests and
studies: α·clean + σ·noise = x_t, finite at both ends of every path; where σ = 0, clean = x_t/α and noise = 0.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from ornstein.denoiser import Views
from ornstein.device import precise
from ornstein.estimate import Estimate
from ornstein.path import Path, Time, as_time

LOG_2PI = math.log(2 * math.pi)
CHUNK = 1 << 22  # elements of the largest intermediate of `Empirical`, 32 MB in float64


class Exact(Views, ABC):
    """A denoiser that also knows its density and draws from it. `shape` is the shape of one item."""

    path: Path
    shape: tuple[int, ...]

    @abstractmethod
    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        """E[x | x_t] and E[ε | x_t] for x_t (B, *shape) and t a number, 0-dim or (B,), in the dtype and on the device of x_t.

        Raises ValueError where x_t is not a batch of items.
        """

    @abstractmethod
    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log p_t(x), (B,) nats for x (B, *shape). Raises ValueError where p_t has no density."""

    @abstractmethod
    def score(self, x_t: Tensor, t: Time) -> Tensor:
        """∇log p_t(x_t), shaped as x_t. Raises ValueError where p_t has no density."""

    @abstractmethod
    def _draw_data(self, n: int, generator: torch.Generator | None) -> Tensor:
        """(n, *shape) samples of the data."""

    def draw(self, n: int, t: Time = 0.0, generator: torch.Generator | None = None) -> Tensor:
        """(n, *shape) independent samples of p_t, in the dtype and on the device of the parameters."""
        x = self._draw_data(n, generator)
        alpha, sigma = self.path.levels(t, x)
        return alpha * x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, path={self.path})"

    def _rows(self, x: Tensor) -> Tensor:
        if x.ndim != len(self.shape) + 1 or x.shape[1:] != self.shape:
            expected = ", ".join(["B", *map(str, self.shape)])
            raise ValueError(f"{type(self).__name__}: x has shape {tuple(x.shape)} where ({expected}) is needed")
        return x.flatten(1)

    def _needs_noise(self, what: str, sigma: Tensor, dtype: torch.dtype) -> None:
        if bool(_noiseless(sigma, dtype).any()):
            raise ValueError(
                f"{type(self).__name__}.{what}: the data has no density, and the path has no noise at this time; use t > 0"
            )


class Gaussian(Exact):
    """Data x ~ N(mean, cov).

    mean: (*shape), at least one dimension. cov: a number, a variance for each element (*shape), or a full (D, D) matrix
    over the D flattened elements, which may be singular. With a number or variances all operations are elementwise, so
    that a row of the result does not depend on its batch.
    Raises ValueError for shapes that do not fit, and for a cov that is not symmetric or not positive semi-definite.
    """

    def __init__(self, mean: Tensor | Sequence[float], cov: Tensor | Sequence[float] | float, path: Path) -> None:
        self.mean, self.path = _floats(mean), path
        self.cov = _numbers(cov, self.mean.device)
        if self.mean.ndim == 0 or self.mean.numel() == 0:
            raise ValueError(
                f"Gaussian: mean has shape {tuple(self.mean.shape)}; give one entry per element, (D,) or more"
            )
        self.shape = tuple(self.mean.shape)
        self._spread, self._basis = _spectrum("Gaussian: cov", self.cov, (), self.shape)
        self._singular = bool((self._spread == 0).any())

    takes_aim: ClassVar[bool] = True

    def __call__(self, x_t: Tensor, t: Time, s: Time | None = None) -> Estimate:
        """E[x | x_t] and E[ε | x_t]; with an aim s, the pair of the exact flow map from t to s (`ornstein.flowmap`).

        In the chart τ = σ/(α + σ), y = x/(α + σ) the flow is Y = (1−ρ)m + (r_ρ/r_τ)(y − (1−τ)m) along each eigenvector, with
        r² = λ(1−τ)² + τ², so noise − clean = −m + [(ρ+τ)(1+λ) − 2λ]/[r_τ(r_ρ + r_τ)]·(y − (1−τ)m): no 0/0 as s → t.
        """
        if s is not None:
            return self._aimed(x_t, t, s)
        x = self._rows(x_t)
        alpha, sigma = self.path.levels(t, x)
        spread = _regular(self._spread.to(x), sigma, self._singular)
        pull = self._centred(x, alpha) / (alpha**2 * spread + sigma**2)
        clean = self.mean.to(x).flatten() + self._restored(alpha * spread * pull)
        return Estimate(clean.reshape(x_t.shape), self._restored(sigma * pull).reshape(x_t.shape))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log N(x; αm, α²C + σ²I), (B,) nats. Raises ValueError at σ = 0 where cov is singular."""
        rows, alpha, total = self._total("log_prob", x, t)
        return -0.5 * (self._centred(rows, alpha) ** 2 / total + total.log() + LOG_2PI).sum(-1)

    def score(self, x_t: Tensor, t: Time) -> Tensor:
        """−V⁻¹(x_t − αm), shaped as x_t. Raises ValueError at σ = 0 where cov is singular."""
        rows, alpha, total = self._total("score", x_t, t)
        return -self._restored(self._centred(rows, alpha) / total).reshape(x_t.shape)

    def flow(self, x: Tensor, t: Time, s: Time) -> Tensor:
        """The probability-flow ODE solved from time t to time s, either way: α_s m + V_s^½ V_t^−½ (x − α_t m).

        V_t and V_s share their eigenvectors, and along each the ODE is d(log|x − αm|) = ½ d(log V).
        Raises ValueError where it starts at σ = 0 with a singular cov.
        """
        rows, alpha, total = self._total("flow", x, t)
        alpha_s, sigma_s = self.path.levels(s, rows)
        ratio = ((alpha_s**2 * self._spread.to(rows) + sigma_s**2) / total).sqrt()
        moved = self._restored(ratio * self._centred(rows, alpha))
        return (alpha_s * self.mean.to(rows).flatten() + moved).reshape(x.shape)

    def _aimed(self, x_t: Tensor, t: Time, s: Time) -> Estimate:
        x = self._rows(x_t)
        (alpha, sigma), (alpha_s, sigma_s) = self.path.levels(t, x), self.path.levels(s, x)
        scale, scale_s, spread = alpha + sigma, alpha_s + sigma_s, self._spread.to(x)
        tau, rho = sigma / scale, sigma_s / scale_s
        r_t, r_s = (
            (spread * a**2 + b**2).sqrt() / c for a, b, c in ((alpha, sigma, scale), (alpha_s, sigma_s, scale_s))
        )
        product = r_t * (r_s + r_t)  # 0 where the data are a point and there is no noise: y = m, nothing moves
        pull = self._centred(x, alpha) / scale * ((rho + tau) * (1 + spread) - 2 * spread)
        slope = self._restored(pull / torch.where(product == 0, 1, product)) - self.mean.to(x).flatten()
        y = x / scale
        clean, noise = y - tau * slope, y + (1 - tau) * slope
        return Estimate(clean.reshape(x_t.shape), noise.reshape(x_t.shape))

    def _draw_data(self, n: int, generator: torch.Generator | None) -> Tensor:
        mean = self.mean.flatten()
        z = torch.randn(n, len(mean), generator=generator, dtype=mean.dtype, device=mean.device)
        return (mean + self._restored(self._spread.sqrt().to(z) * z)).reshape(n, *self.shape)

    def _total(self, what: str, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, D), α, and the eigenvalues of α²C + σ²I, all positive."""
        rows = self._rows(x)
        alpha, sigma = self.path.levels(t, rows)
        if self._singular:
            self._needs_noise(what, sigma, rows.dtype)
        return rows, alpha, alpha**2 * self._spread.to(rows) + sigma**2

    def _centred(self, x: Tensor, alpha: Tensor) -> Tensor:
        """x − αm in the eigenvectors of cov."""
        centred = x - alpha * self.mean.to(x).flatten()
        return centred if self._basis is None else centred @ self._basis.to(x)

    def _restored(self, y: Tensor) -> Tensor:
        return y if self._basis is None else y @ self._basis.to(y).T


@dataclass(frozen=True, eq=False, repr=False)
class _Mixture(Exact):
    """Gaussians in their eigenvectors, with K on the axis before the last: one set for all rows, or one for each row."""

    path: Path
    shape: tuple[int, ...]
    log_weights: Tensor  # (K,) or (B, K)
    means: Tensor  # (K, D) or (B, K, D)
    spread: Tensor  # eigenvalues of the covariances, (..., K, D), or (..., K, 1) where isotropic
    basis: Tensor | None  # (..., K, D, D), eigenvectors in columns; None where the covariances are diagonal

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        x = self._rows(x_t)[:, None]
        alpha, sigma = self.path.levels(t, x)
        spread = _regular(self.spread.to(x), sigma, self._singular)
        precision = 1 / (alpha**2 * spread + sigma**2)
        y = self._centred(x, alpha)
        weights = self._logits(y, precision).softmax(-1)[..., None]
        pull, means = weights * precision, self.means.to(x)
        if self.basis is None:
            # with Σ_k r_k = 1 both sums over components collect into multiples of x and of one mean, (B, 1, D) each
            middle = (pull * means).sum(1, keepdim=True)
            clean = alpha * (pull * spread).sum(1, keepdim=True) * x + sigma**2 * middle
            noise = sigma * (pull.sum(1, keepdim=True) * x - alpha * middle)
        else:
            clean = (weights * means + alpha * self._restored(spread * pull * y)).sum(1)
            noise = sigma * self._restored(pull * y).sum(1, keepdim=True)
        return Estimate(clean.reshape(x_t.shape), noise.reshape(x_t.shape))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log Σ_k w_k N(x; αm_k, α²C_k + σ²I), (B,) nats. Raises ValueError at σ = 0 where a covariance is singular."""
        y, precision = self._components("log_prob", x, t)
        return self._logits(y, precision).logsumexp(-1) - 0.5 * LOG_2PI * y.shape[-1]

    def score(self, x_t: Tensor, t: Time) -> Tensor:
        """−Σ_k r_k V_k⁻¹(x_t − αm_k), shaped as x_t. Raises ValueError at σ = 0 where a covariance is singular."""
        y, precision = self._components("score", x_t, t)
        pull = self._logits(y, precision).softmax(-1)[..., None] * precision
        return -self._restored(pull * y).sum(1).reshape(x_t.shape)

    def posterior_weights(self, x_t: Tensor, t: Time) -> Tensor:
        """r_k = p(component k | x_t), (B, K). Raises ValueError at σ = 0 where a covariance is singular."""
        return self._logits(*self._components("posterior_weights", x_t, t)).softmax(-1)

    def _draw_data(self, n: int, generator: torch.Generator | None) -> Tensor:
        if self.log_weights.ndim == 1:
            index = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
            return self._pick(index[:, None])._draw_data(n, generator)
        if len(self.log_weights) != n:
            raise ValueError(
                f"draw: {len(self.log_weights)} labels were given, so n must be {len(self.log_weights)}, not {n}"
            )
        shape, dtype, device = self.means.shape, self.means.dtype, self.means.device
        z = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        return (self.means + self._restored(self.spread.sqrt().to(z) * z)).reshape(n, *self.shape)

    @cached_property
    def _singular(self) -> bool:
        return bool((self.spread == 0).any())

    def for_rows(self, rows: slice, x: Tensor) -> "_Mixture":
        """The mixtures of some rows, where each row of the batch has one of its own."""
        if self.log_weights.ndim == 1:
            return self
        basis = None if self.basis is None else self.basis[rows]
        return _Mixture(self.path, self.shape, self.log_weights[rows], self.means[rows], self.spread[rows], basis)

    def _pick(self, index: Tensor) -> "_Mixture":
        """Component `index` alone: (1,) for all rows, (B, 1) for each its own."""
        basis = None if self.basis is None else self.basis[index]
        certain = torch.zeros(index.shape, dtype=self.log_weights.dtype, device=index.device)
        return _Mixture(self.path, self.shape, certain, self.means[index], self.spread[index], basis)

    def _components(self, what: str, x: Tensor, t: Time) -> tuple[Tensor, Tensor]:
        """x − αm_k in the eigenvectors (B, K, D), and the precisions there."""
        rows = self._rows(x)[:, None]
        alpha, sigma = self.path.levels(t, rows)
        if self._singular:
            self._needs_noise(what, sigma, rows.dtype)
        return self._centred(rows, alpha), 1 / (alpha**2 * self.spread.to(rows) + sigma**2)

    def _logits(self, y: Tensor, precision: Tensor) -> Tensor:
        """log(w_k N(x; αm_k, V_k)) + ½D log 2π, (B, K)."""
        log_det = precision.log().sum(-1) * (y.shape[-1] / precision.shape[-1])
        if precision.shape[-1] == 1:  # isotropic: one pass less over (B, K, D)
            distance = y.square().sum(-1) * precision[..., 0]
        else:
            distance = (y.square() * precision).sum(-1)
        return self.log_weights.to(y) + 0.5 * (log_det - distance)

    def _centred(self, x: Tensor, alpha: Tensor) -> Tensor:
        if self.log_weights.ndim == 2 and len(self.log_weights) != len(x):
            raise ValueError(f"GaussianMixture: {len(self.log_weights)} labels were given for a batch of {len(x)}")
        centred = x - alpha * self.means.to(x)
        if self.basis is None:
            return centred
        return torch.einsum("...kde,...kd->...ke", self.basis.to(x), centred)

    def _restored(self, y: Tensor) -> Tensor:
        return y if self.basis is None else torch.einsum("...kde,...ke->...kd", self.basis.to(y), y)


class GaussianMixture(_Mixture):
    """Data x ~ Σ_k weights_k N(means_k, variances_k).

    weights: (K,), summing to 1. means: (K, *shape). variances: a number, (K,), one for each element (K, *shape), or full
    (K, D, D) over the D flattened elements. Without full covariances all operations are elementwise or reductions within
    a row, so that a row of the result does not depend on its batch.
    Raises ValueError for shapes that do not fit, weights that are negative or do not sum to 1, and covariances that are
    not symmetric or not positive semi-definite.

    >>> from ornstein import exact, path
    >>> model = exact.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], 0.1, path.Linear())
    >>> import torch
    >>> model(torch.zeros(1, 1), 0.5).clean
    tensor([[0.]])
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        variances: Tensor | Sequence[float] | float,
        path: Path,
    ) -> None:
        means = _floats(means)
        weights = _numbers(weights, means.device).double()
        variances = _numbers(variances, means.device)
        if means.ndim < 2 or means.numel() == 0 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"GaussianMixture: weights of shape {tuple(weights.shape)} do not fit means of shape "
                f"{tuple(means.shape)}; give (K,) and (K, D) or more"
            )
        total = float(weights.sum())
        if bool((weights < 0).any()) or not math.isclose(total, 1, abs_tol=1e-5):
            raise ValueError(
                f"GaussianMixture: weights must be non-negative and sum to 1, not {_short(weights)} (sum {total:g})"
            )
        count, shape = len(means), tuple(means.shape[1:])
        variances = variances.expand(count) if variances.ndim == 0 else variances
        spread, basis = _spectrum("GaussianMixture: variances", variances, (count,), shape)
        super().__init__(path, shape, (weights / total).log(), means.flatten(1), spread, basis)

    def given(self, labels: int | Tensor) -> Exact:
        """The data of one component: `labels` is its number, or (B,) numbers, one for each row of the batch.

        Raises ValueError for a label that is no component.
        """
        index, count = torch.as_tensor(labels, device=self.means.device), len(self.means)
        if index.ndim > 1 or index.is_floating_point() or bool(((index < 0) | (index >= count)).any()):
            raise ValueError(
                f"GaussianMixture.given: labels must be whole numbers from 0 to {count - 1}, one or (B,), not {_short(index)}"
            )
        return self._pick(index.long()[..., None])

    def rest(self, known: Tensor) -> "GaussianMixture":
        """The mixture of the other elements given those of `known` (*shape) that are not NaN (Bishop 2006, equations 2.81, 2.82).

        Its items are flat. Raises ValueError where all elements are known, or another shape is given.
        """
        values = torch.as_tensor(known).double().flatten().to(self.means.device)
        unknown = values.isnan()
        if tuple(torch.as_tensor(known).shape) != self.shape or not bool(unknown.any()):
            raise ValueError(
                f"GaussianMixture.rest: known must have shape {self.shape}, with NaN in it for what is unknown"
            )
        means, size = self.means.double(), len(values)
        spread = self.spread.expand(len(means), size)
        covariances = torch.diag_embed(spread) if self.basis is None else (self.basis * spread[:, None]) @ self.basis.mT
        inner = covariances[:, ~unknown][:, :, ~unknown]
        off = values[~unknown] - means[:, ~unknown]
        gain = torch.linalg.solve(inner, covariances[:, ~unknown][:, :, unknown]).mT
        solved = torch.linalg.solve(inner, off[..., None])[..., 0]
        log_likely = -0.5 * ((off * solved).sum(-1) + torch.logdet(inner) + off.shape[1] * LOG_2PI)
        rest = covariances[:, unknown][:, :, unknown] - gain @ covariances[:, ~unknown][:, :, unknown]
        return GaussianMixture(
            (self.log_weights + log_likely).softmax(0),
            means[:, unknown] + (gain @ off[..., None])[..., 0],
            (rest + rest.mT) / 2,
            self.path,
        )


class Empirical(Exact):
    """Data x uniform on the finite set data (N, *shape): the optimum of training on that set, which memorises it.

    E[x | x_t] = Σ_i r_i x_i with r = softmax(−‖x_t − αx_i‖²/2σ²) over i (Karras et al. 2022, equation 57). The set is read in
    chunks, so memory does not grow with it. Distances are compared in float64, because σ² divides them.
    Raises ValueError for an empty set.
    """

    def __init__(self, data: Tensor, path: Path) -> None:
        self.data, self.path = _floats(data), path
        if self.data.ndim < 2 or self.data.numel() == 0:
            raise ValueError(
                f"Empirical: data has shape {tuple(self.data.shape)}; give at least one item, (N, D) or more"
            )
        self.shape = tuple(self.data.shape[1:])

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        rows, alpha, sigma = self._exactly(x_t, t)
        still = _noiseless(sigma, rows.dtype)
        _, clean = self._posterior(rows, alpha, torch.where(still, 1, sigma))
        clean = torch.where(still, rows / torch.where(still, alpha, 1), clean)
        noise = torch.where(still, 0, rows - alpha * clean) / torch.where(still, 1, sigma)
        return Estimate(clean.to(x_t.dtype).reshape(x_t.shape), noise.to(x_t.dtype).reshape(x_t.shape))

    def log_prob(self, x: Tensor, t: Time = 0.0) -> Tensor:
        """log 1/N Σ_i N(x; αx_i, σ²I), (B,) nats. Raises ValueError at σ = 0, where a finite set has no density."""
        rows, alpha, sigma = self._exactly(x, t)
        self._needs_noise("log_prob", sigma, rows.dtype)
        log_total, _ = self._posterior(rows, alpha, sigma)
        each = -0.5 * (rows / sigma) ** 2 - sigma.log() - 0.5 * LOG_2PI
        return (each.sum(-1) + log_total[:, 0] - math.log(len(self.data))).to(x.dtype)

    def score(self, x_t: Tensor, t: Time) -> Tensor:
        """(α·E[x | x_t] − x_t)/σ², shaped as x_t. Raises ValueError at σ = 0, where a finite set has no density."""
        rows, alpha, sigma = self._exactly(x_t, t)
        self._needs_noise("score", sigma, rows.dtype)
        _, clean = self._posterior(rows, alpha, sigma)
        return ((alpha * clean - rows) / sigma**2).to(x_t.dtype).reshape(x_t.shape)

    def _draw_data(self, n: int, generator: torch.Generator | None) -> Tensor:
        index = torch.randint(len(self.data), (n,), generator=generator, device=self.data.device)
        return self.data[index]

    def _exactly(self, x: Tensor, t: Time) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, D), α and σ in float64 where the device has it."""
        rows = self._rows(x).to(precise(x.device))
        alpha, sigma = self.path.levels(as_time(t).to(rows.dtype), rows)
        return rows, alpha, sigma

    def _posterior(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """log Σ_i exp((αx·x_i − ½α²‖x_i‖²)/σ²) of shape (B, 1), and E[x | x_t] of shape (B, D), by a running softmax."""
        top = x.new_full((len(x), 1), -torch.inf)
        total, mean = torch.zeros_like(top), torch.zeros_like(x)
        for chunk in self._chunks(x):
            logits = (x @ chunk.T - 0.5 * alpha * chunk.square().sum(-1)) * (alpha / sigma**2)
            higher = torch.maximum(top, logits.detach().amax(-1, keepdim=True))
            fade, weights = (top - higher).exp(), (logits - higher).exp()
            total = fade * total + weights.sum(-1, keepdim=True)
            mean = fade * mean + weights @ chunk
            top = higher
        return top + total.log(), mean / total

    def _chunks(self, x: Tensor) -> Iterator[Tensor]:
        for chunk in self.data.flatten(1).split(max(1, CHUNK // max(x.shape))):
            yield chunk.to(x)


def _floats(values: Tensor | Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """A floating-point tensor as it is; anything else in torch's default dtype, which draws then have."""
    tensor = torch.as_tensor(values)
    return tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())


def _numbers(values: Tensor | Sequence[float] | float, device: torch.device) -> Tensor:
    """A tensor as it is; Python numbers keep their float64 digits."""
    return values.to(device) if isinstance(values, Tensor) else torch.tensor(values, dtype=torch.float64, device=device)


def _short(values: Tensor) -> str:
    numbers = values.flatten().tolist()
    return (
        str(numbers[0] if values.ndim == 0 else numbers) if len(numbers) <= 8 else f"[{numbers[0]}, ..., {numbers[-1]}]"
    )


def _noiseless(sigma: Tensor, dtype: torch.dtype) -> Tensor:
    """Where σ is 0, or so small that dividing by σ² would overflow."""
    return sigma**2 <= 1e16 * torch.finfo(dtype).tiny


def _regular(spread: Tensor, sigma: Tensor, singular: bool) -> Tensor:
    """Eigenvalues that V = α²C + σ² can be inverted with: without noise every positive one gives clean = x_t/α, noise = 0."""
    return torch.where((spread == 0) & _noiseless(sigma, spread.dtype), 1, spread) if singular else spread


def _spectrum(what: str, cov: Tensor, lead: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (*lead, 1 or D) of covariances given as numbers, variances or matrices, and eigenvectors of matrices."""
    size = math.prod(shape)
    eps = torch.finfo(cov.dtype).eps if cov.is_floating_point() else torch.finfo(torch.float64).eps
    actual, cov = tuple(cov.shape), cov.double()
    if not bool(cov.isfinite().all()):
        raise ValueError(f"{what} holds a value that is not finite")
    basis: Tensor | None = None
    if actual == lead:
        values = cov[..., None]
    elif actual == (*lead, *shape):
        values = cov.reshape(*lead, size)
    elif actual == (*lead, size, size):
        scale = cov.abs().amax((-2, -1), keepdim=True)
        if bool(((cov - cov.mT).abs() > 16 * eps * scale).any()):
            raise ValueError(f"{what} is not symmetric; give (C + C.T)/2")
        values, basis = torch.linalg.eigh((cov + cov.mT) / 2)
        # rounding leaves eigenvalues of a singular matrix near 0 of either sign
        values = torch.where(values.abs() <= 4 * size * eps * scale[..., 0], 0, values)
    else:
        forms = ", ".join(str(form) for form in dict.fromkeys([lead, (*lead, *shape), (*lead, size, size)]))
        raise ValueError(f"{what} has shape {actual} where one of {forms} is needed")
    if bool((values < 0).any()):
        raise ValueError(f"{what} is not positive semi-definite: it has the variance {float(values.min()):g}")
    return values, basis

"""Exponential integrators: what the solvers have in common that integrate the linear part exactly.

With λ = log(α/σ) (half the log-SNR), h = λ_s − λ_t and noise of rate η·g, κ = η², the reverse SDE is solved by (Lu et al.
2022, "DPM-Solver++", sections 4 and 5, for η of 0 and 1; Xue et al. 2023, "SA-Solver", for any)

    data       x_s = (σ_s/σ_t) e^{−κh} x_t + α_s ∫_0^h (1+κ) e^{−(1+κ)(h−u)} clean du + σ_s √(1 − e^{−2κh}) ξ
    noise      x_s = (α_s/α_t) x_t − (1+κ) σ_s ∫_0^h e^{h−u} noise du + σ_s √(κ(e^{2h} − 1)) ξ

The data prediction m = clean (DPM-Solver++'s form) or the noise prediction m = noise (DPM-Solver's) is replaced by a polynomial
through its values m_j. Written around the estimate at t,

    x_s = base − gain·Σ_j w_j (m_j − m_t),   w_j = z ∫_0^1 e^{z(1−v)} ℓ_j(v) dv,   z = −(1+κ)h for data, h for noise,

where base is the step of order 1 and ℓ_j the Lagrange polynomials in v = u/h. Where h is infinite (zero SNR at t, zero noise
at s) only base has a limit, and it is the step.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ornstein.solvers.quadrature import lagrange, legendre
from ornstein.table import Form, FormPair, Level


class Prediction(Protocol):
    """The part of the estimate under the integral, with its kernel."""

    def of(self, estimate: FormPair) -> Form: ...

    def exponent(self, h: float, kappa: float) -> float:
        """z."""

    def gain(self, s: Level, kappa: float) -> float: ...

    def carry(self, t: Level, s: Level) -> float:
        """The factor of x_t without fresh noise."""

    def base(self, estimate: FormPair, t: Level, s: Level, kappa: float) -> tuple[Form, float]:
        """The step of order 1 and the standard deviation of its fresh noise."""


@dataclass(frozen=True)
class DataPrediction:
    """The estimate of the data is under the integral, as in DPM-Solver++."""

    def of(self, estimate: FormPair) -> Form:
        return estimate.clean

    def exponent(self, h: float, kappa: float) -> float:
        return -(1 + kappa) * h

    def gain(self, s: Level, kappa: float) -> float:
        return s.alpha

    def carry(self, t: Level, s: Level) -> float:
        return s.sigma / t.sigma

    def base(self, estimate: FormPair, t: Level, s: Level, kappa: float) -> tuple[Form, float]:
        if kappa == 0:
            return s.mix(estimate), 0.0
        decay = math.exp(-kappa * falling(t, s))
        return s.alpha * estimate.clean + s.sigma * decay * estimate.noise, s.sigma * math.sqrt(1 - decay**2)


@dataclass(frozen=True)
class NoisePrediction:
    """The estimate of the noise, as in DPM-Solver. Where h is infinite a step with fresh noise is that of `DataPrediction`."""

    def of(self, estimate: FormPair) -> Form:
        return estimate.noise

    def exponent(self, h: float, kappa: float) -> float:
        return h

    def gain(self, s: Level, kappa: float) -> float:
        return (1 + kappa) * s.sigma

    def carry(self, t: Level, s: Level) -> float:
        return s.alpha / t.alpha

    def base(self, estimate: FormPair, t: Level, s: Level, kappa: float) -> tuple[Form, float]:
        if kappa == 0:
            return s.mix(estimate), 0.0
        h = falling(t, s)
        if math.isinf(h):
            return DataPrediction().base(estimate, t, s, kappa)
        on_noise = s.sigma * (1 - kappa * math.expm1(h))
        return s.alpha * estimate.clean + on_noise * estimate.noise, s.sigma * math.sqrt(kappa * math.expm1(2 * h))


def gap(t: Level, s: Level) -> float:
    """h = λ_s − λ_t: positive towards the data, infinite from zero SNR and to zero noise."""
    return s.half_log_snr - t.half_log_snr


def falling(t: Level, s: Level) -> float:
    """h of a step that adds noise. Raises ValueError on the way from data to noise."""
    h = gap(t, s)
    if h < 0:
        raise ValueError(
            f"fresh noise needs a grid that falls, and this one rises from t = {t.t:g} to {s.t:g}; "
            "use a deterministic solver to run from data to noise"
        )
    return h


def exponential_weights(nodes: Sequence[float], z: float) -> list[float]:
    """w_j = z ∫_0^1 e^{z(1−v)} ℓ_j(v) dv to float64, for |z| up to about 60."""
    v, weights = legendre(40)
    return (lagrange(nodes, v) @ (z * np.exp(z * (1 - v)) * weights)).tolist()


def weights_from_moments(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """w with Σ_j w_j·v_j^k = moments[k], so that polynomials below the number of nodes are integrated exactly."""
    weights: list[float] = np.linalg.solve(np.vander(nodes, increasing=True).T, moments).tolist()
    return weights


def correction(weights: Sequence[float], held: Sequence[Form]) -> Form:
    """Σ_j w_j (m_j − m_0), where `held` begins with m_0."""
    total = Form({})
    for weight, m in zip(weights[1:], held[1:], strict=True):
        total = total + weight * (m - held[0])
    return total


def history(levels: Sequence[Level], held: Sequence[Form], order: int) -> tuple[list[float], list[Form]]:
    """λ and m of at most `order` calls, newest first, without those at zero SNR or zero noise, where λ is infinite."""
    finite = [(at.half_log_snr, m) for at, m in zip(levels, held, strict=True) if math.isfinite(at.half_log_snr)]
    return [clock for clock, _ in finite[:order]], [m for _, m in finite[:order]]

"""ER-SDE-Solver (Cui et al. 2023, "Elucidating the solution space of extended reverse-time SDE for diffusion models")."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ornstein.path import Path
from ornstein.solvers.exponential import correction, falling, weights_from_moments
from ornstein.solvers.quadrature import lagrange, legendre
from ornstein.solvers.solver import TableSolver, one_of
from ornstein.table import Form, Recorder, Table


@dataclass(frozen=True)
class ER5:
    """log φ of the paper's fifth noise scale, φ(ρ) = ρ(e^{ρ^0.3} + 10): near the ODE at small ρ, near the SDE at large."""

    def __call__(self, rho: np.ndarray) -> np.ndarray:
        return np.log(rho) + np.logaddexp(rho**0.3, math.log(10))


@dataclass(frozen=True)
class ERSDE(TableSolver):
    """x_s = α_s [r x_t/α_t + ∫ clean d(φ(ρ_s)/φ(ρ)) + √(ρ_s² − r²ρ_t²) ξ],  r = φ(ρ_s)/φ(ρ_t),  ρ = σ/α (equation 14).

    The data is a polynomial in ρ through `estimates` values (propositions 4 to 6); its integral is exact. `log_scale` is
    log φ of an array of ρ: log ρ gives the probability-flow ODE, 2 log ρ Anderson's SDE, and φ/ρ must not fall. One network
    call a step. The step from zero SNR draws α_s·clean plus what noise φ leaves, the one to zero noise adds none.
    Raises ValueError for estimates outside 1..3 and on a grid that rises. Source: Cui et al. 2023.
    """

    estimates: int = 3
    log_scale: Callable[[np.ndarray], np.ndarray] = ER5()

    def __post_init__(self) -> None:
        one_of(self, "estimates", (1, 2, 3))

    @property
    def order(self) -> int:
        return min(self.estimates, 2)

    def table(self, path: Path, grid: Tensor) -> Table:
        record = Recorder(path, grid)
        x = record.start
        nodes: list[float] = []
        cleans: list[Form] = []
        for t, s in record.steps:
            estimate, h = record.call(t, x), falling(t, s)
            rho = s.sigma / s.alpha
            if t.alpha == 0:
                x = s.alpha * estimate.clean + record.fresh(s.sigma)
                continue
            nodes, cleans = (
                [t.sigma / t.alpha, *nodes[: self.estimates - 1]],
                [estimate.clean, *cleans[: self.estimates - 1]],
            )
            ratio = math.exp(self._log(rho) - self._log(nodes[0])) if math.isfinite(h) else 0.0
            retained = ratio * nodes[0]
            x = s.alpha * (estimate.clean + retained * estimate.noise) + record.fresh(
                s.alpha * math.sqrt(max(rho**2 - retained**2, 0.0))
            )
            if len(nodes) > 1:
                x = x + s.alpha * correction(self._weights(nodes, rho, ratio), cleans)
        return record.end(x)

    def _log(self, rho: float) -> float:
        return float(self.log_scale(np.array(rho)))

    def _weights(self, nodes: list[float], rho: float, ratio: float) -> list[float]:
        """∫ ℓ_j dm for m = φ(ρ_s)/φ(ρ) from r to 1."""
        if rho == 0:
            return lagrange(nodes, np.zeros(1))[:, 0].tolist()
        # ∫ v^k dm = 1 − k ∫ v^{k−1} φ(ρ_s)/φ(ρ) dv with v = 0 at ρ_t and 1 at ρ_s, by quadrature in log ρ
        u, weights = legendre(24)
        log_step = math.log(nodes[0] / rho)
        inner = rho * np.exp(log_step * u)
        v = (inner - nodes[0]) / (rho - nodes[0])
        retained = np.exp(self._log(rho) - self.log_scale(inner)) * inner * (log_step / (nodes[0] - rho)) * weights
        moments = [1 - k * float(v ** (k - 1) @ retained) for k in range(1, len(nodes))]
        at = [(node - nodes[0]) / (rho - nodes[0]) for node in nodes]
        return weights_from_moments(at, [1 - ratio, *moments])


ALL = (ERSDE(),)

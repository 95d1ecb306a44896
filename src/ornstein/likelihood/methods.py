"""From items of a data set to −log p in the data's own units: dequantisation and the Jacobian of preprocessing included."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.likelihood import clock
from ornstein.likelihood.continuous import SMALLEST, Bound, elbo
from ornstein.likelihood.decoder import Decoder, Discretised, GaussianDecoder
from ornstein.likelihood.dequantise import Dequantisation, Truncated
from ornstein.likelihood.discrete import bound
from ornstein.likelihood.fixed import FixedSteps
from ornstein.likelihood.hutchinson import Hutchinson
from ornstein.likelihood.ode import Integrator, estimate
from ornstein.likelihood.prior import CentredPrior, PriorTerm
from ornstein.likelihood.trace import ExactTrace, Trace
from ornstein.noise import NoiseSource

WITHIN = 0.25  # σ/α over the width of a level where whole-number data are handed to the model: bins reach to 2σ
SMALL = 16  # dimensions up to which exact traces of networks are cheap


@dataclass(frozen=True)
class Units:
    """How the data's own units became the model's: the width of a level (*shape), the range of levels, and log |dx/dv| in nats.

    `width` None: the data are no whole numbers. `log_volume` is that of the preprocessing, summed over dimensions.
    """

    width: Tensor | None
    log_volume: float
    low: float = -math.inf
    high: float = math.inf


class Measured(NamedTuple):
    """−log p (B,) of items in nats, the standard error of each from what was drawn, and the error of the steps, where
    measured (B,). `terms` are the parts of a bound, `steps` (K, B) those of its diffusion term between the `times` (K + 1,)."""

    nats: Tensor
    probe: Tensor
    solver: Tensor | None
    terms: dict[str, Tensor]
    steps: Tensor | None = None
    times: Tensor | None = None


class Method(Protocol):
    """−log p of items x (B, ...) in model units, as `Measured`: (B,) nats in the data's own units.

    `check` asks for the solver's error as well, which costs more.
    """

    def __call__(
        self, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, check: bool = ...
    ) -> Measured: ...


def level(denoiser: Denoiser, units: Units, smallest: float) -> float:
    """σ/α where whole-number data are handed to the model (other data: `smallest`), or the path's own least."""
    zero = torch.zeros((), dtype=torch.float64)
    least = float(denoiser.path.sigma(zero) / denoiser.path.alpha(zero))
    return max(least, smallest if units.width is None else WITHIN * float(units.width.min()))


@dataclass(frozen=True)
class ODE:
    """−log p(x) along the probability-flow ODE: log p_0(x) = log p_1(x_1) + ∫ ∇·u dt from t = 0 to 1.

    Whole numbers get noise within their bins, which makes the result a bound: that of `dequantisation`, or, with None, that
    of the path itself, truncated to the bin, at σ/α of a quarter of a level, where the network has been trained (Zheng et al.
    2023). Other data are taken as they are at t = 0; where σ(0) > 0, the density is that of the data with this noise.
    `trace` None: exact up to 16 dimensions, two Rademacher probes above. Source: Chen et al. 2018; Song et al. 2021, appendix
    D.2.
    """

    trace: Trace | None = None
    solver: Integrator = FixedSteps(96)
    dequantisation: Dequantisation | None = None

    def __call__(
        self, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, check: bool = False
    ) -> Measured:
        size, t = math.prod(x.shape[1:]), 0.0
        if units.width is None:
            y, gained = x, torch.full((len(x),), units.log_volume, dtype=x.dtype, device=x.device)
        else:
            q = self.dequantisation or Truncated(level(denoiser, units, 0.0))
            t = clock.nearest(denoiser.path, q.ratio) if q.ratio > 0 else 0.0
            y, gained = q(x, units.width, noise)
        alpha, _ = denoiser.path.levels(t, x)
        trace = self.trace or (ExactTrace() if size <= SMALL else Hutchinson())
        gained = gained + size * float(alpha.log())
        result = estimate(denoiser, alpha * y, t, trace=trace, solver=self.solver, noise=noise, check=check)
        return Measured(-(result.log_prob + gained), result.probe, result.solver if check else None, {})


def _terms(bound: Bound, units: Units, gained: Tensor | float = 0.0) -> Measured:
    """A bound with the Jacobian of the data's units, which belongs to the decoder's density, and −log q of noise within bins."""
    more = gained if units.width is not None else units.log_volume
    terms = {"prior": bound.prior, "diffusion": bound.diffusion, "reconstruction": bound.reconstruction - more}
    return Measured(bound.total - more, bound.probe, None, terms, bound.steps, bound.times)


def _dequantised(
    q: Dequantisation | None, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, nearest: float
) -> tuple[Tensor, Tensor | float, float, Decoder]:
    """The items that are bounded, −log q of the noise in them, and the level and decoder at which their bound ends."""
    if q is None or units.width is None:
        return x, 0.0, level(denoiser, units, nearest), _decoder(units)
    if q.ratio > 0:
        raise ValueError(
            f"{q} is noise of the path, which bounds have in their decoder; give Uniform(), or leave it out"
        )
    y, gained = q(x, units.width, noise)
    return y, gained, level(denoiser, Units(None, 0.0), nearest), GaussianDecoder()


def _decoder(units: Units) -> Decoder:
    return GaussianDecoder() if units.width is None else Discretised(units.width, units.low, units.high)


@dataclass(frozen=True)
class ELBO:
    """The continuous bound −log p(x) ≤ KL_1 + ½∫ E‖ε − ε̂‖² (−dλ) + reconstruction (`elbo`).

    The integral ends at σ/α of a quarter of a level (whole numbers), or `nearest`. Whole numbers: the decoder gives the
    probability of the bin, which costs 0.234 bits a dimension where the model is smooth within it; with
    a `dequantisation`, `Uniform()`, items get that noise and are bounded as a density, down to `nearest`.
    Raises ValueError, when called, for a dequantisation that is noise of the path (`Truncated`). Source: Kingma et al. 2021,
    equations 11 to 17.
    """

    calls: int = 32
    nearest: float = SMALLEST
    prior: PriorTerm = CentredPrior()
    dequantisation: Dequantisation | None = None

    def __call__(
        self, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, check: bool = False
    ) -> Measured:
        prior, q = self.prior, self.dequantisation
        y, gained, ratio, decoder = _dequantised(q, denoiser, x, units, noise, self.nearest)
        result = elbo(denoiser, y, calls=self.calls, nearest=ratio, decoder=decoder, prior=prior, noise=noise)
        return _terms(result, units, gained)


@dataclass(frozen=True)
class DiscreteBound:
    """The discrete bound −log p(x) ≤ L_T + Σ KL_i + L_0 of `steps` steps (`bound`).

    Its last level and the choice for whole numbers are those of `ELBO`.

    Raises ValueError, when called, for a dequantisation that is noise of the path. Source: Ho et al. 2020, equation 5.
    """

    steps: int = 100
    nearest: float = SMALLEST
    prior: PriorTerm = CentredPrior()
    dequantisation: Dequantisation | None = None

    def __call__(
        self, denoiser: Denoiser, x: Tensor, units: Units, noise: NoiseSource, check: bool = False
    ) -> Measured:
        prior, q = self.prior, self.dequantisation
        y, gained, ratio, decoder = _dequantised(q, denoiser, x, units, noise, self.nearest)
        result = bound(denoiser, y, steps=self.steps, nearest=ratio, decoder=decoder, prior=prior, noise=noise)
        return _terms(result, units, gained)

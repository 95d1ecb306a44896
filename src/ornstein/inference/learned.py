"""Posteriors of parameters from simulations: a conditional model of θ given x, sampled and measured for any observation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions, exact, likelihood, sampling, tuning
from ornstein.arguments import as_solver
from ornstein.data import dataset_of
from ornstein.denoiser import Denoiser
from ornstein.errors import UsageError
from ornstein.inference.prior import Prior, as_prior, log_slope
from ornstein.inference.several import Each, Product
from ornstein.learn import train
from ornstein.metrics.calibration import Calibration
from ornstein.noise import PerSampleNoise
from ornstein.objective import LogitNormal
from ornstein.runs import Run
from ornstein.runs.calibrating import calibrate as calibrate_run
from ornstein.solvers import Solver
from ornstein.solvers.solver import own_steps
from ornstein.tuning import Tuned

Array = NDArray[np.float64]
TIMES = LogitNormal(
    -1.5, 2.0
)  # more of low noise than uniform: a posterior is often a hundred times narrower than its prior
DECAY = 0.3  # of the weights; some thousands of simulations of many parameters are learned by heart without it
STEPS = 3000  # of a training whose length is left open
DRAWS = 256  # of the posterior of each observation, by which its covariance is known


class LogDensity(NamedTuple):
    """log p (N,) in nats, and the error of each value from the steps of its ODE (N,): the exact value is near value + error."""

    value: Array
    error: Array


@dataclass(frozen=True, eq=False)
class AmortisedPosterior:
    """p(θ | x) for every x: a run whose samples are the coordinates of parameters and whose condition is the observation."""

    run: Run
    prior: Prior | None = None

    @property
    def size(self) -> int:
        """The number of parameters."""
        return self.run.spec.shape[0]

    def given(self, x: Any) -> ObservedPosterior:
        """The posterior given an observation (C,), or given several independent ones of the same parameters (n, C).

        Raises UsageError for another shape.
        """
        return ObservedPosterior(self, _observed(self, x))

    def calibrate(self, theta: Any, x: Any, count: int = 200, draws: int = 100, **arguments: Any) -> Calibration:
        """Ranks, expected coverage and TARP on simulations that were not learned from, in parameters (`runs.calibrate`).

        Raises UsageError for shapes that do not fit.
        """
        dataset = dataset_of(_pairs(theta, x, self.prior))
        return calibrate_run(self.run, dataset, count, draws, units=self.parameters, **arguments)

    def tune(self, x: Any, steps: int = 10, *, seconds: float = 60.0, **arguments: Any) -> Tuned:
        """A solver of so many network calls, fitted to the posteriors given the observations x (N, C): `tuning.fit`.

            solver = post.tune(x, steps=10)
            samples = post.given(x_o).sample(1000, solver=solver)

        Each start of the fit has one of the observations, which are best some hundreds of simulations; those that were learned
        from will do. The solver is then for any observation like them. Raises UsageError for observations of another shape.
        """
        rows = self._rows(_observed(self, x))

        def bind(starts: Tensor) -> Denoiser:
            return _bound(self.run, rows[starts % len(rows)])

        shape, device = self.run.spec.shape, self.run.model.device
        chosen = tuning.effort(_bound(self.run, rows[:1]), shape, steps, seconds, device=device)
        settings: dict[str, Any] = {**chosen._asdict(), "seconds": seconds, "model": self.run.weights_hash, **arguments}
        return tuning.fit(_bound(self.run, rows[:1]), shape, steps, bind=bind, device=device, **settings)

    def _rows(self, x: Array) -> Tensor:
        """The network's condition for each of the observations x (n, C)."""
        rows = self.run.model.conditions.requested(len(x), self.run.spec, condition={"vector": x})
        assert rows is not None
        return rows[0]

    def parameters(self, u: NDArray[Any]) -> Array:
        """Coordinates (N, D) as parameters."""
        wide = np.asarray(u, np.float64)
        return wide if self.prior is None else self.prior.from_normal(wide)

    def coordinates(self, theta: Any) -> Array:
        """Parameters (N, D) as coordinates. Raises UsageError for other shapes, and outside of the prior's support."""
        values = np.asarray(theta, np.float64)
        values = values[None] if values.shape == (self.size,) else values
        if values.ndim != 2 or values.shape[1] != self.size:
            raise UsageError(f"theta: it has shape {values.shape}, and must have shape (N, {self.size})")
        return values if self.prior is None else self.prior.to_normal(values)


@dataclass(frozen=True, eq=False)
class ObservedPosterior:
    """p(θ | x_1 … x_n) of a `AmortisedPosterior`, x (n, C)."""

    posterior: AmortisedPosterior
    x: Array

    def sample(
        self,
        count: int,
        *,
        solver: Solver | str | None = None,
        steps: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> Array:
        """`count` draws of the parameters, (count, D); draw i depends on (seed, i) alone.

        Several observations are joined at every noise level (`inference.several`), exactly where their posteriors are Gaussian;
        for others Langevin steps correct it: `solver=PredictorCorrector(DDIM(), corrections=2)`, `steps=50` or more.
        """
        run = self.posterior.run
        if len(self.x) == 1:
            made = run.sample(
                count,
                condition={"vector": self.x[0]},
                solver=solver,
                steps=steps,
                seed=seed,
                batch_size=batch_size,
            )
            return self.posterior.parameters(made)
        x = sampling.sample(
            self.denoiser(),
            (count, *run.spec.shape),
            solver=solver,
            steps=steps or own_steps(as_solver(solver), run.model.steps),
            noise=PerSampleNoise(seed),
            batch_size=batch_size,
            dtype=run.model.dtype,
            device=run.model.device,
        )
        return self.posterior.parameters(run.spec.from_model(x))

    def log_prob(self, theta: Any, *, steps: int = 96, check: bool = True) -> LogDensity:
        """log p(θ | x) in nats of parameters (N, D) in their own units, with the error of each value; −∞ outside of the prior's
        support.

        Without `check` errors are NaN, and the work is a quarter. Raises UsageError for several observations, whose product is
        not normalised: `unnormalised_log_prob` is its logarithm up to a constant.
        """
        if len(self.x) != 1:
            raise UsageError(
                "log_prob: the density of several observations is not normalised; unnormalised_log_prob gives it up to a constant"
            )
        prior, run = self.posterior.prior, self.posterior.run
        values = np.atleast_2d(np.asarray(theta, np.float64))
        inside = np.ones(len(values), bool) if prior is None else prior.log_prob(values) > -np.inf
        result, error = np.full(len(values), -np.inf), np.zeros(len(values))
        if inside.any():
            u = self.posterior.coordinates(values[inside])
            x = torch.from_numpy(run.spec.scaling.to_model(u)).to(run.model.device, run.model.dtype)
            parts = likelihood.estimate(self.denoiser(), x, steps=steps, check=check, batch_size=256)
            moved = 0.0 if prior is None else log_slope(prior, values[inside])
            result[inside] = parts.log_prob.double().cpu().numpy() + run.spec.log_volume + moved
            error[inside] = (parts.solver + parts.probe).double().cpu().numpy()
        return LogDensity(result, error)

    def unnormalised_log_prob(self, theta: Any, *, steps: int = 96, check: bool = True) -> LogDensity:
        """log p(θ | x_1 … x_n) of parameters (N, D) in nats, up to a constant: Σ log p(θ | x_i) − (n − 1) log p(θ).

        For ratios of densities, a mode, or Markov chains. The densities are those of `log_prob`, each with its own error of
        learning, which add up. Raises UsageError where the prior is not known.
        """
        prior = self.posterior.prior
        if prior is None:
            raise UsageError(
                "unnormalised_log_prob: it divides by the prior, which is not known; give prior= to ornstein.posterior"
            )
        values = np.atleast_2d(np.asarray(theta, np.float64))
        alone = prior.log_prob(values)
        parts = [self.posterior.given(x).log_prob(values, steps=steps, check=check) for x in self.x]
        inside = np.where(np.isfinite(alone), alone, 0.0)
        value = sum(part.value for part in parts) - (len(parts) - 1) * inside
        return LogDensity(np.asarray(value), np.asarray(sum(part.error for part in parts)))

    def denoiser(self) -> Denoiser:
        """The denoiser of coordinates in model units given all observations, for `ornstein.sample` and all that takes one."""
        run = self.posterior.run
        bind = partial(_bound, run)
        rows = self.posterior._rows(self.x)
        if len(self.x) == 1:
            return bind(rows)
        precisions = torch.linalg.inv(torch.stack([self._covariance(one) for one in self.x]))
        prior = _prior(self.posterior)
        return Product(Each(bind, rows), prior, precisions, torch.linalg.inv(_prior_covariance(self.posterior, prior)))

    def _covariance(self, x: Array) -> Tensor:
        run = self.posterior.run
        made = run.sample(DRAWS, condition={"vector": x}, steps=10)
        return torch.from_numpy(np.cov(run.spec.scaling.to_model(made), rowvar=False).reshape(2 * made.shape[1:]))


@dataclass(frozen=True, eq=False)
class _Bound:
    """A run's denoiser with one row of its condition, for any batch."""

    run: Run
    rows: Tensor

    @property
    def path(self) -> Any:
        return self.run.model.path

    def __call__(self, x_t: Tensor, t: Any) -> Any:
        rows = self.rows.expand(len(x_t), -1) if len(self.rows) == 1 else self.rows
        inputs = self.run.model.conditions.network_input((rows,))
        return self.run.denoiser.given(conditions.to(inputs, x_t.device, x_t.dtype))(x_t, t)


def _bound(run: Run, rows: Tensor) -> Denoiser:
    return _Bound(run, rows)


def _prior(posterior: AmortisedPosterior) -> Denoiser:
    """The denoiser of the prior in model units: in closed form, or what the run is without an observation."""
    run = posterior.run
    if posterior.prior is None:
        return _Bound(run, run.model.conditions.null(1)[0])
    scale = run.spec.scaling
    middle = torch.from_numpy(scale.to_model(np.zeros((1, posterior.size))))[0]
    return exact.Gaussian(middle, torch.from_numpy(run.spec.slopes.copy()).square(), run.model.path)


def _prior_covariance(posterior: AmortisedPosterior, prior: Denoiser) -> Tensor:
    if isinstance(prior, exact.Gaussian):
        return torch.diag(prior.cov.double())
    x = sampling.sample(prior, (4 * DRAWS, posterior.size), steps=10).double()
    return x.T.cov().reshape(posterior.size, posterior.size)


def posterior(
    theta: Any,
    x: Any,
    prior: Any = None,
    *,
    out: str | Path | None = None,
    **settings: Any,
) -> AmortisedPosterior:
    """Learn the posterior of parameters given observations from simulations (θ_i, x_i), θ_i drawn from the prior.

        post = ornstein.posterior(theta, x, prior=(low, high))
        samples = post.given(x_o).sample(1000)
        value, error = post.given(x_o).log_prob(samples)

    theta: (N, D); x: (N, C), both finite, a row for each simulation.
    prior: (low, high), bounds of a uniform prior, numbers or one for each parameter; or of `ornstein.inference`: `Box`,
        `IndependentNormal`, `JoinedPriors`, or an object with their methods. Parameters are learned in coordinates in which it is
        N(0, I), so that no sample lies outside of it. None: nothing is known of it; what several observations need of the prior
        is learned.
    out: a run folder; None: in memory. `AmortisedPosterior(ornstein.load(out), prior)` is it again.
    settings: those of `ornstein.train`; by default an MLP with a path that is linear in θ_t and x (`tiny-linear`), times with
        more of low noise, weight decay, 3,000 steps, and no condition dropout where there is a prior.

    Raises UsageError for parameters outside of the prior, and for shapes that do not fit.
    """
    known = as_prior(prior)
    preset = "tiny-linear" if settings.get("network") in (None, "mlp") else "tiny"
    chosen: dict[str, Any] = {"preset": preset, "weight_decay": DECAY}
    chosen |= {} if settings.get("minutes") is not None else {"steps": STEPS}
    chosen |= {} if "path" in settings else {"times": TIMES}  # which are for the default path
    chosen |= {} if known is None else {"label_dropout": 0.0}
    run = train(_pairs(theta, x, known), out=out, **chosen | settings)
    return AmortisedPosterior(run, known)


def calibrate(post: AmortisedPosterior, theta: Any, x: Any, **arguments: Any) -> Calibration:
    """Ranks, coverage and TARP of a posterior on simulations that it was not learned from: see `AmortisedPosterior.calibrate`."""
    return post.calibrate(theta, x, **arguments)


def _pairs(theta: Any, x: Any, prior: Prior | None) -> dict[str, NDArray[np.float32]]:
    """Simulations as data: coordinates, with observations as conditions. Raises UsageError for what does not fit."""
    values, seen = (_matrix(name, part) for name, part in (("theta", theta), ("x", x)))
    if len(values) != len(seen):
        raise UsageError(
            f"theta, x: there are {len(values):,} parameters and {len(seen):,} observations; give a row of each"
        )
    if prior is not None and prior.size != values.shape[1]:
        raise UsageError(f"prior: it is of {prior.size} parameters, and theta has {values.shape[1]}")
    u = values if prior is None else prior.to_normal(values)
    return {"x": u.astype(np.float32), "conditions": seen.astype(np.float32)}


def _matrix(name: str, value: Any) -> Array:
    """Finite numbers (N, D) of an array, a tensor or a list; (N,) is a column. Raises UsageError."""
    try:
        array = np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: give an array of numbers, a row for each simulation") from None
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.size:
        raise UsageError(f"{name}: it has shape {array.shape}; give (N, D), a row for each simulation")
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise UsageError(f"{name}: row {row} holds NaN or infinite numbers; leave out simulations that failed")
    return array


def _observed(post: AmortisedPosterior, x: Any) -> Array:
    part = next(part for part in post.run.model.conditions.parts if "vector" in part.names)
    width = part.arguments["vector"] - 1
    try:
        array = np.asarray(x.detach().cpu().numpy() if isinstance(x, Tensor) else x, np.float64)
    except (TypeError, ValueError):
        array = np.full(0, np.nan)
    array = array.reshape(1, -1) if array.ndim < 2 else array
    if array.ndim != 2 or array.shape[1] != width or not len(array) or not np.isfinite(array).all():
        raise UsageError(
            f"x: an observation has {width} finite numbers, and several independent ones are (n, {width}); this has shape "
            f"{np.shape(x)}"
        )
    return array


Simulator = Callable[[Array], Any]

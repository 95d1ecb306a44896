"""The likelihood ODE with adaptive steps: Dormand and Prince 1980, order 5(4), of torchdiffeq (Chen 2018)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ornstein.device import precise
from ornstein.extras import library
from ornstein.likelihood.flow import ProbabilityFlow
from ornstein.likelihood.trace import Trace
from ornstein.noise import NoiseSource


@dataclass(frozen=True)
class Adaptive:
    """y and the log-density per dimension, each step with an error ≤ atol + rtol·|value| for the worst item of the batch.

    The probes are drawn once for the whole solve, so that the step control has a function to follow. Each stage costs a trace.
    Raises ValueError for tolerances that are not positive or not met, and ImportError without torchdiffeq. Source: Dormand and
    Prince 1980, order 5(4), of torchdiffeq (Chen 2018).
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(f"Adaptive: rtol = {self.rtol} and atol = {self.atol} must be positive")

    def run(
        self, flow: ProbabilityFlow, y: Tensor, trace: Trace, noise: NoiseSource, same: bool = True
    ) -> tuple[Tensor, Tensor]:
        """y where the way ends, and the integrated divergence (S, B)."""
        samples, size = trace.samples, y[0].numel()

        def rates(w: Tensor, state: Tensor) -> Tensor:
            (mark,) = flow.marks(w.detach().cpu().double().reshape(1))
            at = state[:, samples:].reshape(y.shape)
            slope, divergence = flow.slopes(mark, at, trace, noise, key=flow.t)
            return torch.cat([divergence.T / size, slope.flatten(1)], 1)

        def worst(state: Tensor) -> Tensor:
            place = state[:, samples:].square().mean(1).sqrt()
            return torch.maximum(state[:, :samples].abs().amax(1), place).max()

        precision = precise(y.device)
        clock = torch.tensor([flow.begin, flow.end], dtype=precision, device=y.device)
        options: dict[str, Any] = {"norm": worst, "dtype": precision}
        state = torch.cat([y.new_zeros(len(y), samples), y.flatten(1)], 1)
        try:
            end = _odeint()(rates, state, clock, rtol=self.rtol, atol=self.atol, method="dopri5", options=options)[1]
        except AssertionError as error:  # how torchdiffeq says that no step is small enough
            raise ValueError("Adaptive: no step meets the tolerance; ask for less, or use float64") from error
        return end[:, samples:].reshape(y.shape), end[:, :samples].T * size


def _odeint() -> Any:
    return library("torchdiffeq", "Adaptive").odeint

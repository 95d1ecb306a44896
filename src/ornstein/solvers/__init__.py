"""Solvers: one published method, one small file."""

from ornstein.solvers.abm import ABM
from ornstein.solvers.adaptive_ode import AdaptiveODE
from ornstein.solvers.adaptive_sde import AdaptiveSDE
from ornstein.solvers.ancestral import Ancestral
from ornstein.solvers.annealed_langevin import AnnealedLangevin
from ornstein.solvers.ddim import DDIM
from ornstein.solvers.dpm_solver_pp import DPMSolverPP
from ornstein.solvers.euler import Euler
from ornstein.solvers.euler_maruyama import EulerMaruyama
from ornstein.solvers.heun import Heun
from ornstein.solvers.langevin import Langevin, Proportional, SignalToNoise
from ornstein.solvers.predictor_corrector import PredictorCorrector
from ornstein.solvers.solver import Sampler, Solver

ALL: tuple[Solver, ...] = (
    DDIM(),
    DDIM(1.0),
    Ancestral(),
    Euler(),
    EulerMaruyama(),
    Heun(),
    DPMSolverPP(),
    ABM(2),
    ABM(3),
)

# Those with their own loop, from noise to data; AdaptiveODE needs the extra `ode`.
LOOPS: tuple[Sampler, ...] = (PredictorCorrector(), AnnealedLangevin(), AdaptiveODE(), AdaptiveSDE())

__all__ = [
    "ABM",
    "ALL",
    "DDIM",
    "LOOPS",
    "AdaptiveODE",
    "AdaptiveSDE",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolverPP",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "Proportional",
    "Sampler",
    "SignalToNoise",
    "Solver",
]

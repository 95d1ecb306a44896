"""Solvers: one published method, one small file.

A new one is a file here which ends with `ALL = (Method(),)` (or `AIMED`, or `LOOPS`): `solvers.ALL`, and with it all tests and
`ornstein verify`, take it from there. A line in this file gives it a short name.
"""

from ornstein._declared import declared
from ornstein.solvers.abm import ABM
from ornstein.solvers.adaptive_ode import AdaptiveODE
from ornstein.solvers.adaptive_sde import AdaptiveSDE
from ornstein.solvers.ancestral import Ancestral
from ornstein.solvers.annealed_langevin import AnnealedLangevin
from ornstein.solvers.ddim import DDIM
from ornstein.solvers.deis import DEIS, LogRho, Rho, Time
from ornstein.solvers.dpm_solver import (
    DPMSolver,
    DPMSolverPP,
    DPMSolverPPSingle,
    DPMSolverSingle,
    SDEDPMSolver,
    SDEDPMSolverPP,
)
from ornstein.solvers.edm_heun import EDMHeun
from ornstein.solvers.er_sde import ERSDE
from ornstein.solvers.euler import Euler
from ornstein.solvers.euler_maruyama import EulerMaruyama
from ornstein.solvers.heun import Heun
from ornstein.solvers.jump import Jump
from ornstein.solvers.langevin import Langevin, Proportional, SignalToNoise
from ornstein.solvers.learned_ancestral import LearnedAncestral
from ornstein.solvers.lms import LMS
from ornstein.solvers.pndm import PLMS, PNDM
from ornstein.solvers.predictor_corrector import PredictorCorrector
from ornstein.solvers.restart import Restart
from ornstein.solvers.runge_kutta import RALSTON, RK4, RungeKutta, Tableau, midpoint, rk4
from ornstein.solvers.solver import Solver, TableSolver
from ornstein.solvers.unipc import B1, B2, UniPC

ALL: tuple[TableSolver, ...] = declared(__name__)
"""The solvers of all modules here, over which every property test runs."""

AIMED: tuple[TableSolver, ...] = declared(__name__, "AIMED")
"""Those that need a flow map: a denoiser that takes an aim."""

LOOPS: tuple[Solver, ...] = declared(__name__, "LOOPS")
"""Those with their own loop, from noise to data; AdaptiveODE needs the extra `ode`."""

__all__ = [
    "ABM",
    "AIMED",
    "ALL",
    "B1",
    "B2",
    "DDIM",
    "DEIS",
    "ERSDE",
    "LMS",
    "LOOPS",
    "PLMS",
    "PNDM",
    "RALSTON",
    "RK4",
    "AdaptiveODE",
    "AdaptiveSDE",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolver",
    "DPMSolverPP",
    "DPMSolverPPSingle",
    "DPMSolverSingle",
    "EDMHeun",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Jump",
    "Langevin",
    "LearnedAncestral",
    "LogRho",
    "PredictorCorrector",
    "Proportional",
    "Restart",
    "Rho",
    "RungeKutta",
    "SDEDPMSolver",
    "SDEDPMSolverPP",
    "SignalToNoise",
    "Solver",
    "TableSolver",
    "Tableau",
    "Time",
    "UniPC",
    "midpoint",
    "rk4",
]

"""Solvers: one published method, one small file."""

from ornstein.solvers.abm import ABM
from ornstein.solvers.ancestral import Ancestral
from ornstein.solvers.ddim import DDIM
from ornstein.solvers.dpm_solver_pp import DPMSolverPP
from ornstein.solvers.euler import Euler
from ornstein.solvers.euler_maruyama import EulerMaruyama
from ornstein.solvers.heun import Heun
from ornstein.solvers.solver import Solver

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

__all__ = ["ABM", "ALL", "DDIM", "Ancestral", "DPMSolverPP", "Euler", "EulerMaruyama", "Heun", "Solver"]

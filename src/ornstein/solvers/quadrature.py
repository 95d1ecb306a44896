"""Interpolating polynomials and their integrals: what multistep methods and exponential integrators share."""

from collections.abc import Sequence
from functools import cache

import numpy as np


def legendre(points: int, start: float = 0.0, stop: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre nodes and weights on [start, stop]; exact for polynomials of degree 2·points − 1."""
    nodes, weights = _legendre(points)
    return (start + stop) / 2 + (stop - start) / 2 * nodes, (stop - start) / 2 * weights


@cache
def _legendre(points: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(points)


def lagrange(nodes: Sequence[float], at: np.ndarray) -> np.ndarray:
    """The Lagrange polynomials of the nodes at the given points, (nodes, points)."""
    n = np.asarray(nodes)
    gaps = n[:, None] - n[None, :] + np.eye(len(n))  # 1 on the diagonal, where the factor is left out
    factors = (at[:, None, None] - n[None, None, :]) / gaps
    factors[:, range(len(n)), range(len(n))] = 1.0
    return np.ascontiguousarray(factors.prod(-1).T)


def lagrange_integrals(nodes: Sequence[float], start: float, stop: float) -> list[float]:
    """∫ from start to stop of each Lagrange polynomial on the nodes: exact, by Gauss–Legendre quadrature."""
    points, weights = legendre((len(nodes) + 1) // 2, start, stop)
    integrals: list[float] = (lagrange(nodes, points) @ weights).tolist()
    return integrals

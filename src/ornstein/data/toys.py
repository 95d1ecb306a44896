"""Points in the plane to try things on, made here from a fixed seed: two moons, a roll, a checkerboard, rings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ornstein.data.arrays import Arrays

COUNT = 10_000
SEED = 0
Points = tuple[NDArray[np.float64], NDArray[np.int64] | None, tuple[str, ...]]


def moons(count: int, rng: np.random.Generator) -> Points:
    """Two half circles of radius 1 that reach into each other, with noise of deviation 0.08: the classes upper and lower."""
    labels = np.arange(count) % 2
    angle = np.pi * rng.random(count)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    return np.where(labels[:, None] == 0, upper, lower) + 0.08 * rng.normal(size=(count, 2)), labels, ("upper", "lower")


def swiss_roll(count: int, rng: np.random.Generator) -> Points:
    """A spiral of one and a half turns, of radius up to about 1.4, with noise of deviation 0.03; no classes."""
    angle = 1.5 * np.pi * (1 + 2 * rng.random(count))
    spiral = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 10
    return spiral + 0.03 * rng.normal(size=(count, 2)), None, ()


def checkerboard(count: int, rng: np.random.Generator) -> Points:
    """Uniform on eight of the sixteen unit squares of [−2, 2]²; no classes."""
    column = rng.integers(0, 4, count)
    row = 2 * rng.integers(0, 2, count) + column % 2
    return np.stack([column, row], 1) - 2.0 + rng.random((count, 2)), None, ()


def rings(count: int, rng: np.random.Generator) -> Points:
    """Circles of radius 0.5, 1, 1.5 and 2 with noise of deviation 0.04, a class each, by their number from 1."""
    labels = np.arange(count) % 4
    angle = 2 * np.pi * rng.random(count)
    radius = (0.5 * (labels + 1))[:, None]
    circles = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return circles + 0.04 * rng.normal(size=(count, 2)), labels, ("1", "2", "3", "4")


TOYS: dict[str, Callable[[int, np.random.Generator], Points]] = {
    "moons": moons,
    "swiss-roll": swiss_roll,
    "checkerboard": checkerboard,
    "rings": rings,
}


@dataclass(frozen=True)
class Toy:
    """A toy set: 10,000 float32 points, of another seed for the held-out ones."""

    name: str
    seed: int = SEED

    direct = True
    """It is read as it is, without the cache."""

    @property
    def path(self) -> str:
        """Its name."""
        return self.name

    def fingerprint(self) -> str:
        """Changes with what is made."""
        return f"toy {self.name} {self.seed} {COUNT}"

    def load(self, scratch: object = None) -> Arrays:
        """The points, their labels and classes."""
        points, labels, classes = TOYS[self.name](COUNT, np.random.default_rng(self.seed))
        return Arrays(points.astype(np.float32), labels, classes, layout="ND")

"""Functions shared by solvers with a loop of their own."""

from torch import Tensor


def falling(grid: Tensor, name: str) -> list[float]:
    """The grid's times, from noise to data. Raises ValueError for a grid that rises."""
    times: list[float] = grid.tolist()
    if times[0] < times[-1]:
        raise ValueError(f"{name} adds noise and needs a grid that falls, from noise to data")
    return times

"""RePaint (Lugmayr et al. 2022, "RePaint: inpainting using denoising diffusion probabilistic models")."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from torch import Tensor

from ornstein.denoiser import Denoiser
from ornstein.noise import NoiseSource, repeat
from ornstein.path import Path
from ornstein.solvers import Ancestral, TableSolver
from ornstein.solvers.loop import falling
from ornstein.table import Step, execute


@dataclass(frozen=True)
class RePaint:
    """Every `jump` steps down the grid are undone by the forward process, x_t ~ q(x_t | x_s), and made anew: `resamples` times.

    Under `Replacement` this is the paper's algorithm 1 with its jumps (section 4.3 and appendix A): with each return the part
    that is filled in agrees better with the known part. It also runs under any other denoiser, such as a posterior. A solver
    that remembers earlier steps starts anew in each. About `resamples` times the network calls of its predictor. Raises
    ValueError for fewer than one resample or a jump of no steps, and for a grid that rises. Source: Lugmayr et al. 2022.
    """

    resamples: int = 5
    jump: int = 2
    predictor: TableSolver = Ancestral()
    order: ClassVar[int] = 0
    stochastic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resamples < 1 or self.jump < 1:
            raise ValueError(f"RePaint: resamples = {self.resamples} and jump = {self.jump} must be 1 or more")

    def grid(self, path: Path, steps: int) -> Tensor:
        return self.predictor.grid(path, steps)

    def run(self, denoiser: Denoiser, x: Tensor, grid: Tensor, noise: NoiseSource) -> Iterator[Step]:
        path, times, calls = denoiser.path, falling(grid, "RePaint"), 0
        tables = [self.predictor.table(path, grid[i : i + 2]) for i in range(len(times) - 1)]
        places = self.schedule(len(tables))
        for visit, (here, there) in enumerate(pairwise(places), 1):
            fresh = repeat(noise, visit)
            if there > here:
                for i, step in enumerate(execute(tables[here], denoiser, x, fresh)):
                    if i < tables[here].calls:
                        yield step.after(calls)
                x, calls = step.x, calls + tables[here].calls
            else:
                t, s = times[there], times[here]
                kernel = path.transition(grid[here], grid[there])
                x = kernel.alpha.to(x) * x + kernel.sigma.to(x) * fresh(x, s, t)
        yield step.after(calls - tables[-1].calls)

    def schedule(self, steps: int) -> list[int]:
        """The places in the grid that are visited, from 0 to `steps`, down in single steps and back in jumps.

        Jumps begin `jump` steps apart, counted from one step before the data, where some noise is left.
        """
        places, left = [0], dict.fromkeys(range(steps - 1, self.jump - 1, -self.jump), self.resamples - 1)
        while places[-1] < steps:
            here = places[-1]
            if left.get(here, 0):
                left[here] -= 1
                places.append(here - self.jump)
            else:
                places.append(here + 1)
        return places

"""How often the intervals of metrics hold the truth: `python -m benchmarks.intervals [SECONDS]`, or `… small REPEATS`.

For each setting (features as a network makes them, Gaussians of few and many dimensions; samples of the real distribution and
of another; more and fewer samples than real items) sets are drawn again and again. The truth is the mean of all repeats, or
the null value where it is known. A row: setting, score, truth, the interval's half width over 1.96 standard deviations of the
score, the part of intervals that hold the truth, and the number of repeats. The seconds (default 240) are dealt out evenly.
`small`: sets of 150 to 400 items, at the null, near it and far from it, each so many times.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein import metrics
from ornstein.metrics import Score

NULL = {"near copies": 0.01, "nearer than fresh data": 0.5, "KID": 0.0, "MMD²": 0.0}


@dataclass(frozen=True)
class Setting:
    """n samples, scaled by `scale` and moved by `shift`, and m real items, N(0, I) of `size` numbers."""

    name: str
    n: int
    m: int
    size: int
    shift: float = 0.0
    scale: float = 1.0
    features: int = 0  # of a random layer max(0, zW), as those of a classifier; 0: the numbers themselves

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(self.n, self.size, generator=generator) * self.scale + self.shift
        y = torch.randn(self.m, self.size, generator=generator)
        if self.features:
            layer = torch.randn(self.size, self.features, generator=torch.Generator().manual_seed(0)) / self.size**0.5
            x, y = ((side @ layer).relu() for side in (x, y))
        return x, y


SETTINGS = (
    Setting("2-D, null", 500, 500, 2),
    Setting("2-D, hardly moved", 500, 500, 2, 0.08),
    Setting("2-D, too narrow", 500, 500, 2, 0.2, 0.7),
    Setting("64-D, null", 1000, 1000, 64),
    Setting("128 features, null", 1000, 1000, 16, features=128),
    Setting("128 features, moved", 1000, 1000, 16, 0.2, 0.9, 128),
    Setting("128 features, few real", 2000, 500, 16, features=128),
)
SMALL = (
    Setting("2-D, null", 200, 200, 2),
    Setting("2-D, hardly moved", 200, 200, 2, 0.12),
    Setting("2-D, moved", 200, 200, 2, 0.25),
    Setting("2-D, hardly narrower", 200, 200, 2, 0.0, 0.9),
    Setting("2-D, too narrow", 200, 200, 2, 0.2, 0.7),
    Setting("8-D, null", 200, 200, 8),
    Setting("8-D, hardly moved", 200, 200, 8, 0.08),
    Setting("16-D, moved", 200, 200, 16, 0.2, 0.9),
    Setting("32 features, null", 300, 300, 8, features=32),
    Setting("32 features, moved", 300, 300, 8, 0.08, features=32),
    Setting("32 features, few real", 400, 150, 8, 0.08, features=32),
)


def copies(samples: Tensor, training: Tensor) -> tuple[Score, ...]:
    """The scores whose null value is known."""
    return tuple(
        one
        for one in metrics.memorisation(samples, training).scores
        if one.name in ("near copies", "nearer than fresh data")
    )


def sliced(samples: Tensor, real: Tensor) -> Score:
    """In few directions."""
    return metrics.sliced_wasserstein(samples, real, slices=32)


METRICS: tuple[Callable[[Tensor, Tensor], Score | tuple[Score, ...]], ...] = (
    metrics.precision_recall,
    metrics.density_coverage,
    metrics.kid,
    metrics.mmd,
    metrics.frechet,
    metrics.sliced_wasserstein,
    copies,
)


def repeat(
    setting: Setting, metric: Callable[[Tensor, Tensor], Score | tuple[Score, ...]], seconds: float, most: int = 400
) -> None:
    """Measure until the time is over, at most so many times, and print a row for each score."""
    generator, drawn, end = torch.Generator().manual_seed(1), list[tuple[Score, ...]](), time.monotonic() + seconds
    while len(drawn) < 20 or (time.monotonic() < end and len(drawn) < most):
        scores = metric(*setting.draw(generator))
        drawn.append(scores if isinstance(scores, tuple) else (scores,))
    for column in zip(*drawn, strict=True):
        values = torch.tensor([one.value for one in column], dtype=torch.float64)
        null = setting.shift == 0 and setting.scale == 1
        truth = NULL.get(column[0].name, float(values.mean())) if null else float(values.mean())
        width = sum(one.high - one.low for one in column) / len(column) / 2
        held = sum(one.low <= truth <= one.high for one in column) / len(column)
        print(
            f"{setting.name:24}{column[0].name:24}{truth:10.4f}{width / (1.96 * float(values.std())):8.2f}{held:8.3f}"
            f"{len(column):6}",
            flush=True,
        )


def main() -> None:
    """All settings and metrics."""
    torch.set_num_threads(1)
    print(f"{'setting':24}{'score':24}{'truth':>10}{'width':>8}{'held':>8}{'of':>6}")
    if sys.argv[1:2] == ["small"]:
        for setting in SMALL:
            for metric in METRICS:
                repeat(
                    setting, sliced if metric is metrics.sliced_wasserstein else metric, float("inf"), int(sys.argv[2])
                )
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 240.0
    for setting in SETTINGS:
        for metric in METRICS:
            repeat(setting, metric, seconds / len(SETTINGS) / len(METRICS))


if __name__ == "__main__":
    main()

"""Images of measurements, by matplotlib, which the extra `plots` brings: quality by network calls, errors by noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.extras import library
from ornstein.files.output import KEYWORD, Output
from ornstein.metrics import Score
from ornstein.metrics.calibration import GRID, Calibration
from ornstein.metrics.diagnostics import NoiseLevel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINES = 8  # curves of a panel at most
WIDTH, HEIGHT = 4.6, 3.6  # inches of a panel


@dataclass(frozen=True)
class Curve:
    """Scores of one metric by network calls, under a name."""

    name: str
    calls: tuple[float, ...]
    scores: tuple[Score, ...]


def comparison(output: Output, panels: Sequence[tuple[str, Sequence[Curve], Score | None]], about: str) -> None:
    """A panel for each metric: its name, a curve for each way of sampling with 95 % intervals, what real data score as a band.

    Raises MissingExtra without matplotlib, and what `Output.write` raises.
    """
    figure, axes = _panels(len(panels))
    for ax, (metric, curves, floor) in zip(axes, panels, strict=True):
        for curve in curves:
            _intervals(ax, curve.calls, curve.scores, curve.name)
        if floor is not None:
            ax.axhline(floor.value, color="grey", linewidth=1, linestyle="--", label="real data")
            ax.axhspan(floor.low, floor.high, color="grey", alpha=0.15, linewidth=0)
        ax.set_xscale("log")
        ticks: list[float] = []
        for calls in sorted({calls for curve in curves for calls in curve.calls}):
            if not ticks or calls > 1.15 * ticks[-1]:  # room for the next number
                ticks.append(calls)
        ax.set_xticks(ticks, [f"{calls:.4g}" for calls in ticks], fontsize=8)
        ax.minorticks_off()
        ax.set_xlabel("network calls of a sample")
        ax.set_title(metric)
        # a curve far above the others would leave no room to tell those apart
        means = [score.value for curve in curves for score in curve.scores]
        if min(means) > 0 and max(means) > 20 * min(means):
            ax.set_yscale("log")
    axes[0].legend(fontsize=8)
    _save(figure, output, about)


def calibration(output: Output, measured: Calibration, about: str) -> None:
    """Coverage by level of central intervals of each number and of the whole, with 95 % intervals, and ranks less uniform ones.

    Raises MissingExtra without matplotlib, and what `Output.write` raises.
    """
    figure, (left, right) = _panels(2)
    left.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for name, curve in list(measured.curves().items())[-LINES:]:
        _intervals(left, GRID.tolist(), curve, name)
    left.set_xlabel("level")
    left.set_title("part of the items that is inside")
    left.legend(fontsize=7)
    columns = [column[~np.isnan(column)] for column in (*measured.ranks.T, measured.balls)]
    for column in [column for column in columns if len(column)][-LINES:]:
        places = (np.arange(len(column)) + 0.5) / len(column)
        right.plot(places, np.sort(column) - places, linewidth=1)
    band = 1.36 / math.sqrt(len(measured.balls))  # of Kolmogorov and Smirnov, 95 %
    right.axhspan(-band, band, color="grey", alpha=0.15, linewidth=0)
    right.set_xlabel("rank")
    right.set_title("ranks less uniform ones")
    _save(figure, output, about)


def diagnosis(output: Output, levels: Sequence[NoiseLevel], about: str) -> None:
    """Errors of both estimates, the continuity residual and the calibration by log-SNR.

    Raises MissingExtra without matplotlib, and what `Output.write` raises.
    """
    figure, (errors, continuity, calibration) = _panels(3)
    at = [level.log_snr for level in levels]
    _intervals(errors, at, [level.noise for level in levels], "noise estimate")
    _intervals(errors, at, [level.clean for level in levels], "clean estimate")
    if all(level.score is not None for level in levels):
        _intervals(errors, at, [level.score for level in levels if level.score], "from the exact score")
    errors.set_yscale("log")
    errors.set_title("squared error, per number")
    errors.legend(fontsize=8)
    continuity.plot(at, [level.continuity for level in levels], marker="o", markersize=4)
    continuity.axhline(0, color="grey", linewidth=1, linestyle="--")
    continuity.set_title("continuity residual (0: it holds)")
    _intervals(calibration, at, [level.calibration for level in levels], "")
    calibration.axhline(1, color="grey", linewidth=1, linestyle="--")
    calibration.set_title("actual over foretold error (1: calibrated)")
    for ax in (errors, continuity, calibration):
        ax.set_xlabel("log-SNR: noise ← → data")
    _save(figure, output, about)


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = library("matplotlib.figure", "a plot").Figure(figsize=(WIDTH * count, HEIGHT), layout="constrained")
    axes: Any = figure.subplots(1, count, squeeze=False)[0]
    for ax in axes:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _intervals(ax: Axes, at: Sequence[float], scores: Sequence[Score], label: str) -> None:
    """Values with their intervals, joined by a line."""
    values = [score.value for score in scores]
    # a bootstrap interval need not hold its value
    below = [max(0.0, score.value - score.low) for score in scores]
    above = [max(0.0, score.high - score.value) for score in scores]
    ax.errorbar(at, values, (below, above), marker="o", markersize=4, capsize=2.5, linewidth=1.3, label=label or None)


def _save(figure: Figure, output: Output, about: str) -> None:
    figure.suptitle(about, fontsize=9, color="grey")
    with output.write() as fresh:
        figure.savefig(fresh, format="png", dpi=120, metadata={KEYWORD: output.stamp})

"""Charts: the slope is the derivative of y along the clock on every path, and `level` inverts the clock."""

import math

import pytest
import torch

from ornstein import chart, path
from ornstein.chart import Chart
from ornstein.path import Path
from ornstein.table import Form, FormPair, level

RATIOS = (0.05, 0.8, 10.0)
PAIR = FormPair(Form({(0, 0): 1.0}), Form({(0, 1): 1.0}))


def times(p: Path) -> list[float]:
    return p.time(-2 * torch.tensor(RATIOS, dtype=torch.float64).log()).tolist()


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("c", chart.ALL, ids=str)
def test_level_inverts_the_clock(p: Path, c: Chart) -> None:
    for t in times(p):
        assert c.level(p, c.clock(level(p, t))).t == pytest.approx(t, abs=1e-9)


@pytest.mark.parametrize("p", path.ALL, ids=str)
@pytest.mark.parametrize("c", chart.ALL, ids=str)
def test_slope_is_the_derivative_of_y_along_the_clock(p: Path, c: Chart) -> None:
    """On data x = 2 and noise ε = −0.7, y = (αx + σε)/scale, by central differences in t."""
    step = 1e-6
    for t in times(p):
        before, here, after = (level(p, u) for u in (t - step, t, t + step))
        y = [(at.alpha * 2 - at.sigma * 0.7) / c.scale(at) for at in (before, after)]
        difference = (y[1] - y[0]) / (c.clock(after) - c.clock(before))
        weights = c.slope(p, here, PAIR).weights
        slope = weights.get((0, 0), 0.0) * 2 - weights.get((0, 1), 0.0) * 0.7
        assert difference == pytest.approx(slope, rel=2e-4, abs=1e-5)


@pytest.mark.parametrize("c", [chart.Flow(), chart.Angle()], ids=str)
@pytest.mark.parametrize("p", path.ALL, ids=str)
def test_bounded_charts_are_finite_at_both_ends(p: Path, c: Chart) -> None:
    for t in (0.0, 1.0):
        at = level(p, t)
        slope = c.slope(p, at, PAIR).weights.values()
        assert all(map(math.isfinite, (c.clock(at), c.scale(at), *slope)))
        assert c.level(p, c.clock(at)).t == pytest.approx(t, abs=1e-9)


def test_charts_of_the_path_they_are_named_after() -> None:
    """The flow chart on the linear path and the angle on the trigonometric one are the path's own time."""
    linear, trigonometric = level(path.Linear(), 0.3), level(path.Trigonometric(), 0.3)
    assert chart.Flow().clock(linear) == pytest.approx(0.3)
    assert chart.Flow().scale(linear) == pytest.approx(1)
    assert chart.Angle().clock(trigonometric) == pytest.approx(0.3 * math.pi / 2)
    assert chart.Angle().scale(trigonometric) == pytest.approx(1)
    assert chart.Scaled().clock(level(path.EDM(), 0.3)) == pytest.approx(24)


def test_the_scaled_clock_refuses_zero_snr() -> None:
    with pytest.raises(ValueError, match=r"chart.Scaled: σ/α is infinite at t = 1, .*chart.Flow\(\)"):
        chart.Scaled().clock(level(path.Linear(), 1.0))


def test_path_time_refuses_an_infinite_derivative() -> None:
    with pytest.raises(ValueError, match=r"VariancePreserving.*infinite at t = 0; .*chart.Flow\(\)"):
        chart.PathTime().slope(path.VariancePreserving(), level(path.VariancePreserving(), 0.0), PAIR)

"""score_sde (Song et al. 2021): continuous VP and sub-VP networks predict noise at 999·t, VE networks the score at σ."""

from ornstein.interop.convention import Convention, NoiseClock, TimeClock
from ornstein.path import SubVariancePreserving, VarianceExploding, VariancePreserving
from ornstein.target import Noise, Score


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Convention:
    """model(x, 999·t), whose output is −σ times the score."""
    return Convention(VariancePreserving(beta_min, beta_max), Noise(), TimeClock(999.0))


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Convention:
    """model(x, 999·t) of a sub-VP network, whose output is −σ times the score."""
    return Convention(SubVariancePreserving(beta_min, beta_max), Noise(), TimeClock(999.0))


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Convention:
    """model(x, σ), whose output is the score."""
    return Convention(VarianceExploding(sigma_min, sigma_max), Score(), NoiseClock())

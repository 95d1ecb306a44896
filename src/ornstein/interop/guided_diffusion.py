"""guided-diffusion (ADM) and improved-diffusion: model(x, i, y) predicts noise at step i = 1000·t − 1 of a β-table."""

from ornstein.interop.convention import Convention, TimeClock
from ornstein.path import Betas
from ornstein.target import Noise


def convention(path: Betas | None = None, *, learn_sigma: bool = True, discrete: bool = False) -> Convention:
    """`path`: `Betas.linear()` (None) or `Betas.squared_cosine()` as the checkpoint was trained.

    With `learn_sigma` the output has 6 channels for 3, and the last 3 are the variance. `discrete` for the respaced and other
    wrappers that look steps up in a list.
    """
    path = Betas.linear() if path is None else path
    return Convention(
        path, Noise(), TimeClock(path.steps, -1.0), variance=learn_sigma, levels=path.steps, discrete=discrete
    )

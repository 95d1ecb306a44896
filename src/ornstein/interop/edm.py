"""EDM and EDM2 objects, k-diffusion's and physicsnemo's preconditioned networks: net(x, σ, labels) -> E[x | x_t]."""

from collections.abc import Callable
from pathlib import Path as File
from typing import Any

from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import UsageError
from ornstein.interop.convention import Convention, EDMClock, NoiseClock, wrap
from ornstein.path import EDM
from ornstein.target import EDM as Preconditioned
from ornstein.target import Clean


def convention(sigma_max: float = 80.0) -> Convention:
    """A denoiser called with x = clean + σ·noise and σ itself (Karras et al. 2022, table 1): σ ≤ sigma_max."""
    return Convention(EDM(sigma_max), Clean(), NoiseClock())


def raw(sigma_data: float = 0.5, sigma_max: float = 80.0) -> Convention:
    """The network F inside the preconditioning, called with c_in·x and c_noise = ¼·ln σ."""
    return Convention(EDM(sigma_max), Preconditioned(sigma_data), EDMClock(sigma_data))


def denoiser(net: Callable[..., Any], condition: Any = None, *, sigma_max: float = 80.0) -> NetworkDenoiser:
    """An EDM object as a denoiser; condition: class labels (one-hot), or a dict of its keywords.

    Raises UsageError for a file: an EDM .pkl holds code, which is never run.
    """
    if isinstance(net, (str, File)):
        raise UsageError(
            f"{net}: a .pkl of EDM holds code, which is not run here; load it in your own process as its authors say, and "
            "give the object: interop.edm.denoiser(net)"
        )
    return wrap(net, convention(sigma_max), condition)

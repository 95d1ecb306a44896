"""Flow matching whose time runs from noise (0) to data (1): SiT, torchcfm, flow_matching. They predict x − ε at time 1 − t."""

from collections.abc import Callable
from typing import Any

from ornstein.denoiser import NetworkDenoiser
from ornstein.interop.convention import Call, Convention, NoiseClock, TimeClock, positional, time_first, wrap
from ornstein.path import Linear
from ornstein.target import Combination

TOWARDS_DATA = Combination(1.0, -1.0)


def sit(variance: bool = False) -> Convention:
    """SiT (Ma et al. 2024) and flow_matching's models: net(x, 1 − t, ...)."""
    return _convention(positional, variance)


flow_matching = sit


def towards_noise(scale: float = 1000.0) -> Convention:
    """Flows of diffusers (SD3): net(x, scale·σ, ...) predicts ε − x on the linear path; Flux counts by scale 1."""
    return Convention(Linear(), Combination(-1.0, 1.0), NoiseClock(scale))


def torchcfm() -> Convention:
    """torchcfm (Tong et al. 2024): net(1 − t, x, ...)."""
    return _convention(time_first, False)


def _convention(call: Call, variance: bool) -> Convention:
    return Convention(Linear(), TOWARDS_DATA, TimeClock(-1.0, 1.0), call, variance)


def denoiser(net: Callable[..., Any], convention: Convention, condition: Any = None) -> NetworkDenoiser:
    """A flow's network as a denoiser, by one of the conventions above."""
    return wrap(net, convention, condition)

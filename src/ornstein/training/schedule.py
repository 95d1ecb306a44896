"""The learning rate as a function of how much of the run is done, so that it fits any length, in steps or in minutes."""

import math


def rate(done: float, warmup: float, floor: float = 0.01) -> float:
    """The factor on the peak: a linear rise over the first `warmup` of the run, then half a cosine down to `floor`."""
    if done < warmup:
        return max(done / warmup, 1e-3)
    fall = min((done - warmup) / (1 - warmup), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * fall)) / 2

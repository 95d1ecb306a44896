"""Series whose future is uncertain, for a picture of the gallery: `python -m tools.pages.swings FILE.npy`."""

import sys

import numpy as np


def swings(count: int = 2000, length: int = 64) -> np.ndarray:
    """Swings that noise keeps going, x_t = 2 r cos(ω) x_(t−1) − r² x_(t−2) + noise, (count, 1, length)."""
    noise = np.random.default_rng(0).normal(size=(count, length + 200))
    x, damping, frequency = np.zeros((count, length + 200)), 0.96, 2 * np.pi / 14
    for t in range(2, x.shape[1]):  # the first 200 places are forgotten
        x[:, t] = 2 * damping * np.cos(frequency) * x[:, t - 1] - damping**2 * x[:, t - 2] + noise[:, t]
    return x[:, None, 200:].astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give a file: `python -m tools.pages.swings swings.npy`.")
    np.save(sys.argv[1], swings())

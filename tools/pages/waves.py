"""Series for a picture of the gallery: `python -m tools.pages.waves FILE.npy`."""

import sys

import numpy as np


def waves(count: int = 2000, length: int = 64) -> np.ndarray:
    """Sines of random frequency, phase and height that fade out, (count, 1, length)."""
    rng = np.random.default_rng(0)
    frequency, phase, height = rng.uniform(2, 6, count), rng.uniform(0, 2 * np.pi, count), rng.uniform(0.5, 1.5, count)
    t = np.linspace(0, 1, length)
    x = height[:, None] * np.sin(2 * np.pi * frequency[:, None] * t + phase[:, None]) * np.exp(-2 * t)
    return x[:, None].astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give a file: `python -m tools.pages.waves waves.npy`.")
    np.save(sys.argv[1], waves())

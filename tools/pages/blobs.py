"""Volumes for a picture of the gallery: `python -m tools.pages.blobs FILE.npy`."""

import sys

import numpy as np


def blobs(count: int = 600, side: int = 8) -> np.ndarray:
    """Hollow balls of random place, radius and squeeze, (count, side, side, side) of bytes."""
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij"))
    centre = rng.uniform(-0.3, 0.3, (count, 3, 1, 1, 1))
    radius = rng.uniform(0.35, 0.7, (count, 1, 1, 1))
    squeeze = rng.uniform(0.7, 1.4, (count, 3, 1, 1, 1))
    distance = np.sqrt((((axes - centre) * squeeze) ** 2).sum(1))
    return (255 * np.exp(-(((distance - radius) / 0.2) ** 2))).round().astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give a file: `python -m tools.pages.blobs blobs.npy`.")
    np.save(sys.argv[1], blobs())

"""Small data sets for pictures of the gallery: `python -m tools.pages.shapes waves|blobs FILE.npy`."""

import sys

import numpy as np


def waves(count: int = 2000, length: int = 64) -> np.ndarray:
    """Sines of random frequency, phase and height that fade out, (count, 1, length)."""
    rng = np.random.default_rng(0)
    frequency, phase, height = rng.uniform(2, 6, count), rng.uniform(0, 2 * np.pi, count), rng.uniform(0.5, 1.5, count)
    t = np.linspace(0, 1, length)
    x = height[:, None] * np.sin(2 * np.pi * frequency[:, None] * t + phase[:, None]) * np.exp(-2 * t)
    return x[:, None].astype(np.float32)


def blobs(count: int = 1000, side: int = 12) -> np.ndarray:
    """Balls of random place and size in a cube, (count, side, side, side), 0 to 255."""
    rng = np.random.default_rng(0)
    centre, radius = rng.uniform(0.3, 0.7, (count, 3)), rng.uniform(0.12, 0.3, count)
    axes = (np.arange(side) + 0.5) / side
    grid = np.stack(np.meshgrid(axes, axes, axes, indexing="ij"), -1)
    distance = np.linalg.norm(grid[None] - centre[:, None, None, None], axis=-1)
    return (255 / (1 + np.exp(40 * (distance - radius[:, None, None, None])))).astype(np.uint8)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("waves", "blobs"):
        sys.exit("Give waves or blobs, and a file: `python -m tools.pages.shapes waves waves.npy`.")
    np.save(sys.argv[2], {"waves": waves, "blobs": blobs}[sys.argv[1]]())

"""Vectors of few dimensions as an image of points."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ornstein.errors import UsageError

MOST = 4  # dimensions; each pair of them is a panel
SIDE = 480  # pixels of a panel's square
MARGIN = 24  # pixels around it
INK = np.array([31, 78, 140], float)


def must_be_drawable(dimensions: int, where: str) -> None:
    """Raises UsageError for vectors of one dimension, or too many to be seen in pairs."""
    if not 2 <= dimensions <= MOST:
        raise UsageError(
            f"{where}: vectors of {dimensions} dimension{'s' * (dimensions > 1)} are not drawn, only of 2 to {MOST}; give a .npz "
            "file or a folder"
        )


def size(dimensions: int) -> tuple[int, int]:
    """Width and height of an image of points of so many dimensions."""
    pairs = math.comb(dimensions, 2)
    columns = math.ceil(math.sqrt(pairs))
    return columns * (SIDE + 2 * MARGIN), math.ceil(pairs / columns) * (SIDE + 2 * MARGIN)


def scatter_image(
    points: NDArray[Any], limits: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
) -> Image.Image:
    """Points (N, D), D from 2 to 4, as an image: a panel for each pair of dimensions, with the range of both.

    Where more points lie, the panel is darker. A panel of points in the plane has one scale for both axes. `limits`: the lowest
    and the highest numbers (D,) of the panels, by default those of the points; what lies outside is left out.
    Raises UsageError for another D.
    """
    must_be_drawable(points.shape[1], "scatter_image")
    pairs = list(combinations(range(points.shape[1]), 2))
    points = points.astype(float)
    low, high = (points.min(0), points.max(0)) if limits is None else limits
    image, cell = Image.new("RGB", size(points.shape[1]), "white"), SIDE + 2 * MARGIN
    for place, (i, j) in enumerate(pairs):
        axes = [i, j]
        panel = _panel(points[:, axes], i, j, low[axes], high[axes], len(pairs) == 1)
        image.paste(panel, (place * cell % image.width, place * cell // image.width * cell))
    return image


def _panel(
    points: NDArray[np.float64], i: int, j: int, low: NDArray[np.float64], high: NDArray[np.float64], square: bool
) -> Image.Image:
    """One pair of dimensions: x to the right, y upwards."""
    count, points = len(points), points[((points >= low) & (points <= high)).all(1)]
    middle, width = (low + high) / 2, np.maximum(high - low, 1e-12)
    width = np.full(2, width.max()) if square else width
    places = np.clip(((points - middle) / (1.05 * width) + 0.5) * (SIDE - 1), 0, SIDE - 1)
    pixels = np.zeros((SIDE, SIDE))
    x, y = np.rint(places).astype(int).T
    np.add.at(pixels, (SIDE - 1 - y, x), 1.0)
    wide = pixels.copy()  # a point is a cross of five pixels
    for axis in (0, 1):
        for step in (-1, 1):
            wide += 0.6 * np.roll(pixels, step, axis)
    shade = 1 - np.exp(-wide * max(0.35, min(1.5, 3000 / count)))
    colours = 255 + shade[..., None] * (INK - 255)
    panel = Image.new("RGB", (SIDE + 2 * MARGIN,) * 2, "white")
    panel.paste(Image.fromarray(np.rint(colours).astype(np.uint8)), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(panel)
    draw.rectangle((MARGIN - 1, MARGIN - 1, MARGIN + SIDE, MARGIN + SIDE), outline="grey")
    ranges = [f"x{axis + 1}: {low[k]:.3g} to {high[k]:.3g}" for k, axis in enumerate((i, j))]
    draw.text((MARGIN, MARGIN + SIDE + 4), f"{ranges[0]} (right)    {ranges[1]} (up)    {count:,} points", fill="grey")
    return panel

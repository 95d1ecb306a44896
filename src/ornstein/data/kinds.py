"""Kinds of data: what one item is. A kind is a class and a place in `ALL`: axes, the networks that fit, how items look, words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.data.spec import DataSpec

HEIGHT, WIDTH = 72, 128  # pixels of a drawn item
COLOURS = ((31, 90, 180), (200, 80, 30), (40, 140, 70), (140, 60, 150), (120, 120, 40), (40, 130, 150))
SLICES = 4  # drawn of each item
FEW = 1000  # rows of a table, below which larger networks learn them by heart


class Kind:
    """One kind of item. A model sees `axes`, channels first; `layouts` are the orders of axes that arrays may have.

    A layout is N and a letter for each axis of an item, such as NHWC. An axis of `axes` that it lacks has length 1.
    """

    name: ClassVar[str]
    plural: ClassVar[str]
    axes: ClassVar[str]
    layouts: ClassVar[tuple[str, ...]]
    """The first is the usual one."""
    networks: ClassVar[tuple[str, ...]]
    """The names of networks that fit, the default one first."""
    mirrors: ClassVar[bool] = False
    """Whether left and right of an item may be exchanged, and it may be turned, moved and scaled."""
    pixels: ClassVar[bool] = False
    """Whether one item can be an image file."""
    held: ClassVar[bool] = False
    """Whether samples are held to the recorded range and type of each channel also where the numbers are floating."""
    arrays: ClassVar[bool] = True
    """Whether an array of items can be of this kind."""
    item: ClassVar[str] = "item"
    """One of them, in a word."""
    maskings: ClassVar[str | None] = None
    """What of an item a model is given in training, by default (`--given`)."""
    per_dimension: ClassVar[bool] = True
    """Whether a likelihood is given in bits per dimension, in place of nats."""
    ending: ClassVar[str] = ".png"
    """Ending of a file of samples without a name; .png for kinds that are drawn as a sheet."""

    @property
    def drawn(self) -> bool:
        """Whether a sheet of items can be drawn."""
        return self.ending == ".png"

    @property
    def spatial(self) -> int:
        """The number of axes besides channels."""
        return len(self.axes) - 1

    def preset(self, shape: tuple[int, ...], count: int) -> str:
        """The size of a network by default, for so many items."""
        return "small"

    def batch_size(self, shape: tuple[int, ...], on_cpu: bool) -> int:
        """The items of a step by default."""
        return 32 if on_cpu and max(shape[1:]) > 16 else 64

    def words(self, shape: tuple[int, ...]) -> str:
        """Description of one item, for a line of text."""
        raise NotImplementedError

    def cells(self, items: NDArray[Any], spec: DataSpec) -> NDArray[np.uint8]:
        """Items in model order `(N, *spec.shape)`, in their own units, as images `(N, H, W, C)` to look at."""
        raise UsageError(f"{self.plural} are no images; write them to a .npz file")

    def cell(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of an item that is drawn."""
        raise UsageError(f"{self.plural} are no images; write them to a .npz file")


class Vectors(Kind):
    """`(N, D)`, or `(N,)` for one number each."""

    item = "vector"
    name, plural, axes = "vector", "vectors", "D"
    layouts = ("ND", "N")
    networks = ("mlp", "columns")
    held = True
    per_dimension = False
    ending = ".npz"

    def batch_size(self, shape: tuple[int, ...], on_cpu: bool) -> int:
        return 256

    def words(self, shape: tuple[int, ...]) -> str:
        return "one number each" if shape == (1,) else f"{shape[0]} numbers each"


class Images(Kind):
    """`(N, H, W, C)`, `(N, C, H, W)`, or `(N, H, W)` with one channel."""

    item = "image"
    name, plural, axes = "image", "images", "CHW"
    layouts = ("NHWC", "NCHW", "NHW")
    networks = ("unet", "dit")
    mirrors = True
    pixels = True

    def preset(self, shape: tuple[int, ...], count: int) -> str:
        return "tiny" if max(shape[1:]) <= 16 else "small"

    def words(self, shape: tuple[int, ...]) -> str:
        channels, height, width = shape
        colour = {1: "grey", 3: "colour", 4: "colour with alpha"}.get(channels, f"{channels} channels")
        return f"{width}x{height} {colour}"

    def cells(self, items: NDArray[Any], spec: DataSpec) -> NDArray[np.uint8]:
        """1, 3 or 4 channels are drawn as grey, colour and colour with alpha; of others the first three (of two, the first)."""
        channels = items.shape[1]
        levels = grey(items, spec)
        return (levels if channels in (1, 3, 4) else levels[:, : 1 if channels == 2 else 3]).transpose(0, 2, 3, 1)

    def cell(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[1], shape[2]


class Series(Kind):
    """`(N, C, L)`, `(N, L, C)`, or `(N, L)` with one channel."""

    item = "series"
    name, plural, axes = "series", "series", "CL"
    layouts = ("NCL", "NLC", "NL")
    networks = ("unet", "dit")

    def preset(self, shape: tuple[int, ...], count: int) -> str:
        return "tiny" if shape[1] <= 256 else "small"

    def batch_size(self, shape: tuple[int, ...], on_cpu: bool) -> int:
        return 64

    def words(self, shape: tuple[int, ...]) -> str:
        return f"length {shape[1]}, {shape[0]} channel{'s'[: shape[0] > 1]}"

    def cells(self, items: NDArray[Any], spec: DataSpec) -> NDArray[np.uint8]:
        """A curve for each channel, from the least number it is drawn with (below) to the largest."""
        heights = (HEIGHT - 5) - grey(items, spec).astype(np.float64) * ((HEIGHT - 9) / 255)
        places = np.linspace(2, WIDTH - 3, items.shape[2])
        from PIL import Image, ImageDraw

        made = np.empty((len(items), HEIGHT, WIDTH, 3), np.uint8)
        for cell, curves in zip(made, heights, strict=True):
            image = Image.new("RGB", (WIDTH, HEIGHT), (247, 247, 247))
            pen = ImageDraw.Draw(image)
            for channel, curve in enumerate(curves):
                points = list(zip(places.tolist(), curve.tolist(), strict=True))
                pen.line(points if len(points) > 1 else points * 2, fill=COLOURS[channel % len(COLOURS)])
            cell[...] = np.asarray(image)
        return made

    def cell(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return HEIGHT, WIDTH


class Volumes(Kind):
    """`(N, C, D, H, W)`, `(N, D, H, W, C)`, or `(N, D, H, W)` with one channel."""

    item = "volume"
    name, plural, axes = "volume", "volumes", "CDHW"
    layouts = ("NCDHW", "NDHWC", "NDHW")
    networks = ("unet", "dit")

    def preset(self, shape: tuple[int, ...], count: int) -> str:
        return "tiny" if max(shape[1:]) <= 32 else "small"

    def batch_size(self, shape: tuple[int, ...], on_cpu: bool) -> int:
        return 16

    def words(self, shape: tuple[int, ...]) -> str:
        channels, depth, height, width = shape
        return f"{width}x{height}x{depth}, {channels} channel{'s'[: channels > 1]}"

    def cells(self, items: NDArray[Any], spec: DataSpec) -> NDArray[np.uint8]:
        """Slices evenly spaced in depth, side by side; of several channels the first, or three as colours."""
        channels = items.shape[1]
        levels = grey(items, spec)[:, : 3 if channels == 3 else 1, self._slices(items.shape[2])]
        return np.concatenate(list(levels.transpose(2, 0, 3, 4, 1)), axis=2)

    def cell(self, shape: tuple[int, ...]) -> tuple[int, int]:
        return shape[2], shape[3] * len(self._slices(shape[1]))

    @staticmethod
    def _slices(depth: int) -> NDArray[np.int64]:
        count = min(depth, SLICES)
        return (2 * np.arange(count) + 1) * depth // (2 * count)


class TableRows(Kind):
    """Rows of a table `(N, K)`: a number for each of K columns, which the model has in one or several dimensions."""

    name, plural, axes = "table", "rows", "K"
    layouts = ("NK",)
    networks = ("mlp", "columns")
    arrays = False
    per_dimension = False
    ending = ".csv"
    item = "row"
    maskings = "any"

    def preset(self, shape: tuple[int, ...], count: int) -> str:
        return "mini" if count < FEW else "small"

    def batch_size(self, shape: tuple[int, ...], on_cpu: bool) -> int:
        return 512

    def words(self, shape: tuple[int, ...]) -> str:
        return f"{shape[0]} dimensions"


def window(spec: DataSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The numbers of each channel that are drawn black and white (C,): the range, of floating data four deviations of it."""
    if not spec.mean:
        return np.full(spec.shape[0], spec.low), np.full(spec.shape[0], spec.high)
    mean, std, lows, highs = map(np.array, (spec.mean, spec.std, spec.lows, spec.highs))
    return np.maximum(lows, mean - 4 * std), np.minimum(highs, mean + 4 * std)


def grey(items: NDArray[Any], spec: DataSpec) -> NDArray[np.uint8]:
    """Numbers in model order `(N, C, ...)` to 0..255, each channel from its own black to its own white."""
    low, high = (bound.reshape(-1, *(1,) * (items.ndim - 2)) for bound in window(spec))
    if items.dtype == np.uint8 and not spec.mean and (spec.low, spec.high) == (0, 255):
        return items
    scaled = (items.astype(np.float64) - low) * (255.0 / np.where(high > low, high - low, 1.0))
    return np.nan_to_num(np.clip(np.rint(scaled), 0, 255)).astype(np.uint8)


ALL: tuple[Kind, ...] = (Vectors(), Images(), Series(), Volumes(), TableRows())
NAMED = {kind.name: kind for kind in ALL}
LAYOUTS = {layout: kind for kind in ALL for layout in kind.layouts}
"""The names of all layouts, with the kind of data that each describes."""

"""Input and output of `edit`, `interpolate` and `restore`: files to model units and back, guidance, progress."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.cli import condition_flags, guidance_flags
from ornstein.cli.options import Edit, Interpolate, Restore
from ornstein.cli.printing import dims, say
from ornstein.data import DataSpec, arrays, decode, grid_image, pixels
from ornstein.data.images import (
    ANIMATED,
    IMAGES,
    SampleFolder,
    first_not_finite,
    must_be_a_grid,
    must_be_an_animation,
    new_npz,
    save_animation,
    save_grid,
)
from ornstein.data.layout import to_model_order
from ornstein.data.scatter import must_be_drawable, scatter_image
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.output import Output, digest, digest_of, must_have_room, unused
from ornstein.guidance import GuidanceConfig, WeakModel
from ornstein.meter import Meter
from ornstein.runs import Run
from ornstein.runs.editing import spread

ARRAYS = (".npy", ".npz")
MOST = 64  # items made at once
T = TypeVar("T")
Size = tuple[int, ...]  # height, width; the sides of other items


def read(name: str, spec: DataSpec) -> tuple[Tensor, Size]:
    """The items of a file in model units, (N, *shape) on the CPU, and the size that an image had before it was fitted.

    An array holds items in the run's own units and axes, or one item; what is not as in the training is said. An image of
    another size is cropped at its centre and resized as training images are, with a line that says so.
    """
    file = _existing(name)
    if file.suffix.lower() in ARRAYS:
        items, notes = spec.adopt(np.asarray(arrays.plain_items(file)), str(file))
        for note in notes:
            say(f"Note: {note}")
        return spec.to_model(items), (spec.shape[-2], spec.shape[-1]) if spec.traits.pixels else (0, 0)
    if not spec.traits.pixels:
        raise UsageError(f"{file} is no array, and the run makes {spec.traits.plural}; give a .npy of {dims(spec)}")
    _, height, width = spec.shape
    head = _read_file(file, decode.header)
    if head.size != (height, width):
        say(f"{file} is {head.size[1]}x{head.size[0]} and becomes {width}x{height}, cropped at the centre.")
    return image(file, (height, width), spec), head.size


def image(file: Path, size: Size, spec: DataSpec) -> Tensor:
    """An image fitted to a size, in the model units of `spec`: (1, C, H, W).

    Where these data have a declared range, black is its lower end and white its upper; else the numbers of the file are those of
    the data, which must have the file's type.
    """
    if not spec.mean:
        return brightness(file, size, spec.shape[0])
    array = _decoded(file, size, spec.shape[0])
    if array.dtype.name != spec.dtype:
        raise UsageError(
            f"{file} is an image of {array.dtype}, and the run makes {spec.dtype} from {spec.low:g} to {spec.high:g}; give a "
            ".npy in these units"
        )
    return spec.of_shape((spec.shape[0], *size)).to_model(array[None])


def brightness(file: Path, size: Size, channels: int) -> Tensor:
    """An image fitted to a size, (1, C, H, W): black is −1 and white 1."""
    array = _decoded(file, size, channels)
    values = array.astype(np.float64) * (2 / pixels.opaque(array.dtype)) - 1
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32))


def _decoded(file: Path, size: Size, channels: int) -> NDArray[Any]:
    if channels not in (1, 3, 4):
        raise UsageError(f"{file} is an image, and the run's images have {channels} channels; give a .npy of them")
    form = decode.Format((size[0], size[1]), channels, _read_file(file, decode.header).dtype, False)
    return _read_file(file, lambda opened: decode.decode(opened, form))


def seen(name: str, spec: DataSpec, size: Size, visible: Tensor | None = None) -> Tensor:
    """A measured item, which must have these sides already, in model units: (1, C, *sides), of vectors (1, D).

    Where it is not `visible` it may lack numbers (NaN).
    """
    file = _existing(name)
    if file.suffix.lower() in ARRAYS:
        own = spec.of_shape((spec.shape[0], *size), spec.layout)
        array = np.asarray(arrays.plain_items(file))
        if visible is not None and array.dtype.kind == "f":
            array = _without_hidden(array, own, visible, str(file))
        try:
            items, notes = own.adopt(array, str(file))
        except UsageError:
            raise UsageError(
                f"{file} holds no {spec.kind} of shape {own.item_shape}, as the operator gives; give one in the run's units"
            ) from None
        for note in notes:
            say(f"Note: {note}")
        return own.to_model(items[:1])
    if not spec.traits.pixels:
        raise UsageError(f"{file} is no array, and the run makes {spec.traits.plural}; give a .npy of {dims(spec)}")
    head, (height, width) = _read_file(file, decode.header), size
    if head.size != size:
        raise UsageError(
            f"{file} is {head.size[1]}x{head.size[0]}, but this operator turns the run's {spec.shape[2]}x{spec.shape[1]} "
            f"into {width}x{height}; give an image of that size"
        )
    return image(file, size, spec)


def _without_hidden(array: NDArray[Any], spec: DataSpec, visible: Tensor, where: str) -> NDArray[Any]:
    """An item with numbers where it lacks some that are not visible, of an array that fits."""
    lacks = np.isnan(array)
    middle: Any = spec.from_model(torch.zeros(1, *spec.shape))[0]
    middle = middle if array.shape[array.ndim - middle.ndim :] == middle.shape else middle.mean()
    filled = np.where(lacks, middle, array)
    with suppress(UsageError):  # said where the item itself is adopted
        places = torch.from_numpy(to_model_order(spec.adopt(lacks.astype(np.uint8), where).items, spec.layout) > 0)
        return array if bool((places & (visible.cpu() > 0)).any()) else filled
    return array


def left(name: str, spec: DataSpec, shape: tuple[int, ...]) -> tuple[NDArray[Any], Size]:
    """An image as what is left of one, `shape` (C, H, W), if that is its size, else fitted to the run's; in the data's own
    units, with the size that it had."""
    file = _existing(name)
    size = _read_file(file, decode.header).size
    if size != shape[1:]:
        return spec.from_model(read(name, spec)[0]), size
    own = spec.of_shape(shape)
    return own.from_model(image(file, size, own)), size


def visible_mask(name: str, spec: DataSpec, size: Size) -> Tensor:
    """1 where a mask is black and 0 where it is white, broadcasting against items (B, *shape); `size` is the image's own."""
    file = _existing(name)
    if file.suffix.lower() in ARRAYS:
        if file.suffix != ".npy":
            raise UsageError(f"--mask {file}: a mask is a .npy file, or an image")
        marked = spread(spec, np.asarray(np.load(file, allow_pickle=False) != 0), f"--mask {file}")
    elif not spec.traits.pixels:
        raise UsageError(
            f"--mask {file} is an image, and the run makes {spec.traits.plural}; give a .npy of shape "
            f"{spec.shape[1:] or spec.shape}"
        )
    else:
        actual = _read_file(file, decode.header).size
        if actual != size:
            raise UsageError(
                f"--mask {file} is {actual[1]}x{actual[0]}, but the image is {size[1]}x{size[0]}; give a mask of the same size"
            )
        marked = brightness(file, (spec.shape[1], spec.shape[2]), 1) > 0
    if not bool(marked.any()):
        raise UsageError(
            f"--mask {file} is black everywhere, so there is nothing to paint; make it white where to paint"
        )
    if bool(marked.all()):
        raise UsageError(f"--mask {file} is white everywhere, so nothing stays as it is; use `ornstein sample` instead")
    return 1.0 - marked.float()


def guide_of(options: Edit | Interpolate | Restore, trained: Run) -> GuidanceConfig:
    """The guidance that the flags ask for. Raises UsageError for guidance towards no class."""
    guide = guidance_flags.guide(options, trained)
    label = condition_flags.label_of(trained, options.label, options.label_index)
    if label is None and not (guide.plain or isinstance(guide.negative, WeakModel)):
        raise UsageError(f"--guidance {options.guidance:g} needs something to guide towards; give a --label with it")
    return guide


def steps_on(meter: Meter) -> Callable[[int, int], None]:
    """A callback that moves a meter by steps."""
    return lambda done, total: meter.update(done / total, f"{done:,} of {total:,} steps")


@dataclass(frozen=True, eq=False)
class ImageResults:
    """Places of the results, and of an image of inputs and results; `missing` are results that do not exist yet."""

    output: Output
    row: Output | None
    folder: SampleFolder | None
    spec: DataSpec

    def write(self, items: NDArray[Any], columns: int | None = None) -> None:
        """A single image in its own size, several as a grid; else as `save_images` does.

        Raises OrnsteinError that names the first item which is not finite, and what `Output.write` raises.
        """
        bad = first_not_finite(items)
        if bad is not None:
            raise OrnsteinError(
                f"result {bad} holds NaN or infinite numbers, so none is written; the training has diverged, or the solver takes "
                "too few steps"
            )
        out = self.output.path
        if self.folder is not None:
            for numbers in self.folder.missing(range(len(items))):
                self.folder.write(numbers.start, items[numbers.start : numbers.stop])
        elif out.suffix.lower() == ".npz":
            with new_npz(self.output, items.shape, items.dtype) as append:
                append(items)
        elif out.suffix.lower() == ANIMATED:  # there, and back again
            sheet = partial(grid_image, spec=self.spec)
            if not self.spec.traits.drawn:
                sheet = partial(scatter_image, limits=(items.min(0), items.max(0)))
            frames = [sheet(items[i : i + 1]) for i in range(len(items))]
            save_animation([*frames, *frames[-2:0:-1]], self.output, rest=0)
        elif not self.spec.traits.drawn:
            save_grid(scatter_image(items), self.output)
        else:
            save_grid(grid_image(items, columns, spec=self.spec, zoom=1 if len(items) == 1 else None), self.output)


@contextmanager
def results(
    command: str,
    options: Any,
    trained: Run,
    name: str,
    files: Sequence[str | None],
    count: int,
    comparison: bool = True,
) -> Iterator[ImageResults]:
    """Within, where the results of a command go: `--out`, by default a file of that name in the run folder.

    `files` are those that the results depend on, besides the flags and the weights. Raises UsageError for what cannot hold the
    results, and for what is there already and was not made by the same recipe: before any work.
    """
    spec, recipe = trained.spec, _recipe(command, options, trained, files)
    out = Path(options.out).expanduser() if options.out else trained.folder / (name + spec.traits.ending)
    ending, is_folder = out.suffix.lower(), os.path.isdir(out)
    moving = (ANIMATED,) if command == "interpolate" else ()
    if not is_folder and ending not in (*IMAGES, *moving, ".npz", ""):
        raise UsageError(f"--out {out} has an ending that is not known; use .png, .npz, or none for a folder")
    pictured = not is_folder and ending not in (".npz", "")
    if pictured and not spec.traits.drawn:
        must_be_drawable(spec.shape[0], f"--out {out}")
    whole = digest(recipe)
    output = Output(out, whole, options.force) if options.out else unused(out, whole, options.force)
    panel = row(output, spec) if comparison else None
    if is_folder or not ending:
        folder = SampleFolder(out, recipe, spec, options.force, spec.source)
        must_have_room(out, 0, count)
        if panel is not None:
            panel.check()
        with folder.filling():
            yield ImageResults(output, panel, folder, spec)
        return
    output.check()
    if panel is not None:
        panel.check()
    if ending == ".npz":
        must_have_room(out, count * math.prod(spec.shape) * np.dtype(spec.dtype).itemsize)
    elif not spec.traits.drawn:
        pass  # points have one size, however many there are
    elif ending == ANIMATED:
        must_be_an_animation(out, 2 * count, 1, spec)
    else:
        must_be_a_grid(out, count, spec, count if command == "interpolate" else None)
    yield ImageResults(output, panel, None, spec)


def _recipe(command: str, options: Any, trained: Run, files: Sequence[str | None]) -> dict[str, Any]:
    """All that results depend on: the flags, but those that say where files are, and the content of these."""
    elsewhere = {"run", "out", "force", "device", "image", "mask", "first", "last", "autoguidance"}
    return {
        "command": command,
        "model": trained.weights_hash,
        "files": [None if name is None else digest_of(_existing(name)) for name in files],
        "guidance": str(guidance_flags.guide(options, trained)),
        **{key: value for key, value in asdict(options).items() if key not in elsewhere},
    }


def row(output: Output, spec: DataSpec) -> Output | None:
    """Place of an image of the inputs and the first results, next to `output`; none for data that cannot be drawn."""
    if not spec.traits.drawn:
        return None
    out = output.path
    name = f"{out.stem if out.suffix else out.name}-beside.png"
    return replace(output, path=out.with_name(name))


def save_comparison(panels: list[Tensor], output: Output, spec: DataSpec) -> None:
    """Write an image of the inputs and the first results in one row."""
    items = spec.from_model(torch.cat([panel.cpu() for panel in panels]))
    save_grid(grid_image(items, len(items), spec=spec), output)


def report(what: str, written: ImageResults) -> None:
    """Print the places of all results."""
    say(f"{what}: {written.output.path.resolve()}")
    if written.row is not None:
        say(f"With the inputs: {written.row.path.resolve()}")


def _existing(name: str) -> Path:
    file = Path(name).expanduser()
    if not file.is_file():
        raise UsageError(f"there is no file {file}; give an image, .npy or .npz")
    return file


def _read_file(file: Path, reader: Callable[[BinaryIO], T]) -> T:
    try:
        with file.open("rb") as opened:
            return reader(opened)
    except decode.Unreadable as error:
        raise OrnsteinError(f"{file} cannot be read as an image ({error}); give another file") from error

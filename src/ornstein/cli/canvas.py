"""What `edit`, `interpolate` and `restore` share: files to model units and back, a denoiser with its label, progress."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.cli import guided
from ornstein.cli.options import Guided
from ornstein.cli.show import Meter, dims, say
from ornstein.coupling import Independent
from ornstein.data import Spec, decode, grid_image, pixels, save_images
from ornstein.data.arrays import ArrayFile
from ornstein.denoiser import Denoiser, NetworkDenoiser
from ornstein.errors import OrnsteinError, UsageError
from ornstein.estimate import Estimate
from ornstein.files.atomic import new_file
from ornstein.guidance import Asking, Weaker
from ornstein.path import Path as GaussianPath
from ornstein.path import Time
from ornstein.runs import Run

ARRAYS = (".npy", ".npz")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
MOST = 64  # items made at once
T = TypeVar("T")
Size = tuple[int, int]  # height, width


def read(name: str, spec: Spec) -> tuple[Tensor, Size]:
    """The items of a file in model units, (N, *shape) on the CPU, and the size that a picture had before it was fitted.

    A picture of another size is cropped at its centre and resized as training pictures are, with a line that says so.
    """
    file = _existing(name)
    if file.suffix.lower() in ARRAYS:
        items = ArrayFile(file).load().items
        if items.shape[1:] != spec.item_shape:
            raise UsageError(f"{file} holds items of shape {items.shape[1:]}, but the run makes {spec.item_shape}")
        return spec.to_model(np.asarray(items)), (items.shape[1], items.shape[-2])
    if spec.kind == "vector":
        raise UsageError(f"{file} is no array, and the run makes vectors; give a .npy of {dims(spec)}")
    channels, height, width = spec.shape
    found = _read_file(file, decode.header)
    if found.size != (height, width):
        say(f"{file} is {found.size[1]}x{found.size[0]} and becomes {width}x{height}, cropped at the centre.")
    return picture(file, (height, width), channels), found.size


def picture(file: Path, size: Size, channels: int) -> Tensor:
    """A picture fitted to a size, in model units: (1, C, H, W), black is −1 and white 1."""
    if channels not in (1, 3, 4):
        raise UsageError(f"{file} is a picture, and the run's images have {channels} channels; give a .npy of them")
    form = decode.Format(size, channels, _read_file(file, decode.header).dtype, False)
    array = _read_file(file, lambda opened: decode.decode(opened, form))
    values = array.astype(np.float64) * (2 / pixels.opaque(array.dtype)) - 1
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32))


def seen(name: str, spec: Spec, size: Size) -> Tensor:
    """A measured picture, which must have its size already, in model units: (1, C, H, W)."""
    file, (height, width) = _existing(name), size
    if file.suffix.lower() in ARRAYS:
        items = np.asarray(ArrayFile(file).load().items, np.float64)[:1]
        if items.shape[1:] != (height, width, spec.shape[0]):
            raise UsageError(
                f"{file} holds an image of shape {items.shape[1:]}, not {(height, width, spec.shape[0])} as the operator gives"
            )
        values = 2 * (items - spec.low) / (spec.high - spec.low) - 1
        return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))
    found = _read_file(file, decode.header)
    if found.size != size:
        raise UsageError(
            f"{file} is {found.size[1]}x{found.size[0]}, but this operator turns the run's {spec.shape[2]}x{spec.shape[1]} "
            f"into {width}x{height}; give a picture of that size"
        )
    return picture(file, size, spec.shape[0])


def left(name: str, spec: Spec, shape: tuple[int, ...]) -> tuple[NDArray[Any], Size]:
    """A picture as what is left of one, `shape` (C, H, W), if that is its size, else fitted to the run's; in the data's own
    units, with the size that it had."""
    file = _existing(name)
    size = _read_file(file, decode.header).size
    if size != shape[1:]:
        return spec.from_model(read(name, spec)[0]), size
    return replace(spec, shape=shape).from_model(picture(file, size, shape[0])), size


def kept(name: str, spec: Spec, size: Size) -> Tensor:
    """1 where a mask is black and 0 where it is white, broadcasting against items (B, *shape); `size` is the image's own."""
    file = _existing(name)
    if file.suffix.lower() in ARRAYS:
        marked = torch.from_numpy(np.array(np.load(file, allow_pickle=False) != 0)) if file.suffix == ".npy" else None
        if marked is None or marked.numel() != spec.shape[-1] * (spec.shape[-2] if spec.kind == "image" else 1):
            raise UsageError(
                f"--mask {file} must be a .npy with one number for each {'pixel' if len(spec.shape) > 1 else 'dimension'}"
            )
        marked = marked.reshape(1, 1, *spec.shape[1:]) if spec.kind == "image" else marked.reshape(1, -1)
    elif spec.kind == "vector":
        raise UsageError(
            f"--mask {file} is a picture, and the run makes vectors; give a .npy of {spec.shape[0]} numbers"
        )
    else:
        found = _read_file(file, decode.header).size
        if found != size:
            raise UsageError(
                f"--mask {file} is {found[1]}x{found[0]}, but the image is {size[1]}x{size[0]}; give a mask of the same size"
            )
        marked = picture(file, (spec.shape[1], spec.shape[2]), 1) > 0
    if not bool(marked.any()):
        raise UsageError(
            f"--mask {file} is black everywhere, so there is nothing to paint; make it white where to paint"
        )
    if bool(marked.all()):
        raise UsageError(f"--mask {file} is white everywhere, so nothing is kept; use `ornstein sample` instead")
    return 1.0 - marked.float()


@dataclass(frozen=True, eq=False)
class Asked:
    """A network's denoiser asked for one class or none, whatever the size of the batch."""

    denoiser: NetworkDenoiser
    label: Tensor | None  # (1,)
    guide: Asking

    @property
    def path(self) -> GaussianPath:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        return self.guide(self.denoiser, None if self.label is None else self.label.expand(len(x_t)))(x_t, t)


def told(trained: Run, label: str | None, options: Guided) -> Denoiser:
    """The run's denoiser with a class, or with none, guided as asked. Warns where the model's scores are not exact.

    Raises UsageError for guidance towards no class.
    """
    guide = guided.guide(options, trained)
    if label is None and not (guide.plain or isinstance(guide.away, Weaker)):
        raise UsageError(f"--guidance {options.guidance:g} needs something to guide towards; give a --label with it")
    if not isinstance(trained.model.coupling, Independent):
        warnings.warn(
            f"this model was trained with the coupling {trained.model.coupling}, under which noised data are not what it "
            "knows; results are approximate",
            stacklevel=2,
        )
    return Asked(trained.denoiser, None if label is None else trained.numbers(label, 1).to(trained.device), guide)


@dataclass(frozen=True, eq=False)
class Watched:
    """A denoiser that tells of each of its calls."""

    denoiser: Denoiser
    tell: Callable[[], None]

    @property
    def path(self) -> GaussianPath:
        return self.denoiser.path

    def __call__(self, x_t: Tensor, t: Time) -> Estimate:
        self.tell()
        return self.denoiser(x_t, t)


def watched(denoiser: Denoiser, meter: Meter, calls: int) -> Watched:
    """A denoiser that moves a meter, when about so many calls are to come."""
    made = 0

    def tell() -> None:
        nonlocal made
        meter.update(min(1.0, made / calls), f"{made} network calls")
        made += 1

    return Watched(denoiser, tell)


def output(given: str | None, trained: Run, name: str) -> Path:
    """Where the results go; by default a file of that name in the run folder. Refuses what cannot hold them."""
    vector = trained.spec.kind == "vector"
    out = Path(given).expanduser() if given else trained.folder / (name + (".npz" if vector else ".png"))
    ending = out.suffix.lower()
    if vector and ending not in (".npz", ""):
        raise UsageError(f"--out {out}: this run makes vectors, which are no pictures; give a .npz file or a folder")
    if not out.is_dir() and ending not in (*PICTURES, ".npz", ""):
        raise UsageError(f"--out {out} has an ending that is not known; use .png, .npz, or none for a folder")
    return out


def write(items: NDArray[Any], out: Path, spec: Spec, columns: int | None = None) -> None:
    """A single picture in its own size, several as a grid; else as `save_images` does."""
    if len(items) == 1 and out.suffix.lower() in PICTURES and not out.is_dir():
        single = grid_image(items, spec=spec, zoom=1)
        with new_file(out) as file:
            (single.convert("RGB") if out.suffix.lower() in (".jpg", ".jpeg") else single).save(file)
    else:
        save_images(items, out, spec=spec, columns=columns)


def beside(panels: list[Tensor], out: Path, spec: Spec) -> Path | None:
    """A picture of what was given and the first results in one row, beside `out`; none for vectors."""
    if spec.kind == "vector":
        return None
    file = out.with_name(f"{out.stem if out.suffix else out.name}-beside.png")
    row = spec.from_model(torch.cat([panel.cpu() for panel in panels]))
    save_images(row, file, spec=spec, columns=len(row))
    return file


def report(what: str, out: Path, shown: Path | None) -> None:
    """Where everything is."""
    say(f"{what}: {out.resolve()}")
    if shown is not None:
        say(f"Beside what was given: {shown.resolve()}")


def _existing(name: str) -> Path:
    file = Path(name).expanduser()
    if not file.is_file():
        raise UsageError(f"there is no file {file}; give a picture, .npy or .npz")
    return file


def _read_file(file: Path, reader: Callable[[BinaryIO], T]) -> T:
    try:
        with file.open("rb") as opened:
            return reader(opened)
    except decode.Unreadable as error:
        raise OrnsteinError(f"{file} cannot be read as a picture ({error}); give another file") from error

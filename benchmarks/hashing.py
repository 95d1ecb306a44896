"""What it costs to know data by all their content: seconds a GB of hashing, beside those of reading and caching.

python -m benchmarks.hashing [--mb 256]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ornstein import data
from ornstein.data import cache, content
from ornstein.data.images import png
from ornstein.data.rows import read_npy


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, all threads together."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=256, help="megabytes of items")
    count = parser.parse_args().mb * 10**6 // (64 * 64 * 3)
    x = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    x = (x >> 5) + np.arange(64, dtype=np.uint8)[:, None, None] * np.uint8(3)  # as packable as photographs
    gigabytes = x.nbytes / 1e9
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        np.save(place / "a.npy", x)
        np.savez_compressed(place / "a.npz", x=x)
        (place / "f").mkdir()
        for i, image in enumerate(x):
            (place / "f" / f"{i:06d}.png").write_bytes(png(image))
        rows = read_npy(place / "a.npy")
        hashing = seconds(lambda: content.digest_of(rows))
        os.environ["ORNSTEIN_CACHE"] = str(place / "c")
        found = {
            "hashing alone": hashing,
            "all numbers of a .npy, read": seconds(lambda: [len(c) for c in content.chunks(rows)]),
        }
        for label, file in (
            ("a .npy where it is", "a.npy"),
            ("a .npz into the cache", "a.npz"),
            ("PNG files into the cache", "f"),
        ):
            found[f"{label}, first"] = seconds(lambda file=file: data.open(place / file))
            found[f"{label}, again"] = seconds(lambda file=file: data.open(place / file))
        print(f"{gigabytes:.2f} GB; {len(cache.entries(place / 'c'))} entries.")
    for label, taken in found.items():
        print(f"{label:35} {taken / gigabytes:8.2f} s/GB {100 * hashing / max(taken, 1e-9):8.1f} % of it is hashing")


if __name__ == "__main__":
    main()

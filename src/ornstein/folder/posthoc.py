"""Averages of any length after the training, from snapshots of two (Karras et al. 2024, section 3.2 and appendix C).

An average of exponent γ after n updates weighs the weights after update k by the integral over (k − 1, k] of its profile

    p(τ) = (γ + 1) τ^γ / n^{γ+1},   0 < τ ≤ n,

exactly. Snapshots of two averages at times that grow geometrically span profiles close to that of any other length: the
coefficients c minimise ‖Σ_i c_i p_i − p‖² with Σ_i c_i = 1 (so that weights at rest stay), by the inner products

    ⟨p_a, p_b⟩ = (γ_a + 1)(γ_b + 1)/(γ_a + γ_b + 1) · (n_a/n_b)^{γ_b} / n_b,   n_a ≤ n_b.

A run keeps its newest snapshots in RUN/averages, one file `update-N.safetensors` each, in half precision.
"""

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file
from ornstein.files.owner import sweep
from ornstein.files.reading import must_be_regular, spelled
from ornstein.folder.tensors import save_tensors

Averages = Mapping[float, Mapping[str, Tensor]]
"""Averages of the same weights, by length."""

MOST = 9  # averages in a snapshot, which one digit distinguishes
RATIO = 1.25  # of the times of snapshots: four of them reach from a quarter of the length tracked to twice it
TOLERANCE = 0.2  # of the error of a profile, which is that of noise in the weights; their common part has none
NAME = re.compile(r"update-(\d{8,})\.safetensors")


class Profile(NamedTuple):
    """The profile of an average: its length relative to the training so far, and its number of updates."""

    length: float
    updates: int


@dataclass(frozen=True)
class Fit:
    """Coefficients of the profiles given, and the distance of their sum from the profile wanted, relative to its norm."""

    coefficients: NDArray[np.float64]
    error: float


def exponent(length: float) -> float:
    """γ of the power-function average θ̂(t) ∝ ∫ τ^γ θ(τ) dτ whose profile has standard deviation `length`·t.

    Solves length² = (γ + 1)/((γ + 2)²(γ + 3)) (the paper's appendix C). Raises ValueError for a length that no γ ≥ 0 has.
    """
    if not 0 < length < 12**-0.5:
        raise ValueError(
            f"an average of length {length:g} has no profile; lengths lie between 0 and {12**-0.5:.3f} of the training"
        )
    low, high = 0.0, 1e8
    for _ in range(200):
        middle = (low + high) / 2
        too_long = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > length**2
        low, high = (middle, high) if too_long else (low, middle)
    return (low + high) / 2


def fit(known: Sequence[Profile], wanted: Profile) -> Fit:
    """The combination of known profiles nearest to the one wanted, in float64; coefficients sum to 1."""
    if wanted in known:
        return Fit(np.eye(len(known))[list(known).index(wanted)], 0.0)
    n = np.array([profile.updates for profile in (*known, wanted)], dtype=np.float64) / wanted.updates
    gamma = np.array([exponent(profile.length) for profile in (*known, wanted)])
    products = inner_products(n, gamma)
    gram, right, own = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    ones = np.ones((len(known), 1))
    system = np.block([[gram, ones], [ones.T, np.zeros((1, 1))]])
    c = np.linalg.lstsq(system, np.append(right, 1.0), rcond=1e-13)[0][:-1]
    return Fit(c, math.sqrt(max(own - 2 * c @ right + c @ gram @ c, 0.0) / own))


def inner_products(n: NDArray[np.float64], gamma: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix of ⟨p_a, p_b⟩ = ∫ p_a p_b dτ for profiles that end at n (K,) with exponents gamma (K,): (K, K)."""
    first = n[:, None] <= n[None, :]
    g = np.broadcast_to(gamma, first.shape)
    later = np.where(first, g, g.T)  # γ of the profile that ends later
    smaller, larger = np.minimum(n[:, None], n), np.maximum(n[:, None], n)
    return (g + 1) * (g.T + 1) / (g + g.T + 1) * (smaller / larger) ** later / larger


def due(updates: int) -> bool:
    """Whether a snapshot is taken after so many updates: at the whole powers of `RATIO`, rounded up, from 8 on."""
    power = round(math.log(max(updates, 1)) / math.log(RATIO))
    return updates >= 8 and any(math.ceil(RATIO**k) == updates for k in range(power - 1, power + 2))


def save(folder: Path, updates: int, averages: Averages, keep: int) -> Path:
    """Write a snapshot of the averages, by their lengths, then remove all but the newest `keep`.

    Where somebody else's file has its name, there is none. Raises OrnsteinError when the disk refuses.
    """
    file = folder / f"update-{updates:08d}.safetensors"
    if _is_strange(file):
        return file
    tensors = {
        f"{place}.{name}": tensor.detach().to("cpu", torch.float16).contiguous()
        for place, average in enumerate(averages.values())
        for name, tensor in average.items()
    }
    about = {"updates": updates, "lengths": list(averages), "sha256": _digest(tensors)}
    with new_file(file) as new:
        save_tensors(tensors, new, {"ornstein": json.dumps(about)})
    for old in snapshots(folder)[keep:]:
        old.unlink(missing_ok=True)
    return file


def snapshots(folder: Path) -> list[Path]:
    """The snapshots in a folder, the newest first: files of that name, but for those that are somebody else's."""
    named = (file for file in folder.glob("update-*") if NAME.fullmatch(file.name))
    return sorted((file for file in named if not _is_strange(file)), key=time_of, reverse=True)


def _is_strange(file: Path) -> bool:
    """Whether there is something of this name that this library did not write: a link, a folder, weights without its mark."""
    if not os.path.lexists(file):
        return False
    if file.is_symlink() or not file.is_file():
        return True
    try:
        with spelled(file) as name, safe_open(name, "pt") as stream:
            return "ornstein" not in (stream.metadata() or {})
    except (OSError, SafetensorError):  # damaged
        return False


def time_of(file: Path) -> int:
    """After how many updates a snapshot was taken, by its name."""
    return int(file.name.removeprefix("update-").removesuffix(".safetensors"))


def rewind(folder: Path, updates: int) -> None:
    """Remove the snapshots taken after so many updates, which a run that goes on from there takes anew, and what a kill left."""
    sweep(folder)
    for file in snapshots(folder):
        if time_of(file) > updates:
            file.unlink()


@dataclass(frozen=True, eq=False)
class Archive:
    """All averages of a run: the last ones, after so many updates, and the snapshots in a folder."""

    last: Averages
    updates: int
    folder: Path

    def error(self, length: float) -> float:
        """How far the nearest profile is from the one of this length (`Fit`). Raises ValueError for no length."""
        return self._fit(length).error

    def reach(self) -> tuple[float, float]:
        """The shortest and the longest length with an error below `TOLERANCE`, in hundredths and fractions of them."""
        known = self._known()
        lengths = (k / 400 for k in range(2, 115))
        within = [length for length in lengths if fit(known, Profile(length, self.updates)).error <= TOLERANCE]
        return within[0], within[-1]

    def average(self, length: float) -> dict[str, Tensor]:
        """The average of a length. Sums are float64, the result as the last averages are.

        Raises OrnsteinError that names a snapshot which is damaged, UsageError for a length beyond reach, ValueError for one
        that no average has.
        """
        fit = self._fit(length)
        if fit.error > TOLERANCE:
            raise UsageError(
                f"length = {length:g}: the snapshots reach from {self.reach()[0]:g} to {self.reach()[1]:g}; "
                "train with more --snapshots, or with another --ema"
            )
        like, rest = next(iter(self.last.values())), iter(fit.coefficients.tolist())
        sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in like.items()}
        for _, lengths, averages in self._times():
            parts = {own: next(rest) for own in lengths}
            if any(parts.values()):
                for own, average in averages().items():
                    for name, tensor in average.items():
                        sums[name] += parts[own] * tensor.double()
        return {name: tensor.to(like[name].dtype) for name, tensor in sums.items()}

    def _read(self, file: Path) -> Averages:
        """The averages in a snapshot, which must be of the same weights."""
        averages, like = read(file, self.folder.parent), next(iter(self.last.values()))
        shapes = {name: tensor.shape for name, tensor in like.items()}
        if any({name: tensor.shape for name, tensor in average.items()} != shapes for average in averages.values()):
            raise OrnsteinError(f"{file} holds the weights of another network; remove it, and the others will do")
        return averages

    def _fit(self, length: float) -> Fit:
        return fit(self._known(), Profile(length, self.updates))

    def _known(self) -> list[Profile]:
        return [Profile(own, n) for n, lengths, _ in self._times() for own in lengths]

    def _times(self) -> list[tuple[int, tuple[float, ...], Callable[[], Averages]]]:
        """For each time, the newest first: its updates, the lengths known then, and what reads those averages."""
        before = [file for file in snapshots(self.folder) if time_of(file) < self.updates]
        root = self.folder.parent
        stored = [(time_of(file), lengths_of(file, root), partial(self._read, file)) for file in before]
        return [(self.updates, tuple(self.last), lambda: self.last), *stored]


def lengths_of(file: Path, root: Path | None = None) -> tuple[float, ...]:
    """The lengths of the averages in a snapshot, within `root` no link. Raises OrnsteinError that names a damaged file."""
    with _opened(file, root) as (_, about):
        return about.lengths


def read(file: Path, root: Path | None = None) -> Averages:
    """The averages in a snapshot, by length, within `root` no link. Raises OrnsteinError that names a file which is damaged."""
    with _opened(file, root) as (stream, about):
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        whole = about.sha256 == _digest(tensors)
        averages = {
            length: {name[2:]: tensor for name, tensor in tensors.items() if name.startswith(f"{place}.")}
            for place, length in enumerate(about.lengths)
        }
    if not whole:
        raise OrnsteinError(f"{file} does not have its sha256; remove it, and the others will do")
    return averages


class _About(NamedTuple):
    """The header of a snapshot."""

    lengths: tuple[float, ...]
    sha256: str

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "_About":
        about = json.loads(metadata["ornstein"])
        lengths = tuple(map(float, about["lengths"]))
        if not 0 < len(lengths) <= MOST or not all(0 < length < 12**-0.5 for length in lengths):
            raise ValueError("its averages have no lengths")
        return cls(lengths, str(about["sha256"]))


@contextmanager
def _opened(file: Path, root: Path | None) -> Iterator[tuple[Any, _About]]:
    try:
        must_be_regular(file, root)
        with spelled(file) as name, safe_open(name, "pt") as stream:
            yield stream, _About.of(stream.metadata())
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise OrnsteinError(f"{file} cannot be read ({reason}); remove it, and the others will do") from error


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()

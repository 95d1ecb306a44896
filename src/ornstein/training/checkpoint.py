"""Checkpoints: written whole or not at all, verified when read, the last good one always kept.

A checkpoint is a folder `step-00001000` with weights.safetensors, optimizer.safetensors, average.safetensors, half.safetensors
(the average of half that length), state.json and sha256.json. A network that is sharded over processes has, in place of the first
two, a folder `shards` with a file of each process. It is filled under another name, flushed to disk and renamed. One that fails
its sums is set aside as `step-00001000.damaged` and the one before it is used; it does not count among those that are kept.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import discard, new_folder, written
from ornstein.files.reading import listed as files_in
from ornstein.files.reading import must_be_inside, read_bytes, read_json
from ornstein.processes import ALONE, Processes
from ornstein.training import shards
from ornstein.training.parallel import cut, gather, is_sharded, scatter
from ornstein.training.tensors import load_tensors, save_tensors
from ornstein.training.uncertainty import Uncertainty

NAME = re.compile(r"step-(\d{8,})")
FILES = ("average.safetensors", "half.safetensors", "state.json")
LEARNED = ("weights.safetensors", "optimizer.safetensors")
SHARDS = "shards"  # in place of LEARNED
PROOF = {"state.json", "sha256.json"}  # of a folder that it is a checkpoint
PARTS = {*FILES, *LEARNED, *PROOF, SHARDS}
LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}  # of file managers


class Counters(NamedTuple):
    """How far a training is."""

    step: int
    images: int
    seconds: float
    skipped: int

    @property
    def updates(self) -> int:
        """Steps that changed the weights: the time of the averages."""
        return self.step - self.skipped


@dataclass
class State:
    """All that a run carries from step to step; its randomness is a function of (seed, step) and needs no place here."""

    network: nn.Module
    average: nn.Module
    half: nn.Module
    """An average of half the length of the first, for `posthoc`."""
    optimizer: torch.optim.Optimizer
    uncertainty: Uncertainty | None = None
    """Learned with the network, saved in weights.safetensors beside it, never exported."""
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of every weight."""
        return any(map(is_sharded, self.network.parameters()))

    @property
    def updates(self) -> int:
        """Steps that changed the weights: the time of the averages."""
        return self.counters().updates

    def weights(self) -> dict[str, Tensor]:
        """All that is learned, by name."""
        learned = self.uncertainty.state_dict() if self.uncertainty is not None else {}
        return {**self.network.state_dict(), **{f"uncertainty.{name}": tensor for name, tensor in learned.items()}}

    def load(self, weights: dict[str, Tensor]) -> None:
        """The inverse of `weights`. Raises RuntimeError for what does not fit."""
        learned = {name[12:]: tensor for name, tensor in weights.items() if name.startswith("uncertainty.")}
        scatter({k: v for k, v in weights.items() if not k.startswith("uncertainty.")}, self.network)
        if self.uncertainty is not None:
            scatter(learned, self.uncertainty)

    def counters(self) -> "Counters":
        return Counters(self.step, self.images, self.seconds, self.skipped)


def save(folder: Path, state: State, processes: Processes = ALONE) -> Path:
    """Write a checkpoint; all processes must ask.

    Raises OrnsteinError when the disk refuses, or somebody else's folder has its name.
    """
    place = folder / f"step-{state.step:08d}"
    processes.on_first(lambda: _must_be_own(place))
    files = {"average": state.average.state_dict(), "half": state.half.state_dict()}
    learned = {"weights": state.weights(), "optimizer": _optimizer_tensors(state.optimizer)}

    def put(work: Callable[..., None], *what: Any) -> None:
        with written(place):  # here, for what is no OrnsteinError is not told to the other processes
            work(*what)

    with ExitStack() as filling:
        new = processes.on_first(lambda: filling.enter_context(new_folder(place)))
        if state.sharded:
            processes.on_all(partial(put, shards.save, new / SHARDS, _named(learned)))
        else:
            files |= learned
        for name, tensors in files.items():
            processes.on_first(partial(put, save_tensors, gather(tensors), new / f"{name}.safetensors"))
        processes.on_first(partial(put, _finish, state, new, filling))
    return place


def _must_be_own(place: Path) -> None:
    if os.path.lexists(place) and not _is_own(place):
        raise OrnsteinError(f"{place} is no checkpoint, and one is to be written there; move it away, and go on")


def _finish(state: State, new: Path, filling: ExitStack) -> None:
    (new / "state.json").write_text(json.dumps(state.counters()._asdict()))
    files = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
    (new / "sha256.json").write_text(_listed({name: _sha256(new / name) for name in files}))
    filling.close()


def counters(place: Path) -> Counters:
    """How far the training was at a checkpoint. Raises OrnsteinError that names the file which does not say."""
    file = place / "state.json"
    try:
        values = read_json(file, root=place.parent.parent)
        found = Counters(*(values.get(name) for name in Counters._fields))  # type: ignore[arg-type]
        if not all(type(v) is int and 0 <= v < 1 << 63 for v in (found.step, found.images, found.skipped)):
            raise ValueError("it does not count steps and images")
        if type(found.seconds) not in (int, float) or not 0 <= found.seconds < math.inf:
            raise ValueError("it does not say how long the training took")
    except (OSError, ValueError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); move {place.name} away") from error
    return found._replace(seconds=float(found.seconds))


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints older than the newest `keep` whole ones; one that is damaged does not count as kept.

    One with anything else in it stays.
    """
    found = list(checkpoints(folder))
    whole = 0
    for place in found if len(found) > keep else ():
        if whole < keep:
            whole += damage(place) is None
        elif _names(place) <= PARTS | LITTER:
            discard(place)  # killed in the middle, it is no checkpoint that seems damaged


def checkpoints(folder: Path) -> Iterator[Path]:
    """Finished checkpoints, the newest first: folders of that name, but for those that are somebody else's.

    Raises OrnsteinError where `folder` is a link, which is not followed.
    """
    if folder.is_symlink():
        raise OrnsteinError(f"{folder} is a link, and links in a run are not followed; put the folder itself there")
    found = [place for place in folder.glob("step-*") if NAME.fullmatch(place.name) and _is_own(place)]
    yield from sorted(found, key=lambda place: int(place.name[5:]), reverse=True)


def _is_own(place: Path) -> bool:
    """Whether a folder is a checkpoint, be it damaged: it holds what proves it, or nothing else than parts of one."""
    if place.is_symlink() or not place.is_dir():
        return False
    names = _names(place)
    return names >= PROOF or names <= PARTS | LITTER


def _names(folder: Path) -> set[str]:
    return {place.name for place in folder.iterdir()}


def restore(folder: Path, state: State, tell: Callable[[str], None], processes: Processes = ALONE) -> Path | None:
    """Load the newest checkpoint that is whole into `state`; None where there is none.

    Of several processes the first one chooses it; each reads its own share, so all must see the folder.
    Damaged ones are set aside: see `newest`. Raises OrnsteinError for one that does not fit the network.
    """
    place = processes.on_first(lambda: newest(folder, tell))
    if place is not None:
        processes.on_all(lambda: _load(place, state))
    return place


def newest(folder: Path, tell: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is whole, or None where there is none.

    Damaged ones are renamed and told about, one sentence each. Raises OrnsteinError when all are damaged.
    """
    damaged = 0
    for place in checkpoints(folder):
        wrong = damage(place)
        if wrong is None:
            return place
        damaged += 1
        try:
            aside = _set_aside(place)
        except OSError as error:
            raise OrnsteinError(f"{place} is damaged ({wrong}) and cannot be set aside ({error.strerror})") from error
        tell(
            f"Checkpoint {place} is damaged ({wrong}); it was set aside as {aside.name} and the one before it is used."
        )
    if damaged:
        raise OrnsteinError(
            f"every checkpoint in {folder} is damaged and was set aside; remove the run folder to start anew"
        )
    return None


def _set_aside(place: Path) -> Path:
    """Under a name that nothing has."""
    names = (f"{place.name}.damaged{f'-{number}' if number > 1 else ''}" for number in count(1))
    aside = next(place.with_name(name) for name in names if not os.path.lexists(place.with_name(name)))
    place.rename(aside)
    return aside


def _listed(sums: Mapping[str, Any]) -> str:
    return json.dumps(sums, indent=1)


def damage(place: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        root = place.parent.parent
        sums = read_json(place / "sha256.json", root=root)
        if read_bytes(place / "sha256.json", root=root) != _listed(sums).encode():
            return "sha256.json is not as it was written"
        listed = {name for name in sums if name.startswith(f"{SHARDS}/")}
        there = {f"{SHARDS}/{file.name}" for file in files_in(place / SHARDS, root)}
        needed = [*FILES, *(sorted(listed | there) or LEARNED)]
        for name in needed:
            must_be_inside(place / name, root)
        missing = [name for name in needed if name not in sums or not (place / name).is_file()]
        if missing:
            return f"{missing[0]} is missing, or its sum is"
        wrong = [name for name in needed if _sha256(place / name) != sums[name]]
    except (OSError, ValueError) as error:
        return f"sha256.json or a file it names cannot be read: {error}"
    return f"{wrong[0]} does not have its sha256" if wrong else None


def _load(place: Path, state: State) -> None:
    try:
        if (place / SHARDS).is_dir():
            moments = _load_shards(place / SHARDS, state)
        else:
            state.load(load_tensors(place / "weights.safetensors"))
            found = load_tensors(place / "optimizer.safetensors")
            moments = _moments(state.optimizer, {name: tensor.shape for name, tensor in found.items()})
            for name, moment in moments.items():
                moment.copy_(cut(found[name], moment))
        _load_optimizer(state.optimizer, moments)
        scatter(load_tensors(place / "average.safetensors"), state.average)
        scatter(load_tensors(place / "half.safetensors"), state.half)
        for name, value in counters(place)._asdict().items():
            setattr(state, name, value)
    except OSError as error:
        raise OrnsteinError(f"{place} cannot be read ({error}); all machines must see the run folder") from error
    except (SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise OrnsteinError(f"{place} does not fit this network ({reason}); give another --out") from error


def _load_shards(folder: Path, state: State) -> dict[str, Tensor]:
    """Loads the weights; the moments of the optimiser, as in `_moments`."""
    stored, prefix = shards.shapes(folder), "optimizer."
    shapes = {name.removeprefix(prefix): shape for name, shape in stored.items() if name.startswith(prefix)}
    moments = _moments(state.optimizer, shapes)
    tensors = _named({"weights": state.weights(), "optimizer": moments})
    for name in stored.keys() ^ tensors.keys():
        raise ValueError(f"{name} is in one of them only")
    shards.load(folder, tensors)
    return moments


def _named(files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """In an order of their own, by which it is decided who writes what all have: a run that went on has read them in another."""
    found = {f"{file}.{name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}
    return dict(sorted(found.items()))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, entry in states.items() for key, value in entry.items()}


def _moments(optimizer: torch.optim.Optimizer, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Tensors for the state of an optimiser, by the names in `_optimizer_tensors`, to be filled; sharded as the weights are.

    Raises LookupError or ValueError for what does not fit the weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    found = {}
    for name, shape in shapes.items():
        like = weights[int(name.split(".", 1)[0])]
        if shape not in (like.shape, ()):
            raise ValueError(f"{name} in the optimiser's state has shape {tuple(shape)}")
        # fused optimisers need the strides of the weights
        found[name] = torch.empty_like(like) if shape == like.shape else torch.empty(shape)
    return found


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

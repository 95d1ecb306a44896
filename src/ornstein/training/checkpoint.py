"""The state of a training, written into a checkpoint whole or not at all, and read from one.

The folder is filled under another name, flushed to disk and renamed; `folder.checkpoints` says what is in it.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ornstein.errors import OrnsteinError
from ornstein.files.atomic import new_folder, written
from ornstein.folder.checkpoints import SHARDS, Counters, counters, is_checkpoint, listed_sums, newest, sha256_of
from ornstein.folder.tensors import load_tensors, save_tensors
from ornstein.processes import ALONE, Processes
from ornstein.training import shards
from ornstein.training.parallel import cut, gather, is_sharded, scatter
from ornstein.training.uncertainty import Uncertainty


@dataclass
class State:
    """All that a run carries from step to step; its randomness is a function of (seed, step) and needs no place here."""

    network: nn.Module
    average: nn.Module
    half: nn.Module
    """An average of half the length of the first, for `posthoc`."""
    optimizer: torch.optim.Optimizer
    uncertainty: Uncertainty | None = None
    """Learned with the network, saved in weights.safetensors with it, never exported."""
    bare: nn.Module | None = None
    """Where weights are sharded, the network without numbers, into which the first process gathers them to draw samples."""
    step: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0
    drawing: float = 0.0
    """Seconds that sample sheets before the last took, of `seconds`."""

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

    def counters(self) -> Counters:
        return Counters(self.step, self.images, self.seconds, self.skipped, self.drawing)


def save(folder: Path, state: State, processes: Processes = ALONE) -> Path:
    """Write a checkpoint; all processes must ask.

    Raises OrnsteinError when the disk refuses, or somebody else's folder has its name.
    """
    place = folder / f"step-{state.step:08d}"
    processes.on_first(lambda: _must_be_own(place))
    files = {"average": state.average.state_dict(), "half": state.half.state_dict()}
    learned = {"weights": state.weights(), "optimizer": _optimizer_tensors(state.optimizer)}

    def put(work: Callable[..., None], *what: Any) -> None:
        with written(place):  # here, for what is no OrnsteinError does not reach the other processes
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
    if os.path.lexists(place) and not is_checkpoint(place):
        raise OrnsteinError(f"{place} is no checkpoint, and one is to be written there; move it away, and go on")


def _finish(state: State, new: Path, filling: ExitStack) -> None:
    (new / "state.json").write_text(json.dumps(state.counters()._asdict()))
    files = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
    (new / "sha256.json").write_text(listed_sums({name: sha256_of(new / name) for name in files}))
    filling.close()


def restore(folder: Path, state: State, tell: Callable[[str], None], processes: Processes = ALONE) -> Path | None:
    """Load the newest checkpoint that is whole into `state`; None where there is none.

    Of several processes the first one chooses it; each reads its own share, so all must see the folder.
    Damaged ones are set aside: see `newest`. Raises OrnsteinError for one that does not fit the network.
    """
    place = processes.on_first(lambda: newest(folder, tell))
    if place is not None:
        processes.on_all(lambda: _load(place, state))
    return place


def _load(place: Path, state: State) -> None:
    try:
        if (place / SHARDS).is_dir():
            moments = _load_shards(place / SHARDS, state)
        else:
            state.load(load_tensors(place / "weights.safetensors"))
            stored = load_tensors(place / "optimizer.safetensors")
            moments = _moments(state.optimizer, {name: tensor.shape for name, tensor in stored.items()})
            for name, moment in moments.items():
                moment.copy_(cut(stored[name], moment))
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
    tensors_by_name = {f"{file}.{name}": tensor for file, tensors in files.items() for name, tensor in tensors.items()}
    return dict(sorted(tensors_by_name.items()))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its state by `index.key`. Raises OrnsteinError for a state that is no tensor, which no file here holds."""
    states = optimizer.state_dict()["state"]
    entries = {
        f"{index}.{key}": value for index, entry in states.items() for key, value in entry.items() if value is not None
    }
    strange = [name for name, value in entries.items() if not isinstance(value, Tensor)]
    if strange:
        raise OrnsteinError(
            f"{type(optimizer).__name__} has a state that is no tensor ({strange[0]}), so that a run with it cannot go on "
            "exactly; give another optimiser, or train without out, in memory"
        )
    return entries


def _moments(optimizer: torch.optim.Optimizer, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Tensors for the state of an optimiser, by the names in `_optimizer_tensors`, to be filled; sharded as the weights are.

    Raises LookupError or ValueError for what does not fit the weights.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {}
    for name, shape in shapes.items():
        like = weights[int(name.split(".", 1)[0])]
        if shape not in (like.shape, ()):
            raise ValueError(f"{name} in the optimiser's state has shape {tuple(shape)}")
        # fused optimisers need the strides of the weights
        moments[name] = torch.empty_like(like) if shape == like.shape else torch.empty(shape)
    return moments


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})

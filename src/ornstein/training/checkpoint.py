"""Checkpoints: written whole or not at all, verified when read, the last good one always kept.

A checkpoint is a folder `step-00001000` with weights.safetensors, average.safetensors, half.safetensors (the average of half
that length), optimizer.safetensors, state.json and sha256.json. It is filled under another name, flushed to disk and renamed.
One that fails its sums is set aside as `step-00001000.damaged` and the one before it is used; it does not count among those
that are kept.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ornstein.data.atomic import new_folder
from ornstein.data.jsonfile import read_json
from ornstein.errors import OrnsteinError
from ornstein.processes import ALONE, Processes
from ornstein.training.parallel import cut, gather, scatter
from ornstein.training.uncertainty import Uncertainty

NAME = re.compile(r"step-(\d{8,})")
TENSORS = ("weights", "average", "half", "optimizer")
FILES = (*(f"{name}.safetensors" for name in TENSORS), "state.json")


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
    def updates(self) -> int:
        """Steps that changed the weights: the time of the averages."""
        return self.step - self.skipped

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

    def counters(self) -> dict[str, Any]:
        return {"step": self.step, "images": self.images, "seconds": self.seconds, "skipped": self.skipped}


def gathered(state: State) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by file, whole: where they are sharded, all processes must ask and the first one gets them."""
    return {
        "weights": gather(state.weights()),
        "average": gather(state.average.state_dict()),
        "half": gather(state.half.state_dict()),
        "optimizer": gather(_optimizer_tensors(state.optimizer)),
    }


def save(folder: Path, state: State, keep: int | None, tensors: dict[str, dict[str, Tensor]] | None = None) -> Path:
    """Write a checkpoint, then remove those older than the newest `keep`. Raises OrnsteinError when the disk refuses.

    `tensors`: what `gathered` gave.
    """
    place = folder / f"step-{state.step:08d}"
    with new_folder(place) as new:
        for name, whole in (tensors or gathered(state)).items():
            _write(_tensors(whole), new / f"{name}.safetensors")
        (new / "state.json").write_text(json.dumps(state.counters()))
        sums = {file.name: _sha256(file) for file in sorted(new.iterdir())}
        (new / "sha256.json").write_text(_listed(sums))
    if keep is not None:
        prune(folder, keep)
    return place


def prune(folder: Path, keep: int) -> None:
    """Remove all checkpoints older than the newest `keep` whole ones; one that is damaged does not count as kept."""
    found = list(checkpoints(folder))
    whole = 0
    for place in found if len(found) > keep else ():
        if whole < keep:
            whole += damage(place) is None
            continue
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=folder, ignore_cleanup_errors=True) as rest:
            place.rename(Path(rest) / place.name)  # killed in the middle, it is no checkpoint that seems damaged


def checkpoints(folder: Path) -> Iterator[Path]:
    """Finished checkpoints, the newest first."""
    found = [place for place in folder.glob("step-*") if NAME.fullmatch(place.name)]
    yield from sorted(found, key=lambda place: int(place.name[5:]), reverse=True)


def restore(folder: Path, state: State, tell: Callable[[str], None], processes: Processes = ALONE) -> Path | None:
    """Load the newest checkpoint that is whole into `state`; None where there is none.

    Of several processes the first one chooses it; each reads its own share, so all must see the folder.
    Damaged ones are set aside: see `newest`. Raises OrnsteinError for one that does not fit the network.
    """
    place = processes.lead(lambda: newest(folder, tell))
    if place is not None:
        processes.together(lambda: _load(place, state))
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
        aside = place.with_name(place.name + ".damaged")
        shutil.rmtree(aside, ignore_errors=True)
        try:
            place.rename(aside)
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


def _listed(sums: Mapping[str, Any]) -> str:
    return json.dumps(sums, indent=1)


def damage(place: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        sums = read_json(place / "sha256.json")
        if (place / "sha256.json").read_bytes() != _listed(sums).encode():
            return "sha256.json is not as it was written"
        missing = [name for name in FILES if name not in sums or not (place / name).is_file()]
        if missing:
            return f"{missing[0]} is missing"
        wrong = [name for name in FILES if _sha256(place / name) != sums[name]]
    except (OSError, ValueError) as error:
        return f"sha256.json or a file it names cannot be read: {error}"
    return f"{wrong[0]} does not have its sha256" if wrong else None


def _load(place: Path, state: State) -> None:
    try:
        state.load(load_file(place / "weights.safetensors"))
        scatter(load_file(place / "average.safetensors"), state.average)
        scatter(load_file(place / "half.safetensors"), state.half)
        _load_optimizer(state.optimizer, load_file(place / "optimizer.safetensors"))
        found = json.loads((place / "state.json").read_text())
        for name, value in state.counters().items():
            setattr(state, name, type(value)(found[name]))
    except OSError as error:
        raise OrnsteinError(f"{place} cannot be read ({error}); all machines must see the run folder") from error
    except (SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise OrnsteinError(f"{place} does not fit this network ({reason}); give another --out") from error


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    try:
        save_file(tensors, file)
    except SafetensorError as error:  # how a full disk is told
        raise OSError(str(error)) from error


def _tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, entry in states.items() for key, value in entry.items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)]
        if tensor.shape not in (like.shape, ()):
            raise ValueError(f"{name} in optimizer.safetensors has shape {tuple(tensor.shape)}")
        if tensor.shape == like.shape:  # files are contiguous; fused optimisers need the strides of the weights
            tensor = torch.empty_like(like, dtype=tensor.dtype).copy_(cut(tensor, like))
        states.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

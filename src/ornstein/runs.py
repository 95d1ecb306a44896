"""A trained run in two lines: `run = ornstein.load("RUN")`, `images = run.sample(64, label=3)`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from ornstein.data import Spec
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import UsageError
from ornstein.model import Model, read
from ornstein.solvers import Solver

Label = int | str | Sequence[int]


@dataclass(frozen=True, eq=False)
class Run:
    """A run folder and the model in it."""

    folder: Path
    model: Model

    @property
    def spec(self) -> Spec:
        """What the data are."""
        return self.model.spec

    @property
    def denoiser(self) -> NetworkDenoiser:
        """For everything that takes a denoiser; `.given(labels)` binds a condition."""
        return self.model.denoiser()

    @property
    def settings(self) -> dict[str, Any]:
        """config.yaml as a dictionary."""
        return dict(yaml.safe_load((self.folder / "config.yaml").read_text()))

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, without a last one that a kill cut short."""
        file = self.folder / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def to(self, device: str | torch.device) -> "Run":
        """The same run with its network moved to a device."""
        self.model.network.to(device)
        return self

    def sample(
        self,
        count: int,
        *,
        label: Label | None = None,
        solver: Solver | None = None,
        steps: int = 20,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
    ) -> NDArray[Any]:
        """`count` samples in the data's own type and range: images (N, H, W, C), vectors (N, D).

        `label` is a class by number or name, or one number per sample; None draws classes as often as they occur in the
        data. Sample i depends on (seed, first + i) alone. Raises UsageError for a label that does not exist.
        """
        batches = self.batches(
            count, label=label, solver=solver, steps=steps, seed=seed, first=first, batch_size=batch_size
        )
        return np.concatenate(list(batches))

    def batches(
        self,
        count: int,
        *,
        label: Label | None = None,
        solver: Solver | None = None,
        steps: int = 20,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
    ) -> Iterator[NDArray[Any]]:
        """`sample`, batch by batch as they are made: for progress bars, and for more than memory holds."""
        if count < 1:
            raise UsageError(f"count = {count}: ask for at least one sample")
        numbers = None if label is None else self.numbers(label, count)

        def labels(start: int, stop: int) -> Tensor:
            assert numbers is not None
            return numbers[start - first : stop - first]

        return self.model.sample(
            count,
            labels=None if numbers is None else labels,
            solver=solver,
            steps=steps,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )

    def numbers(self, label: Label, count: int) -> Tensor:
        """The class numbers of `count` samples, checked. Raises UsageError that names what is wrong."""
        classes = self.spec.classes
        if not classes:
            raise UsageError(f"label: {self.folder} was trained without classes; leave the label out")
        if isinstance(label, str):
            if label in classes:
                label = classes.index(label)
            elif label.lstrip("-").isdigit():
                label = int(label)
            else:
                near = get_close_matches(label, classes, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise UsageError(f"label: {label!r} is no class; {hint}the classes are {', '.join(classes)}")
        numbers = torch.as_tensor(label)
        numbers = numbers.expand(count) if numbers.ndim == 0 else numbers
        if numbers.shape != (count,):
            raise UsageError(f"label: {tuple(numbers.shape)} labels for {count} samples; give one, or one for each")
        wrong = numbers[(numbers < 0) | (numbers >= len(classes))]
        if len(wrong):
            raise UsageError(
                f"label: {int(wrong[0])} is not one of the {len(classes)} classes 0 ({classes[0]}) to "
                f"{len(classes) - 1} ({classes[-1]})"
            )
        return numbers


def load(folder: str | Path, device: str | torch.device = "cpu") -> Run:
    """The run in a folder, ready to sample. Raises OrnsteinError that names a file which is missing or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the --out of a training run")
    return Run(folder, read(folder / "model")).to(device)

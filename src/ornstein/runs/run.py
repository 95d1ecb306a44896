"""A run folder and the model in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch

from ornstein.arguments import keywords
from ornstein.conditions import Condition
from ornstein.data.spec import DataSpec
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import OrnsteinError
from ornstein.files.reading import read_lines
from ornstein.folder.config import settings_of
from ornstein.folder.layout import is_imported, must_be_run
from ornstein.model import Model, read
from ornstein.runs import sampling
from ornstein.settings import Settings

if TYPE_CHECKING:
    from ornstein.runs.averaging import averages, earlier, ema
    from ornstein.runs.calibrating import calibrate
    from ornstein.runs.conditioning import condition_rows
    from ornstein.runs.editing import edit, interpolate, restore
    from ornstein.runs.hub import push_to_hub
    from ornstein.runs.imputing import impute
    from ornstein.runs.likelihoods import dequantisation, likelihood, log_prob
    from ornstein.runs.predicting import predict
    from ornstein.runs.tuning import tune, tuned

FUNCTIONS = {
    "averages": "averaging",
    "batches": "sampling",
    "calibrate": "calibrating",
    "compile": "sampling",
    "condition_rows": "conditioning",
    "dequantisation": "likelihoods",
    "earlier": "averaging",
    "edit": "editing",
    "ema": "averaging",
    "impute": "imputing",
    "interpolate": "editing",
    "likelihood": "likelihoods",
    "log_prob": "likelihoods",
    "predict": "predicting",
    "push_to_hub": "hub",
    "restore": "editing",
    "sample": "sampling",
    "tune": "tuning",
    "tuned": "tuning",
}
"""Functions of a run, each with the module of `ornstein.runs` that it is in."""


def function(name: str) -> Callable[..., Any]:
    """The function of a run of that name, which refuses a keyword that it does not have by naming the one that is meant."""
    value: Callable[..., Any] = getattr(import_module(f"ornstein.runs.{FUNCTIONS[name]}"), name)
    return keywords(value)


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run folder and the model in it.

    `FUNCTIONS` are methods too: what is not written here is imported when it is first used.
    """

    folder: Path
    model: Model
    weights_hash: str
    """The sha256 of the file that the weights in memory were read from: what everything made with them belongs to."""

    batches = sampling.batches
    sample = sampling.sample

    @property
    def spec(self) -> DataSpec:
        """The data spec."""
        return self.model.spec

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.device

    @property
    def denoiser(self) -> NetworkDenoiser:
        """For everything that takes a denoiser; `.given(labels)` binds a condition."""
        return self.model.denoiser()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the training by name. Raises OrnsteinError where there are none, or they cannot be read."""
        stored = self._settings()
        if stored is None:
            raise OrnsteinError(f"{self.folder / 'config.yaml'} is missing; bring back the one of the training")
        return stored.to_dict()

    def _settings(self) -> Settings | None:
        if self.model.is_imported:
            return import_module("ornstein.runs.imported").settings(self.model)
        return settings_of(self.folder)

    def metrics(self) -> list[dict[str, float]]:
        """The lines of metrics.jsonl, without a last one that a kill cut short."""
        return read_lines(self.folder / "metrics.jsonl", ("step", "loss"), self.folder)

    def to(self, device: str | torch.device) -> "Run":
        """The same run with its network moved to a device."""
        self.model.to(device)
        return self

    if TYPE_CHECKING:
        averages = averages
        calibrate = calibrate
        compile = sampling.compile
        condition_rows = condition_rows
        dequantisation = dequantisation
        earlier = earlier
        edit = edit
        ema = ema
        impute = impute
        interpolate = interpolate
        likelihood = likelihood
        log_prob = log_prob
        predict = predict
        push_to_hub = push_to_hub
        restore = restore
        tune = tune
        tuned = tuned
    else:

        def __getattr__(self, name: str) -> Any:
            if name in FUNCTIONS:
                return MethodType(function(name), self)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        """One line, where that of a dataclass would print every layer of the network."""
        model, numbers = self.model, sum(p.numel() for p in self.model.network.parameters())
        about = f"{type(model.network).__name__} of {numbers:,} parameters, {model.target} on {model.path}"
        return f"{type(self).__name__}({str(self.folder)!r}: {self.spec.source}, {about})"

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *FUNCTIONS})


def load(
    folder: str | Path,
    device: str | torch.device = "cpu",
    *,
    network: torch.nn.Module | None = None,
    conditions: Sequence[Condition] | None = None,
) -> Run:
    """The run in a folder, ready to sample; no link within it is followed. `hf:user/name` is a model on the Hugging Face hub.

    A run of a network or a condition of one's own needs it here, since no file names a class to import: the weights are loaded
    into `network`, which is then in evaluation mode and needs no gradients.

    Raises UsageError for what is no run, OrnsteinError that names a file which is missing or damaged.
    """
    if str(folder).startswith("hf:"):
        folder = import_module("ornstein.runs.hub").fetched(str(folder))
    folder = Path(folder)
    must_be_run(folder, OrnsteinError)
    if is_imported(folder):
        return Run(folder, *import_module("ornstein.runs.imported").read(folder)).to(device)
    return Run(folder, *read(folder / "model", network, conditions)).to(device)

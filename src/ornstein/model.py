"""A trained model: a network with all that gives its numbers a meaning, in memory and on disk.

On disk it is config.json and model.safetensors, enough to sample without anything else. Nothing is ever unpickled.
"""

import dataclasses
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ornstein import coupling, networks, path, target
from ornstein.coupling import Coupling, Independent
from ornstein.data import Spec
from ornstein.denoiser import NetworkDenoiser, Normalized
from ornstein.errors import OrnsteinError
from ornstein.noise import PerSampleNoise, mix
from ornstein.sampling import DEFAULT, begin, sample
from ornstein.solvers import Sampler, Solver

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Model:
    """A network with all that gives its numbers a meaning."""

    network: torch.nn.Module
    path: path.Path
    target: target.Target
    spec: Spec
    frequencies: tuple[float, ...]
    """How often each class occurs in the training data; empty without classes."""
    coupling: Coupling = Independent()
    """How data and noise were paired in training. Under any but `Independent`, scores are not those of the path."""

    def denoiser(self, network: torch.nn.Module | None = None) -> NetworkDenoiser:
        """The denoiser of these weights, or of other weights in the same shape (an average, a compiled copy)."""
        return NetworkDenoiser(network or self.network, self.path, self.target, Normalized(self.spec.data_std))

    def labels(self, first: int, last: int, seed: int) -> Tensor | None:
        """A class for each of the samples first..last−1, drawn as often as it occurs in the data; a function of (seed, i)."""
        if not self.frequencies:
            return None
        levels = np.cumsum(self.frequencies)
        units = [mix(seed, i, 0x1ABE1) / 2**63 for i in range(first, last)]
        return torch.from_numpy(np.searchsorted(levels / levels[-1], units, side="right"))

    def sample(
        self,
        count: int,
        *,
        labels: Callable[[int, int], Tensor | None] | None = None,
        solver: Solver | Sampler | None = None,
        steps: int = 20,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
        network: torch.nn.Module | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Samples first..first+count−1 of a seed, batch by batch, in the data's own type and range.

        `labels(first, last)` gives the class of each sample; None draws classes as often as they occur in the data.
        The batch size changes speed and memory, not the samples (up to rounding in the network). Warns where a solver adds
        noise and the model was trained with a coupling: such solvers rest on scores.
        """
        shape, denoiser = self.spec.shape, self.denoiser(network)
        device = next((network or self.network).parameters()).device
        batch_size = batch_size or max(1, min(512, 2**20 // math.prod(shape)))
        for start in range(first, first + count, batch_size):
            stop = min(start + batch_size, first + count)
            given = self.labels(start, stop, seed) if labels is None else labels(start, stop)
            noise = PerSampleNoise(seed, start)
            bound = denoiser if given is None else denoiser.given(given.to(device))
            times = (solver or DEFAULT).grid(self.path, steps)
            if start == first and not isinstance(self.coupling, Independent) and _stochastic(solver, self.path, times):
                warnings.warn(
                    f"this model was trained with the coupling {self.coupling}, under which its scores are not those of the "
                    "path: a solver that adds noise is not exact; ODE solvers, such as the default, are",
                    stacklevel=2,
                )
            x = begin(self.path, torch.zeros(stop - start, *shape, device=device), float(times[0]), noise)
            with torch.inference_mode():
                made = sample(bound, start=x, solver=solver, grid=times, noise=noise)
            yield self.spec.from_model(made)  # outside: the mode must not reach what the caller does between batches

    def config(self) -> dict[str, Any]:
        """Numbers, strings and lists only; `from_config` is the inverse."""
        return {
            "format": FORMAT,
            "network": {"type": type(self.network).__name__, **self.network.config},  # type: ignore[dict-item]
            "path": to_config(self.path),
            "target": to_config(self.target),
            "frequencies": list(self.frequencies),
            "coupling": to_config(self.coupling),
            "data": self.spec.to_json(),
        }


def _stochastic(solver: Solver | Sampler | None, path: path.Path, times: Tensor) -> bool:
    solver = solver or DEFAULT
    return solver.stochastic if isinstance(solver, Sampler) else solver.table(path, times).stochastic


def to_config(value: Any) -> dict[str, Any]:
    """A frozen dataclass of numbers (or such dataclasses) as {"type": name, field: value, ...}."""
    found: dict[str, Any] = {"type": type(value).__name__}
    for f in dataclasses.fields(value):
        inner = getattr(value, f.name)
        found[f.name] = to_config(inner) if dataclasses.is_dataclass(inner) else inner
    return found


def from_config(data: Mapping[str, Any], module: Any) -> Any:
    """The inverse of `to_config`, for the public classes of one module. Raises KeyError, TypeError, ValueError."""
    values = {k: from_config(v, module) if isinstance(v, Mapping) else v for k, v in data.items() if k != "type"}
    kind = getattr(module, str(data["type"]), None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__):
        raise ValueError(f"{data['type']!r} is not a class of {module.__name__}")
    return kind(**values)


def read(folder: File) -> Model:
    """The model in a folder, with its weights, on the CPU and in evaluation mode.

    Raises OrnsteinError that names the file which is missing or damaged.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text())
    except FileNotFoundError:
        raise OrnsteinError(f"{file} is missing: {folder.parent} holds no trained model yet") from None
    except (OSError, ValueError) as error:
        raise OrnsteinError(
            f"{file} cannot be read ({error}); restore it, or resume the training to write it anew"
        ) from error
    try:
        if config["format"] != FORMAT:
            raise OrnsteinError(f"{file} has format {config['format']}; this version of ornstein reads format {FORMAT}")
        arguments = dict(config["network"])
        kinds = {kind.__name__: kind for kind in networks.ALL}
        network = kinds[arguments.pop("type")](**arguments)
        model = Model(
            network=network.eval().requires_grad_(False),
            path=from_config(config["path"], path),
            target=from_config(config["target"], target),
            spec=Spec.from_json(config["data"]),
            frequencies=tuple(config["frequencies"]),
            coupling=from_config(config.get("coupling", {"type": "Independent"}), coupling),
        )
        model.denoiser()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise OrnsteinError(
            f"{file} does not describe a model ({type(error).__name__}: {error}); restore it"
        ) from error
    network.load_state_dict(weights(folder / "model.safetensors", network))
    return model


def weights(file: File, network: torch.nn.Module) -> dict[str, Tensor]:
    """The tensors of a safetensors file that must be a network's state. Raises OrnsteinError that names the file."""
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); resume the training to write it anew") from error
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != found:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))[0]
        raise OrnsteinError(
            f"{file} does not fit its config.json: {wrong} is {found.get(wrong, 'missing')}, not {expected.get(wrong, 'there')}"
        )
    return state

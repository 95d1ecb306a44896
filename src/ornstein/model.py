"""A trained model: a network with all that gives its numbers a meaning, in memory and on disk.

On disk it is config.json and model.safetensors, enough to sample without anything else. Nothing is ever unpickled.
"""

import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path as File
from threading import Lock
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein import conditions, coupling, cpu, networks, path, preconditioning, target
from ornstein.arguments import Report, as_noise, as_solver, as_times, check_denoiser, check_units
from ornstein.conditions import Condition, Conditions, Label, Rows
from ornstein.coupling import Coupling, Independent
from ornstein.data.spec import DataSpec
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import OrnsteinError, brief, memory_is_short, reject_class
from ornstein.files.formats import MODEL, READABLE, upgraded
from ornstein.files.reading import read_json
from ornstein.flowmap import NetworkFlowMap
from ornstein.guidance.config import PLAIN, Guidance
from ornstein.known import KnownDenoiser
from ornstein.noise import NoiseSource, PerSampleNoise, skip
from ornstein.preconditioning import Preconditioning, UnitVariance
from ornstein.sampling import begin, steps_done
from ornstein.solvers import Solver
from ornstein.solvers.solver import own_steps
from ornstein.variance import VarianceDenoiser
from ornstein.weights import hashed, is_floating, loaded, must_be, shapes, shapes_in, shapes_of

SMALL = 1 << 15  # numbers of all samples, below which two threads of Python only wait for each other
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Model:
    """A network with all that gives its numbers a meaning."""

    network: torch.nn.Module
    path: path.Path
    target: target.Target
    spec: DataSpec
    conditions: Conditions = Conditions()
    """The conditions of the network."""
    coupling: Coupling = Independent()
    """How data and noise were paired in training. Under any but `Independent`, scores are not those of the path."""
    preconditioning: Preconditioning | None = None
    """Preconditioning of the network; None: `UnitVariance` of the data."""
    aimed: bool = True
    """Whether a network that takes an aim has learned to: not one that was trained as a denoiser."""

    @property
    def is_own(self) -> bool:
        """Whether the network's class is not one of the library's, so that no file says how to build it."""
        return type(self.network) not in networks.ALL

    @property
    def is_imported(self) -> bool:
        """Whether the network is another library's, in files of its own."""
        return bool(getattr(self.network, "imported", False))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def to(self, device: str | torch.device) -> None:
        """Moves the network to a device."""
        if self.is_own:
            self.network.to(device)
        else:
            networks.placed(self.network, device)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the network's numbers, in which samples are made."""
        return next(p.dtype for p in self.network.parameters() if p.is_floating_point())

    def denoiser(self, network: torch.nn.Module | None = None) -> NetworkDenoiser:
        """The denoiser of these weights, or of other weights in the same shape (an average, a compiled copy)."""
        return self._as(self._kind if self.conditions.known is None else KnownDenoiser, network)

    def learner(self, network: torch.nn.Module) -> NetworkDenoiser:
        """The denoiser whose predictions are all the network's own, also where its condition says what is known."""
        return self._as(self._kind, network)

    @property
    def _kind(self) -> type[NetworkDenoiser]:
        plain: type[NetworkDenoiser] = VarianceDenoiser if self.has_variances else NetworkDenoiser
        return NetworkFlowMap if self.takes_aim else plain

    def _as(self, kind: type[NetworkDenoiser], network: torch.nn.Module | None) -> NetworkDenoiser:
        inputs = self.preconditioning or UnitVariance(self.spec.data_std)
        return kind(network or self.network, self.path, self.target, inputs)

    @property
    def has_variances(self) -> bool:
        """Whether the network, one of the library's, predicts variances behind its target (`ornstein.variance`)."""
        return not self.is_own and getattr(self.network, "config", {})["out_channels"] == 2 * self.spec.shape[0]

    @property
    def takes_aim(self) -> bool:
        """Whether it is a flow map."""
        return self.aimed and bool(getattr(self.network, "takes_aim", False))

    @property
    def solver(self) -> str:
        """The name of the default solver: `jump` for a flow map."""
        return "jump" if self.takes_aim else "abm"

    @property
    def steps(self) -> int:
        """The default number of steps."""
        return 4 if self.takes_aim else 20

    @property
    def batch_size(self) -> int:
        """Samples made at once when nobody says how many."""
        return max(1, min(512, 2**20 // math.prod(self.spec.shape)))

    @property
    def frequencies(self) -> tuple[float, ...]:
        """How often each class occurs in the training data; empty without classes."""
        return () if self.conditions.label is None else self.conditions.label.frequencies

    def labels(self, first: int, last: int, seed: int) -> Tensor | None:
        """A class for each of the samples first..last−1, drawn as often as it occurs in the data; a function of (seed, i)."""
        label = self.conditions.label
        return None if label is None else label.drawn(first, last, seed)

    def drawn(self, first: int, last: int, seed: int) -> Any:
        """The default condition of those samples, as a network takes it."""
        return self.conditions.network_input(self.drawn_rows(first, last, seed))

    def drawn_rows(self, first: int, last: int, seed: int) -> Rows | None:
        """The default condition of those samples: classes (`labels`), and the null of all others; None without classes."""
        labels = self.labels(first, last, seed)
        if labels is None:
            return None
        parts = zip(self.conditions.parts, self.conditions.null(last - first), strict=True)
        return tuple(labels if isinstance(part, Label) else null for part, null in parts)

    def sample(
        self,
        count: int,
        *,
        condition: Callable[[int, int], Any] | None = None,
        guide: Guidance = PLAIN,
        solver: Solver | str | None = None,
        steps: int | None = None,
        seed: int = 0,
        first: int = 0,
        batch_size: int | None = None,
        network: torch.nn.Module | None = None,
        shape: tuple[int, ...] | None = None,
        start: Tensor | None = None,
        grid: Tensor | Sequence[float] | None = None,
        noise: NoiseSource | None = None,
        progress: Report | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Samples first..first+count−1 of a seed, batch by batch, in the data's own type and range.

        `condition(first, last)` is that of a batch (`Conditions.network_input`); by default that is `drawn`. `guide` is
        how the model is guided. The default solver is `ABM()` in 20 steps, of a flow map `Jump()` in 4. The batch size changes
        speed and memory, not the samples (up to rounding in the network).
        `shape` of one sample and `start` (count, *shape) are in the model's axes and units. `grid`, `noise` and `progress` are
        those of `ornstein.sample`; work is counted in samples times steps.
        On a CPU two batches are made at once, each by half of its threads. Where memory is short for a batch, it and those after
        it are made in halves, with a warning. A solver that adds noise brings a warning where the model was trained with a
        coupling, since it rests on scores.
        """
        check_units(self.path)
        spec = self.spec if shape is None else dataclasses.replace(self.spec, shape=shape)
        denoiser, device, dtype = (
            self.denoiser(network),
            next((network or self.network).parameters()).device,
            self.dtype,
        )
        method = as_solver(self.solver if solver is None else solver)
        times = as_times(
            self.path, method, own_steps(method, self.steps) if steps is None else steps, grid, falling=True
        )
        source = PerSampleNoise(seed, first) if noise is None else as_noise(noise, 0)
        counted = None if progress is None else _Counted(progress, count * (len(times) - 1))
        compiling = (network or self.network)._compiled_call_impl is not None
        by_row = hasattr(source, "skip")  # else it draws in the order in which it is called
        alone = device.type != "cpu" or compiling or not by_row or count * math.prod(spec.shape) < SMALL
        workers = 1 if alone else min(2, torch.get_num_threads())
        if not isinstance(self.coupling, Independent) and method.stochastic:
            warnings.warn(
                f"this model was trained with the coupling {self.coupling}, under which its scores are not those of the "
                "path: a solver that adds noise is not exact; ODE solvers, such as the default, are",
                stacklevel=2,
            )

        def make(rows: range) -> NDArray[Any]:
            inputs = (condition or partial(self.drawn, seed=seed))(rows.start, rows.stop)
            noise = skip(source, rows.start - first)
            bound = guide(denoiser, conditions.to(inputs, device, dtype))
            check_denoiser("sample", bound)
            if start is None:
                like = torch.zeros(len(rows), *spec.shape, device=device, dtype=dtype)
                x = begin(self.path, like, float(times[0]), noise)
            else:
                x = start[rows.start - first : rows.stop - first].to(device, dtype)
            with torch.inference_mode():
                for step in method.run(bound, x, times, noise):
                    last = step.x
                    if counted is not None:
                        counted.note(rows, len(rows) * steps_done(times, step))
            return spec.from_model(last)

        return _in_batches(make, range(first, first + count), batch_size or self.batch_size, workers)

    def config(self) -> dict[str, Any]:
        """Numbers, strings and lists only; `from_config` is the inverse. Of a network of anybody's there is its name alone."""
        arguments: dict[str, Any] = {"own": True} if self.is_own else self.network.config  # type: ignore[assignment]
        inputs = {} if self.preconditioning is None else {"preconditioning": to_config(self.preconditioning)}
        return {
            "format": MODEL,
            "network": {"type": type(self.network).__name__, **arguments},
            **inputs,
            "path": to_config(self.path),
            "target": to_config(self.target),
            "frequencies": list(self.frequencies),
            "conditions": self.conditions.to_json(),
            "coupling": to_config(self.coupling),
            **({} if self.aimed else {"aimed": False}),
            "data": self.spec.to_json(),
        }


class _Counted:
    """Reports the work of batches that are made at once, or again in parts where memory is short."""

    def __init__(self, progress: Report, total: int) -> None:
        self._progress, self._total, self._done, self._lock = progress, total, dict[int, int](), Lock()

    def note(self, rows: range, done: int) -> None:
        """So much is done of the batch of these rows."""
        with self._lock:
            self._done[rows.start] = done
            self._progress(sum(self._done.values()), self._total)


def _in_batches(make: Callable[[range], NDArray[Any]], rows: range, size: int, workers: int) -> Iterator[NDArray[Any]]:
    """make(part) for parts of so many rows or fewer, in order; fewer where memory is short, and never one for all workers."""
    most = max(1, min(size, -(-len(rows) // workers)))

    def tried(part: range) -> list[NDArray[Any]]:
        nonlocal most
        arrays, left = list[NDArray[Any]](), part
        while left:
            rows, short = left[:most], False
            try:
                arrays.append(make(rows))
            except (RuntimeError, MemoryError) as error:
                if not memory_is_short(error) or len(rows) == 1:
                    raise
                short = True
            if not short:
                left = left[len(rows) :]
            elif len(rows) // 2 < most:  # here nothing of the failed batch is held any more
                most = len(rows) // 2
                if not warned:
                    warned.append(True)
                    warnings.warn(f"memory is short: samples are made {most} at a time or fewer", stacklevel=2)
        return arrays

    warned = list[bool]()
    size = most
    parts = (rows[i : i + size] for i in range(0, len(rows), size))
    return chain.from_iterable(map(tried, parts) if workers == 1 else cpu.in_order(tried, parts, workers))


def to_config(value: Any) -> dict[str, Any]:
    """A frozen dataclass of numbers (or such dataclasses) as {"type": name, field: value, ...}."""
    config: dict[str, Any] = {"type": type(value).__name__}
    for f in dataclasses.fields(value):
        inner = getattr(value, f.name)
        config[f.name] = to_config(inner) if dataclasses.is_dataclass(inner) else inner
    return config


def from_config(data: Mapping[str, Any], module: Any) -> Any:
    """The inverse of `to_config`, for the public classes of one module. Raises KeyError, TypeError, ValueError."""
    values = {k: from_config(v, module) if isinstance(v, Mapping) else v for k, v in data.items() if k != "type"}
    kind = getattr(module, str(data["type"]), None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__):
        raise ValueError(f"{data['type']!r} is not a class of {module.__name__}")
    for key, value in values.items():
        if isinstance(value, str) or _endless(value):
            raise ValueError(f"{key} = {value!r} is no finite number")
    return kind(**values)


def _endless(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read(
    folder: File, network: torch.nn.Module | None = None, parts: Sequence[Condition] | None = None
) -> tuple[Model, str]:
    """The model in a folder, on the CPU and in evaluation mode, and the sha256 of the file that its weights were read from.

    `network` is the one that the weights are loaded into, and `parts` the conditions, where they are of classes that are not the
    library's: nothing that a file names is imported.

    The files may come from anywhere: nothing in them is run, and a network that its file of weights does not hold is refused
    before memory is taken for it. Links are not followed. Raises OrnsteinError that names the file which is missing or damaged,
    or holds numbers that are not finite, TypeError for a class in place of a network.
    """
    reject_class("network", network)
    file, stored, root = folder / "config.json", folder / "model.safetensors", folder.parent
    try:
        config = read_json(file, root=root)
    except FileNotFoundError:
        raise OrnsteinError(f"{file} is missing: {folder.parent} holds no trained model yet") from None
    except (OSError, ValueError) as error:
        raise OrnsteinError(
            f"{file} cannot be read ({error}); restore it, or resume the training to write it anew"
        ) from error
    if config.get("format") not in READABLE:
        formats = " and ".join(map(str, READABLE))
        raise OrnsteinError(
            f"{file} has format {config.get('format')}; this version of ornstein reads formats {formats}"
        )
    with _described(file):
        config = upgraded(config)
        arguments = dict(config["network"])
        name, own = str(arguments.pop("type")), arguments.pop("own", False) is True
        if endless := [key for key, value in arguments.items() if _endless(value)]:
            raise ValueError(f"network: {endless[0]} is no finite number")
    if own and network is None:
        kind_name = name if name.isidentifier() else "Network"
        raise OrnsteinError(
            f"{folder.parent} was trained with a network of its own, {kind_name}, which no file says how to build: "
            f"give it, as in ornstein.load({str(folder.parent)!r}, network={kind_name}())"
        )
    strange = [kind for kind in _kinds(config) if kind not in conditions.KINDS]
    if own and strange and parts is None:
        raise OrnsteinError(
            f"{folder.parent} was trained with a condition of its own, {brief(strange[0])}, which no file says how to make: "
            f"give all of its conditions, as in ornstein.load({str(folder.parent)!r}, network=..., conditions=[...])"
        )
    with _described(file):
        spec = DataSpec.from_json(config["data"])
        frequencies = tuple(float(part) for part in config["frequencies"])
        if parts is None:
            declared = _conditions(None if own else arguments, spec, frequencies, config.get("conditions", []))
        else:
            declared = Conditions(tuple(parts))
        if not own:
            _must_fit(arguments, spec, declared)
        made_path, made_target = from_config(config["path"], path), from_config(config["target"], target)
        made_coupling = from_config(config.get("coupling", {"type": "Independent"}), coupling)
        inputs = from_config(config["preconditioning"], preconditioning) if "preconditioning" in config else None
    held = shapes(stored, root, floating=network is None or is_floating(network))
    if network is None:
        with _described(file):
            kind = {kind.__name__: kind for kind in networks.ALL}[name]
            expected = shapes_of(kind, arguments, held)
        must_be(expected, held, stored)
        network = kind(**arguments)
    else:
        must_be(shapes_in(network), held, stored, f"the network {type(network).__name__} that was passed")
    filled = network.eval().requires_grad_(False)
    aimed = config.get("aimed", True) is True
    model = Model(filled, made_path, made_target, spec, declared, made_coupling, inputs, aimed)
    with _described(file):
        model.denoiser()
    _, digest = hashed(stored, lambda file: filled.load_state_dict(loaded(file, root)), root)
    endless = [name for name, tensor in filled.state_dict().items() if not bool(tensor.isfinite().all())]
    if endless:
        raise OrnsteinError(
            f"{stored} holds numbers that are not finite (in {endless[0]}), so nothing can be made with it; resume the "
            "training to write it anew"
        )
    return model, digest


def described(config: Mapping[str, Any]) -> Model:
    """The model that the content of a config.json describes, with weights as a new network has them, in evaluation mode.

    Raises ValueError, KeyError or TypeError for what describes none.
    """
    config = upgraded(dict(config))
    arguments = dict(config["network"])
    kind = {kind.__name__: kind for kind in networks.ALL}[str(arguments.pop("type"))]
    spec = DataSpec.from_json(config["data"])
    declared = _conditions(arguments, spec, tuple(config["frequencies"]), config.get("conditions", []))
    _must_fit(arguments, spec, declared)
    inputs = from_config(config["preconditioning"], preconditioning) if "preconditioning" in config else None
    return Model(
        kind(**arguments).eval().requires_grad_(False),
        from_config(config["path"], path),
        from_config(config["target"], target),
        spec,
        declared,
        preconditioning=inputs,
        aimed=config.get("aimed", True) is True,
    )


@contextmanager
def _described(file: File) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # numbers that nobody foresaw can fail anywhere in a network
        reason = " ".join(str(error).split())
        raise OrnsteinError(
            f"{file} does not describe a model ({type(error).__name__}: {reason}); restore it"
        ) from error


def _kinds(config: Mapping[str, Any]) -> list[str]:
    """The types of the conditions that a model file describes, as far as they have its form."""
    entries = config.get("conditions", [])
    return (
        [str(entry.get("type")) for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []
    )


def _conditions(
    arguments: Mapping[str, Any] | None, spec: DataSpec, frequencies: tuple[float, ...], others: list[dict[str, Any]]
) -> Conditions:
    """The conditions of a model file; what the network's vector has beyond them are augmentations of training."""
    if len(frequencies) != len(spec.classes):
        raise ValueError(f"there are {len(frequencies)} frequencies for {len(spec.classes)} classes")
    parts = ((Label(spec.classes, frequencies),) if frequencies else ()) + conditions.from_json(others)
    if any(isinstance(part, Label) for part in parts[bool(frequencies) :]):
        raise ValueError("classes are those of the data, and no other condition")
    known = Conditions(parts)
    if arguments is None:
        return known
    return Conditions(parts, augmented=arguments.get("vector", 0) - known.arguments["vector"])


def _must_fit(arguments: Mapping[str, Any], spec: DataSpec, declared: Conditions) -> None:
    """Raises ValueError when a network's arguments, the data and the conditions do not fit each other."""
    channels, *size = spec.shape
    facts = {"channels": channels, "dim": channels, "size": size, "dims": len(size), "image": 0, **declared.arguments}
    for key, value in facts.items():
        if key in arguments and arguments[key] != value:
            raise ValueError(f"network.{key} is {arguments[key]}, and the data ask for {value}")
    if declared.augmented < 0 or any(key not in arguments for key, value in declared.arguments.items() if value):
        raise ValueError("the network takes no such conditions")
    if declared.image is not None and declared.image.shape != spec.shape:
        raise ValueError(f"the image condition has shape {declared.image.shape}, the data {spec.shape}")

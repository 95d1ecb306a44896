"""From settings to objects: the one place where a training's names become paths, targets, networks and the rest."""

import copy
import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, is_dataclass, replace
from importlib.util import find_spec
from typing import Any

import torch

from ornstein import coupling, cpu, objective
from ornstein.conditions import Condition, Conditions, Degradation, Label, LowRes
from ornstein.coupling import Coupling
from ornstein.data import DataSpec
from ornstein.device import choose_device, is_bf16_fast
from ornstein.errors import UsageError, brief
from ornstein.model import Model
from ornstein.names import COUPLINGS, DEGRADATIONS, NETWORKS, PATHS, TARGETS, TIMES, WEIGHTS, pick
from ornstein.networks import MLP, DiT, UNet
from ornstein.objective import Times, Weight
from ornstein.path import Path
from ornstein.preconditioning import Identity, Preconditioning
from ornstein.processes import ALONE, LAUNCH, Processes
from ornstein.settings import Settings
from ornstein.target import Target
from ornstein.training import augment, shards


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects of Python in place of names of the settings; where one is None, the settings choose."""

    path: Path | None = None
    target: Target | None = None
    times: Times | None = None
    weight: Weight | None = None
    coupling: Coupling | None = None
    network: torch.nn.Module | None = None
    """Trained as it is, on x_t and t as they are unless there is a preconditioning."""
    preconditioning: Preconditioning | None = None
    conditions: tuple[Condition, ...] | None = None
    objective: Any = None
    """An `Objective`, or anything with loss(predict, x, generator)."""
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None
    """Makes the optimiser of the parameters; its learning rates are the peaks."""
    schedule: Callable[[float], float] | None = None
    """The part of the peak rate at a part of the run, from 0 to 1."""


NOTHING = Objects()


def named(value: Any, choices: Mapping[str, Any]) -> str:
    """What config.yaml calls an object: the name of an equal one, else its own description, the same in every process."""
    for name, choice in choices.items():
        if type(choice) is type(value) and choice == value:
            return name
    text = getattr(value, "__qualname__", None) or (repr(value) if is_dataclass(value) else type(value).__qualname__)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def with_names(settings: Settings, spec: DataSpec, objects: Objects) -> Settings:
    """The settings with a description of each object in place of a name."""
    s = spec.data_std
    choices: dict[str, Mapping[str, Any]] = {
        "path": PATHS,
        "target": {name: TARGETS.pick(name, s) for name in TARGETS},
        "times": {name: times for name, (times, stratified) in TIMES.items() if stratified},
        "weight": {name: WEIGHTS.pick(name, s) for name in WEIGHTS},
        "coupling": COUPLINGS,
    }
    found: dict[str, Any] = {
        key: named(value, known) for key, known in choices.items() if (value := getattr(objects, key)) is not None
    }
    if objects.network is not None:
        found |= {"network": type(objects.network).__qualname__, "preset": None, "split_batch": False}
        found |= {"channels_last": False}
    if objects.objective is not None and not is_plain(objects.objective):
        found["weight"] = named(objects.objective, {})
    return replace(settings, **found)


def is_plain(own: Any) -> bool:
    """Whether an objective has the parts of `Objective`, by which its draws are functions of (seed, step, row)."""
    return all(hasattr(own, name) for name in ("levels", "at", "error"))


PRECISIONS = ("float32", "bf16")
LARGE = 1e12  # beyond any use; what is larger is a slip
MOST = {
    "steps": LARGE,
    "minutes": LARGE,
    "batch_size": 1 << 20,
    "accumulate": 1 << 20,
    "learning_rate": LARGE,
    "clip": LARGE,
    "keep": LARGE,
    "threads": 4096,
    "save_minutes": LARGE,
    "save_every": LARGE,
}
FROM_ZERO = {
    "label_dropout": 1.0,
    "warmup": 0.999,
    "weight_decay": LARGE,
    "samples": 10_000,
    "snapshots": 10_000,
    "augment": 1.0,
}


def complete(settings: Settings, spec: DataSpec, processes: Processes = ALONE, objects: Objects = NOTHING) -> Settings:
    """The settings with every choice made that was left open.

    Raises UsageError for values that do not fit each other or the data.
    """
    settings = with_names(settings, spec, objects)
    if objects.network is not None:
        return _complete(settings, spec, processes, objects)
    network = settings.network
    if network is None:
        network = "mlp" if spec.kind == "vector" else "unet"
    NETWORKS.pick(network)
    if (network == "mlp") != (spec.kind == "vector"):
        fit = "mlp" if spec.kind == "vector" else "unet or dit"
        raise UsageError(f"network: {network} does not fit {spec.kind} data of shape {spec.shape}; use {fit}")
    preset = settings.preset
    if preset is None:
        preset = "tiny" if spec.kind == "image" and max(spec.shape[1:]) <= 16 else "small"
    return _complete(replace(settings, network=network, preset=preset), spec, processes, objects)


def _complete(settings: Settings, spec: DataSpec, processes: Processes, objects: Objects) -> Settings:
    """The same for all but the network."""
    side, times = max(spec.shape[1:], default=64), settings.times
    if times is None:
        times = "log-normal" if settings.path == "edm" else "stratified"
    steps = settings.steps if settings.minutes is not None or settings.steps is not None else 2000
    place = choose_device(settings.device, processes)
    precision = settings.precision
    if precision is None:
        precision = "bf16" if is_bf16_fast(place) else "float32"
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = 256 if spec.kind == "vector" else 32 if place.type == "cpu" and side > 16 else 64
    chosen = {"times": times, "steps": steps}
    threads = settings.threads if settings.threads is not None or place.type != "cpu" else cpu.usable_threads()
    complete = replace(settings, **chosen, precision=precision, batch_size=batch_size, threads=threads)  # type: ignore[arg-type]
    _check(complete)
    _check_processes(complete, processes)
    if complete.flips and spec.kind == "vector":
        raise UsageError("flips: vectors have no left and right; leave --flips out")
    if complete.augment and spec.kind == "vector":
        raise UsageError("augment: vectors cannot be turned as images can; leave --augment out")
    if complete.augment and objects.network is not None:
        raise UsageError(
            "augment: a network of one's own is not called with what was done to an image; leave augment out"
        )
    if isinstance(_coupling(complete, objects), coupling.OptimalTransport) and not find_spec("scipy"):
        raise UsageError("coupling: ot needs scipy; install it with `pip install ornstein[ot]`")
    return complete


def _check(s: Settings) -> None:
    if s.steps is not None and s.minutes is not None:
        raise UsageError("give --steps or --minutes, not both")
    for key, top in MOST.items():  # a comparison with NaN is false
        value = getattr(s, key)
        if value is not None and not 0 < value <= top:
            raise UsageError(
                f"{key} = {brief(value)} must be positive" + (f", at most {top:.15g}" if value > top else "")
            )
    for key, top in FROM_ZERO.items():
        value = getattr(s, key)
        if not 0 <= value <= top:
            raise UsageError(f"{key} = {brief(value)} must lie between 0 and {top:g}")
    if not 0 < s.ema < 12**-0.5:
        raise UsageError(f"ema = {s.ema} is a part of the training and must lie between 0 and 0.288")
    if not 0 <= s.seed < 1 << 63:
        raise UsageError(f"seed = {brief(s.seed)} must not be negative, nor larger than 63 bits hold")
    assert s.batch_size is not None
    assert s.precision is not None
    pick("precision", s.precision, dict.fromkeys(PRECISIONS))


def _check_processes(s: Settings, processes: Processes) -> None:
    assert s.batch_size is not None
    parts = s.accumulate * processes.count
    if s.batch_size % parts:
        nearest = max(1, round(s.batch_size / parts)) * parts
        raise UsageError(
            f"accumulate = {s.accumulate} must divide batch_size = {s.batch_size}"
            if processes.count == 1
            else f"batch_size = {s.batch_size} is the batch of all processes together, and {processes.count} of them with "
            f"accumulate = {s.accumulate} cannot share it evenly: give for example --batch-size {nearest}"
        )
    if s.shard and processes.count == 1:
        raise UsageError(
            f"shard: there is only one process to shard over; start several with `{LAUNCH} train …`, or leave --shard out"
        )
    if s.shard:
        shards.check()
    if s.shard and s.compile:
        raise UsageError("shard: sharded networks are not compiled; leave --compile or --shard out")


def degradation(settings: Settings, spec: DataSpec) -> Degradation | None:
    """What is left of each image for the network to see, if anything. Raises UsageError where it does not fit the data."""
    if settings.given is None:
        return None
    if spec.kind == "vector":
        raise UsageError("given: vectors are no images; give conditions with the data instead, and leave --given out")
    name, _, factor = settings.given.partition(":")
    kind = DEGRADATIONS.pick(name)
    try:
        if factor and not (kind is LowRes and factor.isdecimal() and len(factor) < 6):
            raise ValueError(f"{brief(settings.given)} is not one of low-res:4 (or another number), grey, mask")
        found = LowRes(int(factor)) if factor else kind()
        found.check(spec.shape)
    except ValueError as error:
        raise UsageError(f"given: {error}") from error
    return found


def _coupling(settings: Settings, objects: Objects) -> coupling.Coupling:
    return objects.coupling or COUPLINGS.pick(settings.coupling)


def model(settings: Settings, spec: DataSpec, parts: tuple[Condition, ...], objects: Objects = NOTHING) -> Model:
    """The untrained model of completed settings, its weights a function of the seed alone, or a copy of those of a network.

    Raises UsageError for unknown names, conditions that exclude each other, or a target that the path does not allow.
    """
    torch.manual_seed(settings.seed)
    try:
        told = Conditions(parts, augment.WIDTH if settings.augment else 0)
    except ValueError as error:
        raise UsageError(f"{spec.source}: {error}; take one of them away") from error
    others = [part for part in parts if not isinstance(part, Label)]
    if others and isinstance(_coupling(settings, objects), coupling.OptimalTransport):
        raise UsageError(
            f"coupling: ot pairs noise within a class, and would bend what is sampled given {others[0].description}; leave it out"
        )
    own = objects.network
    inputs = objects.preconditioning or (None if own is None else Identity())
    network = _network(settings, spec, told) if own is None else copy.deepcopy(own)
    made = Model(
        network=network,
        path=objects.path or PATHS.pick(settings.path),
        target=objects.target or TARGETS.pick(settings.target, spec.data_std),
        spec=spec,
        conditions=told,
        coupling=_coupling(settings, objects),
        preconditioning=inputs,
    )
    try:
        made.denoiser()
    except ValueError as error:
        raise UsageError(f"target: {error}") from error
    return made


def _network(settings: Settings, spec: DataSpec, told: Conditions) -> torch.nn.Module:
    assert settings.preset is not None
    try:
        if settings.network == "mlp":
            return MLP.preset(settings.preset, dim=spec.shape[0], **told.arguments)
        if settings.network == "dit":
            channels, *size = spec.shape
            return DiT.preset(settings.preset, channels=channels, size=(size[0], size[1]), **told.arguments)
        return UNet.preset(settings.preset, channels=spec.shape[0], **told.arguments)
    except ValueError as error:
        raise UsageError(f"preset: {error}") from error


def loss(settings: Settings, made: Model, objects: Objects = NOTHING) -> objective.Objective:
    """The objective of completed settings. Of an objective of one's own there is only how the batch is drawn here."""
    if objects.objective is not None and is_plain(objects.objective):
        found: objective.Objective = objects.objective
        return found
    if objects.times is not None:
        times, stratified = objects.times, True
    else:
        assert settings.times is not None
        times, stratified = TIMES.pick(settings.times)
    known = objects.weight is not None or objects.objective is not None
    weight = objects.weight or objective.One() if known else WEIGHTS.pick(settings.weight, made.spec.data_std)
    return objective.Objective(made.path, made.target, times, weight, stratified, made.coupling)


def processor(settings: Settings, device: torch.device) -> AbstractContextManager[None]:
    """Within, what completed settings allow on a CPU; elsewhere nothing changes."""
    if device.type != "cpu":
        return nullcontext()
    fast = settings.onednn and settings.precision == "float32"
    return cpu.configured(settings.threads or cpu.usable_threads(), settings.keep_memory, fast)


def learning_rate(settings: Settings, network: torch.nn.Module) -> float:
    """The peak rate: as asked, else 1e-3 up to 4 M parameters and less, by the square root, above."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    parameters: Any = sum(p.numel() for p in network.parameters())
    return 1e-3 * min(1.0, math.sqrt(4e6 / parameters))

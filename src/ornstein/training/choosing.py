"""From settings to objects: the one place where a training's names become paths, targets, networks and the rest."""

import copy
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from typing import Any

import torch

from ornstein import conditions, coupling, cpu, extras, objective
from ornstein.arguments import as_solver
from ornstein.conditions import Condition, Conditions, Degradation, Known, Label, LowRes, MaskLaw
from ornstein.coupling import Coupling, Independent
from ornstein.data import Dataset, DataSpec
from ornstein.device import choose_device, is_bf16_fast
from ornstein.distillation import FlowMapObjective
from ornstein.errors import UsageError, brief
from ornstein.model import Model
from ornstein.names import (
    COUPLINGS,
    DEGRADATIONS,
    FEW_STEPS,
    MASKINGS,
    NETWORKS,
    PATHS,
    TARGETS,
    TIME_FEATURES,
    TIMES,
    WEIGHTS,
    pick,
)
from ornstein.networks import DDPM, columns, dit, mlp, unet
from ornstein.objective import Objective, Times, Weight
from ornstein.path import EDM, Path
from ornstein.preconditioning import Identity, Preconditioning
from ornstein.processes import ALONE, LAUNCH, Processes
from ornstein.settings import Settings
from ornstein.solvers import Solver
from ornstein.target import Clean, Target
from ornstein.training import augment, loggers, schedule, shards, teaching
from ornstein.training.freezing import freeze
from ornstein.training.loggers import Logger
from ornstein.training.loss_module import FlowMapLossModule, HybridLossModule, LossModule, OwnLossModule
from ornstein.training.recipe import Length, Minutes, Recipe, Steps


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
    solver: Solver | None = None
    """Solver of the sample sheets."""
    loggers: tuple[Logger, ...] = ()
    teacher: tuple[Model, str] | None = None
    """The model that a flow map learns from, and the hash of its weights; None: that of the folder in the settings."""


NOTHING = Objects()


def named(value: Any, choices: Mapping[str, Any]) -> str:
    """The name of an object in config.yaml: that of an equal one, else its own description, the same in every process."""
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
    names: dict[str, Any] = {
        key: named(value, known) for key, known in choices.items() if (value := getattr(objects, key)) is not None
    }
    if objects.network is not None:
        names |= {"network": type(objects.network).__qualname__, "preset": None, "split_batch": False}
        names |= {"channels_last": False}
    if objects.objective is not None and not is_plain(objects.objective):
        names["weight"] = named(objects.objective, {})
    return replace(settings, **names)


def is_plain(own: Any) -> bool:
    """Whether an objective has the parts of `Objective`, by which its draws are functions of (seed, step, row), and its error."""
    parts = all(hasattr(own, name) for name in ("levels", "at"))
    return parts and getattr(type(own), "error", None) is Objective.error


PRESETS = {"mlp": mlp.PRESETS, "unet": unet.PRESETS, "dit": dit.PRESETS, "columns": columns.PRESETS}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
JOINT = "none"  # of an item: the joint model alone
STEPS = 2000  # of a run whose length is left open
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
    "sample_steps": 10_000,
}
FROM_ZERO = {
    "label_dropout": 1.0,
    "warmup": 0.999,
    "weight_decay": LARGE,
    "samples": 10_000,
    "snapshots": 10_000,
    "augment": 1.0,
    "hold_out": 0.9,
}


def _is_float32(precision: str) -> bool:
    """Whether networks compute in float32. Raises UsageError for an unknown name."""
    return pick("precision", precision, PRECISIONS) is torch.float32


def _learned(settings: Settings, dataset: Dataset) -> tuple[Dataset, Dataset | None]:
    """The items to learn from, with how they are drawn, and those held out."""
    balance = settings.balance or settings.balance_by is not None
    if (settings.hold_out or balance) and not dataset.is_indexed:
        raise UsageError("data: a stream cannot be held out or balanced; give data that can be indexed")
    learned, held_out = dataset.split(settings.hold_out) if settings.hold_out else (dataset, None)
    return (learned.balanced(settings.balance_by) if balance else learned), held_out


def choose(
    settings: Settings,
    dataset: Dataset,
    processes: Processes = ALONE,
    objects: Objects = NOTHING,
    before: Callable[[Settings, Dataset], Dataset] = lambda settings, dataset: dataset,
) -> Recipe:
    """The recipe of settings, with every choice made that they leave open.

    `before` sees the completed settings before anything is built from them, and gives the data in the units to train in.
    Raises UsageError for values that do not fit each other or the data.
    """
    if settings.text is not None and (not settings.text or dataset.annotations.encoder != settings.text):
        dataset = conditions.encoded(dataset, settings.text)
    spec, device = dataset.spec, choose_device(settings.device, processes)
    settings = _for_few_steps(with_names(settings, spec, objects), objects)
    settings = replace(settings, given=_maskings(settings, spec, objects))
    if objects.network is None:
        settings = replace(settings, **_library_network(settings, spec))
    settings = replace(settings, **_prediction(settings, spec, objects))
    precision = settings.precision
    if precision is None:
        precision = "bf16" if is_bf16_fast(device) else "float32"
    batch_size = settings.batch_size
    if batch_size is None:
        batch_size = spec.traits.batch_size(spec.shape, device.type == "cpu")
    if settings.minutes is None and settings.steps is None:
        settings = replace(settings, steps=STEPS)
    settings = replace(
        settings,
        times=settings.times
        if settings.times is not None
        else "log-normal"
        if isinstance(objects.path or PATHS.pick(settings.path), EDM)
        else "stratified",
        precision=precision,
        batch_size=batch_size,
        threads=settings.threads if settings.threads is not None or device.type != "cpu" else cpu.usable_threads(),
    )
    _check(settings)
    _check_processes(settings, batch_size, processes)
    _check_kinds(settings, dataset, objects)
    if not dataset.is_indexed and processes.count > 1:
        raise UsageError("data: a stream is read by one process; give several of them data that can be indexed")
    if settings.log is not None:
        loggers.check(settings.log)
    length: Length = Minutes(settings.minutes) if settings.minutes is not None else Steps(settings.steps or STEPS)
    dataset, held_out = _learned(settings, before(settings, dataset))
    parts = objects.conditions
    if parts is None:
        parts = conditions.of(dataset, degradation(settings, dataset.spec), masking(settings, dataset.spec))
    made = model(settings, dataset.spec, parts, objects)
    drawn = draws(settings, made, objects)
    loss_module, teacher = _loss_module(settings, made, drawn, objects, device)
    peak = learning_rate(settings, made.network)
    sheets = settings.solver if objects.solver is None else objects.solver
    if settings.freeze is not None:
        freeze(made.network, settings.freeze)
    return Recipe(
        settings=settings,
        dataset=dataset,
        model=made,
        objective=drawn,
        loss_module=loss_module,
        optimizer=objects.optimizer or partial(_adamw, peak, settings.weight_decay),
        schedule=objects.schedule or partial(schedule.rate, warmup=settings.warmup),
        length=length,
        batch_size=batch_size,
        peak=peak,
        bf16=not _is_float32(precision),
        threads=settings.threads or cpu.usable_threads(),
        device=device,
        processes=processes,
        solver=None if sheets is None else as_solver(sheets),
        loggers=(*objects.loggers, *(() if settings.log is None else loggers.made(settings.log, settings.out))),
        teacher=teacher,
        held_out=held_out,
    )


def _loss_module(
    settings: Settings, made: Model, drawn: objective.Objective, objects: Objects, device: torch.device
) -> tuple[Callable[..., torch.nn.Module], str]:
    """The constructor of the loss module, and the hash of the teacher's weights if there is one."""
    if settings.few_steps is not None:
        method = FlowMapObjective(drawn, FEW_STEPS.pick(settings.few_steps))
        if settings.teacher is None:
            return partial(FlowMapLossModule, method, None), ""
        teach, digest = teaching.teacher_of(settings, made, device, objects.teacher)
        return partial(FlowMapLossModule, method, teach), digest
    if objects.objective is not None and not is_plain(objects.objective):
        return partial(OwnLossModule, objects.objective), ""
    return partial(HybridLossModule if settings.learned_variance else LossModule, drawn), ""


def _for_few_steps(settings: Settings, objects: Objects) -> Settings:
    """The settings as the training of a flow map needs them. Raises UsageError for what excludes it."""
    if settings.few_steps is None:
        if settings.teacher is not None or settings.teacher_guidance != 1:
            key = "teacher" if settings.teacher is not None else "teacher_guidance"
            raise UsageError(f"{key} is for flow maps; give for example --few-steps progressive with it")
        return settings
    method = FEW_STEPS.pick(settings.few_steps)
    if settings.teacher is None and settings.teacher_guidance != 1:
        raise UsageError("teacher_guidance: there is no teacher; give --teacher RUN")
    if settings.learned_variance:
        raise UsageError("learned_variance: a flow map has no reverse steps; leave learned_variance out")
    if settings.uncertainty:
        raise UsageError("uncertainty: flow maps are learned with the weights of the objective; leave uncertainty out")
    if objects.objective is not None and not is_plain(objects.objective):
        raise UsageError("few_steps: an objective of one's own says itself what is learned; leave few_steps out")
    if objects.network is not None and not getattr(objects.network, "takes_aim", False):
        raise UsageError(
            "few_steps: the network must take an aim, forward(x, t, condition, aim), and say so by takes_aim = True"
        )
    if not isinstance(_coupling(settings, objects), Independent | coupling.Paired):
        raise UsageError("few_steps: a coupling changes the flow with the batch; leave the coupling out")
    if method.forward_mode:  # Jacobian-vector products: not under autocast, nor from two threads, nor compiled
        if settings.compile or (settings.precision is not None and not _is_float32(settings.precision)):
            key = "compile" if settings.compile else "precision"
            raise UsageError(
                f"{key}: {settings.few_steps} differentiates the network in forward mode, which works in float32 and uncompiled; "
                "leave it out, or give --few-steps progressive"
            )
        settings = replace(settings, precision="float32", split_batch=False, channels_last=False)  # nor of such norms
    return settings


def _library_network(settings: Settings, spec: DataSpec) -> dict[str, Any]:
    """The name and preset of a network of the library for these data."""
    kind = spec.traits
    network = settings.network if settings.network is not None else kind.networks[0]
    NETWORKS.pick(network)
    if network not in kind.networks:
        fit = " or ".join(kind.networks)
        raise UsageError(f"network: {network} does not fit {spec.kind} data of shape {spec.shape}; use {fit}")
    preset = settings.preset if settings.preset is not None else kind.preset(spec.shape, spec.count)
    if settings.preset is None and preset not in PRESETS[network]:
        preset = "tiny"
    is_ddpms = PRESETS[network].get(preset, {}).get("frequencies") == DDPM
    features = settings.time_features if settings.time_features is not None else "ddpm" if is_ddpms else "slow"
    TIME_FEATURES.pick(features)
    return {"network": network, "preset": preset, "time_features": features}


def _prediction(settings: Settings, spec: DataSpec, objects: Objects) -> dict[str, Any]:
    """The names of the target and of the weight: of coded columns the data are predicted (`networks.codes`), by EDM's weight."""
    coded = spec.codes is not None and objects.network is None
    target = settings.target or ("clean" if coded else "velocity")
    return {"target": target, "weight": settings.weight or ("edm" if coded and target == "clean" else "one")}


def _adamw(peak: float, weight_decay: float, weights: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    fused = weights[0].device.type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(weights, lr=peak, weight_decay=weight_decay, betas=(0.9, 0.99), fused=fused)


def _check_missing(settings: Settings, objects: Objects, coupled: bool) -> None:
    """Raises UsageError for what has no meaning, or is not implemented, where numbers of the data are missing."""
    own = objects.objective is not None and not is_plain(objects.objective)
    excluded = {
        "augment: images with missing numbers cannot be turned": bool(settings.augment),
        "degradation: what the network sees of an image may be missing": settings.degradation is not None,
        "few_steps: a flow map needs all numbers of an item": settings.few_steps is not None,
        "learned_variance: its bound needs all numbers of an item": settings.learned_variance,
        "coupling: items with missing numbers have no distance": coupled,
        "objective: one of your own does not know which numbers are missing": own,
    }
    for sentence, is_so in excluded.items():
        if is_so:
            raise UsageError(f"{sentence}; leave it out, or give data without NaN")


def _check_kinds(settings: Settings, dataset: Dataset, objects: Objects) -> None:
    """Raises UsageError for settings that these data or objects cannot have."""
    spec = dataset.spec
    if spec.missing:
        _check_missing(settings, objects, _coupling(settings, objects) != coupling.Independent())
    if settings.flips and not spec.traits.mirrors:
        raise UsageError(f"flips: {spec.traits.plural} have no left and right; leave --flips out")
    if settings.augment and not spec.traits.mirrors:
        raise UsageError(f"augment: {spec.traits.plural} cannot be turned as images can; leave --augment out")
    if settings.augment and objects.network is not None:
        raise UsageError(
            "augment: a network of one's own is not called with what was done to an image; leave augment out"
        )
    if settings.time_features is not None and objects.network is not None:
        raise UsageError("time_features: a network of one's own sees time in its own way; leave time_features out")
    if settings.learned_variance and (objects.network is not None or objects.objective is not None):
        raise UsageError(
            "learned_variance: a network or an objective of one's own learns no variances by itself; leave learned_variance out"
        )
    if settings.uncertainty and objects.objective is not None and not is_plain(objects.objective):
        raise UsageError("uncertainty: an objective of one's own weighs its noise levels itself; leave uncertainty out")
    own = any(isinstance(part, Known) for part in objects.conditions or ())
    if settings.given not in (None, JOINT) or own:
        _check_masking(settings, objects)
    _check_pairs(settings, dataset, isinstance(_coupling(settings, objects), coupling.Paired))
    if isinstance(_coupling(settings, objects), coupling.OptimalTransport):
        extras.check("scipy", "coupling: ot")


def _maskings(settings: Settings, spec: DataSpec, objects: Objects) -> str | None:
    """The mask law by its name: that of the settings, or the default of the kind of data where nothing excludes it."""
    own = objects.network, objects.conditions, objects.objective
    if settings.given is not None or any(value is not None for value in own):
        return settings.given
    plain = settings.few_steps is None and not settings.learned_variance
    return spec.traits.maskings if plain and _coupling(settings, objects) == coupling.Independent() else None


def _check_masking(settings: Settings, objects: Objects) -> None:
    """Raises UsageError for what is not implemented where a part of each item is given."""
    own = objects.objective is not None and not is_plain(objects.objective)
    excluded = {
        "augment: known numbers are of items as they are": bool(settings.augment),
        "degradation: an item is given in part, or degraded": settings.degradation is not None,
        "few_steps: a flow map takes no known numbers": settings.few_steps is not None,
        "coupling: what is given decides which data meet which noise": _coupling(settings, objects)
        != coupling.Independent(),
        "learned_variance: its bound needs all numbers of an item": settings.learned_variance,
        "objective: one of your own does not know which numbers are given": own,
        "conditions: your own take the place of the setting": settings.given not in (None, JOINT)
        and objects.conditions is not None,
    }
    for sentence, is_so in excluded.items():
        if is_so:
            raise UsageError(f"{sentence}; leave it out, or leave given out")


def _check_pairs(settings: Settings, dataset: Dataset, paired: bool) -> None:
    """Raises UsageError unless data that are pairs are learned as pairs, as they are, and no others."""
    source = dataset.spec.source
    if paired != dataset.is_paired:
        raise UsageError(
            f"coupling: {source} holds no pairs of noise and sample; make some with `ornstein reflow`, or leave the coupling out"
            if paired
            else f"data: {source} holds pairs of noise and sample; give --coupling pairs with it"
        )
    for key in ("hold_out", "balance", "balance_by", "flips", "augment"):
        if paired and getattr(settings, key):
            raise UsageError(f"{key}: pairs of noise and sample are learned from as they are; leave {key} out")


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


def _check_processes(s: Settings, batch_size: int, processes: Processes) -> None:
    parts = s.accumulate * processes.count
    if batch_size % parts:
        nearest = max(1, round(batch_size / parts)) * parts
        raise UsageError(
            f"accumulate = {s.accumulate} must divide batch_size = {batch_size}"
            if processes.count == 1
            else f"batch_size = {batch_size} is the batch of all processes together, and {processes.count} of them with "
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
    """The degradation of the settings, if any. Raises UsageError if it does not fit the data."""
    if settings.degradation is None:
        return None
    if not spec.traits.pixels:
        raise UsageError(
            f"degradation: {spec.traits.plural} are no images; give conditions with the data instead, and leave --degradation out"
        )
    name, _, factor = settings.degradation.partition(":")
    kind = DEGRADATIONS.pick(name)
    try:
        if factor and not (kind is LowRes and factor.isdecimal() and len(factor) < 6):
            raise ValueError(f"{brief(settings.degradation)} is not one of low-res:4 (or another number), grey, mask")
        left = LowRes(int(factor)) if factor else kind()
        left.check(spec.shape)
    except ValueError as error:
        raise UsageError(f"degradation: {error}") from error
    return left


def masking(settings: Settings, spec: DataSpec) -> MaskLaw | None:
    """The mask law of the settings, if any. Raises UsageError if it does not fit the data."""
    if settings.given in (None, JOINT):
        return None
    name, colon, rest = settings.given.partition(":")
    if name in DEGRADATIONS:
        raise UsageError(f"given: {brief(settings.given)} is a degradation; did you mean --degradation?")
    pick("given", name, dict.fromkeys(MASKINGS))
    whole = r"\d{1,9}"
    forms = {"any": rf"({whole}(,{whole})*)?", "past": whole, "gaps": "", "every": rf"{whole}(,{whole})?"}
    if not re.fullmatch(forms[name], rest) or (colon and not rest):
        raise UsageError(
            f"given: {brief(settings.given)} is not one of any, any:1,3,1 (sizes of columns), past:64 (or another number), gaps, "
            "every:4"
        )
    try:
        # the state of a number and the number are drawn apart, so that each can be given without the other
        parts = (part for column in spec.dimensions for part in (column.states, column.values))
        columns = ",".join(str(len(part)) for part in parts if part)
        rest = columns if name == "any" and len(spec.shape) == 1 and not rest else rest
        law: MaskLaw = MASKINGS.pick(name, *([rest] if rest else []))
        law.check(spec.shape)
    except ValueError as error:
        raise UsageError(f"given: {error}") from error
    return law


def _coupling(settings: Settings, objects: Objects) -> coupling.Coupling:
    return objects.coupling or COUPLINGS.pick(settings.coupling)


def model(settings: Settings, spec: DataSpec, parts: tuple[Condition, ...], objects: Objects = NOTHING) -> Model:
    """The untrained model of completed settings, its weights a function of the seed alone, or a copy of those of a network.

    Raises UsageError for unknown names, conditions that exclude each other, or a target that the path does not allow.
    """
    torch.manual_seed(settings.seed)
    try:
        declared = Conditions(parts, augment.WIDTH if settings.augment else 0)
    except ValueError as error:
        raise UsageError(f"{spec.source}: {error}; take one of them away") from error
    others = [part for part in parts if not isinstance(part, Label)]
    if others and isinstance(_coupling(settings, objects), coupling.OptimalTransport):
        raise UsageError(
            f"coupling: ot pairs noise within a class, and would bend what is sampled given {others[0].description}; leave it out"
        )
    own = objects.network
    inputs = objects.preconditioning or (None if own is None else Identity())
    target = objects.target or TARGETS.pick(_prediction(settings, spec, objects)["target"], spec.data_std)
    network = _network(settings, spec, declared, target) if own is None else copy.deepcopy(own)
    judged = objects.objective is not None and not is_plain(objects.objective)  # it says itself what is learned
    made = Model(
        network=network,
        path=objects.path or PATHS.pick(settings.path),
        target=target,
        spec=spec,
        conditions=declared,
        coupling=_coupling(settings, objects),
        preconditioning=inputs,
        aimed=settings.few_steps is not None or judged or not getattr(network, "takes_aim", False),
    )
    try:
        made.denoiser()
    except ValueError as error:
        raise UsageError(f"target: {error}") from error
    return made


def _network(settings: Settings, spec: DataSpec, declared: Conditions, target: Target) -> torch.nn.Module:
    name = settings.network if settings.network is not None else spec.traits.networks[0]
    preset = settings.preset if settings.preset is not None else "small"
    features = settings.time_features if settings.time_features is not None else "slow"
    kind = NETWORKS.pick(name)
    arguments = declared.arguments | TIME_FEATURES.pick(features) | kind.fitted(spec.shape)
    if "columns" in arguments:  # a network that has a token for each
        arguments["columns"] = [len(column.all) for column in spec.dimensions if column.all]
    if spec.codes is not None and isinstance(target, Clean):
        arguments["codes"] = spec.codes
    if settings.learned_variance:
        arguments |= {"out_channels": 2 * spec.shape[0]}
    if settings.few_steps is not None:
        arguments = {**arguments, "aim": True}
    try:
        made: torch.nn.Module = kind.preset(preset, **arguments)
        return made
    except ValueError as error:
        raise UsageError(f"preset: {error}") from error


def draws(settings: Settings, made: Model, objects: Objects = NOTHING) -> objective.Objective:
    """The objective of completed settings. Of an objective of one's own there is only how the batch is drawn here."""
    if objects.objective is not None and is_plain(objects.objective):
        whole: objective.Objective = objects.objective
        return whole
    times, stratified = (
        (objects.times, True)
        if objects.times is not None
        else TIMES.pick("stratified" if settings.times is None else settings.times)
    )
    known = objects.weight is not None or objects.objective is not None
    weight = objects.weight or objective.One() if known else WEIGHTS.pick(settings.weight or "one", made.spec.data_std)
    return objective.Objective(made.path, made.target, times, weight, stratified, made.coupling)


def learning_rate(settings: Settings, network: torch.nn.Module) -> float:
    """The peak rate: as set, else 1e-3 up to 4 M parameters and, by the square root, less above."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    parameters: Any = sum(p.numel() for p in network.parameters())
    return 1e-3 * min(1.0, math.sqrt(4e6 / parameters))

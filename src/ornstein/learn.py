"""Training from Python: own data, networks, objectives and optimisers, in a run folder or in memory alone."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ornstein import coupling, preconditioning, terminal
from ornstein import data as sources
from ornstein import path as paths
from ornstein import target as targets
from ornstein.conditions import Condition
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import UsageError, reject_class
from ornstein.files.formats import renamed
from ornstein.folder import config
from ornstein.meter import Meter
from ornstein.model import Model, from_config, to_config
from ornstein.names import TARGETS, TIME_FEATURES
from ornstein.processes import current
from ornstein.runs import Run, load
from ornstein.settings import KEYS, Settings
from ornstein.spelling import near
from ornstein.training.choosing import Objects, choose, is_plain
from ornstein.training.loggers import Logger
from ornstein.training.loop import TrainingProgress
from ornstein.training.trainer import Event, FolderTraining, Training

OBJECTS = ("path", "target", "times", "weight", "coupling", "solver")
IN_MEMORY = Path("memory")
AIM = "conditioning.aim."  # the layers that a network has for flow maps alone


@dataclass(frozen=True, eq=False, repr=False)
class MemoryRun(Run):
    """A trained run that is in memory alone: it samples and measures; what lies in a run's folder it does not have."""

    chosen: Settings = field(default_factory=Settings)
    lines: tuple[dict[str, float], ...] = ()

    def _settings(self) -> Settings:
        return self.chosen

    def metrics(self) -> list[dict[str, float]]:
        """The loss of each step."""
        return list(self.lines)

    def _no_folder(self, *_: Any, **__: Any) -> Any:
        raise UsageError("this run is in memory alone and has no folder; train with out=FOLDER for that")

    averages = ema = tune = tuned = earlier = _no_folder


class Trainer:
    """A training, step by step: iterate over it for its events, each with its `progress` (step, loss, rate, …).

        trainer = ornstein.Trainer(network, objective, data, steps=1000)
        for event in trainer:
            if event.progress.loss < 0.1:
                trainer.stop()
        samples = trainer.run().sample(64)

    - network: any nn.Module with forward(x, t, condition=None), x (B, ...) in model units and t (B,) in (0, 1]; it is copied, and
      trained on x_t and t as they are, unless there is a `preconditioning`. Or a name, or None for one that fits the data.
    - objective: an `objective.Objective`, anything with loss(predict, x, generator) -> (B,), where predict(x_t, t) calls the
      network; or None for the one of `path`, `target`, `times` and `weight`, which are objects or names.
    - data: what `data.dataset_of` takes.
    - out: a run folder, in which the same call goes on, bit for bit, where it stopped; None writes nothing.
    - conditions: `Condition`s of one's own, in place of those that the data bring; () for none.
    - optimizer: a function from the parameters to a torch optimiser, whose learning rates are the peaks; schedule: the part of
      the peak at a part of the run, both from 0 to 1.
    - start: a `Run` whose weights are started from, of the same network. A table of classes that has another size begins anew,
      with a line of `tell`.
    - teacher: with `few_steps`, the `Run` or run folder that a flow map learns from.
    - freeze: patterns of names of parameters that stay as they are, such as "embedding.*", with commas between them or in a list.
    - log: "tensorboard", "wandb", "trackio", a `Logger` (an object with start, log and finish), or a list of these.
    - change: let a run go on with another learning_rate, batch_size, warmup, weight_decay, clip, precision, compile, optimizer or
      schedule; its history says from which step on.
    - solver, sample_steps: of the sample sheets that are drawn during a training with `samples` > 0.
    - all other keys of the settings (steps, minutes, seed, batch_size, learning_rate, precision, device, ...).

    Leaving the loop by `break` saves a run that has a folder. A run goes on exactly if data, network, objective, optimiser and
    schedule are those of before. Raises UsageError that says what does not fit, TypeError for a class in place of an object.
    """

    def __init__(
        self,
        network: nn.Module | str | None,
        objective: Any,
        data: Any,
        out: str | Path | None = None,
        *,
        conditions: Sequence[Condition] | None = None,
        preconditioning: Any = None,
        optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
        schedule: Callable[[float], float] | None = None,
        start: Run | None = None,
        teacher: Run | str | Path | None = None,
        freeze: str | Sequence[str] | None = None,
        log: str | Logger | Sequence[str | Logger] | None = None,
        change: bool = False,
        tell: Callable[[str], None] = terminal.write,
        **settings: Any,
    ) -> None:
        own = {key: settings.pop(key) for key in OBJECTS if not isinstance(settings.get(key), (str, type(None)))}
        if hasattr(objective, "path") and hasattr(objective, "target"):
            known = ("path", "target", "times", "weight", "coupling")
            own |= {key: part for key in known if (part := getattr(objective, key, None)) is not None}
        chosen = {key: value for key, value in _checked(settings).items() if value is not None}
        if isinstance(network, str):
            chosen["network"], network = network, None
        for name, value in (("network", network), ("objective", objective), *own.items()):
            reject_class(name, value)
        _must_be_kinds(
            {**own, "network": network, "objective": objective, "optimizer": optimizer, "schedule": schedule}
        )
        strange = [part for part in conditions or () if not isinstance(part, Condition)]
        if strange:
            raise TypeError(
                f"conditions = {strange[0]!r:.80} must be objects of classes derived from conditions.Condition"
            )
        if network is not None and not any(p.requires_grad for p in network.parameters()):
            raise UsageError("network: it has no parameters that can be trained")
        if optimizer is not None and "learning_rate" in chosen:
            raise UsageError("learning_rate is for the library's optimiser; give your own its rate where you make it")
        loggers = _loggers(log)
        chosen |= {"log": names} if (names := ",".join(each for each in loggers if isinstance(each, str))) else {}
        if freeze is not None:
            chosen["freeze"] = freeze if isinstance(freeze, str) else ",".join(freeze)
        if isinstance(teacher, MemoryRun):  # nothing would tell a resumed training whether it is the same
            raise UsageError("teacher: this run is in memory alone; train it with out=FOLDER to learn from it")
        if not isinstance(teacher, (Run, str, Path, type(None))):
            raise TypeError(f"teacher = {teacher!r:.80} must be a run, such as ornstein.load(FOLDER), or its folder")
        if teacher is not None:
            chosen["teacher"] = str(teacher.folder if isinstance(teacher, Run) else teacher)
        if (rows := sources.objects.batch_size_of(data)) is not None:
            chosen.setdefault("batch_size", rows)
        dataset = sources.dataset_of(
            data,
            columns=(chosen.get("column") or "").splitlines(),
            **{key: chosen.get(key) for key in ("size", "channels", "layout", "missing")},
        )
        objects = Objects(
            **own,
            network=network,
            preconditioning=preconditioning,
            conditions=None if conditions is None else tuple(conditions),
            objective=objective,
            optimizer=optimizer,
            schedule=schedule,
            loggers=tuple(each for each in loggers if not isinstance(each, str)),
            teacher=(teacher.model, teacher.weights_hash) if isinstance(teacher, Run) else None,
        )
        full = Settings(**{"samples": 0, **chosen, "data": dataset.spec.source, "out": "" if out is None else str(out)})
        self._lines: list[dict[str, float]] = []
        self._training: Training
        if out is None:
            self._training = Training(choose(full, dataset, current(), objects), tell)
        else:
            _must_be_writable({**own, "preconditioning": preconditioning})
            self._training = FolderTraining(full, dataset, tell, objects, change)
        if start is not None:
            start_from(start, self._training.model, tell)

    @property
    def settings(self) -> Settings:
        """All settings, with every choice made."""
        return self._training.settings

    @property
    def network(self) -> nn.Module:
        """The network as it is being trained, a copy of the one that was passed; `denoiser` and `run` have the average."""
        return self._training.model.network

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The denoiser of the average of the weights so far. Raises UsageError before the first step."""
        return self._training.model.denoiser(self._average())

    def stop(self) -> None:
        """Ends the training after the step at work, saved."""
        self._training.stop()

    def __iter__(self) -> Iterator[Event]:
        events = iter(self._training)
        try:
            for event in events:
                progress = event.progress
                self._lines.append(
                    {"step": progress.step, "loss": progress.loss, "gradient": progress.gradient, "rate": progress.rate}
                )
                yield event
        except GeneratorExit:  # the loop was left
            self._training.stop()
            for _ in events:
                pass
            raise

    def run(self) -> Run:
        """The trained run: of the folder, or in memory. Raises UsageError before the first step."""
        training = self._training
        network = copy.deepcopy(self._average()).eval().requires_grad_(False)
        if isinstance(training, FolderTraining):
            if not training.model.is_own:
                return load(training.folder, training.device)
            return load(training.folder, training.device, network=network, conditions=training.model.conditions.parts)
        model = replace(training.model, network=network)
        return MemoryRun(IN_MEMORY, model, "in-memory", training.settings, tuple(self._lines))

    def _average(self) -> nn.Module:
        state = getattr(self._training, "state", None)
        if state is None:
            raise UsageError("nothing is trained yet: iterate over the trainer first")
        average: nn.Module = state.average
        return average


def train(
    data: Any,
    *,
    network: nn.Module | str | None = None,
    out: str | Path | None = None,
    path: paths.Path | str = "linear",
    target: targets.Target | str | None = None,
    objective: Any = None,
    steps: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    conditions: Sequence[Condition] | None = None,
    progress: Callable[[TrainingProgress], object] | bool = False,
    **settings: Any,
) -> Run:
    """Train a model of the data and return its run, which samples: in the folder `out`, or in memory alone.

        run = ornstein.train(points, path=path.Linear(), target=target.Velocity(), steps=2000)
        samples = run.sample(64)

    The arguments are those of `Trainer`. `progress` is called after each step; True shows a bar on a terminal, and elsewhere, as
    in a notebook, lines at growing intervals. The same call with the same `out` goes on where
    the run stopped, bit for bit, and returns a finished run at once. Raises what `Trainer` raises.
    """
    trainer = Trainer(
        network,
        objective,
        data,
        out,
        conditions=conditions,
        path=path,
        target=target,
        steps=steps,
        seed=seed,
        batch_size=batch_size,
        **settings,
    )
    with Meter("training") if progress is True else nullcontext() as meter:
        for event in trainer:
            step = event.progress
            if meter is not None:
                meter.update(step.done, f"step {step.step:,}  loss {step.loss:.4f}")
            elif callable(progress):
                progress(step)
    return trainer.run()


def distil(
    run: Run,
    data: Any,
    *,
    method: str = "progressive",
    guidance: float = 1.0,
    out: str | Path | None = None,
    **settings: Any,
) -> Run:
    """A few-step model of a run: a flow map (`ornstein.flowmap`) that begins with the run's weights and learns from its flow.

        few = ornstein.distil(run, points, steps=2000)
        samples = few.sample(64, steps=1)

    run: the teacher, in a folder; data: those that it was trained on. method: progressive, lagrangian or eulerian
    (`ornstein.distillation`). guidance: the scale at which the teacher is guided. The other arguments are those of `train`; what
    they leave open is the run's. An own network must take an aim (`ornstein.flowmap`). Raises UsageError for a run in memory
    alone.
    """
    same = (
        "network",
        "preset",
        "time_features",
        "path",
        "target",
        "times",
        "weight",
        "size",
        "channels",
        "coupling",
        "batch_size",
    )
    own = {key: value for key, value in run.settings.items() if key in same and value is not None}
    if run.model.is_own:
        own = {key: value for key, value in own.items() if key not in ("preset", "time_features")}
        own["network"] = copy.deepcopy(run.model.network).requires_grad_(
            True
        )  # those of a loaded run need no gradients
        own["preconditioning"] = run.model.preconditioning
    fixed = {"few_steps": method, "teacher": run, "teacher_guidance": guidance, "start": run}
    return train(data, out=out, conditions=run.model.conditions.parts, **{**own, **settings, **fixed})


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by keyword, in their own types. Raises UsageError that names an unknown one and the nearest."""
    settings = renamed(settings)
    for key in settings:
        if key not in KEYS:
            nearest = near(key, KEYS)
            hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(KEYS)}"
            raise UsageError(f"{key}: there is no such setting; {hint}")
    plain = {key: value.item() if hasattr(value, "item") else value for key, value in settings.items()}
    try:
        return config.checked(plain, Path("settings"))
    except UsageError as error:
        raise UsageError(str(error).removeprefix("settings: ")) from None


def _loggers(log: Any) -> list[Any]:
    """Names and loggers as a list. Raises TypeError for what is neither."""
    listed = [] if log is None else [log] if isinstance(log, str) or not isinstance(log, Sequence) else list(log)
    for each in listed:
        reject_class("log", each)
        if not isinstance(each, (str, Logger)):
            raise TypeError(
                f"log = {each!r:.80} must be a name such as 'tensorboard', or an object with start(settings), log(step, numbers) "
                "and finish()"
            )
    return listed


def _must_be_kinds(objects: Mapping[str, Any]) -> None:
    """Raises TypeError that says what an argument must be."""
    kinds = {
        "path": ("an object such as path.Linear(), or its name", lambda v: hasattr(v, "alpha") and hasattr(v, "sigma")),
        "network": ("an nn.Module with forward(x, t, condition=None), or a name", lambda v: isinstance(v, nn.Module)),
        "objective": (
            "an objective.Objective, or an object with loss(predict, x, generator)",
            lambda v: is_plain(v) or callable(getattr(v, "loss", None)),
        ),
        "solver": ("a solver, such as solvers.Heun(), or its name", lambda v: hasattr(v, "run") or hasattr(v, "table")),
        "optimizer": ("a function from the parameters to an optimiser of torch", callable),
        "schedule": ("a function from the part of the run to the part of the peak rate", callable),
    }
    for key, value in objects.items():
        what, fits = kinds.get(key, ("an object that can be called, or a name", callable))
        if value is not None and not fits(value):
            raise TypeError(f"{key} = {value!r:.80} must be {what}")


def _must_be_writable(objects: Mapping[str, Any]) -> None:
    """Raises UsageError for an object that config.json cannot hold, so that the run could not be loaded."""
    homes = {"path": paths, "target": targets, "coupling": coupling, "preconditioning": preconditioning}
    for key, home in homes.items():
        value = objects.get(key)
        if value is None:
            continue
        try:
            held = from_config(to_config(value), home) == value
        except (TypeError, ValueError, KeyError, AttributeError):
            held = False
        if not held:
            raise UsageError(
                f"{key}: a {type(value).__name__} cannot be written into a run's config.json; give an object of "
                f"ornstein.{key}, or train without out, in memory"
            )


def start_from(start: Run, model: Model, tell: Callable[[str], None]) -> None:
    """Copies a run's weights into the network of a model of the same kind, but for a table of classes of another size.

    Raises UsageError where they were learned for another prediction, and names the first tensor which does not fit.
    """
    if not isinstance(start, Run):
        raise UsageError(f"start: a {type(start).__name__} is no run; give ornstein.load(FOLDER)")
    if start.model.is_imported:
        raise UsageError(
            f"start: {start.folder} is an imported model, which is not trained; give a run of `ornstein train`"
        )
    network = model.network
    _must_see_time_alike(start, network)
    _must_predict_alike(start, model)
    theirs, mine = start.model.network.state_dict(), network.state_dict()
    tables = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Embedding)}
    taken = {}
    for name in sorted(theirs.keys() | mine.keys()):
        one, other = theirs.get(name), mine.get(name)
        if one is not None and other is not None and one.shape == other.shape:
            taken[name] = one
        elif one is None and name.startswith(AIM):  # zero at first: the network answers as the one that is started from
            continue
        elif name in tables and (one is None or other is None or one.shape[1:] == other.shape[1:]):
            tell(f"start: the classes are others, so the table {name} begins anew.")
        else:
            has, wants = (None if t is None else tuple(t.shape) for t in (one, other))
            raise UsageError(
                f"start: {start.folder} has another network: {name} is {has or 'missing'} there and {wants or 'missing'} here"
            )
    network.load_state_dict({**mine, **taken})


def _must_see_time_alike(start: Run, network: nn.Module) -> None:
    """Raises UsageError where the weights of a run were made for other features of time."""
    theirs, mine = (getattr(one, "config", {}).get("frequencies") for one in (start.model.network, network))
    if theirs is None or mine is None or list(theirs) == list(mine):
        return
    name = next((name for name, made in TIME_FEATURES.items() if list(made.get("frequencies", ())) == list(theirs)), "")
    mend = f"; give --time-features {name} (in Python time_features={name!r})" if name else ""
    raise UsageError(
        f"start: {start.folder} sees time through frequencies of {theirs[0]:g} to {theirs[1]:g}, and this training of "
        f"{mine[0]:g} to {mine[1]:g}{mend}"
    )


def _must_predict_alike(start: Run, model: Model) -> None:
    """Raises UsageError where the weights of a run give another prediction than the one to be learned."""
    theirs, mine = (_target_name(one.target, one.spec.data_std) for one in (start.model, model))
    if theirs == mine:
        return
    mend = f"; give --target {theirs} (in Python target={theirs!r})" if theirs in TARGETS else ""
    raise UsageError(f"start: {start.folder} predicts {theirs}, and this training is to predict {mine}{mend}")


def _target_name(target: Any, data_std: float) -> str:
    """As the settings call it; EDM's by any deviation of the data."""
    kinds = {type(TARGETS.pick(name, data_std)): name for name in TARGETS}
    return kinds.get(type(target), type(target).__name__)

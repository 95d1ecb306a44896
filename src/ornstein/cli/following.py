"""A training on the screen: its data, what is trained on what, and how it goes. Shared by all commands that train."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from shlex import quote
from types import FrameType
from typing import TYPE_CHECKING

from ornstein.cli.printing import dims, duration, epochs, few, say, say_if_busy, size, table
from ornstein.cli.stopping import ENDING, hearing
from ornstein.cli.usage import sampling
from ornstein.errors import OrnsteinError
from ornstein.meter import Meter
from ornstein.processes import ALONE, Processes
from ornstein.settings import Settings

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.training.trainer import Event, FolderTraining

STOPPING = b"\nStopping after this step; once more stops at once and loses what came after the last checkpoint.\n"
REST = 50.0  # times what a page costs, until the next
MANY = 1000  # epochs, from which on a word about memorised data is due
LARGE = 128  # pixels a side, above which training on a small machine takes days


def read(settings: Settings) -> "Dataset":
    """The data of the settings, with progress when reading takes a while, and advice when the images are large."""
    from ornstein import data

    with Meter(f"reading {settings.data}", patience=1.0) as meter:
        dataset = data.open(
            settings.data,
            size=settings.size,
            channels=settings.channels,
            layout=settings.layout,
            missing=settings.missing,
            time=settings.time,
            id=settings.id,
            crop=settings.crop,
            columns=() if settings.column is None else settings.column.splitlines(),
            progress=lambda done, total: meter.update(done / total, f"{done:,} of {total:,}"),
        )
    side = max(dataset.spec.shape[1:], default=0)
    if side > LARGE and dataset.spec.traits.pixels:
        say(
            f"The images are large ({dims(dataset.spec)}); --size 64 trains about {round((side / 64) ** 2)} times faster."
        )
    return dataset


def begun(settings: Settings, processes: Processes = ALONE, change: bool = False) -> "FolderTraining":
    """The data and the run of the settings, in every process; the first one decodes the data for all that see its cache."""
    dataset = processes.in_turn(lambda: read(settings))
    from ornstein.training.trainer import FolderTraining

    return processes.on_all(lambda: FolderTraining(settings, dataset, tell=say, change=change))


def describe(training: "FolderTraining") -> list[str]:
    """Lines about the data, the model and the training."""
    s, model, spec = training.settings, training.model, training.dataset.spec
    parameters = sum(p.numel() for p in model.network.parameters())
    length = f"{s.minutes:g} minutes" if s.minutes is not None else f"{s.steps:,} steps"
    if s.steps is not None:
        length += f" ({epochs(s.steps * training.recipe.batch_size / len(training.dataset))})"
    count, together = training.processes.count, list[tuple[str, str]]()
    step = f", about {size(step_memory(training))} in a step" if count == 1 else ""
    if count > 1:
        how = "weights, averages and optimiser sharded (FSDP2)" if s.shard else "a copy of the network in each (DDP)"
        together = [("processes", f"{count}, {training.recipe.batch_size // count} of each batch for each, {how}")]
    rows = [
        ("data", f"{spec.source}: {spec.count:,} {spec.traits.plural}, {dims(spec)}, {spec.dtype}"),
        *(("units" if i == 0 else "", line) for i, line in enumerate(spec.units())),
        ("classes", few(spec.classes) if spec.classes else "none"),
        *(("condition", part.description) for part in model.conditions.parts if part is not model.conditions.label),
        (
            "memory",
            f"{size(training.dataset.items.nbytes)} of data{step}",
        ),
        (
            "network",
            f"{s.network} {s.preset}: {parameters:,} parameters, {gflop(training):.2g} GFLOP per {spec.traits.item}",
        ),
        ("path", f"{model.path}"),
        ("target", f"{model.target}"),
        *([("flow map", _few_steps(s))] if s.few_steps is not None else []),
        ("length", f"{length}, batches of {s.batch_size}, peak learning rate {training.recipe.peak:.2g}"),
        ("device", f"{training.device}" + (f", {s.precision}" if s.precision != "float32" else "")),
        *together,
        ("out", f"{training.folder}"),
    ]
    return table(rows)


def _few_steps(settings: Settings) -> str:
    """How a flow map is learned."""
    slow = (
        "" if settings.few_steps == "progressive" else ", in float32 without split batches (forward-mode derivatives)"
    )
    return settings.flow_map + slow


def gflop(training: "FolderTraining") -> float:
    """Floating-point operations, in 10⁹, of one call of the network on one item (a multiply and an add are two)."""
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    spec = training.dataset.spec
    network = copy.deepcopy(training.model.network).to(
        "meta"
    )  # without arithmetic, and with attention counted everywhere
    x, t = torch.zeros(1, *spec.shape, device="meta"), torch.zeros(1, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x, t)
    return float(counter.get_total_flops()) / 1e9


def step_memory(training: "FolderTraining") -> int:
    """Bytes of a step in 32 bits: what the backward pass keeps of a part of the batch, measured on one item, and six numbers of
    each parameter (itself, its gradient, the two moments of AdamW, two averages)."""
    import torch

    spec, settings, network = training.dataset.spec, training.settings, training.model.network
    own = {id(parameter) for parameter in network.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own and id(tensor._base) not in own:
            storage = tensor.untyped_storage()
            saved[storage._cdata] = storage
        return tensor

    x, t = torch.zeros(1, *spec.shape, device=training.device), torch.zeros(1, device=training.device)
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x, t)
    rows = -(-training.recipe.batch_size // settings.accumulate)
    weights = sum(parameter.numel() for parameter in network.parameters())
    return rows * sum(storage.nbytes() for storage in saved.values()) + 6 * 4 * weights


def follow(training: "FolderTraining", command: str) -> int:
    """Run a training to its end or until a signal stops it, showing how it goes; the exit code."""
    from ornstein import report

    folder = training.folder
    say_if_busy(training.device, training.recipe.threads)
    say(f"Sample grids go to {folder / 'samples'}, checkpoints to {folder / 'checkpoints'}.")
    say(f"The report page, from the first grid on: {folder / 'report.html'}")
    say("Ctrl-C saves and stops; the same command goes on.")
    began, images, started = time.monotonic(), 0, False
    with (
        _stoppable(training) as signals,
        Meter("training") as meter,
        _page(training) as page,
        _heard(training) as events,
    ):
        held_out = ""
        for event in events:
            p = event.progress
            page.update(event)
            if not started:
                started, images = True, p.images - training.recipe.batch_size
                if training.resumed:
                    meter.tell(f"Going on from step {p.step - 1:,} ({training.resumed}).")
            speed = (p.images - images) / max(time.monotonic() - began, 1e-9)
            left = duration(p.seconds * (1 - p.done) / p.done)
            held_out = held_out if event.held_out is None else f"  held-out {event.held_out:.4f}"
            meter.update(
                p.done,
                f"step {p.step:,}  loss {p.loss:.4f}{held_out}  {speed:.3g} {training.dataset.spec.traits.plural}/s  {left} left",
            )
            if event.grid:
                meter.tell(f"Samples after step {p.step:,}: {event.grid}")
            if not p.finite and p.skipped.bit_count() == 1:  # the first, and ever rarer ones
                meter.tell(
                    f"Step {p.step:,} had no finite loss or gradient and changed nothing; so far {p.skipped:,} of them."
                )
    if not started:
        say(f"{folder} is already trained: {training.state.step:,} steps. More of them: a larger --steps or --minutes.")
    if signals:
        say(f"Saved at step {training.state.step:,} in {folder}. Go on with the same command: {command}")
    data = training.dataset
    seen = training.state.step * training.recipe.batch_size / len(data) if data.is_indexed else 0
    if started and seen >= MANY:
        held = "" if training.settings.hold_out else "; --hold-out 0.1 keeps a part apart to judge it by"
        look = f"ornstein evaluate {quote(str(folder))} --data {quote(data.spec.source)}"
        say(f"Each item was seen {seen:,.0f} times: `{look}` says what is memorised{held}.")
    if training.state.skipped:
        say(
            f"{training.state.skipped:,} of {training.state.step:,} steps had no finite loss or gradient and were skipped."
        )
    place = training.processes.on_first(lambda: report.write(folder, training.dataset).resolve())
    say(f"The report page: {place}")
    if signals:
        return 128 + signals[0]
    say(f"Sample it: {sampling(folder, training.model.config())}")
    return 0


class _Page:
    """The report page of a training while it runs: anew with each grid and checkpoint, for a small part of the time."""

    def __init__(self, training: "FolderTraining") -> None:
        self._training, self._rest = training, 0.0
        self._event: Event

    def update(self, event: "Event") -> None:
        """After a step."""
        self._event = event
        if (event.grid or event.checkpoint) and event.progress.done < 1 and time.monotonic() >= self._rest:
            self._write()

    def end(self, how: str) -> None:
        """It has ended, and not as it should; where there is a page it says so."""
        if self._rest:
            self._write(how)

    def _write(self, ended: str = "") -> None:
        from ornstein import report
        from ornstein.folder.checkpoints import Counters

        training, p, began = self._training, self._event.progress, time.monotonic()
        if training.processes.is_first:
            with suppress(OrnsteinError):  # a disk that refuses: what matters is refused, and reported, elsewhere
                reached = Counters(p.step, p.images, p.seconds, p.skipped)
                report.write_so_far(training.folder, training.model, training.dataset, reached, p.done, ended)
        self._rest = time.monotonic() + REST * (time.monotonic() - began)


@contextmanager
def _page(training: "FolderTraining") -> Iterator[_Page]:
    """Within, the report page is that of a training at work; where that fails, the page says so."""
    page = _Page(training)
    try:
        yield page
    except BaseException as error:
        page.end(f"The training ended early ({str(error) or type(error).__name__}).")
        raise


@contextmanager
def _heard(training: "FolderTraining") -> Iterator[Iterator["Event"]]:
    """The events of a training, which is stopped and saved when nobody reads what is said about it any more."""
    events = iter(training)
    try:
        yield events
    except OSError:  # a closed pipe or terminal
        training.stop()
        for _ in events:
            continue
        raise


@contextmanager
def _stoppable(training: "FolderTraining") -> Iterator[list[int]]:
    """Within, the first SIGINT, SIGTERM or SIGHUP lets the step at work end and be saved; a second one interrupts at once.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt("stopped at once; the same command goes on from the last checkpoint")
        received.append(number)
        training.stop()
        if not training.processes.is_first:
            return
        with suppress(OSError):  # the terminal may be gone
            os.write(2, STOPPING)

    with hearing([signal.SIGINT, *ENDING], receive):
        yield received

"""The training loop, all of it."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ornstein.cpu import threads
from ornstein.errors import OrnsteinError
from ornstein.folder import posthoc
from ornstein.training import ema, lookahead, parallel
from ornstein.training.batch import Batches
from ornstein.training.checkpoint import State
from ornstein.training.freezing import train_mode
from ornstein.training.prefetch import supplied
from ornstein.training.recipe import Recipe
from ornstein.training.split_batch import learning, side_by_side

BAD_STEPS = 10  # losses or gradients that are not finite, in a row, before the run stops


class Diverged(OrnsteinError):
    """A run of steps without a finite loss or gradient."""


@dataclass(frozen=True)
class TrainingProgress:
    """One optimiser step: how much of the run is done (0 to 1), the mean loss, the gradient's norm, the rate, the time."""

    step: int
    done: float
    loss: float
    gradient: float
    rate: float
    seconds: float
    images: int
    skipped: int

    @property
    def finite(self) -> bool:
        """Whether the step was taken: one whose loss or gradient is not finite is skipped."""
        return _finite(self.loss) and _finite(self.gradient)


def train(recipe: Recipe, learner: nn.Module, batches: Batches, state: State) -> Iterator[TrainingProgress]:
    """Train until the steps or minutes of the recipe are used up, one `TrainingProgress` per step.

    `learner` gives the loss of a part of a batch: a `LossModule`, or torch's wrapper around one. Batches and all randomness of
    step k depend on (seed, k) alone, so a run that is stopped and resumed by steps is the unbroken run, bit for bit. A step whose
    loss or gradient is not finite in any process changes nothing in all and is counted; after ten in a row a Diverged ends
    the run. Where the loop looks ahead (`lookahead`), a step is yielded when the gradient of the next one is on its way.
    """
    settings, length, processes, device = recipe.settings, recipe.length, recipe.processes, recipe.device
    weights, bad, before = list(state.network.parameters()), 0, state.seconds
    averages = [
        (parallel.local(average.parameters()), posthoc.exponent(part))
        for average, part in ((state.average, settings.ema), (state.half, settings.ema / 2))
    ]
    shards, buffers = parallel.local(weights), list(state.network.buffers())
    network, started = train_mode(state.network), time.monotonic()

    def settle(total: Tensor, norm: Tensor, update: Callable[[], object] | None = None) -> Iterator[TrainingProgress]:
        """Read what a step gave, `update` the weights unless that is done, bring all else up to them, and yield."""
        nonlocal bad
        each = processes.table(total.item(), norm.item(), before + time.monotonic() - started)
        loss_value, norm_value, _ = each.mean(0).tolist()
        if not (_finite(loss_value) and _finite(norm_value)):
            bad, state.skipped = bad + 1, state.skipped + 1
        else:
            bad = 0
            with threads(count):
                if update is not None:
                    update()
                for average, gamma in averages:
                    ema.update(average, shards, state.updates + 1, gamma)
                for module in (state.average, state.half):
                    ema.follow(list(module.buffers()), buffers)
        state.step, state.images = state.step + 1, state.images + recipe.batch_size
        state.seconds = each[0, 2].item()  # one clock for all
        yield TrainingProgress(
            step=state.step,
            done=min(length.done(state.step, state.seconds), 1.0),
            loss=loss_value,
            gradient=norm_value,
            rate=state.optimizer.param_groups[0]["lr"],
            seconds=state.seconds,
            images=state.images,
            skipped=state.skipped,
        )
        if bad == BAD_STEPS:
            processes.on_all(lambda: _diverged(state.step))

    # Where two threads learn, the rest of a step is short: to share it out as well would save less than waiting for the
    # second thread costs where other programs are at work.
    count = 1 if side_by_side(recipe, learner) else torch.get_num_threads()
    looks_ahead, step, unread = lookahead.possible(recipe, state), state.step, list[tuple[Tensor, Tensor]]()
    with supplied(batches, settings.prefetch) as parts, learning(recipe, learner) as learn:
        while length.done(step, state.seconds) < 1:
            with threads(count):
                state.optimizer.zero_grad(set_to_none=True)
                total = torch.zeros((), device=device)
                for i, part in enumerate(parts(step), 1):
                    with parallel.accumulating(learner, last=i == settings.accumulate):
                        total += learn(part) / settings.accumulate
                norm = parallel.clip(weights, settings.clip)
            if unread:
                yield from settle(*unread.pop())
            factor = recipe.schedule(length.done(step, state.seconds))
            for group in state.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            step += 1
            if looks_ahead:
                lookahead.update_if_finite(state.optimizer, total, norm)
                unread.append((total, norm))
            else:
                yield from settle(total, norm, state.optimizer.step)
        if unread:
            yield from settle(*unread.pop())
    network.eval()


def _diverged(step: int) -> None:
    raise Diverged(
        f"the loss was not finite in {BAD_STEPS} steps in a row, up to step {step}; the last good checkpoint is kept: "
        "try a smaller --learning-rate"
    )


def _finite(value: float) -> bool:
    return value - value == 0

"""How a part of a batch is learned from: at once, or on a CPU in two halves side by side.

Two threads with half of the cores each are faster than one with all of them: many operations of a network are too small to
be shared out well.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.coupling import Independent
from ornstein.training.batch import Part, odd_rows
from ornstein.training.loss_module import LossModule
from ornstein.training.recipe import Recipe

ROWS, NUMBERS = 32, 4096  # of a part with fewer the operations are too small for two threads of Python

Learn = Callable[[Part], Tensor]
"""Adds the gradient of a part's cost, divided by the number of parts, to that of the weights; gives the part's mean error."""


def learning(recipe: Recipe, learner: nn.Module) -> AbstractContextManager[Learn]:
    """Within, what learns from a part: in halves where that is wanted and changes rounding alone."""
    share = 1 / recipe.settings.accumulate
    if side_by_side(recipe, learner):
        return _in_halves(learner, share)
    return nullcontext(partial(_at_once, learner, share))


def side_by_side(recipe: Recipe, learner: nn.Module) -> bool:
    """Whether two threads learn from a part each."""
    wanted = recipe.settings.split_batch and recipe.device.type == "cpu" and torch.get_num_threads() > 1
    return wanted and divisible(recipe, learner)


def divisible(recipe: Recipe, learner: nn.Module) -> bool:
    """Whether two threads may share a part: dropout needs an order of its random numbers, a coupling and compiled code all rows.

    DDP and FSDP act when all of a gradient is there.
    """
    drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in learner.modules())
    return (
        isinstance(learner, LossModule)
        and not (drops or recipe.settings.compile or recipe.settings.shard)
        and isinstance(recipe.model.coupling, Independent)
    )


def _at_once(learner: nn.Module, share: float, part: Part) -> Tensor:
    torch.manual_seed(part.seed)  # dropout
    cost, error = learner(part)
    (cost * share).backward()
    return error


@contextmanager
def _in_halves(learner: nn.Module, share: float) -> Iterator[Learn]:
    weights, count = [weight for weight in learner.parameters() if weight.requires_grad], torch.get_num_threads()

    def learn(part: Part) -> Tensor:
        if len(part.x) < ROWS or part.x.numel() < NUMBERS:
            return _at_once(learner, share, part)
        halves = _halves(part)
        parts = [len(half.x) / len(part.x) for half in halves]
        results = list(pool.map(partial(_gradients, learner, weights, share), halves, parts))
        for _, gradients in results:  # always in this order, so that a run is the same every time
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        return torch.stack([error for error, _ in results]).sum()

    with ThreadPoolExecutor(2, "halves", lambda: torch.set_num_threads(count // 2)) as pool:
        yield learn


def _gradients(
    learner: nn.Module, weights: Sequence[Tensor], share: float, half: Part, part: float
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    cost, error = learner(half)
    return error * part, torch.autograd.grad(cost * (share * part), weights, allow_unused=True)


def _halves(part: Part) -> list[Part]:
    middle = (len(part.x) + 1) // 2
    halves = [Part(*(_rows(value, rows) for value in part)) for rows in (slice(0, middle), slice(middle, None))]
    first_even = 1 - part.jumping.start  # the number of the first row, odd or even
    return [
        half._replace(jumping=odd_rows(first_even + skipped)) for half, skipped in zip(halves, (0, middle), strict=True)
    ]


def _rows(value: Any, rows: slice) -> Any:
    if isinstance(value, tuple):
        return tuple(_rows(inner, rows) for inner in value)
    return value[rows] if isinstance(value, Tensor) else value

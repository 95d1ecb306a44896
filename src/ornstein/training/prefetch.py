"""Batches that are ready before they are needed: a thread makes the next one while a step is at work, on a GPU."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch

from ornstein.training.batch import Batches, Part

T = TypeVar("T")


def supplied(batches: Batches, early: bool) -> AbstractContextManager[Callable[[int], Iterable[Part]]]:
    """Within, a function from a step to the parts of its batch; `early` prefetches them, except on a CPU, which is at work."""
    if early and batches.device.type != "cpu":
        return prefetch(batches.parts, _prepare(batches.device))
    return nullcontext(batches.parts)


def _prepare(device: torch.device) -> Callable[[], object]:
    """A function that gives another thread the GPU and the stream of this thread; each thread has its own current ones.

    On one stream a batch is whole before the step that learns from it begins, and its memory is not taken away too early.
    """
    if device.type == "cuda":
        return partial(torch.cuda.set_stream, torch.cuda.current_stream(device))
    return lambda: None


@contextmanager
def prefetch(
    make: Callable[[int], Iterable[T]], prepare: Callable[[], object] = lambda: None
) -> Iterator[Callable[[int], Sequence[T]]]:
    """Within, a function that gives what `make(step)` yields, whole, and then has a thread make that of the next step.

    `make` must depend on the step alone, so asking in another order changes nothing but the time. What it raises is raised to
    whoever asks for that step. One batch more is held, and one is made in vain at the end. `prepare`: what the thread
    does before the first.
    """
    with ThreadPoolExecutor(1, "batches", prepare) as thread:
        waiting: dict[int, Future[list[T]]] = {}

        def begin(step: int) -> Future[list[T]]:
            return thread.submit(lambda: list(make(step)))

        def parts(step: int) -> Sequence[T]:
            batch = (waiting.pop(step, None) or begin(step)).result()
            waiting.clear()
            waiting[step + 1] = begin(step + 1)
            return batch

        yield parts

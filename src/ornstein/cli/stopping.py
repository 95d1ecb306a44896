"""Signals that end a command: what it was writing is removed, and one sentence says that it was stopped."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Stopped(KeyboardInterrupt):
    """A signal ends the command: exit code 128 + `number`."""

    def __init__(self, number: int, message: str | None = None) -> None:
        super().__init__(
            message or ("stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}")
        )
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM, SIGHUP and Ctrl-C raise `Stopped`, so that all that is open is closed.

    They also do where compiled code that they interrupt makes an error of its own of that. A SIGHUP that is ignored, as under
    nohup, stays ignored. Outside of the main thread, where signals cannot be heard, nothing changes.
    """
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise Stopped(number)

    before = {}
    try:
        for number in (signal.SIGINT, *ENDING):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, receive)
    except ValueError:
        pass
    try:
        yield
    except Exception as error:
        if received:
            raise Stopped(received[-1]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hearing(numbers: Sequence[int], receive: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, these signals go to `receive`, except for a SIGHUP that is ignored, as under nohup."""
    heard = [n for n in numbers if n in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

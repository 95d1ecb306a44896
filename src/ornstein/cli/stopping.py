"""Signals that end a command: what it was writing is removed, and one sentence says that it was stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to end: exit code 128 + `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise `Stopped`, as Ctrl-C raises KeyboardInterrupt, so that all that is open is closed.

    A SIGHUP that is ignored, as under nohup, stays ignored. Outside of the main thread, where signals cannot be heard, nothing
    changes.
    """

    def receive(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    heard = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {}
    try:
        for number in heard:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, receive)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

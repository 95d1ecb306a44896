"""One queue of work, advanced by one thread.

A job is a generator of events, plain dictionaries that become JSON once. The thread takes the next event of each job in turn, so
that a slider in one tab answers while a long job of another goes on. Bounded are the jobs at work, those of one client, the
bytes of the events of one, and those of all that are remembered. A job that fails ends alone.
"""

import asyncio
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, TypeVar

from ornstein.errors import OrnsteinError, memory_is_short

MOST = 32  # jobs at work
EACH = 6  # of one client
LARGEST = 48 << 20  # bytes of the events of one job
REMEMBERED = 160 << 20  # bytes of the events of all
HELD = 64  # jobs that have ended and can still be read
T = TypeVar("T")
Work = Iterator[dict[str, Any]]


class Busy(Exception):
    """There is too much to do already."""


class Job:
    """Work of a client: its events so far, as JSON, and whether it has ended."""

    def __init__(self, client: str, work: Work, title: str) -> None:
        self.id, self.client, self.title = secrets.token_hex(8), client, title
        self.events: list[bytes] = []
        self.size, self.ended, self.cancelled = 0, False, False
        self._work, self._listeners = work, list[Callable[[], None]]()
        self._lock = threading.Lock()

    async def follow(self, first: int = 0) -> AsyncIterator[tuple[int, bytes]]:
        """The events from a number on, as they come, with their numbers."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(news.set)

        with self._lock:
            self._listeners.append(wake)
        try:
            number = first
            while True:
                news.clear()
                ended = self.ended
                while number < len(self.events):
                    yield number, self.events[number]
                    number += 1
                if ended:
                    return
                await news.wait()
        finally:
            with self._lock:
                self._listeners.remove(wake)

    def advance(self) -> None:
        """Make the next event; whatever goes wrong becomes one that says so."""
        if self.cancelled:
            self._end({"type": "cancelled"})
            return
        try:
            event = next(self._work, None)
        except Exception as error:
            self._end({"type": "error", "message": sentence(error)})
            return
        if event is None:
            self._end(None)
            return
        self._say(event)
        if self.size > LARGEST:
            self._end({"type": "error", "message": "this is too much to show; ask for fewer or smaller samples."})

    def _end(self, event: dict[str, Any] | None) -> None:
        close = getattr(self._work, "close", None)
        try:
            if close is not None:
                close()
        finally:
            self._work = iter(())
            if event is not None:
                self._say(event)
            self.ended = True
            self._wake()

    def _say(self, event: dict[str, Any]) -> None:
        content = json.dumps(event, allow_nan=False, separators=(",", ":")).encode()
        self.size += len(content)
        self.events.append(content)
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for wake in listeners:
            try:
                wake()
            except RuntimeError:  # its loop has ended
                continue


class Jobs:
    """The queue. `close` ends its thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._news = threading.Condition()
        self._open = True
        self._thread = threading.Thread(target=self._work, name="studio-jobs", daemon=True)
        self._thread.start()

    def start(self, client: str, work: Work, title: str) -> Job:
        """Put work into the queue. Raises Busy where there is too much of it."""
        job = Job(client, work, title)
        with self._news:
            if not self._open:
                raise Busy("the server is ending.")
            if sum(other.client == client and not other.cancelled for other in self._queue) >= EACH:
                raise Busy(f"this page has {EACH} jobs at work already; cancel one, or wait for it.")
            if sum(not other.cancelled for other in self._queue) >= MOST:
                raise Busy(f"{MOST} jobs are at work already; try again in a moment.")
            self._forget()
            self._jobs[job.id] = job
            self._queue.append(job)
            self._news.notify()
        return job

    async def call(self, client: str, work: Callable[[], dict[str, Any]], title: str) -> bytes:
        """The single event of short work. Raises Busy."""
        job = self.start(client, _once(work), title)
        try:
            async for _, event in job.follow():
                return event
        finally:
            self.forget(job)
        raise Busy("the server is ending.")

    def forget(self, job: Job) -> None:
        """Remember a job no longer."""
        job.cancelled = True
        self._jobs.pop(job.id, None)

    def get(self, client: str, number: str) -> Job | None:
        """A job of a client."""
        job = self._jobs.get(number)
        return job if job is not None and job.client == client else None

    def of(self, client: str) -> list[Job]:
        """The jobs of a client that have not ended."""
        with self._news:
            return [job for job in self._queue if job.client == client and not job.cancelled]

    def close(self) -> None:
        """End the thread, after the event that it makes."""
        with self._news:
            self._open = False
            self._news.notify()
        self._thread.join(timeout=30)

    def _forget(self) -> None:
        """The oldest jobs that have ended, where there are many, or large ones."""
        ended = [job for job in self._jobs.values() if job.ended]
        size = sum(job.size for job in self._jobs.values())
        for i, job in enumerate(ended):
            if len(ended) - i < HELD and size < REMEMBERED:
                break
            del self._jobs[job.id]
            size -= job.size

    def _work(self) -> None:
        while True:
            with self._news:
                while self._open and not self._queue:
                    self._news.wait()
                if not self._open:
                    rest, self._queue = list(self._queue), deque()
                    break
                job = self._queue[0]
            job.advance()
            with self._news:
                self._queue.popleft()
                if not job.ended:
                    self._queue.append(job)
        for job in rest:
            job.cancelled = True
            job.advance()


def _once(work: Callable[[], dict[str, Any]]) -> Work:
    yield work()


def sentence(error: Exception) -> str:
    """One sentence about what went wrong, for a page."""
    if isinstance(error, OrnsteinError):
        return f"{str(error).rstrip('.')}."
    if memory_is_short(error):
        return "memory ran out; ask for fewer samples."
    message = " ".join(str(error).split())[:500]
    if isinstance(error, (ValueError, TypeError)) and message:  # the library says in these what does not fit
        return f"{message.rstrip('.')}."
    return f"unexpected {type(error).__name__}: {message or 'no message'}."


class Cancelled(BaseException):
    """Ends a function whose job is not wanted any more."""


def stepping(function: Callable[[Callable[[int, int], None]], T]) -> Generator[tuple[int, int], None, T]:
    """A function that reports its progress, as a generator: it works between two reports, and waits while others do.

    Its thread is one of its own; where the generator is closed, the next report raises `Cancelled` in it.
    """
    turn, back = threading.Semaphore(0), threading.Semaphore(0)
    reports: list[tuple[int, int]] = []
    result: list[T] = []
    errors: list[Exception] = []
    closed = False
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if not closed and time.monotonic() - last < 0.02:
            return
        reports.append((done, total))
        back.release()
        turn.acquire()
        last = time.monotonic()
        if closed:
            raise Cancelled

    def work() -> None:
        turn.acquire()
        try:
            if not closed:
                result.append(function(progress))
        except Cancelled:
            pass
        except Exception as error:
            errors.append(error)
        back.release()

    thread = threading.Thread(target=work, name="studio-step", daemon=True)
    thread.start()
    try:
        while True:
            turn.release()
            back.acquire()
            if errors:
                raise errors[0]
            if result:
                return result[0]
            yield reports[-1]
    finally:
        closed = True
        turn.release()
        thread.join(timeout=30)


def reported(function: Callable[[Callable[[int, int], None]], T]) -> Generator[dict[str, Any], None, T]:
    """`stepping`, each report of it as an event of progress."""
    work = stepping(function)
    while True:
        try:
            done, total = next(work)
        except StopIteration as end:
            made: T = end.value
            return made
        yield {"type": "progress", "done": done, "total": total}

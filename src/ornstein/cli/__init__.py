"""The command `ornstein`. Torch is imported only when work starts, so help and mistakes answer at once."""

import errno
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import TextIO

from ornstein import terminal
from ornstein.cli.options import COMMANDS, EXAMPLES
from ornstein.cli.stopping import stoppable
from ornstein.errors import OrnsteinError, Reported, Unheard, UsageError
from ornstein.extras import is_there
from ornstein.processes import environment, silent
from ornstein.spelling import near

HELP = ("-h", "--help", "help")
CACHE = "ORNSTEIN_CACHE"  # what `ornstein.data.cache` looks at first
LONGEST = 500  # characters of a word in a sentence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. 0: done, 1: failed, 2: not usable, 130 and 143: stopped by a signal.

    Whatever goes wrong is one sentence on stderr; `--debug`, anywhere on the line, shows the traceback instead.
    """
    try:
        return _run(argv)
    finally:
        _settle()


def _run(argv: Sequence[str] | None) -> int:
    _occupy()
    if sys.stdout is None:
        return _failed(
            "standard output is closed, so nothing could be said; send it somewhere, such as to /dev/null", 1
        )
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        if not debug:  # other libraries' warnings are for developers
            warnings.simplefilter("ignore")
        warnings.filterwarnings("always", module=r"ornstein\b")
        try:
            with stoppable():
                code = _dispatch(words)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt as interrupt:
            return _failed(str(interrupt) or "stopped", 128 + getattr(interrupt, "number", signal.SIGINT))
        except Exception as error:
            if (refusal := _refusal(error)) is not None:
                return 1 if refusal.errno == errno.EPIPE else _failed(_unheard(refusal), 1)
            if debug:
                raise
            code = 2 if isinstance(error, UsageError) else 1
            return _left_to_another(code) if _reported(error) else _failed(_sentence(error), code)


def _dispatch(words: list[str]) -> int:
    if not words and _on_a_terminal():
        terminal.write(_next_steps())
        return 0
    if words[:1] == ["help"] and words[1:]:
        from ornstein.cli import topics

        if len(words) > 2 or words[1] not in COMMANDS or words[1] in topics.TOPICS:
            terminal.write(topics.answer(words[1:]))
            return 0
        words = [words[1], "--help"]
    if not words or words[0] in HELP:
        terminal.write(_overview().splitlines())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from ornstein._version import __version__

        terminal.write(f"ornstein {__version__}")
        return 0
    if words[0].partition("=")[0] == "--print-completion":
        from ornstein.cli.completion import script

        _, equals, shell = words[0].partition("=")
        terminal.write(script(shell if equals else "".join(words[1:2])).splitlines())
        return 0
    command, *rest = words
    if command not in COMMANDS:
        nearest = near(command, COMMANDS)
        hint = f"did you mean `ornstein {nearest}`?" if nearest else f"the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"there is no command {command!r}; {hint}")
    try:
        with _cache_at(rest):
            return int(import_module(f"ornstein.cli.{command}").run(rest))
    except SystemExit as end:  # --help
        return int(end.code or 0)


@contextmanager
def _cache_at(words: Sequence[str]) -> Iterator[None]:
    """Has decoded data kept where `--cache` says, also by processes and libraries that know no flags."""
    places = [after for word, after in pairwise(words) if word == "--cache"]
    places += [word.removeprefix("--cache=") for word in words if word.startswith("--cache=")]
    before = os.environ.get(CACHE)
    try:
        if places:
            os.environ[CACHE] = _folder_name(places[-1])
        yield
    finally:
        if before is None:
            os.environ.pop(CACHE, None)
        else:
            os.environ[CACHE] = before


def _folder_name(text: str) -> str:
    try:
        usable = bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UsageError("--cache: no folder can have this name; give another")
    return text


def _occupy() -> None:
    """Has the three standard handles open: a file of a run must not get one of them, to which libraries may complain."""
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _refusal(error: Exception) -> OSError | None:
    """The error of standard output, if that is why a command failed."""
    if isinstance(error, (Unheard, BrokenPipeError)):  # such as `ornstein info RUN | head`
        return error
    try:
        sys.stdout.flush()
    except OSError as refusal:  # what another library wrote is still to be written
        return refusal
    return None


def _unheard(refusal: OSError) -> str:
    return (
        f"standard output could not be written ({refusal.strerror}), so the command ended there; files are whole, and the same "
        "command goes on where there is more to do"
    )


def _settle() -> None:
    """Discard output that standard output and error refuse, so that the interpreter does not fail as it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _on_a_terminal() -> bool:
    """Whether a person reads the answer, rather than a program."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def _next_steps() -> list[str]:
    """Three commands for whoever typed `ornstein` alone: of a folder with runs, what to do with the newest one."""
    runs = [file.parent.parent for file in Path("runs").glob("*/model/config.json")]
    if runs:
        run = quote(str(max(runs, key=lambda folder: folder.stat().st_mtime)))
        seen = (f"ornstein info {run}", "what it is, and how it was trained")
        if is_there("starlette"):
            seen = (f"ornstein studio {run}", "watch it at work in the browser")
        steps = [
            (f"ornstein sample {run} -n 64", "draw samples of the newest run"),
            seen,
            ("ornstein help TOPIC", "such as guidance, solver, likelihood; `ornstein help` names all commands"),
        ]
    else:
        steps = [
            ("ornstein demo", "train on bundled digits for 48 seconds, sample, write a report"),
            ("ornstein train --data FOLDER --out runs/mine --minutes 10", "train on your own images or arrays"),
            ("ornstein help TOPIC", "such as data, guidance, solver; `ornstein help` names all commands"),
        ]
    width = max(len(line) for line, _ in steps)
    return ["Next:", *(f"  {i}. {line:{width}}  {why}" for i, (line, why) in enumerate(steps, 1))]


def _overview() -> str:
    from ornstein.cli.topics import overview

    topics = "\n".join(overview())
    commands = "\n".join(
        f"  {name:11} {(kind.__doc__ or '').strip().splitlines()[0]}" for name, kind in COMMANDS.items()
    )
    examples = "\n".join(f"  {lines[0]}" for lines in EXAMPLES.values())
    return f"""usage: ornstein COMMAND [flags]

Train diffusion and flow-matching models on your data, and sample them.

Commands:
{commands}

Examples:
{examples}

Topics, each answered by `ornstein help TOPIC`:
{topics}

`ornstein COMMAND --help` shows the flags. --debug, anywhere, shows the traceback of a failure.
`ornstein --print-completion bash|zsh|fish` prints what completes commands and flags in a shell."""


def _sentence(error: Exception) -> str:
    if isinstance(error, OrnsteinError):
        return str(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "memory ran out; try again with a smaller --batch-size"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror})"
    message = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {message or 'no message'}; run again with --debug for the traceback"


def _reported(error: Exception) -> bool:
    """Whether another of several processes says the same: it has said that it will, or all read the same command line."""
    if not silent():
        return False
    joined = "torch" in sys.modules and sys.modules["torch"].distributed.is_initialized()
    return isinstance(error, Reported) or (isinstance(error, UsageError) and not joined)


def _left_to_another(code: int) -> int:
    """The launcher ends all processes when one has ended, so the one that speaks goes first."""
    time.sleep(1)
    return code


def _failed(sentence: str, code: int) -> int:
    who = f"ornstein (process {environment().rank})" if silent() else "ornstein"
    _complain(f"{who}: {' '.join(sentence.split()).rstrip('.')}.".replace("?.", "?"))
    return code


def _complain(sentence: str) -> None:
    terminal.write(terminal.clean(" ".join(sentence.split()), LONGEST), error=True)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if not silent():
        _complain(f"warning: {message}")

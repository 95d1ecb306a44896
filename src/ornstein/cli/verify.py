"""`ornstein verify`."""

import math
import sys
import time
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeVar

from ornstein.cli.options import Verify
from ornstein.cli.parse import parse
from ornstein.cli.printing import duration, say
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter

T = TypeVar("T")


def run(words: Sequence[str]) -> int:
    """Print a row for each solver, path, target, guidance, likelihood and flow map on each path; fail if any row does."""
    options = parse(Verify, "verify", words)
    from ornstein import path, verify

    methods = _matching("solver", options.solver, verify.available())
    on = _matching("path", options.path, path.ALL)
    others = options.solver is None
    total = len(on) * (len(methods) + others * len(verify.OTHERS))
    began, failed = time.monotonic(), list[str]()
    with Meter("verifying", patience=0.0 if sys.stdout.isatty() else math.inf) as meter:
        meter.tell(verify.HEADER)
        for i, row in enumerate(verify.everything(methods, on, others), 1):
            meter.tell(str(row))
            if not row.ok:
                failed.append(f"{row.subject} on {row.path}")
            meter.update(i / total, f"{i} of {total}")
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        raise OrnsteinError(
            f"{len(failed)} of {total} checks failed: {', '.join(failed[:3])}{more}; see their rows above"
        )
    say(f"All {total} checks passed in {duration(time.monotonic() - began)}.")
    return 0


def _matching(key: str, part: str | None, choices: Sequence[T]) -> list[T]:
    """The choices whose printed name holds `part`, in any case. Raises UsageError that names the nearest."""
    if part is None:
        return list(choices)
    matching = [choice for choice in choices if part.lower() in str(choice).lower()]
    if not matching:
        names = list(dict.fromkeys(str(choice).split("(")[0] for choice in choices))
        near = get_close_matches(part, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise UsageError(f"--{key} {part!r} is part of no {key}'s name; {hint}")
    return matching

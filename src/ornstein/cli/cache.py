"""`ornstein cache`: the cache of decoded data, without torch."""

import math
import re
import time
from collections.abc import Sequence

from ornstein.cli.options import Cache
from ornstein.cli.parse import parse
from ornstein.cli.printing import columns, duration, say, size
from ornstein.data import cache
from ornstein.errors import UsageError

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def run(words: Sequence[str]) -> int:
    """List the entries of the cache, or remove some."""
    options, folder = parse(Cache, "cache", words), cache.default_folder()
    if not options.prune and (options.older_than or options.to):
        raise UsageError("--older-than and --to say what --prune removes; give it too")
    age = None if options.older_than is None else _seconds(options.older_than)
    target = None if options.to is None else cache.size_of(options.to, "--to")
    entries, now = cache.entries(folder), time.time()
    if not options.prune:
        say(_listed(entries, now))
        total, limit = sum(entry.size for entry in entries), cache.limit()
        most = "no limit" if math.isinf(limit) else f"at most {size(limit)}"
        say(f"{len(entries):,} entries of {size(total)} in {folder} ({most}: ORNSTEIN_CACHE_LIMIT).")
        return 0
    old = [entry for entry in entries if age is None or now - entry.used >= age]
    if target is not None and age is None:
        gone = cache.shrink(folder, target)
    else:
        gone = [entry for entry in old if cache.remove(entry)]
        if target is not None:
            gone += cache.shrink(folder, target)
    left = cache.entries(folder)
    say(
        [
            *_listed(gone, now),
            f"Removed {len(gone):,} entries of {size(sum(entry.size for entry in gone))} in {folder}.",
        ]
    )
    used = [entry for entry in left if target is None and entry.path in {wanted.path for wanted in old}]
    if used:
        say(
            f"{len(used):,} entries stay, which a running command uses: {', '.join(entry.source for entry in used[:5])}."
        )
    say(f"{len(left):,} entries of {size(sum(entry.size for entry in left))} are left.")
    return 0


def _listed(entries: Sequence[cache.Entry], now: float) -> list[str]:
    if not entries:
        return []
    head = ("source", "items", "size", "last use")
    rows = [(e.source, f"{e.count:,}", size(e.size), f"{duration(max(now - e.used, 0))} ago") for e in entries]
    return columns([head, *rows])


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhdw])", text.strip())
    if match is None:
        raise UsageError(f"--older-than: {text[:40]!r} is no age; give one such as 30d, 12h or 2w")
    return float(match[1]) * UNITS[match[2]]

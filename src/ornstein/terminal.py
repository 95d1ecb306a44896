"""Text for a terminal, without control characters: names come from anywhere, and a terminal obeys what it is sent.

Every line of output goes through `write`. Control characters, marks that turn the direction of writing and whatever cannot be
seen are spelled out (`\\x1b`), so that no name moves the cursor, hides a part of itself or begins a line of its own. Names of any
language and emoji stay as they are, where the encoding of the output has them.
"""

from __future__ import annotations

import errno
import io
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

from ornstein.errors import Unheard

LONGEST = 5000  # characters of a word; no path is longer
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0")
JOINED = re.compile(r"(.)\u200d(?=(.))", re.DOTALL)  # the parts of one emoji
PLAIN = str.maketrans({"−": "-", "×": "x", "±": "+-", "█": "#", "≤": "<=", "·": "*", "…": "...", "→": "->"})


def clean(text: str, longest: int = LONGEST) -> str:
    """One line that a terminal shows and does not obey; words beyond `longest` characters are cut."""
    if text.isascii() and text.isprintable() and len(text) < longest:
        return text
    text = re.sub(rf"\S{{{longest},}}", lambda word: f"{word[0][:100]}...{word[0][-20:]}", text)
    joins = {match.end() - 1 for match in JOINED.finditer(text) if all(map(_is_emoji, match.groups()))}
    return "".join(
        c if i in joins or _is_harmless(c) else c.encode("unicode_escape").decode() for i, c in enumerate(text)
    )


def encodable(text: str, stream: IO[str]) -> str:
    """The text in the characters that a stream has; others are replaced by like ones or spelled out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "backslashreplace").decode(encoding)


def write(lines: str | Sequence[str] = "", error: bool = False) -> None:
    """Print a line, or several, each cleaned, at once; to standard output or standard error.

    Raises `Unheard` where standard output is closed or refuses; of standard error that cannot be said anywhere.
    """
    stream = sys.stderr if error else sys.stdout
    cleaned = map(clean, [lines] if isinstance(lines, str) else lines)
    try:
        if stream is None:  # closed by whoever started this process
            raise OSError(errno.EBADF, "it is closed")
        print(encodable("\n".join(cleaned), stream), file=stream, flush=True)
    except OSError as refusal:
        if not error:
            raise Unheard(refusal.errno, refusal.strerror) from refusal


@contextmanager
def lenient() -> Iterator[None]:
    """Within, what other libraries print to standard output is spelled out where it lacks the characters.

    Raises `Unheard` where it refuses.
    """
    stream = sys.stdout
    before = stream.errors if isinstance(stream, io.TextIOWrapper) else None
    try:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        try:
            yield
        finally:
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=before)
    except OSError as refusal:
        raise Unheard(refusal.errno, refusal.strerror) from refusal


def _is_harmless(c: str) -> bool:
    return (c.isprintable() or unicodedata.category(c) == "Zs") and c not in INVISIBLE


def _is_emoji(c: str) -> bool:
    """Whether a character is one of a sequence that makes one emoji: a symbol, its colour of skin, or its form."""
    return c == "\ufe0f" or unicodedata.category(c) in ("So", "Sk")

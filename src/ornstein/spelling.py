"""The nearest name to a misspelled word: a slip of the keyboard, or the first part of a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

LONGEST = 80  # characters of a word that are looked at


def near(word: str, names: Iterable[str]) -> str | None:
    """The nearest name, if it is near: a third of the letters differ at most, or the word is a whole first part of it.

    Letters differ by one insertion, deletion, replacement or swap of neighbours each (Damerau 1964); capitals, leading dashes
    and the kind of dashes do not count. Of names as near, the most alike by what they have in common, then the first.
    """
    candidates: list[tuple[int, float, int, str]] = []
    word = _plain(word[:LONGEST])
    for place, name in enumerate(names):
        plain = _plain(name)
        least = min(len(word), len(plain)) // 3
        wrong = least if len(word) > 2 and plain.startswith(f"{word}-") else _distance(word, plain)
        if wrong <= least and wrong < max(len(word), len(plain)):
            candidates.append((wrong, -SequenceMatcher(None, word, plain).ratio(), place, name))
    return min(candidates)[-1] if candidates else None


def _plain(word: str) -> str:
    return word.lower().lstrip("-").replace("_", "-")


def _distance(one: str, other: str) -> int:
    """Edits from one word to another."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        after = [i]
        for j, b in enumerate(other, 1):
            best = min(row[j] + 1, after[-1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, before[j - 2] + 1)
            after.append(best)
        before, row = row, after
    return row[-1]

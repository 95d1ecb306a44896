"""`ornstein hello`."""

from collections.abc import Sequence

from ornstein.cli.options import Hello
from ornstein.cli.parse import parse
from ornstein.cli.printing import say


def run(words: Sequence[str]) -> int:
    """Say where decoded data are."""
    from ornstein.data import cache

    parse(Hello, "hello", words)
    say(f"Decoded data are in {cache.default_folder()}.")
    return 0

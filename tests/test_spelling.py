"""A suggestion is near in spelling, or there is none."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ornstein.cli.options import COMMANDS
from ornstein.settings import KEYS
from ornstein.spelling import near

FLAGS = {
    name: ["--" + f.name.replace("_", "-") for f in fields(kind) if not f.metadata.get("positional")]
    for name, kind in COMMANDS.items()
}
EVERY = sorted({flag for flags in FLAGS.values() for flag in flags})
NAMES = st.sampled_from(EVERY)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--bath-size", "--batch-size"),
        ("--batch_size", "--batch-size"),
        ("--batch", "--batch-size"),
        ("--Steps", "--steps"),
        ("--setps", "--steps"),
        ("--step", "--steps"),
        ("--lern-rate", None),
        ("--learning-rat", "--learning-rate"),
        ("--init", None),
        ("--lr", None),
        ("--epochs", None),
        ("--gpu", None),
        ("--batchnorm", None),
        ("--wd", None),
        ("--", None),
        ("", None),
        ("-n", None),
    ],
)
def test_flags_of_train(word: str, meant: str | None) -> None:
    assert near(word, FLAGS["train"]) == meant


def edits(one: str, other: str) -> int:
    """Edits without swaps: Wagner & Fischer 1974, the plain recursion."""
    if not one or not other:
        return len(one) + len(other)
    if one[0] == other[0]:
        return edits(one[1:], other[1:])
    return 1 + min(edits(one[1:], other), edits(one, other[1:]), edits(one[1:], other[1:]))


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_of_other_commands_suggest_only_what_is_near(command: str) -> None:
    """Over all commands and the flags that they do not have."""
    for flag in {*EVERY, "--init", "--epochs", "--lr", "--verbose", "--output", "--input"} - set(FLAGS[command]):
        found = near(flag, FLAGS[command])
        if found is not None:
            one, other = flag[2:], found[2:]
            assert other.startswith(f"{one}-") or edits(one, other) <= 2 * max(1, min(len(one), len(other)) // 3)


@given(NAMES, st.data())
def test_one_slip_is_mended(flag: str, drawn: st.DataObject) -> None:
    """A letter left out of a name of four or more is no other name, and the name is found again."""
    place = drawn.draw(st.integers(2, len(flag) - 1))
    slip = flag[:place] + flag[place + 1 :]
    if len(flag) >= 6 and slip not in EVERY:
        assert near(slip, [flag]) == flag


@given(st.text(max_size=200))
def test_any_word_has_an_answer(word: str) -> None:
    found = near(word, KEYS)
    assert found is None or found in KEYS


def test_the_nearest_of_several() -> None:
    assert near("step", ["stop", "steps", "stem"]) == "steps"
    assert near("guidance", ["guidance-interval", "guidance-method"]) == "guidance-method"
    assert near("steps", ["steps"]) == "steps"
    assert near("a", ["b"]) is None

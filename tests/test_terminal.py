"""What reaches a terminal: names as they are, nothing that it would obey, whatever characters the output has."""

import ast
import io
import sys
from pathlib import Path

import pytest

import ornstein
from ornstein import terminal
from ornstein.cli import main
from ornstein.cli.printing import columns, say, table
from ornstein.meter import Meter
from ornstein.terminal import clean

ROOT = Path(ornstein.__file__).parent
HARMLESS = (
    "",
    "a b",
    "é",
    "e\u0301",
    "猫",
    "שלום",
    "한국어",
    "🐈",
    "👩🏽\u200d🔬",
    "❤\ufe0f\u200d🔥",
    "a\u00a0b",
    "[/bold]",
    ":cat:",
    "`x`",
)
OBEYED = (
    *("\x1b]0;owned\x07", "\x1b[2J", "\x9b2J", "\r", "\n", "\t", "\x00", "\x7f", "\u2028", "\u2029", "\u0085"),
    *("\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", "\u200e", "\u061c"),
    *("\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u3164", "\u034f", "\U000e0041", "\udce9"),
)


@pytest.mark.parametrize("name", HARMLESS)
def test_names_stay_as_they_are(name: str) -> None:
    assert clean(name) == name


@pytest.mark.parametrize("mark", OBEYED)
def test_what_a_terminal_obeys_is_spelled_out(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"a{mark}b"
    assert clean(name) == "a" + mark.encode("unicode_escape").decode() + "b"
    say(name)
    say(table([(name, name)]))
    say(columns([(name, name), ("c", "d")]))
    with Meter(name) as meter:
        meter.update(0.5, name)
        meter.tell(name)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 6
    assert mark == "\n" or mark[0] not in out
    assert main([name]) == 2
    assert main(["train", "--data", name, "--out", name, "--batch-size", name, f"--{name}"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in said.err.replace("\n", ""))


def test_endless_words_are_cut() -> None:
    assert len(clean("x" * 10**6)) < 200
    assert clean("x " * 5000) == "x " * 5000


class Screen(io.StringIO):
    """A terminal, as rich takes it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["[/bold]", "[red]x", "[link=file:///etc]x[/link]", ":cat:", "a\x1b[2Jb", "a\nb"])
def test_bars_show_markup_and_escapes_as_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Meter(name) as meter:
        meter.update(0.5, name)
        meter.tell(f"told {name}")
    shown = screen.getvalue()
    assert f"told {clean(name)}" in shown
    assert shown.count(clean(name)) >= 3
    assert "\x1b[2J" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["verify", "--solver", "nö"],
        ["verify", "--path", "Linear", "--solver", "Euler"],
        [],
    ],
)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_output_of_any_encoding(words: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    say("猫 −1 ± 2 × 3 █")
    assert main(words) in (0, 2)
    for stream in (out, err):
        stream.flush()
        text = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert "unexpected" not in text
        if stream is out:
            assert text.startswith("\\u732b -1 +- 2 x 3 #" if encoding == "ascii" else "\\u732b")


def _calls(name: str) -> list[tuple[Path, ast.Call]]:
    found = []
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and name == ast.unparse(node.func).removeprefix("show."):
                found.append((file, node))
    return found


def test_every_word_goes_through_one_function() -> None:
    for name in ("print", "sys.stdout.write", "sys.stderr.write", "sys.__stdout__.write", "pprint"):
        assert {file for file, _ in _calls(name)} <= {ROOT / "terminal.py"}, name
    assert len(_calls("print")) == 1
    mentioned = {
        file
        for file in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    }
    assert mentioned == {ROOT / "terminal.py"}


def test_a_line_of_output_is_one_line() -> None:
    """Line breaks in it would be spelled out, as those of names are."""
    said = [(file, call) for name in ("say", "meter.tell", "terminal.write") for file, call in _calls(name)]
    assert len(said) > 40
    for file, call in said:
        texts = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not any("\n" in text for text in texts), (file, ast.unparse(call))
    assert terminal.write.__module__ == "ornstein.terminal"

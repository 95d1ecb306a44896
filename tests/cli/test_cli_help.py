"""`ornstein help TOPIC` answers the words of the documentation; `ornstein` alone offers three next steps on a terminal."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ornstein.cli import main
from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import parse
from ornstein.cli.topics import TOPICS, answer

DOCS = Path(__file__).parents[2] / "docs"


def alone(folder: Path) -> str:
    """What `ornstein` says to a person at a terminal in a folder."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as screen:
        done = subprocess.run([sys.executable, "-m", "ornstein"], cwd=folder, stdin=theirs, stdout=theirs)
        os.close(theirs)
        assert done.returncode == 0
        return os.read(screen.fileno(), 10_000).decode()


def test_on_a_terminal_three_steps_are_offered(tmp_path: Path) -> None:
    said = alone(tmp_path)
    lines = re.findall(r"^ +\d\. ornstein (\w+) ?(.*?)  +", said, re.MULTILINE)
    assert [name for name, _ in lines] == ["demo", "train", "help"]
    (tmp_path / "runs" / "my cats" / "model").mkdir(parents=True)
    (tmp_path / "runs" / "my cats" / "model" / "config.json").write_text("{}")
    assert "1. ornstein sample 'runs/my cats' -n 64 " in alone(tmp_path)


def test_elsewhere_there_is_the_overview_and_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: ornstein COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_names_a_page_and_commands_that_are_there(name: str) -> None:
    topic = TOPICS[name]
    assert (DOCS / topic.page).is_file()
    for line in topic.commands:
        _, command, *words = shlex.split(line)
        parse(COMMANDS[command], command, words)


def test_a_word_leads_to_one_topic() -> None:
    words = [*TOPICS, *(alias for topic in TOPICS.values() for alias in topic.aliases)]
    assert len(words) == len({*words})


def test_the_words_of_the_documentation_are_topics() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("| the field's noun |") : page.index("## Rooms")]
    for row in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]:
        for word in row.split(", "):
            assert answer(word.split()), word


def test_help_of_a_topic_a_command_and_neither(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "bits", "per", "dimension"]) == 0
    assert "ornstein likelihood" in capsys.readouterr().out
    assert main(["help", "train"]) == 0
    assert "usage: ornstein train" in capsys.readouterr().out
    assert main(["help", "guidnace"]) == 2
    assert "did you mean `ornstein help guidance`?" in capsys.readouterr().err
    assert main(["help", "\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err

"""`ornstein doctor` and completion in shells."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from ornstein.cli import completion, main
from ornstein.cli.options import COMMANDS
from ornstein.extras import EXTRAS, pip_line


def test_doctor_says_what_is_there_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setattr("ornstein.device.peak", lambda *_: 2e9)  # half a second each, measured elsewhere
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["torch"] == torch.__version__
    assert facts["device"] == "cpu"
    assert facts["products"]["float32"] == 2e9
    assert facts["images_per_second"] > 1
    assert facts["extras"].keys() == EXTRAS.keys()
    assert facts["extras"]["ot"] == {"scipy": None}
    assert any(line.startswith("Missing extras") and "ot" in line for line in facts["advice"])
    assert main(["doctor", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert f"missing: {pip_line('ot')}" in out
    assert "2 Gflop/s in float32" in out
    assert facts["torch"] in out


def test_doctor_refuses_a_device_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err


def completed(script: str, *words: str) -> list[str]:
    """What bash offers for the last word."""
    line = " ".join(f"'{word}'" for word in words)
    code = (
        f"{script}\nCOMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _ornstein; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert set(completed(script, "ornstein", "")) >= COMMANDS.keys()
    assert completed(script, "ornstein", "di") == ["distil", "diagnose"]
    for command, kind in COMMANDS.items():
        offered = set(completed(script, "ornstein", command, "--"))
        own = {"--" + f.name.replace("_", "-") for f in fields(kind) if not f.metadata.get("positional")}
        assert own <= offered
    assert "--learning-rate" in completed(script, "ornstein", "train", "--l")
    assert completed(script, "ornstein", "--print-completion", "f") == ["fish"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(tmp_path: Path) -> None:
    script = tmp_path / "ornstein.fish"
    script.write_text(completion.script("fish"))
    lines = ["ornstein ", "ornstein di", "ornstein train --l", "ornstein --print-completion f", "ornstein sample -"]
    words = "; ".join(f"complete -C '{line}'; echo ." for line in lines)
    done = subprocess.run(
        ["fish", "-N", "-c", f"source {script}; {words}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    offers = [[line.split("\t")[0] for line in part.splitlines()] for part in done.stdout.split("\n.\n")]
    assert set(offers[0]) >= COMMANDS.keys()
    assert sorted(offers[1]) == ["diagnose", "distil"]
    assert {"--layout", "--learning-rate", "--log"} <= set(offers[2])
    assert offers[3] == ["fish"]
    assert {"-n", "--solver"} <= set(offers[4])
    assert done.stderr == ""


@pytest.mark.skipif(shutil.which("zsh") is None or os.name == "nt", reason="needs zsh")
def test_zsh_completes(tmp_path: Path) -> None:
    """In a terminal of its own: a tab writes what there is but one of, and lists several."""
    import pty

    script = tmp_path / "ornstein.zsh"
    script.write_text(completion.script("zsh"))
    master, slave = pty.openpty()
    env = {**os.environ, "HOME": str(tmp_path), "TERM": "dumb", "PS1": "", "COLUMNS": "400"}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
    )
    os.close(slave)
    seen = ""

    def type_until(keys: str, wanted: str) -> None:
        nonlocal seen
        os.write(master, keys.encode())
        begun = time.monotonic()
        while wanted not in seen and time.monotonic() - begun < 20:
            if select.select([master], [], [], 0.2)[0]:
                seen += os.read(master, 1 << 16).decode("utf-8", "replace")
        assert wanted in seen, seen[-2000:]
        seen = ""

    try:
        type_until(f"autoload -U compinit; compinit -u; source {script}; PS1=; print rea''dy\n", "ready")
        type_until("ornstein refl\t", "ornstein reflow ")
        type_until("\x15ornstein train --learning\t", "--learning-rate ")
        type_until("\x15ornstein di\t\t", "distil")
        type_until("\x15ornstein --print-completion f\t", "fish ")
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_has_a_script_that_it_reads(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--print-completion={shell}"]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    for command in COMMANDS:
        assert all(flag.lstrip("-") in script for flag in completion.flags(command))
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize("words", [["--print-completion"], ["--print-completion", "csh"]])
def test_other_shells_are_refused_with_those_that_there_are(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err

"""Files of settings and flags that say anything at all: exit code 2 and the key's name, never a traceback."""

import string
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from ornstein.cli.options import COMMANDS
from ornstein.settings import Settings

NAMES = ("", "nope", "ünïcödé 🎲", "x" * 5000, "\0", "linear\n", "None", "../..", "%s{0}", "\x1b[31m", "­")
NO_NUMBERS = ("", "x", "1.5.1", "0x", "--", "ten", "1e", "1_", "½", "∞", "\0")
TYPES = get_type_hints(Settings)
KINDS = {key: next(k for k in (get_args(kind) or (kind,)) if k is not type(None)) for key, kind in TYPES.items()}
FREE = {"data", "out"}  # any word may be right there


def rubbish(rng: Random) -> Any:
    """A value that YAML can hold and no setting can be."""
    return rng.choice([[], [1, 2], {}, {"a": {"b": [1]}}, [[[[]]]], {"!": None}, b"\xff\0", {"seed": 1}, [None]])


def wrong(kind: type, rng: Random) -> Any:
    """A value that is wrong for every setting of this kind."""
    if rng.random() < 0.3:
        return rubbish(rng)
    if kind is bool:
        return rng.choice([5, "perhaps", 0.5, "", None, "0"])
    if kind is str:
        return rng.choice([5, 0.5, True, *NAMES])
    text = rng.choice(NO_NUMBERS)
    if kind is int:
        huge = rng.choice([10**30, 10**400, -(10**400), 2**63, 1 << 70_000])
        return rng.choice([-1, 1.5, True, float("nan"), float("inf"), -5, huge, text, "12 "])
    return rng.choice([-1, -0.5, True, float("nan"), float("inf"), -float("inf"), 10**400, 1e300, text])


def letters(rng: Random) -> str:
    return "".join(rng.choice(string.ascii_lowercase + "_-é") for _ in range(rng.randrange(1, 20)))


def test_a_wrong_value_in_a_file_is_named(tmp_path: Path, cases: Any, run: Any) -> None:
    file, keys = tmp_path / "config.yaml", sorted(KINDS.keys() - FREE)
    for rng in cases(220, 8000):
        key = rng.choice(keys)
        values = {"data": "digits", "out": str(tmp_path / "run"), key: wrong(KINDS[key], rng)}
        file.write_text(_dumped(values))
        done = run(["train", "--config", str(file), "--dry-run"])
        assert done.code == 2, (key, values[key], done)
        assert key.replace("_", "-") in done.sentence.replace("_", "-"), done
        assert len(done.sentence) < 1000
        assert not (tmp_path / "run").exists()


def test_a_text_without_a_name_is_named(tmp_path: Path, run: Any) -> None:
    done = run(["train", "--data", "digits", "--out", str(tmp_path / "run"), "--text", "", "--dry-run"])
    assert done.code == 2
    assert "text: " in done.sentence


def test_a_whole_number_that_python_will_not_write(tmp_path: Path, run: Any) -> None:
    file = tmp_path / "config.yaml"
    for key in ("keep", "seed", "batch_size"):
        file.write_text(_dumped({"data": "digits", "out": str(tmp_path / "run"), key: 1 << 70_000}))
        done = run(["train", "--config", str(file), "--dry-run"])
        assert done.code == 2
        assert f"{file}: {key}" in done.sentence


def test_a_condition_too_long_for_the_name_of_a_file(trained: Path, run: Any) -> None:
    done = run(["sample", str(trained), "--condition", "x" * 5000])
    assert done.code == 2
    assert "--condition" in done.sentence
    assert len(done.sentence) < 1000


def _dumped(values: dict[str, Any]) -> str:
    """YAML of values that may hold numbers whose digits Python refuses to write."""
    lines = []
    for key, value in values.items():
        huge = isinstance(value, int) and value.bit_length() > 10_000
        lines.append(f"{key}: 0x{value:x}\n" if huge else yaml.safe_dump({key: value}))
    return "".join(lines)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
MERGES = "a: &a {seed: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
BROKEN = (
    *(
        b"",
        b"\0",
        b"\xff\xfe\0\0",
        b"- 1\n- 2",
        b"5",
        b"seed",
        b"null",
        b"{",
        b"seed: [",
        b"seed: 1: 2",
        b"\tseed: 1",
        b"? seed",
    ),
    *(b"seed: 1\n---\nseed: 2", b"%YAML 9.9\n---\nseed: 1", "seed: 1".encode("utf-16"), "clé: 1".encode("latin-1")),
    *(BOMB.encode(), MERGES.encode(), b"seed: &a [*a]", b"[" * 100_000, b"{a: " * 50_000, b"seed: " + b"9" * 100_000),
    *(b"seed: 2020-99-99", b"!!python/object/apply:os.system ['touch executed']", b"seed: !!python/name:os.system"),
    *(b"? [a, b]\n: 1", b"1: 2", b"null: 3", b"2020-01-01: 1", b"seed: !!binary x", b"<<: 5", b"seed: !!set {a}"),
    b"data: digits\n" * 100_000,
)


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_file_that_is_no_file_of_settings(
    tmp_path: Path, run: Any, memory: Any, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(content)
    with memory(1 << 30):
        done = run(["train", "--config", "config.yaml", "--data", "digits", "--out", "run", "--dry-run"])
    assert done.code == 2
    assert "config.yaml" in done.sentence
    assert len(done.sentence) < 1000
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


def test_places_where_no_file_of_settings_is(tmp_path: Path, run: Any) -> None:
    for place in (tmp_path, tmp_path / "none.yaml", "/dev/zero", "x" * 5000, "\0", ""):
        done = run(["train", "--config", str(place), "--data", "digits", "--out", "run", "--dry-run"])
        assert done.code == 2, done


def test_a_damaged_file_is_read_or_named(tmp_path: Path, cases: Any, run: Any) -> None:
    """Bytes changed, lost and doubled at random in a good file."""
    file, out = tmp_path / "config.yaml", tmp_path / "run"
    good = yaml.safe_dump(Settings(data="digits", out=str(out), steps=5, preset="tiny").to_dict()).encode()
    for rng in cases(80, 4000):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(content))
            match rng.randrange(3):
                case 0:
                    content[at] = rng.randrange(256)
                case 1:
                    del content[at : at + rng.randrange(1, 30)]
                case 2:
                    content[at:at] = content[at : at + rng.randrange(1, 30)]
        file.write_bytes(content)
        done = run(["train", "--config", str(file), "--data", "digits", "--out", str(out), "--dry-run"])
        assert done.code in (0, 2), (content, done)
        assert not out.exists()


def test_a_misspelt_key_is_named(tmp_path: Path, cases: Any, run: Any) -> None:
    file = tmp_path / "config.yaml"
    for rng in cases(20, 1000):
        key = rng.choice([letters(rng), "x" * 3000, rng.choice(list(KINDS)) + rng.choice(["s", "_", "é", "e"])])
        if key.replace("-", "_") in KINDS:
            continue
        file.write_text(yaml.safe_dump({key: 1}, allow_unicode=True))
        done = run(["train", "--config", str(file), "--data", "digits", "--out", str(tmp_path / "run"), "--dry-run"])
        assert done.code == 2
        assert key[:30].split("_")[0][:5] in done.sentence


FLAGS: dict[str, dict[str, type]] = {
    name: {
        f.name: next(k for k in (get_args(hints[f.name]) or (hints[f.name],)) if k is not type(None))
        for f in fields(kind)
        if not f.metadata.get("positional")
    }
    for name, kind in COMMANDS.items()
    for hints in [get_type_hints(kind)]
}
SKIPPED = {"data", "out", "cache", "config", "dry_run", "label"}
FUZZED = "train", "sample", "tune", "verify", "demo"  # the others look at files named by their words first


def test_a_wrong_flag_of_any_command_is_named(
    tmp_path: Path, cases: Any, run: Any, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(trained.rglob("*"))
    commands = [name for name in FUZZED if any(k is not bool for k in FLAGS[name].values())]
    for rng in cases(170, 6500):
        name = rng.choice(commands)
        flags = {k: kind for k, kind in FLAGS[name].items() if kind is not bool and k not in SKIPPED}
        key = rng.choice(sorted(flags))
        flag = "--" + key.replace("_", "-")
        words = _valid(name, trained)
        if rng.random() < 0.2:
            flag += rng.choice(["x", "-no", "é"])
            words += [flag, "1"]
        elif rng.random() < 0.1:
            words += [flag]
        else:
            value = wrong_word(flags[key], rng)
            words += [flag, value] if rng.random() < 0.5 and not value.startswith("-") else [f"{flag}={value}"]
        done = run(words)
        assert done.code == 2, (words, done)
        assert flag[2:] in done.sentence.replace("_", "-"), (words, done)
        assert not list(tmp_path.iterdir())
    assert sorted(trained.rglob("*")) == before


def _valid(name: str, trained: Path) -> list[str]:
    """A command line that lacks nothing."""
    if name == "train":
        return ["train", "--data", "digits", "--out", "run", "--dry-run"]
    if name in ("demo", "verify"):
        return [name]
    return [name, str(trained)]


def wrong_word(kind: type, rng: Random) -> str:
    if kind is str:
        return rng.choice([name for name in NAMES if name and "\0" not in name])
    if kind is int:
        return rng.choice(["-1", "1.5", "nan", "inf", "9" * 30, "9" * 5000, "-" + "9" * 400, *NO_NUMBERS])
    return rng.choice(["-1", "nan", "inf", "-inf", "1e400", "-0.5", "1e300", *NO_NUMBERS])


def test_words_that_make_no_command(cases: Any, run: Any) -> None:
    for rng in cases(20, 500):
        words = [
            rng.choice([*NAMES, letters(rng), "--" + letters(rng), "-n", "--help=5"])
            for _ in range(rng.randrange(1, 5))
        ]
        if words[0] not in ("-h", "help", *COMMANDS):
            assert run(words).code == 2

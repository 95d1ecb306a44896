"""`ornstein verify`: rows as they come, a sentence at the end, and exit 1 that names what failed."""

import pytest

from ornstein import solvers, verify
from ornstein.cli import main
from ornstein.verify import CheckRow


def test_rows_and_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--solver", "heun(", "--path", "linear()"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == verify.HEADER
    assert [line.split("(")[0] for line in lines[1:-1]] == [
        "EDMHeun",
        "EDMHeun",
        "Heun",
        "Heun",
    ]  # two paths hold Linear()
    assert all(line.endswith("  ok") for line in lines[1:-1])
    assert lines[-1].startswith("All 4 checks passed in ")


def test_a_failure_is_named_and_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check = verify.check

    def wrong(method: solvers.Solver, oracle: verify.Oracle) -> CheckRow:
        row = check(method, oracle)
        return CheckRow(row.subject, row.path, wrong=("it is late",)) if isinstance(method, solvers.EDMHeun) else row

    monkeypatch.setattr(verify, "check", wrong)
    assert main(["verify", "--solver", "heun", "--path", "cosine"]) == 1
    said = capsys.readouterr()
    assert "FAILED: it is late" in said.out
    assert said.err.startswith("ornstein: 1 of 2 checks failed: EDMHeun(churn=10.0")
    assert said.err.strip().endswith("on Cosine(offset=0.008); see their rows above.")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--solver", "huen"], "--solver 'huen' is part of no solver's name; did you mean Heun?"),
        (["--path", "zzz"], "--path 'zzz' is part of no path's name; there are Linear, Cosine"),
    ],
)
def test_names_that_do_not_exist(capsys: pytest.CaptureFixture[str], flags: list[str], says: str) -> None:
    assert main(["verify", *flags]) == 2
    assert says in capsys.readouterr().err

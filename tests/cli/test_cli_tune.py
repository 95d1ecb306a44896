"""`ornstein tune` and sampling with what it made: saved, refused where it does not fit, and stopped without loss."""

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import ornstein
from ornstein import tuning
from ornstein.cli import main
from ornstein.errors import OrnsteinError, UsageError
from ornstein.tuning import Progress, Tuned

QUICK = ["--steps", "2", "--seconds", "2", "--starts", "48", "--teacher", "8", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    words = ["--data", "digits", "--out", str(out), "--steps", "3", "--samples", "0", "--preset", "tiny"]
    assert main(["train", *words, "--batch-size", "4", "--device", "cpu"]) == 0
    assert main(["tune", str(out), *QUICK]) == 0
    return out


@pytest.fixture
def copied(tuned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tuned, tmp_path / "run"))


def test_the_file_holds_the_solver_and_how_to_repeat_it(tuned: Path) -> None:
    saved = json.loads((tuned / "tuned" / "steps-2.json").read_text())
    run = ornstein.load(tuned)
    assert saved["model"] == run.weights_hash
    assert saved["error"] <= saved["untuned"]
    made = saved["made"]
    assert {k: made[k] for k in ("seconds", "teacher", "seed", "starts", "held_out")} == {
        "seconds": 2.0,
        "teacher": 8,
        "seed": 0,
        "starts": 48,
        "held_out": 16,
    }
    assert run.tuned(2).fitted == Tuned.from_dict(saved, run.model.path).fitted
    assert [f.name for f in (tuned / "tuned").iterdir()] == ["steps-2.json"]


def test_more_steps_begin_with_the_solver_of_fewer(copied: Path) -> None:
    run, quick = ornstein.load(copied), {"seconds": 1.0, "starts": 48, "teacher": 8}
    folder = copied / "tuned"

    def earlier(steps: int, **more: int) -> int | None:
        run.tune(steps, **quick, **more)
        file = f"steps-{steps}{''.join(f'-label-{label}' for label in more.values())}.json"
        found: int | None = json.loads((folder / file).read_text())["made"]["earlier"]
        return found

    assert earlier(4) == 2
    assert earlier(3) == 2
    assert earlier(3, label=1) is None  # of another label
    (folder / "steps-2.json").write_text("{}")
    assert earlier(3) is None


def test_the_command_says_what_it_does(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(copied), *QUICK]) == 0
    out = capsys.readouterr().out
    assert "Fitting 2 network calls to 8 of" in out
    assert "48 noises to fit to, 16 held out" in out
    assert "Mean error of held-out endpoints: " in out
    assert f"Use it: ornstein sample {copied} --solver tuned --steps 2" in out


def test_samples_of_the_tuned_solver(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(tuned), "-n", "4", "--steps", "2", "--device", "cpu"]
    assert main([*words, "--solver", "tuned", "--out", str(tmp_path / "t.npz")]) == 0
    assert "Tuned(steps=2, held-out error" in capsys.readouterr().out
    run = ornstein.load(tuned)
    expected = run.sample(4, solver=run.tuned(2), steps=2)
    np.testing.assert_array_equal(np.load(tmp_path / "t.npz")["samples"], expected)


def test_a_solver_that_is_missing_or_for_other_weights_is_refused(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(copied), "--solver", "tuned", "--steps", "3"]) == 2
    assert f"make it with `ornstein tune {copied} --steps 3`" in capsys.readouterr().err
    weights = copied / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UsageError, match=r"tuned for other weights .* tune again with `ornstein tune .* --steps 2`"):
        ornstein.load(copied).tuned(2)
    (copied / "tuned" / "steps-2.json").write_text('{"table": 3}')
    with pytest.raises(OrnsteinError, match=r"steps-2\.json cannot be read"):
        ornstein.load(copied).tuned(2)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--steps", "0"], "--steps 0 is too small"),
        (["--starts", "8"], "--starts 8 is too small; give 48 or more"),
        (["--teacher", "9"], "--teacher 9 is no fine solve for 6 steps"),
        (["--seconds", "0"], "--seconds 0 must be positive"),
    ],
)
def test_flags_that_mean_nothing(tuned: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str) -> None:
    assert main(["tune", str(tuned), *flags]) == 2
    assert says in capsys.readouterr().err


def test_tune_needs_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune"]) == 2
    assert "tune needs a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_saves_the_best_so_far_and_a_second_one_nothing(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Signals reach this process when the fit first tells how it goes."""

    class Interrupting(Progress):
        def __init__(self, *values: float) -> None:
            super().__init__(*values)
            if self.done > 0 and not sent:
                for _ in range(times):
                    sent.append(1)
                    os.kill(os.getpid(), signal.SIGINT)

    sent: list[int] = []
    monkeypatch.setattr(tuning, "Progress", Interrupting)
    before, handler = (copied / "tuned" / "steps-2.json").read_bytes(), signal.getsignal(signal.SIGINT)
    code = main(["tune", str(copied), *QUICK, "--seconds", "200", "--seed", "5"])
    after = (copied / "tuned" / "steps-2.json").read_bytes()
    assert signal.getsignal(signal.SIGINT) == handler
    if times == 1:
        assert code == 0
        assert "Stopped early" in capsys.readouterr().out
        assert json.loads(after)["made"]["seed"] == 5
    else:
        assert code == 130
        assert after == before
        assert "nothing was saved" in capsys.readouterr().err


def test_a_solver_is_for_the_condition_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).standard_normal((32, 2)).astype(np.float32)
    out, seen = tmp_path / "run", tmp_path / "seen.npy"
    ornstein.train({"x": x, "conditions": x}, out=out, steps=1, preset="tiny", device="cpu")
    np.save(seen, x[:20])
    sample = ["sample", str(out), "-n", "2", "--solver", "tuned", "--steps", "2", "--out", str(tmp_path / "s.npz")]
    assert main([*sample, "--condition", "1,2"]) == 2
    assert f"make it with `ornstein tune {out} --steps 2 --condition 1,2`" in capsys.readouterr().err
    assert main(["tune", str(out), *QUICK, "--seconds", "0.2"]) == 0
    assert "is for samples without a condition" in capsys.readouterr().out
    assert main([*sample, "--condition", "1,2"]) == 2
    assert main(["tune", str(out), *QUICK, "--seconds", "0.2", "--condition", str(seen)]) == 0
    said = capsys.readouterr().out
    assert "Each noise has one of 20 conditions." in said
    assert f"--solver tuned --steps 2 --condition {seen}" in said
    assert main([*sample, "--condition", "1,2"]) == 0

"""The commands at work: train, stop, resume, sample and look, and every kind of bad input on the way."""

import json
import os
import shutil
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import ornstein
from ornstein import cpu
from ornstein.cli import main
from ornstein.cli.printing import say_if_busy
from ornstein.data.images import png
from ornstein.errors import OrnsteinError
from ornstein.folder import checkpoints, tensors
from ornstein.training.trainer import Event, FolderTraining

TINY = ["--preset", "tiny", "--batch-size", "4", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def train(out: Path, *more: str, steps: int = 3, data: str = "digits") -> list[str]:
    return ["train", "--data", data, "--out", str(out), "--steps", str(steps), "--samples", "4", *TINY, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(train(out, "--save-every", "1")) == 0
    return out


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


Says = Callable[[list[str], int], str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Says:
    """Runs a command that must fail with a code and one sentence; the sentence."""

    def run(words: list[str], code: int) -> str:
        capsys.readouterr()
        assert main(words) == code
        err = capsys.readouterr().err
        sentences = [line for line in err.splitlines() if line and not line.startswith("warning: ")]
        assert len(sentences) == 1, err
        assert "unexpected" not in err
        return sentences[0]

    return run


# Training


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path / "run", "--dry-run")) == 0
    out = capsys.readouterr().out
    for part in (
        "digits: 1,797 images, 8x8 grey",
        "10: 0, 1, 2",
        "115 kB",
        "705,281 parameters",
        "0.031 GFLOP",
        "3 steps",
    ):
        assert part in out
    assert not (tmp_path / "run").exists()


def test_training_leaves_a_run_that_python_can_load(trained: Path) -> None:
    assert (trained / "report.html").exists()
    assert sorted(f.name for f in (trained / "samples").iterdir())[-1] == "step-00000003.png"
    images = ornstein.load(trained).sample(2, label=3, steps=2)
    assert images.shape == (2, 8, 8, 1)


def test_the_same_command_again_says_that_it_is_done(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = (copied / "model" / "model.safetensors").read_bytes()
    assert main(train(copied, "--save-every", "1")) == 0
    assert "is already trained: 3 steps" in capsys.readouterr().out
    assert (copied / "model" / "model.safetensors").read_bytes() == model


@pytest.mark.parametrize(("steps", "flags"), [(4, []), (4, ["--hold-out", "0.25"]), (3, [])])
def test_items_seen_a_thousand_times_bring_a_word_about_memorised_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int, flags: list[str]
) -> None:
    """4 steps of 250 items are 1,000 looks at each item of one, and 3 steps are 750."""
    np.save(tmp_path / "points.npy", np.arange(8.0).reshape(4, 2))
    items = 3 if flags else 4
    out, length = tmp_path / "run", ["--batch-size", str(250 * items), "--steps", str(steps)]
    assert main(["train", "--data", str(tmp_path / "points.npy"), "--out", str(out), *TINY[:2], *length, *flags]) == 0
    said = capsys.readouterr().out
    word = f"Each item was seen 1,000 times: `ornstein evaluate {out} --data {tmp_path / 'points.npy'}`"
    assert (word in said) == (steps == 4)
    assert ("--hold-out 0.1 keeps a part apart" in said) == (steps == 4 and not flags)


def test_more_steps_go_on_from_the_checkpoint(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(copied, "--save-every", "1", steps=5)) == 0
    assert "Going on from step 3" in capsys.readouterr().out
    assert [json.loads(line)["step"] for line in (copied / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends signals to this process after the second step of a training."""

    def arrange(*signals: signal.Signals) -> None:
        events = FolderTraining.__iter__

        def interrupt(self: FolderTraining) -> Iterator[Event]:
            for event in events(self):
                yield event
                if event.progress.step == 2:
                    for number in signals:
                        os.kill(os.getpid(), number)

        monkeypatch.setattr(FolderTraining, "__iter__", interrupt)

    return arrange


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(
    tmp_path: Path,
    interrupted: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    code: int,
) -> None:
    command = train(tmp_path / "my run", steps=6)
    before = signal.getsignal(number)
    interrupted(number)
    assert main(command) == code
    out = capsys.readouterr().out
    assert "Saved at step 2" in out
    assert f"--out '{tmp_path / 'my run'}'" in out
    assert (tmp_path / "my run" / "report.html").exists()
    assert signal.getsignal(number) is before


def test_a_stopped_run_goes_on_and_ends(
    tmp_path: Path, interrupted: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(signal.SIGINT)
    assert main(train(tmp_path / "run", steps=6)) == 130
    assert main(train(tmp_path / "run", steps=6)) == 0
    assert "Going on from step 2" in capsys.readouterr().out


def test_a_second_interrupt_stops_at_once(tmp_path: Path, interrupted: Callable[..., None], fails: Says) -> None:
    interrupted(signal.SIGINT, signal.SIGINT)
    assert "stopped at once" in fails(train(tmp_path / "run", "--save-every", "1", steps=6), 130).splitlines()[-1]
    assert next(checkpoints.checkpoints(tmp_path / "run" / "checkpoints")).name == "step-00000002"


# Sampling


def test_samples_are_those_of_python(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for solver, out, given in (("ddim", "a.npz", "3"), ("em", "b.npz", None)):
        label = ["--label", given] if given else []
        words = ["sample", str(trained), "-n", "5", "--solver", solver, "--steps", "4", "--seed", "7", *label]
        assert main([*words, "--out", str(tmp_path / out), "--batch-size", "2", "--device", "cpu"]) == 0
        kind = ornstein.solvers.DDIM() if solver == "ddim" else ornstein.solvers.EulerMaruyama()
        expected = ornstein.load(trained).sample(5, label=given, solver=kind, steps=4, seed=7)
        (found,) = np.load(tmp_path / out).values()
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - expected).max() <= 1  # batches differ by rounding
    text = capsys.readouterr().out
    assert "DDIM(eta=0.0): 4 steps, 4 network calls, no fresh noise" in text
    assert "fresh noise in each step" in text
    assert str(tmp_path / "a.npz") in text
    assert (
        main(["sample", str(trained), "-n", "1", "--steps", "4", "--out", str(tmp_path / "c.npz"), "--device", "cpu"])
        == 0
    )
    p, solver = ornstein.load(trained).model.path, ornstein.solvers.ABM()
    first = float(solver.table(p, solver.grid(p, 4)).times[0])
    assert f"4 network calls (the first at {first:.3g}), no fresh noise, times 1 " in capsys.readouterr().out


def test_a_busy_machine_is_named_before_the_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for others, named in ((100.0, True), (0.0, False)):
        monkeypatch.setattr(cpu, "taken_by_others", lambda files, others=others: others)
        words = ["sample", str(trained), "-n", "2", "--steps", "2", "--out", str(tmp_path / f"{others}.npz")]
        assert main([*words, "--device", "cpu"]) == 0
        assert ("Other programs take 100.0 of the" in capsys.readouterr().out) == named
        say_if_busy(torch.device("cuda"))
        assert not capsys.readouterr().out


def test_first_continues_a_seed(trained: Path, tmp_path: Path) -> None:
    for name, more in (("all", ["-n", "4"]), ("rest", ["-n", "2", "--first", "2"])):
        assert main(["sample", str(trained), *more, "--steps", "2", "--out", str(tmp_path / f"{name}.npz")]) == 0
    whole, rest = (np.load(tmp_path / f"{name}.npz")["samples"].astype(int) for name in ("all", "rest"))
    assert np.abs(whole[2:] - rest).max() <= 1


def test_a_picture_or_a_folder_by_the_ending(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("grid.png", "folder"):
        assert main(["sample", str(copied), "-n", "4", "--steps", "2", "--out", str(tmp_path / out)]) == 0
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (98, 98)
    files = sorted(f.name for f in (tmp_path / "folder").iterdir())
    assert files == [*[f"0000{i}.png" for i in range(4)], "samples.json"]
    assert main(["sample", str(copied), "-n", "4", "--steps", "2", "--label", "3"]) == 0
    default = copied / "samples-label-3-seed-0-abm-2.png"
    assert default.exists()
    assert str(default) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--label", "12"], "label: 12 is no class; the classes are 0, 1, 2"),
        (["--label", "seven"], "'seven' is no class"),
        (["--out", str(Path(__file__).parent)], "holds other files"),
        (["--solver", "huen"], "did you mean 'heun'?"),
        (["--out", "x.gif.txt"], "ending that is not known"),
        (["--device", "abacus"], "device: 'abacus' is not available here"),
    ],
)
def test_what_cannot_be_sampled(trained: Path, fails: Says, flags: list[str], says: str) -> None:
    before = contents(trained)
    assert says in fails(["sample", str(trained), *flags], 2)
    assert contents(trained) == before


# Looking


def test_info_shows_a_run_in_one_screen(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(trained)]) == 0
    out = capsys.readouterr().out
    for part in (
        "digits: 1,797 images, 8x8 grey",
        "UNet tiny: 705,281 parameters",
        "Linear()",
        "Velocity()",
        "3 steps of 4",
        "12 images, 0.00668 epochs",
        "(step 3)",
        f"ornstein sample {trained}",
        f"ornstein.load('{trained}')",
    ):
        assert part in out
    assert out.count("\n") <= 24


def test_info_knows_the_step_between_two_lines_of_metrics(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(tmp_path / "run", "--batch-size", "1", steps=103)) == 0
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 100
    capsys.readouterr()
    assert main(["info", str(tmp_path / "run")]) == 0
    assert "103 steps of 1 in" in capsys.readouterr().out
    assert "<b>103</b><span>steps" in (tmp_path / "run" / "report.html").read_text()


def test_info_on_a_run_without_a_model_yet(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copied / "model")
    assert main(["info", str(copied)]) == 0
    assert "No model yet" in capsys.readouterr().out


def test_info_and_sample_name_damaged_files(copied: Path, fails: Says, tmp_path: Path) -> None:
    assert "holds no trained model yet" in fails(["sample", str(tmp_path)], 1)
    assert "is no run folder" in fails(["info", str(copied / "model")], 2)
    weights = copied / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    for command in ("info", "sample"):
        assert "model.safetensors cannot be read" in fails([command, str(copied)], 1)
    (copied / "model" / "config.json").write_text("{")
    for command in ("info", "sample"):
        assert "config.json cannot be read" in fails([command, str(copied)], 1)


# Bad input


def images(folder: Path, count: int = 4, size: tuple[int, int] = (8, 8), mode: str = "L") -> Path:
    for i in range(count):
        (folder / "abc"[i % 3]).mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, 40 * i if mode == "L" else (40 * i,) * len(mode)).save(folder / "abc"[i % 3] / f"{i}.png")
    return folder


def huge() -> bytes:
    """The beginning of a PNG that claims 20,000 x 20,000 pixels."""
    real = png(np.zeros((2, 2, 3), np.uint8))
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return real[:12] + header + struct.pack(">I", zlib.crc32(header)) + real[33:]


def test_a_folder_without_images(tmp_path: Path, fails: Says) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no images" in fails(train(tmp_path / "run", data=str(tmp_path / "empty")), 2)
    assert "There is no data source" in fails(train(tmp_path / "run", data=str(tmp_path / "emtpy")), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (png(np.zeros((8, 8, 1), np.uint8))[:40], "c/bad.png"),
        (b"not an image", "c/bad.png: not an image"),
        (huge(), "c/bad.png: more than 80 megapixels"),
    ],
    ids=["corrupt", "text", "huge"],
)
def test_one_unreadable_file_is_skipped_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fails: Says, damage: bytes, says: str
) -> None:
    folder = images(tmp_path / "images")
    (folder / "c" / "bad.png").write_bytes(damage)
    assert main(train(tmp_path / "run", "--dry-run", data=str(folder))) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: 1 of 5 files")
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert "4 images" in captured.out
    (folder / "c" / "worse.png").write_bytes(damage)
    assert "2 of 6 files" in fails(train(tmp_path / "run", "--dry-run", data=str(folder)), 1)


def test_mixed_sizes_and_modes_become_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "images")
    images(folder / "a", 2, (30, 20), "RGBA")
    assert main(train(tmp_path / "run", "--dry-run", "--size", "16", data=str(folder))) == 0
    assert "6 images, 16x16 colour" in capsys.readouterr().out
    assert main(train(tmp_path / "run", "--dry-run", data=str(folder))) == 0
    assert "different sizes" in capsys.readouterr().err


def test_large_images_bring_the_advice_to_shrink_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ornstein.cli.following import read
    from ornstein.settings import Settings

    folder = images(tmp_path / "images", 2, (256, 256))
    read(Settings(data=str(folder)))
    assert "--size 64 trains about 16 times faster" in capsys.readouterr().out


def test_a_run_folder_with_other_settings_is_left_alone(copied: Path, tmp_path: Path, fails: Says) -> None:
    before = contents(copied)
    sentence = fails(train(copied, "--seed", "1", "--path", "cosine"), 2)
    assert "seed: 0 -> 1" in sentence
    assert "path: linear -> cosine" in sentence
    assert contents(copied) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "holds no run" in fails(train(tmp_path / "mine"), 2)
    assert contents(tmp_path / "mine") == {"letter.txt": b"dear"}


def test_a_run_killed_before_its_first_step_can_be_started_again(tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".lock").write_text("process 1 on here")
    assert main(train(tmp_path / "run", steps=1)) == 0


def test_a_run_killed_between_checkpoint_and_model_gets_its_model(copied: Path) -> None:
    before = (copied / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(copied / "model")
    assert main(train(copied, "--save-every", "1")) == 0
    assert (copied / "model" / "model.safetensors").read_bytes() == before


def test_a_flipped_bit_sets_the_checkpoint_aside(copied: Path, capsys: pytest.CaptureFixture[str], fails: Says) -> None:
    def flip(step: int) -> None:
        weights = copied / "checkpoints" / f"step-{step:08d}" / "weights.safetensors"
        data = bytearray(weights.read_bytes())
        data[len(data) // 2] ^= 1
        weights.write_bytes(data)

    flip(3)
    assert main(train(copied, "--save-every", "1")) == 0
    out = capsys.readouterr().out
    assert "step-00000003 is damaged" in out
    assert "Going on from step 2" in out
    flip(2)
    flip(3)
    assert "every checkpoint" in fails(train(copied, "--save-every", "1"), 1)
    assert (copied / "checkpoints" / "step-00000002.damaged").exists()


def test_a_full_disk_keeps_the_last_checkpoint(copied: Path, monkeypatch: pytest.MonkeyPatch, fails: Says) -> None:
    def refuse(*_: object) -> None:
        raise SafetensorError("Error while serializing: No space left on device")

    before = {name: data for name, data in contents(copied).items() if name.endswith(".safetensors")}
    with monkeypatch.context() as patch:
        patch.setattr(tensors, "save_file", refuse)
        sentence = fails(train(copied, "--save-every", "1", steps=5), 1)
    assert "could not be written" in sentence
    assert "No space left on device" in sentence
    assert {name: data for name, data in contents(copied).items() if name.endswith(".safetensors")} == before
    assert main(train(copied, "--save-every", "1", steps=5)) == 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--path", "liner"], "path: 'liner' is not one of"),
        (["--path", "liner"], "did you mean 'linear'?"),
        (["--target", "noise"], "cannot be inverted"),
        (["--network", "mlp"], "does not fit image data"),
        (["--preset", "tinny"], "did you mean"),
        (["--minutes", "1"], "give --steps or --minutes, not both"),
        (["--batch-size", "0"], "must be positive"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, fails: Says, flags: list[str], says: str) -> None:
    assert says in fails(train(tmp_path / "run", *flags), 2)
    assert not (tmp_path / "run").exists()


# The demo


def test_the_demo_trains_draws_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["demo", "--out", "runs/it", "--minutes", "0.01", "--device", "cpu"]
    assert main(words) == 0
    out = capsys.readouterr().out
    for place in (tmp_path / "runs/it/samples-by-class.png", tmp_path / "runs/it/report.html"):
        assert place.exists()
        assert str(place) in out
    assert "ornstein train --data FOLDER" in out
    assert main(words) == 0
    assert "is already trained" in capsys.readouterr().out


def test_progress_is_a_bar_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ornstein.meter import Meter

    with Meter("training") as meter:
        for i in range(100):
            meter.update(i / 100, f"step {i}")
    assert capsys.readouterr().out == "training   0 %  step 0\ntraining  99 %  step 99\n"
    with Meter("reading", patience=60) as meter:
        meter.update(0.5, "half")
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Meter("training") as meter:
        meter.update(0.5, "step 7")
        meter.tell("a line [that] stays")
    out = capsys.readouterr().out
    assert "step 7" in out
    assert "a line [that] stays\n" in out


def test_info_of_a_run_that_diverged_suggests_no_sampling(
    tmp_path: Path, fails: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its first checkpoint and after; a run that goes on well is one like others again."""
    for every, says in (("50", "No model: the training diverged"), ("1", "Samples may be broken")):
        out = tmp_path / every
        rising = ["--learning-rate", "1e5", "--warmup", "0", "--save-every", every]
        assert "10 steps in a row" in fails(train(out, *rising, steps=90), 1)
        capsys.readouterr()
        assert main(["info", str(out)]) == 0
        said = capsys.readouterr().out
        assert says in said
        assert "Sample it" not in said
        assert "ornstein sample" not in said
    lines = out / "metrics.jsonl"
    lines.write_text("".join(line + "\n" for line in lines.read_text().splitlines() if "diverged" not in line))
    assert main(["info", str(out)]) == 0
    assert "Sample it" in capsys.readouterr().out


def test_info_of_weights_that_are_not_finite(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = copied / "model" / "model.safetensors"
    tensors = load_file(file)
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        broken = {key: tensor.clone() for key, tensor in tensors.items()}
        next(reversed(broken.values())).view(-1)[-1] = value
        save_file(broken, file)
        assert main(["info", str(copied)]) == 0
        said = capsys.readouterr().out
        assert "not finite, so nothing can be sampled" in said, name
        assert "Sample it" not in said


def test_the_report_is_there_while_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Says) -> None:
    """From the first grid on it reloads itself; at the end it does not, and after a failure it says what went wrong."""
    pages = []
    inner = FolderTraining.__iter__

    def watched(run: FolderTraining) -> Iterator[Event]:
        before = None
        for event in inner(run):
            if before is not None and before.grid:
                pages.append((run.folder / "report.html").read_text())
            before = event
            yield event
            if event.progress.step == 6:
                raise OrnsteinError("struck by lightning")

    monkeypatch.setattr(FolderTraining, "__iter__", watched)
    assert main(train(tmp_path / "run", steps=4)) == 0
    assert pages
    assert all('http-equiv="refresh"' in page and "% done" in page for page in pages)
    last = (tmp_path / "run" / "report.html").read_text()
    assert "refresh" not in last
    assert "% done" not in last
    assert "struck by lightning" in fails(train(tmp_path / "other", steps=9), 1)
    last = (tmp_path / "other" / "report.html").read_text()
    assert "refresh" not in last
    assert "The training ended early (struck by lightning)" in last

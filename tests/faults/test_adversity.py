"""Full disks, closed folders, two writers, signals, NaN: a sentence, nothing lost, in the end the unbroken run, bit for bit."""

import json
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ornstein import data
from ornstein.folder import checkpoints

LENGTH = ["--steps", "6", "--save-every", "2", "--keep", "2", "--snapshots", "0", "--samples", "0"]
TINY = ["--preset", "tiny", "--batch-size", "4", "--device", "cpu"]


def train(points: Path, out: Path, *more: str) -> list[str]:
    return ["train", "--data", str(points), "--out", str(out), *LENGTH, *TINY, *more]


def last(out: Path) -> dict[str, torch.Tensor]:
    """All numbers that a run ended with: weights, averages, optimiser, and the model that is sampled."""
    place = next(checkpoints.checkpoints(out / "checkpoints"))
    files = [*place.glob("*.safetensors"), *out.glob("model/*.safetensors")]
    return {f"{file.name}.{name}": tensor for file in files for name, tensor in load_file(file).items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(points: Path, tmp_path_factory: pytest.TempPathFactory, forked: Any) -> dict[str, torch.Tensor]:
    """What a run ends with that nothing happens to."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert forked((train(points, out), {})).code == 0
    return last(out)


def goes_on(points: Path, out: Path, whole: dict[str, torch.Tensor], forked: Any) -> None:
    """The same command ends as if nothing had happened, and leaves no litter."""
    places = list(checkpoints.checkpoints(out / "checkpoints"))
    assert [checkpoints.damage(place) for place in places] == [None] * len(places)
    end = forked((train(points, out), {}))
    assert (end.code, end.err) == (0, ""), end
    assert same(last(out), whole)
    assert [path for path in out.rglob(".*") if path.name != ".lock"] == []
    shutil.rmtree(out)


def told(end: Any, *words: str) -> None:
    """It failed, in one sentence that holds the words."""
    assert end.code == 1, end
    lines = end.err.strip().splitlines()
    assert len(lines) == 1, end
    assert all(word in lines[0] for word in words), end


def test_a_disk_that_refuses(points: Path, tmp_path: Path, whole: Any, forked: Any, cases: Any) -> None:
    """At a byte of a file at random: of a line, a header, a tensor."""
    out = tmp_path / "run"
    for rng in cases(2, 50):
        largest = rng.choice([rng.randrange(4000, 20_000), rng.randrange(20_000, 1_400_000), rng.randrange(3_000_000)])
        end = forked((train(points, out), {"largest": max(largest, 4000)}))  # what it says must find room
        if end.code:
            told(end, str(out), "File too large", "free some space")
        goes_on(points, out, whole, forked)


def test_a_full_disk(points: Path, disk: Path, whole: Any, forked: Any, cases: Any) -> None:
    def fill() -> None:
        with suppress(OSError):
            filler.write_bytes(bytes(190 << 20))

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)

    out, filler = disk / "run", disk / "filler"
    for number, rng in enumerate(cases(3, 50)):
        resize(200 << 20)
        room = [32 << 10, rng.randrange(9 << 20, 26 << 20), rng.randrange(14 << 20, 20 << 20)][number % 3]
        if number % 2 and room > 1 << 20:  # met in the middle: room there was at first is taken by another
            timer = threading.Timer(rng.random() * 3, fill)
            timer.start()
            end = forked((train(points, out), {}))
            timer.join()
            filler.unlink(missing_ok=True)
        else:
            resize(room)
            end = forked((train(points, out), {}))
        if end.code:
            assert end.code == 1, end
            assert str(out) in end.err, end
            assert "room for" in end.err or "No space left" in end.err, end
        resize(200 << 20)
        goes_on(points, out, whole, forked)


def test_folders_that_may_not_be_written(points: Path, tmp_path: Path, whole: Any, forked: Any, cases: Any) -> None:
    """Closed before the run, after a part of it, or in its middle."""
    out = tmp_path / "run"
    names = [".", "checkpoints", "model"]
    for number, rng in enumerate(cases(2, 50)):
        name = names[(number + 1) % len(names)]
        if number % 3:
            assert forked((train(points, out), {"within": str(out), "at": rng.randrange(30, 70)})).code == -9
            (out / name).mkdir(exist_ok=True)
            (out / name).chmod(0o555)
            end = forked((train(points, out), {"bound": True}))
        else:

            def close(name: str = name) -> None:
                if (out / name).exists():
                    (out / name).chmod(0o555)

            timer = threading.Timer(rng.random() * 3, close)
            timer.start()
            end = forked((train(points, out), {"bound": True}))
            timer.join()
        if end.code:
            told(end, str(out), "Permission denied")
        for path in (out, *out.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        goes_on(points, out, whole, forked)


def test_a_place_where_no_folder_can_be(points: Path, tmp_path: Path, forked: Any) -> None:
    tmp_path.chmod(0o555)
    told(forked((train(points, tmp_path / "run"), {"bound": True})), "Permission denied", str(tmp_path / "run"))
    tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


def test_two_writers(points: Path, tmp_path: Path, whole: Any, forked: Any, cases: Any) -> None:
    """Started at once: one trains; the other is told who does, or comes when all is done."""
    out = tmp_path / "run"
    for _ in cases(2, 50):
        ends = forked((train(points, out), {}), (train(points, out), {}))
        assert sorted(end.code for end in ends) in ([0, 0], [0, 1]), ends
        for end in ends:
            if end.code:
                told(end, "is being trained by process", "wait for it, or stop it")
            elif "already trained" not in end.out:
                assert same(last(out), whole)
        goes_on(points, out, whole, forked)


def test_another_run_in_the_same_folder_at_once(points: Path, tmp_path: Path, forked: Any, cases: Any) -> None:
    """Of other settings: one of them has the folder, and what it wrote."""
    out = tmp_path / "run"
    for _ in cases(1, 50):
        jobs = [(train(points, out, "--seed", seed), {}) for seed in ("1", "2")]
        ends = forked(*jobs)
        assert sorted(end.code for end in ends) in ([0, 1], [0, 2]), ends
        (end,) = (end for end in ends if end.code)
        assert "is being trained by process" in end.err or "seed: " in end.err, end
        shutil.rmtree(out)


def test_signals(points: Path, tmp_path: Path, whole: Any, forked: Any, cases: Any) -> None:
    """At any moment: saved within seconds, or ended before there was anything to save."""
    out = tmp_path / "run"
    for number, rng in enumerate(cases(3, 50)):
        kind = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[number % 3]
        after = 0.2 + rng.random() * 2
        end = forked((train(points, out), {"after": after, "signal": int(kind)}))
        assert end.code in (0, 128 + kind, -kind), end
        if end.code == 128 + kind and "Stopping" in end.err:
            assert "Saved at step" in end.out, end
            assert list(checkpoints.checkpoints(out / "checkpoints"))
        if end.code:
            assert end.seconds - after < 120, end  # seconds, but on machines of any load
        if out.exists():
            goes_on(points, out, whole, forked)


def test_a_reader_that_goes_away(points: Path, tmp_path: Path, whole: Any) -> None:
    """`ornstein train ... | head -1`: what was trained is saved."""
    from ornstein.cli import main
    from ornstein.meter import Meter

    out, say = tmp_path / "run", Meter.update

    def closed(self: Any, done: float, text: str) -> None:
        if text.startswith("step 3"):
            raise BrokenPipeError
        say(self, done, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "update", closed)
        patch.setattr("os.dup2", lambda *_: 0)
        assert main(train(points, out)) == 1
    assert next(checkpoints.checkpoints(out / "checkpoints")).name == "step-00000003"


def test_numbers_that_are_none(points: Path, tmp_path: Path, forked: Any, cases: Any) -> None:
    """Steps that meet them are skipped, counted and told; averages stay finite; ten in a row end the run and cost nothing."""
    out, parts = tmp_path / "run", tmp_path / "parts"

    def end(out: Path, poisoned: list[int], at: int | None = None) -> Any:
        length = ["--steps", "30", "--save-every", "1", "--keep", "1", "--samples", "0", "--snapshots", "0"]
        return forked(
            (
                ["train", "--data", str(points), "--out", str(out), *length, *TINY],
                {"poisoned": poisoned, "within": str(out), "at": at},
            )
        )

    for rng in cases(2, 50):
        poisoned = rng.sample(range(64), rng.choice([1, 2, 8, 40, 64]))
        met = [bool({*data.order(0, step, 4, 64).tolist()} & {*poisoned}) for step in range(30)]
        ended = next((i for i in range(9, 30) if all(met[i - 9 : i + 1])), None)
        done = end(out, poisoned)
        if ended is None:
            assert (done.code, done.err) == (0, ""), done
            assert f"{sum(met)} of 30 steps had no finite loss" in done.out, done
            state = json.loads((next(checkpoints.checkpoints(out / "checkpoints")) / "state.json").read_text())
            assert (state["step"], state["skipped"]) == (30, sum(met))
            assert end(parts, poisoned, rng.randrange(1, done.changes)).code == -9
            assert end(parts, poisoned).code == 0
            assert same(last(out), last(parts))
            shutil.rmtree(parts)
        else:
            told(done, f"10 steps in a row, up to step {ended + 1}", "last good checkpoint is kept")
            good = [step + 1 for step in range(ended - 9) if not met[step]]
            kept = [int(place.name[5:]) for place in checkpoints.checkpoints(out / "checkpoints")]
            assert kept == good[-1:], (kept, good)
        if list(checkpoints.checkpoints(out / "checkpoints")):
            assert all(tensor.isfinite().all() for tensor in last(out).values())
        shutil.rmtree(out)

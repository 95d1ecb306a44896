"""The flags of guidance, in every command that has them: what they do, what is written down, what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ornstein
from ornstein.cli import guidance_flags, main
from ornstein.cli.options import Sample
from ornstein.guidance import APG, GuidanceConfig, NegativeLabel, WeakModel
from ornstein.metrics import cnn

TRAIN = ["--data", "digits", "--steps", "12", "--samples", "0", "--preset", "tiny", "--batch-size", "4"]
QUICK = ["--steps", "2", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setattr(cnn, "STEPS", 20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", *TRAIN, "--out", str(out), "--device", "cpu"]) == 0
    return out


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def drawn(run: Path, out: Path, *flags: str) -> np.ndarray:
    assert main(["sample", str(run), "-n", "3", "--out", str(out), "--force", *QUICK, *flags]) == 0
    with np.load(out) as arrays:
        return arrays["samples"]


def test_samples_are_those_of_python(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scale 1 is bit-equal to no flag; every flag is the value of `ornstein.guidance` that it stands for."""
    loaded, out = ornstein.load(trained), tmp_path / "x.npz"
    plain = drawn(trained, out, "--label", "3")
    assert "on Linear(), no guidance." in capsys.readouterr().out
    np.testing.assert_array_equal(drawn(trained, out, "--label", "3", "--guidance", "1"), plain)
    np.testing.assert_array_equal(loaded.sample(3, label=3, steps=2), plain)
    snapshot = trained / "averages" / "update-00000008.safetensors"
    guides = {
        "--guidance 2": GuidanceConfig(2.0),
        "--guidance 2 --guidance-method rescaled": GuidanceConfig(2.0, rescale=0.7),
        "--guidance 3 --guidance-method apg --guidance-interval 0.2,5": GuidanceConfig(3.0, APG, (0.2, 5.0)),
        "--guidance 2 --not-label 8": GuidanceConfig(2.0, negative=NegativeLabel(8)),
        f"--guidance 2 --autoguidance {snapshot}": GuidanceConfig(
            2.0, negative=WeakModel(loaded.earlier(snapshot).denoiser)
        ),
    }
    for flags, guide in guides.items():
        samples = drawn(trained, out, "--label", "3", *flags.split())
        np.testing.assert_array_equal(samples, loaded.sample(3, label=3, steps=2, guide=guide))
        assert (samples != plain).any()
    assert "guidance 2, away from update-00000008-" in capsys.readouterr().out
    weaker = guidance_flags.guide(Sample(guidance=2.0, autoguidance=str(trained)), loaded).negative
    assert str(weaker) == f"away from digits-{loaded.weights_hash[:8]}"


def test_a_folder_is_gone_on_with_under_the_same_guidance(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sample", str(trained), "--out", str(tmp_path / "some"), *QUICK]
    assert main([*words, "-n", "2", "--guidance", "2"]) == 0
    assert main([*words, "-n", "3", "--guidance", "2"]) == 0
    assert "holds 2 of the 3 samples already" in capsys.readouterr().out
    for other in ([], ["--guidance", "3"], ["--guidance", "2", "--not-label", "8"]):
        assert main([*words, "-n", "3", *other]) == 2
        assert "made otherwise (guidance)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--not-label 8", "--not-label 8 does nothing at scale 1; give for example --guidance 2"),
        ("--guidance nan", "--guidance nan is no finite number; give for example"),
        ("--guidance 2 --guidance-method cg", "guidance-method: 'cg' is not one of cfg, rescaled, cfg-zero, apg"),
        ("--guidance 2 --guidance-interval 5", "--guidance-interval '5' must be two noise levels"),
        ("--guidance 2 --guidance-interval 5,1", "--guidance-interval '5,1' must be two noise levels that rise from 0"),
        ("--guidance 2 --not-label 12", "label: 12 is no class; the classes are 0, 1"),
        ("--guidance 2 --not-label 1 --autoguidance x", "give either --not-label or --autoguidance"),
        ("--guidance 2 --autoguidance nowhere", "--autoguidance nowhere is not there; give a run folder"),
        ("--guidance 2 --solver tuned --not-label 8", "--steps 20 --guidance 2 --not-label 8`"),
    ],
)
def test_what_means_nothing_is_one_sentence(
    trained: Path, capsys: pytest.CaptureFixture[str], flags: str, says: str
) -> None:
    assert main(["sample", str(trained), "--device", "cpu", *flags.split()]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_flags_are_told_as_they_were_given() -> None:
    asked = Sample(run="runs/v2.0", guidance=2.5, guidance_interval="0.2,5.0", autoguidance="runs/v1.0")
    assert guidance_flags.flags(asked) == ["--guidance 2.5", "--guidance-interval 0.2,5.0", "--autoguidance runs/v1.0"]
    assert guidance_flags.flags(Sample(guidance=2.0)) == ["--guidance 2"]


def test_a_weaker_model_of_other_data_or_on_another_path(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "points.npy", np.zeros((20, 2), np.float32) + np.arange(20)[:, None])
    start = ["train", "--steps", "1", "--samples", "0", "--batch-size", "4", "--device", "cpu"]
    assert main([*start, "--data", str(tmp_path / "points.npy"), "--out", str(tmp_path / "points")]) == 0
    assert main([*start, "--data", "digits", "--path", "cosine", "--out", str(tmp_path / "cosine")]) == 0
    words = ["sample", str(trained), "--guidance", "2", "--device", "cpu", "--autoguidance"]
    for other, says in (("points", "makes other items or classes than"), ("cosine", "both need the same path")):
        assert main([*words, str(tmp_path / other)]) == 2
        assert says in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "points"), "--guidance", "2", "--device", "cpu"]) == 2
    assert "so there is nothing to guide it towards" in capsys.readouterr().err


def test_a_tuned_solver_for_guided_samples(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["tune", str(run), *QUICK, "--seconds", "1", "--starts", "48", "--teacher", "8"]
    assert main([*fit, "--guidance", "2"]) == 0
    out = capsys.readouterr().out
    assert "guidance 2." in out
    assert f"ornstein sample {run} --solver tuned --steps 2 --guidance 2" in out
    loaded = ornstein.load(run)
    for label in ([], ["--label", "3"]):
        samples = drawn(run, tmp_path / "x.npz", "--solver", "tuned", "--guidance", "2", *label)
        solver, guide = loaded.tuned(2, guide=GuidanceConfig(2.0)), GuidanceConfig(2.0)
        expected = loaded.sample(3, label=label[1] if label else None, steps=2, solver=solver, guide=guide)
        np.testing.assert_array_equal(samples, expected)
    capsys.readouterr()
    assert main(["sample", str(run), "--solver", "tuned", *QUICK, "--guidance", "3"]) == 2
    assert (
        f"tuned with guidance 3 yet; make it with `ornstein tune {run} --steps 2 --guidance 3`"
        in capsys.readouterr().err
    )


def test_editing_is_guided(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, small = tmp_path / "a.png", tmp_path / "small.png"
    for file, side in ((image, 8), (small, 4)):
        Image.fromarray((np.arange(side * side).reshape(side, side) * 3).astype(np.uint8)).save(file)
    commands = {
        "edit": [str(image), "--strength", "0.8"],
        "interpolate": [str(image), str(image), "--frames", "2"],
        "restore": [str(small), "--method", "diffpir"],
    }
    for name, words in commands.items():
        start = [name, str(run), *words, *QUICK, "--out"]
        made = {}
        for flags in ("", "--label 3", "--label 3 --guidance 1", "--label 3 --guidance 4"):
            assert main([*start, str(tmp_path / "x.npz"), "--force", *flags.split()]) == 0
            with np.load(tmp_path / "x.npz") as arrays:
                made[flags] = arrays["samples"]
        np.testing.assert_array_equal(made["--label 3"], made["--label 3 --guidance 1"])
        if name != "interpolate":  # after two steps hardly anything of a round trip is left
            assert (made["--label 3"] != made["--label 3 --guidance 4"]).any()
        capsys.readouterr()
        assert main([*start, str(tmp_path / "x.npz"), "--guidance", "2"]) == 2
        assert "--guidance 2 needs something to guide towards; give a --label with it" in capsys.readouterr().err


def test_evaluation_says_how_samples_were_guided(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", str(run), "-n", "120", *QUICK, "--features", "pixels", "--metrics", "kid", "--guidance", "2"]
    assert main(words) == 0
    assert "guidance 2." in capsys.readouterr().out
    (file,) = (run / "evaluation").glob("*guidance-2*.json")
    found = json.loads(file.read_text())
    assert found["samples"]["guidance"] == "guidance 2"
    assert found["title"].endswith("guidance 2")


def test_the_help_shows_shared_flags_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "--help"]) == 0
    _, out = capsys.readouterr().out.split("positional arguments")
    places = [out.index(f"{flag} ") for flag in ("--count", "--guidance", "--autoguidance", "--device")]
    assert places == sorted(places)

"""`ornstein edit`, `interpolate` and `restore`: what they write, that a seed repeats, and what they refuse."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein.cli import main

TINY = ["--preset", "tiny", "--batch-size", "4", "--device", "cpu", "--steps", "3", "--samples", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images, one of vectors, and files to work on."""
    root = tmp_path_factory.mktemp("editing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        rng = np.random.default_rng(0)
        np.save(root / "points.npy", rng.normal(size=(40, 3)).astype(np.float32))
        assert main(["train", "--data", "digits", "--out", str(root / "run"), *TINY]) == 0
        assert main(["train", "--data", str(root / "points.npy"), "--out", str(root / "vectors"), *TINY]) == 0
        np.save(root / "series.npy", rng.normal(size=(40, 2, 24)).astype(np.float32))
        words = ["--layout", "NCL", "--out", str(root / "series")]
        assert main(["train", "--data", str(root / "series.npy"), *words, *TINY]) == 0
        np.save(root / "five-columns.npy", rng.normal(size=(40, 5)).astype(np.float32))
        words = ["train", "--data", str(root / "five-columns.npy"), "--out", str(root / "wide-vectors")]
        assert main([*words, *TINY]) == 0
    np.save(root / "line.npy", np.ones((2, 24), np.float32))
    np.save(root / "short.npy", np.ones((2, 12), np.float32))
    np.save(root / "hole.npy", np.arange(24) > 12)
    np.save(root / "lacking.npy", np.array([1, np.nan, np.nan], np.float32))
    np.save(root / "lacking-too-much.npy", np.array([np.nan, 1, np.nan], np.float32))
    np.save(root / "five.npy", np.ones((1, 5), np.float32))
    for name, size in (("a", (8, 8)), ("b", (8, 8)), ("wide", (20, 10)), ("small", (4, 4))):
        Image.fromarray(rng.integers(0, 255, size[::-1], dtype=np.uint8)).save(root / f"{name}.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask * 0).save(root / "black.png")
    Image.fromarray(mask * 0 + 255).save(root / "white.png")
    np.save(root / "two.npy", np.ones((2, 3), np.float32))
    np.save(root / "one.npy", np.ones((1, 3), np.float32))
    np.save(root / "mask.npy", np.array([0, 1, 1]))
    (root / "text.png").write_text("no image")
    return root


@pytest.fixture
def call(place: Path, tmp_path: Path) -> Callable[..., int]:
    """Runs a command of words, where those that name a file of `place` or begin with > become paths."""

    def run(*words: str) -> int:
        known = [str(place / w) if (place / w).exists() and w else w for w in words]
        return main([str(tmp_path / w[1:]) if w.startswith(">") else w for w in known])

    return run


def arrays(file: Path) -> np.ndarray:
    with np.load(file) as found:
        return found["samples"]


def test_inpainting_keeps_what_is_black_and_repeats(call: Callable[..., int], place: Path, tmp_path: Path) -> None:
    words = ["edit", "run", "a.png", "--mask", "mask.png", "--steps", "3"]
    assert call(*words, "-n", "3", "--out", ">three.npz") == 0
    made = arrays(tmp_path / "three.npz")
    assert made.shape == (3, 8, 8, 1)
    given = np.asarray(Image.open(place / "a.png"))[..., None] / 255 * 16
    assert np.abs(made[:, :, :4] - given[None, :, :4]).max() <= 0.51  # rounded to the run's 0 to 16
    assert made[:, :, 4:].std(0).max() > 0
    assert call(*words, "--out", ">one.npz") == 0
    assert np.array_equal(arrays(tmp_path / "one.npz"), made[:1])
    assert call(*words, "--out", ">other.npz", "--method", "replacement", "--label", "3") == 0
    with Image.open(tmp_path / "three-beside.png") as shown:
        assert shown.size == (5 * 48 + 4 * 2, 48)  # given, with the mask, and three versions


def test_a_strength_is_how_far_it_goes(call: Callable[..., int], place: Path, tmp_path: Path) -> None:
    given = np.asarray(Image.open(place / "a.png"), float)
    gaps = []
    for strength in ("0.02", "0.9"):
        assert (
            call("edit", "run", "a.png", "--strength", strength, "--steps", "5", "--out", ">made.png", "--force") == 0
        )
        with Image.open(tmp_path / "made.png") as made:
            assert made.size == (8, 8)
            gaps.append(np.abs(np.asarray(made, float) - given).mean())
    assert gaps[0] < 12 < gaps[1]


def test_a_picture_of_another_size_is_fitted_with_a_word(
    call: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("edit", "run", "wide.png", "--strength", "0.5", "--steps", "2", "--out", ">folder", "-n", "2") == 0
    assert "wide.png is 20x10 and becomes 8x8, cropped at the centre." in capsys.readouterr().out
    assert sorted(f.name for f in (tmp_path / "folder").iterdir()) == ["00000.png", "00001.png", "samples.json"]


def test_vectors_are_edited_and_interpolated(call: Callable[..., int], tmp_path: Path) -> None:
    assert call("edit", "vectors", "two.npy", "--mask", "mask.npy", "--steps", "2", "-n", "2", "--out", ">v.npz") == 0
    made = arrays(tmp_path / "v.npz")
    assert made.shape == (4, 3)
    np.testing.assert_allclose(made[:, 0], 1, atol=1e-5)
    assert call("edit", "vectors", "two.npy", "--strength", "0.4", "--steps", "2", "--out", ">s.npz") == 0
    assert arrays(tmp_path / "s.npz").shape == (2, 3)
    assert call("interpolate", "vectors", "one.npy", "one.npy", "--frames", "3", "--steps", "4", "--out", ">i.npz") == 0
    assert arrays(tmp_path / "i.npz").shape == (3, 3)


def test_interpolation_writes_its_frames(call: Callable[..., int], place: Path, tmp_path: Path) -> None:
    assert (
        call(
            "interpolate", "run", "a.png", "b.png", "--frames", "5", "--steps", "30", "--out", ">f.npz", "--label", "2"
        )
        == 0
    )
    frames = arrays(tmp_path / "f.npz").astype(float)
    assert frames.shape == (5, 8, 8, 1)
    for i, name in ((0, "a.png"), (4, "b.png")):
        given = np.asarray(Image.open(place / name))[..., None] / 255 * 16
        assert np.abs(frames[i] - given).mean() < 1.0
    assert call("interpolate", "run", "a.png", "b.png", "--frames", "5", "--steps", "3", "--out", ">f.png") == 0
    with Image.open(tmp_path / "f.png") as shown:
        assert shown.size == (5 * 48 + 4 * 2, 48)


@pytest.mark.parametrize("method", ["mmps", "pigdm", "dps", "diffpir"])
def test_restoring_with_each_method(method: str, call: Callable[..., int], tmp_path: Path) -> None:
    common = ["--method", method, "--steps", "3", "-n", "2", "--force", "--out", ">r.npz"]
    assert call("restore", "run", "small.png", "--operator", "downsample", *common) == 0
    assert call("restore", "run", "a.png", "--operator", "blur", "--width", "0.7", *common) == 0
    assert call("restore", "run", "a.png", "--operator", "mask", "--mask", "mask.png", "--label", "1", *common) == 0
    assert arrays(tmp_path / "r.npz").shape == (2, 8, 8, 1)
    assert (tmp_path / "r-beside.png").exists()


def test_series_are_restored_and_vectors_masked(call: Callable[..., int], tmp_path: Path) -> None:
    common = ["--steps", "3", "-n", "2", "--force", "--out", ">r.npz"]
    assert call("restore", "series", "short.npy", "--operator", "downsample", *common) == 0
    assert (tmp_path / "r-beside.png").exists()
    assert call("restore", "series", "line.npy", "--operator", "blur", *common) == 0
    assert call("restore", "series", "line.npy", "--operator", "mask", "--mask", "hole.npy", *common) == 0
    assert arrays(tmp_path / "r.npz").shape == (2, 2, 24)
    for file in ("lacking.npy", "lacking-too-much.npy"):
        code = call("restore", "vectors", file, "--operator", "mask", "--mask", "mask.npy", *common)
        assert code == (0 if file == "lacking.npy" else 1)
    assert call("restore", "vectors", "one.npy", "--operator", "mask", "--mask", "mask.npy", *common) == 0
    assert arrays(tmp_path / "r.npz").shape == (2, 3)


def test_vectors_are_drawn_as_points(call: Callable[..., int], tmp_path: Path) -> None:
    assert call("interpolate", "vectors", "one.npy", "one.npy", "--steps", "3", "--out", ">w.png") == 0
    assert call("edit", "vectors", "two.npy", "--strength", "0.5", "--steps", "3", "-n", "5", "--out", ">e.png") == 0
    with Image.open(tmp_path / "w.png") as path, Image.open(tmp_path / "e.png") as edits:
        assert path.size == edits.size
    assert call("interpolate", "vectors", "one.npy", "one.npy", "--steps", "3", "--out", ">w.gif") == 0
    with Image.open(tmp_path / "w.gif") as moving:
        assert moving.size == path.size


def test_an_index_is_the_place_of_a_class(call: Callable[..., int], place: Path, tmp_path: Path) -> None:
    commands = (
        ["edit", "run", "a.png", "--strength", "0.5"],
        ["sample", "run", "-n", "2"],
        ["interpolate", "run", "a.png", "b.png", "--frames", "3"],
        ["restore", "run", "small.png"],
    )
    for command in commands:
        made = []
        for flags in ("--label", "--label-index"):
            assert call(*command, flags, "3", "--steps", "2", "--force", "--out", ">x.npz") == 0
            made.append(arrays(tmp_path / "x.npz"))
        np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["edit"], "a run folder and an image"),
        (["edit", "run", "a.png"], "either --mask FILE"),
        (["edit", "run", "a.png", "--mask", "mask.png", "--strength", "0.5"], "either --mask FILE"),
        (["edit", "run", "a.png", "--strength", "1.5"], "--strength 1.5"),
        (["edit", "run", "a.png", "--strength", "0.5", "-n", "0"], "--count 0"),
        (["edit", "run", "none.png", "--strength", "0.5"], "no file"),
        (["edit", "run", "text.png", "--strength", "0.5"], "cannot be read as an image"),
        (["edit", "run", "two.npy", "--strength", "0.5"], "has shape (2, 3), but the run makes images"),
        (["edit", "run", "wide.png", "--mask", "mask.png"], "is 8x8, but the image is 20x10"),
        (["edit", "run", "a.png", "--mask", "black.png"], "black everywhere"),
        (["edit", "run", "a.png", "--mask", "white.png"], "white everywhere"),
        (["edit", "run", "a.png", "--mask", "mask.npy"], "mask.npy: it has shape (3,)"),
        (["edit", "run", "a.png", "--mask", "mask.png", "--method", "magic"], "'magic'"),
        (["edit", "run", "a.png", "--strength", "0.5", "--label", "11"], "11"),
        (["edit", "run", "a.png", "--strength", "0.5", "--out", "x.gif"], "ending"),
        (["edit", "vectors", "a.png", "--strength", "0.5"], "makes vectors"),
        (["edit", "vectors", "two.npy", "--mask", "mask.png"], "makes vectors"),
        (["edit", "wide-vectors", "five.npy", "--strength", "0.5", "--out", "x.png"], "5 dimensions are not drawn"),
        (["interpolate", "run", "a.png"], "two images"),
        (["interpolate", "run", "a.png", "b.png", "--frames", "1"], "--frames 1"),
        (["interpolate", "vectors", "two.npy", "one.npy"], "holds 2 items"),
        (["restore", "run"], "a run folder and an image"),
        (["restore", "run", "a.png"], "turns the run's 8x8 into 4x4"),
        (["restore", "run", "small.png", "--factor", "3"], "does not divide"),
        (["restore", "run", "a.png", "--operator", "mask"], "go together"),
        (["restore", "run", "a.png", "--operator", "blur", "--mask", "mask.png"], "go together"),
        (["restore", "run", "a.png", "--operator", "blur", "--noise", "0"], "--noise 0"),
        (["restore", "run", "a.png", "--operator", "blurr"], "'blurr'"),
        (["restore", "run", "small.png", "--method", "magic"], "'magic'"),
        (["restore", "vectors", "one.npy"], "makes vectors, which can be masked alone"),
        (["restore", "series", "a.png", "--operator", "blur"], "makes series; give a .npy of"),
        (["restore", "series", "line.npy", "--factor", "5"], "does not divide the run's 24"),
        (["restore", "series", "line.npy"], "holds no series of shape (2, 12), as the operator gives"),
        (
            ["edit", "run", "a.png", "--strength", "0.5", "--label-index", "10"],
            "--label-index: 10 is not one of the 10",
        ),
        (["edit", "run", "a.png", "--strength", "0.5", "--label", "1", "--label-index", "1"], "give one of them"),
        (["edit", "vectors", "one.npy", "--strength", "0.5", "--label-index", "0"], "was trained without classes"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], part: str, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) in (1, 2)
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert part in sentence
    assert "unexpected" not in sentence

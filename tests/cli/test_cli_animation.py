"""Animations: samples from noise to data, and from one item to another and back, as GIFs under the rules of all results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

import ornstein
from ornstein.cli import main
from ornstein.data import grid_image, scatter
from ornstein.files.output import recipe_of

TRAIN = [
    "--steps",
    "3",
    "--samples",
    "0",
    "--preset",
    "tiny",
    "--batch-size",
    "4",
    "--device",
    "cpu",
    "--snapshots",
    "0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "--data", "digits", "--out", str(out), *TRAIN]) == 0
    return out


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    np.save(folder / "points.npy", np.random.default_rng(0).normal(size=(64, 2)))
    assert main(["train", "--data", str(folder / "points.npy"), "--out", str(folder / "run"), *TRAIN]) == 0
    return folder / "run"


def frames(file: Path) -> list[Image.Image]:
    with Image.open(file) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0
        return [frame.convert("L") for frame in ImageSequence.Iterator(image)]


@pytest.mark.parametrize(
    "flags", [[], ["--label", "3", "--guidance", "2"], ["--solver", "ancestral"], ["--first", "5"]]
)
def test_the_last_frame_holds_the_samples(run: Path, tmp_path: Path, flags: list[str]) -> None:
    words = ["sample", str(run), "-n", "6", "--steps", "5", "--device", "cpu", *flags]
    assert main([*words, "--out", str(tmp_path / "x.gif")]) == 0
    assert main([*words, "--out", str(tmp_path / "x.npz")]) == 0
    with np.load(tmp_path / "x.npz") as arrays:
        grid = grid_image(arrays["samples"], spec=ornstein.load(run).spec)
    made = frames(tmp_path / "x.gif")
    assert len(made) == 6  # one for each of five network calls, and the result
    assert made[-1].width == 2 * grid.width + 12
    for left in (0, grid.width + 12):  # at t = 0 there is no noise left in x_t
        last = np.asarray(made[-1].crop((left, 0, left + grid.width, grid.height)), dtype=int)
        assert np.abs(last - np.asarray(grid, dtype=int)).max() <= 2  # in batches as in one, up to rounding
    first = np.asarray(made[0], dtype=int)
    assert (first[:, : grid.width] != first[:, grid.width + 12 :]).any()  # nearly all noise, and a guess
    assert (first[:, : grid.width] != np.asarray(grid)).any()


def test_a_long_way_has_a_hundred_frames(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.gif"
    words = ["sample", str(run), "-n", "1", "--steps", "150", "--solver", "ancestral", "--device", "cpu"]
    assert main([*words, "--out", str(out)]) == 0
    assert 90 <= len(frames(out)) <= 100


def test_from_one_item_to_another_and_back(run: Path, tmp_path: Path) -> None:
    items = ornstein.load(run).sample(2, steps=2)
    for name, item in zip("ab", items, strict=True):
        np.save(tmp_path / f"{name}.npy", item[None])
    words = ["interpolate", str(run), str(tmp_path / "a.npy"), str(tmp_path / "b.npy"), "--frames", "4", "--steps", "3"]
    words += ["--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "x.gif")]) == 0
    assert main([*words, "--out", str(tmp_path / "x.npz")]) == 0
    with np.load(tmp_path / "x.npz") as arrays:
        wanted = [np.asarray(grid_image(item[None], spec=ornstein.load(run).spec)) for item in arrays["samples"]]
    made = [np.asarray(frame) for frame in frames(tmp_path / "x.gif")]
    assert len(made) == 6
    for i, j in enumerate((0, 1, 2, 3, 2, 1)):
        np.testing.assert_array_equal(made[i], wanted[j])


def test_an_animation_is_replaced_only_by_the_same_command(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.gif"
    words = ["sample", str(run), "-n", "2", "--steps", "3", "--device", "cpu", "--out", str(out)]
    assert main(words) == 0
    assert recipe_of(out)
    before = out.read_bytes()
    assert main(words) == 0
    assert out.read_bytes() == before
    assert main([*words, "--seed", "1"]) == 2
    assert "holds a result of other flags" in capsys.readouterr().err
    assert out.read_bytes() == before
    out.write_bytes(before + b"mine")
    assert main(words) == 2
    assert out.read_bytes() == before + b"mine"
    assert main([*words, "--force"]) == 0
    assert out.read_bytes() == before
    link = tmp_path / "link.gif"
    link.symlink_to(tmp_path / "theirs.gif")
    (tmp_path / "theirs.gif").write_bytes(b"GIF89a")
    assert main([*words[:-1], str(link)]) == 2
    assert (tmp_path / "theirs.gif").read_bytes() == b"GIF89a"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["-n", "257"], "-n 257 is too many for an animation; give -n 256 or fewer"),
        (["--compile"], "--compile pays for many samples"),
    ],
)
def test_animations_that_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert main(["sample", str(run), "--out", str(tmp_path / "x.gif"), *flags]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_vectors_move_as_points(vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sample", str(vectors), "-n", "300", "--steps", "4", "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "x.gif")]) == 0
    moving = [np.asarray(frame) for frame in frames(tmp_path / "x.gif")]
    width, height = scatter.size(2)
    assert {frame.shape for frame in moving} == {(height, 2 * width + 12)}
    assert len(moving) == 5
    last = moving[-1][:, :width], moving[-1][:, width + 12 :]
    assert np.array_equal(*last)
    assert not np.array_equal(moving[0][:, :width], moving[0][:, width + 12 :])
    assert all((frame[30:-30, 30 : width - 30] < 200).sum() > 300 for frame in moving)
    assert main([*words, str(tmp_path / "x.gif"), "-n", "10001"]) == 2
    assert "give -n 10000 or fewer" in capsys.readouterr().err
    assert main(["edit", str(vectors), "x.npy", "--out", str(tmp_path / "x.gif")]) in (1, 2)

"""Toy sets by name, and their images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ornstein
from ornstein import data
from ornstein.cli import main
from ornstein.data.scatter import scatter_image
from ornstein.data.toys import COUNT, TOYS
from ornstein.errors import UsageError


@pytest.mark.parametrize("name", TOYS)
def test_toys_by_name(name: str) -> None:
    one, again, other = data.open(name), data.open(name), data.open(f"{name}:test")
    assert one.items.shape == (COUNT, 2)
    assert one.items.dtype == np.float32
    assert one.spec == again.spec
    assert one.spec.content_hash != other.spec.content_hash
    assert one.classes == other.classes
    assert {name, f"{name}:test"} <= set(data.names())
    assert len(data.open(name, limit=100)) == 100
    with pytest.raises(UsageError, match="have no size"):
        data.open(name, size=8)


def test_where_the_points_are() -> None:
    rings = data.open("rings")
    radius = np.linalg.norm(rings.items, axis=1)
    for label, name in enumerate(rings.classes):
        own = radius[rings.labels == label]
        assert name == str(label + 1)
        assert own.mean() == pytest.approx(0.5 * (label + 1), abs=0.01)
        assert own.std() == pytest.approx(0.04, rel=0.1)
    board = data.open("checkerboard").items
    assert np.abs(board).max() <= 2
    cells = np.floor(board).astype(int)
    assert not ((cells[:, 0] + cells[:, 1]) % 2).any()
    assert len(np.unique(cells, axis=0)) == 8
    moons = data.open("moons")
    upper = moons.items[moons.labels == 0]
    assert np.abs(np.linalg.norm(upper, axis=1) - 1).std() < 0.1
    lower = moons.items[moons.labels == 1] - [1, 0.5]
    assert np.abs(np.linalg.norm(lower, axis=1) - 1).std() < 0.1
    roll = data.open("swiss-roll").items
    turns = np.linalg.norm(roll, axis=1) * 10
    assert turns.min() > 1.5 * np.pi - 2
    assert turns.max() < 4.5 * np.pi + 2


def test_points_are_drawn_where_they_are() -> None:
    points = np.array([[0.0, 0.0]] * 50 + [[1.0, 0.0]] * 50 + [[0.0, 1.0]] * 50)
    image = np.asarray(scatter_image(points).convert("L"))[24:-24, 24:-24]
    quarter = image.shape[0] // 2
    dark = image < 200
    assert dark[quarter:, :quarter].any()  # below left
    assert dark[quarter:, quarter:].any()
    assert dark[:quarter, :quarter].any()
    assert not dark[:quarter, quarter:].any()
    assert scatter_image(np.random.default_rng(0).normal(size=(50, 3))).size > scatter_image(points).size
    for wrong in (1, 5):
        with pytest.raises(UsageError, match="only of 2 to 4"):
            scatter_image(np.zeros((3, wrong)))
    scatter_image(np.zeros((3, 2)))  # of no extent


def test_a_scatter_of_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert (
        main(["train", "--data", "moons", "--out", str(out), "--steps", "3", "--samples", "0", "--device", "cpu"]) == 0
    )
    assert (
        main(["sample", str(out), "-n", "50", "--steps", "2", "--label", "upper", "--out", str(tmp_path / "moons.png")])
        == 0
    )
    with Image.open(tmp_path / "moons.png") as image:
        assert image.size == (528, 528)
    ornstein.train(np.random.default_rng(0).normal(size=(50, 5)), out=tmp_path / "five", steps=1, preset="tiny")
    assert main(["sample", str(tmp_path / "five"), "-n", "5", "--out", str(tmp_path / "five.png")]) == 2
    assert "vectors of 5 dimensions are not drawn, only of 2 to 4" in capsys.readouterr().err

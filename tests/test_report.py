"""The report page: whole, self-contained, the same for the same run, and safe with any name."""

import base64
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from ornstein import data, report
from ornstein.errors import OrnsteinError
from ornstein.folder.checkpoints import Counters
from ornstein.settings import Settings
from ornstein.training import sample_sheet
from ornstein.training.trainer import FolderTraining


def train(out: Path, dataset: data.Dataset, steps: int = 4) -> Path:
    settings = Settings(data="x", out=str(out), steps=steps, batch_size=4, preset="tiny", samples=8, device="cpu")
    with patch.object(sample_sheet, "LEAST", 60.0):  # seconds that the sheets may take, on a busy machine, too
        for _ in FolderTraining(settings, dataset):
            pass
    return out


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.open("digits")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digits: data.Dataset) -> Path:
    return train(tmp_path_factory.mktemp("runs") / "a <b> & c", digits)


class Page(HTMLParser):
    """Checks that elements close in order; collects images, links to elsewhere and headings."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[Image.Image] = []
        self.tags: list[str] = []
        self.titles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        source = dict(attrs).get("src")
        assert not dict(attrs).get("href")
        if source is not None:
            assert source.startswith("data:image/png;base64,")
            with Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))) as image:
                self.images.append(image.copy())

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.titles.append(text)


def test_the_page_of_images_is_whole_and_needs_nothing_else(run: Path, digits: data.Dataset) -> None:
    place = report.write(run, digits)
    assert place == run / "report.html"
    text = place.read_text()
    page = Page(text)
    assert page.open == []
    headings = ["Samples and real data", "Loss", "Samples over time", "From noise to data", "Settings", "Use it"]
    assert page.titles == ["a <b> & c", *headings]
    assert "script" not in page.tags
    assert "http" not in text
    grids = len(list((run / "samples").iterdir()))
    assert len(page.images) == 2 + grids + 2
    newest = Image.open(sorted((run / "samples").iterdir())[-1])
    with newest:
        assert page.images[0].tobytes() == newest.tobytes()


def test_real_data_are_shown_by_class(run: Path, digits: data.Dataset) -> None:
    real = np.asarray(Page(report.write(run, digits).read_text()).images[1]).astype(int)
    zoom = 6  # of 8 x 8 cells to 48 pixels, 2 apart
    assert real.shape == (48, 8 * 50 - 2)
    assert digits.labels is not None
    for label in range(8):
        cell = real[:48:zoom, label * 50 : label * 50 + 48 : zoom]
        (where,) = np.nonzero((digits.items[..., 0] * (255 / 16) - cell < 1).all((1, 2)))
        same = [i for i in where if np.abs(digits.items[i, ..., 0] * (255 / 16) - cell).max() < 1]
        assert same
        assert {int(digits.labels[i]) for i in same} == {label}


def test_the_trajectory_goes_from_noise_to_samples(run: Path, digits: data.Dataset) -> None:
    noisy, clean = (np.asarray(image).astype(int) for image in Page(report.write(run, digits).read_text()).images[-2:])
    assert noisy.shape == clean.shape == (4 * 50 - 2, 8 * 50 - 2)
    assert np.array_equal(noisy[:, -48:], clean[:, -48:])  # at t = 0 nothing is left to estimate
    assert not np.array_equal(noisy[:, :48], clean[:, :48])


def test_the_same_run_gives_the_same_bytes(run: Path, digits: data.Dataset) -> None:
    assert report.write(run, digits).read_bytes() == report.write(run, digits).read_bytes()


def test_names_are_escaped(run: Path, digits: data.Dataset, tmp_path: Path) -> None:
    spec = dataclasses.replace(digits.spec, source="<script>alert(1)</script>", classes=("<i>", *digits.classes[1:]))
    text = report.write(train(tmp_path / "run", data.Dataset(digits.items, digits.labels, spec)), digits).read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_page_of_vectors_plots_them(tmp_path: Path, dims: int) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5.0, 2.0, (300, dims)))
    points = data.open(tmp_path / "x.npy")
    page = Page(text := report.write(train(tmp_path / "run", points), points).read_text())
    assert page.open == []
    assert not page.images
    plots = [ElementTree.fromstring(plot) for plot in re.findall(r"<svg viewBox=.0 0 200 200.*?</svg>", text)]
    samples = len(list((tmp_path / "run" / "samples").iterdir()))
    assert len(plots) == 2 + samples + report.TIMES
    both, real = plots[:2]
    assert [path.get("class", "").split()[0] for path in both] == ["real", "made"]
    assert [path.get("class", "").split()[0] for path in real] == ["real"]
    numbers = [float(n) for n in re.findall(r"-?\d+\.\d|(?<=M)\d+|(?<=L)\d+", real[0].get("d", ""))]
    assert min(numbers) >= 0
    assert max(numbers) <= 200


def points_of(svg: str, kind: str) -> list[tuple[float, float]]:
    (line,) = [e for e in ElementTree.fromstring(svg) if e.get("class") == kind]
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.get("points", "").split())]


def test_a_power_law_is_a_straight_line() -> None:
    raw = points_of(report._curve([(s, 3.0 * s**-0.5) for s in range(1, 1001)]), "raw")
    (x0, y0), (x1, y1) = raw[0], raw[-1]
    assert (x0, x1) == (52, 790)
    assert y1 > y0
    for x, y in raw:
        assert y == pytest.approx(y0 + (y1 - y0) * (x - x0) / (x1 - x0), abs=0.11)


def test_the_smooth_loss_is_the_mean_of_its_neighbours() -> None:
    losses = {s: 1.0 + (s % 7) / 10 for s in range(1, 201)}
    svg = report._curve(list(losses.items()))
    smooth, raw = points_of(svg, "smooth"), points_of(svg, "raw")
    slope = (raw[4][1] - raw[0][1]) / (math.log(losses[5]) - math.log(losses[1]))
    expected = np.mean([losses[s] for s in range(81, 126) if 100 / 1.25 <= s <= 100 * 1.25] + [losses[80]])
    assert smooth[99][1] == pytest.approx(raw[0][1] + slope * (math.log(expected) - math.log(losses[1])), abs=0.5)


@pytest.mark.parametrize(("low", "high"), [(0.41, 1.6), (1, 300), (1, 100_000), (0.9, 1.3), (1e-4, 0.5)])
def test_axes_have_a_few_ticks_within_them(low: float, high: float) -> None:
    ticks = report._ticks(low, high)
    assert 2 <= len(ticks) <= 14
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)


def test_losses_that_are_not_finite_are_left_out(run: Path, digits: data.Dataset) -> None:
    file = run / "metrics.jsonl"
    lines = file.read_text()
    try:
        extra = json.dumps({"step": 4, "loss": math.nan, "images": 16, "seconds": 1.0})
        file.write_text(lines + extra + "\n" + '{"step": 5, "lo')
        text = report.write(run, digits).read_text()
        assert "nan" not in re.sub(r"base64,[^\"]*", "", text)
    finally:
        file.write_text(lines)


def test_the_loss_on_held_out_items_is_drawn(run: Path, digits: data.Dataset) -> None:
    file = run / "metrics.jsonl"
    lines = file.read_text()
    assert "<circle" not in report.write(run, digits).read_text()
    try:
        file.write_text(
            lines + json.dumps({"step": 2, "held_out": 0.75}) + "\n" + json.dumps({"step": 2, "held_out": -1}) + "\n"
        )
        text = report.write(run, digits).read_text()
        assert text.count("<circle") == 1
        assert "held-out items" in text
    finally:
        file.write_text(lines)


def test_a_run_without_model_or_grids(tmp_path: Path, digits: data.Dataset) -> None:
    with pytest.raises(OrnsteinError, match="no trained model yet"):
        report.write(tmp_path, digits)
    settings = Settings(
        data="x", out=str(tmp_path / "run"), steps=1, batch_size=4, preset="tiny", samples=0, device="cpu"
    )
    for _ in FolderTraining(settings, digits):
        pass
    assert Page(report.write(tmp_path / "run", digits).read_text()).titles[1:] == [
        "From noise to data",
        "Settings",
        "Use it",
    ]


@pytest.mark.parametrize("kind", ["classes", "vectors"])
def test_the_page_of_a_training_at_work_reloads_itself(tmp_path: Path, digits: data.Dataset, kind: str) -> None:
    """From the first grid on, of what there is; a training that ends early leaves a page that says so."""
    points = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    dataset = digits if kind == "classes" else data.objects.dataset_of(points)
    run = FolderTraining(
        Settings(data="x", out=str(tmp_path), steps=4, batch_size=4, preset="tiny", samples=8, device="cpu"), dataset
    )
    event = next(event for event in run if event.grid)
    assert not (tmp_path / "model").exists()
    reached = Counters(event.progress.step, event.progress.images, event.progress.seconds, 0)
    text = report.write_so_far(tmp_path, run.model, dataset, reached, event.progress.done).read_text()
    page = Page(text)
    assert page.open == []
    assert '<meta http-equiv="refresh"' in text
    assert "25 % done" in text
    assert page.titles[1] == ("Samples and real data" if kind == "classes" else "Samples")
    if kind == "classes":
        with Image.open(event.grid) as grid:  # type: ignore[arg-type]
            assert page.images[0].tobytes() == grid.tobytes()
    text = report.write_so_far(tmp_path, run.model, dataset, reached, 0.25, "It <ended>.").read_text()
    assert "refresh" not in text
    assert "It &lt;ended&gt;." in text


def test_a_model_that_has_diverged_has_a_page(digits: data.Dataset, tmp_path: Path) -> None:
    folder = train(tmp_path / "run", digits)
    file = folder / "model" / "model.safetensors"
    save_file({name: tensor * 1e30 for name, tensor in load_file(file).items()}, file)
    text = report.write(folder, digits).read_text()
    assert "There are none: " in text
    assert "NaN or infinite numbers" in text

"""The report page of a run: one HTML file that needs nothing else, with light and dark colours and no scripts.

It shows the loss, sample grids over time, real data and samples, and a trajectory from noise to data. The page is a
function of the run folder and the data alone: the same run gives the same bytes. While a run is being trained there is a page of
what it has so far, which draws nothing of its own and reloads itself.
"""

import io
import math
import re
import warnings
from base64 import b64encode
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ornstein.data import Dataset, grid_image, marginals
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.spec import DataSpec
from ornstein.errors import NotFinite, OrnsteinError
from ornstein.files.atomic import new_file
from ornstein.files.reading import listed, read_arrays, read_bytes, read_json, read_lines
from ornstein.folder.checkpoints import Counters, checkpoints, counters
from ornstein.folder.history import NAME, described
from ornstein.model import Model
from ornstein.noise import PerSampleNoise
from ornstein.runs import Run, load
from ornstein.runs.conditioning import like
from ornstein.sampling import DEFAULT, begin, trajectory
from ornstein.terminal import clean

T = TypeVar("T")

FOLLOWED = 4  # samples in the trajectory
TIMES = 8  # columns of it
POINTS = 1000  # of vectors in a plot
COMPARED = 40  # real images next to samples, where the settings do not say how many
CURVE = 20_000  # points of a loss curve, at most
MOST = 1e100  # of a step or a loss
GRID = re.compile(r"step-(\d{8,})\.(png|npz)")
SMOOTH = 1.25  # the loss at a step is the mean from step/1.25 to step*1.25


def write(folder: Path, dataset: Dataset) -> Path:
    """Write `report.html` in a run folder that holds a model, whole or not at all; the file.

    Raises OrnsteinError when the model is missing or damaged, or the disk refuses.
    """
    run = load(folder)
    files, lines = _Files(folder), run.metrics()
    drawn, head = _drawn(run, dataset, files), _head(run, _reached(lines, files))
    sections = [
        _if_finite("Samples", lambda: _comparison(run, dataset, drawn, files)),
        _losses(lines, _held_out(folder)),
        _over_time(drawn),
        _if_finite("From noise to data", lambda: _trajectory(run, dataset)),
        *_evaluations(files),
        _settings(run, files),
        files.left_out(),
    ]
    return _put(folder, head, sections)


def write_so_far(folder: Path, model: Model, dataset: Dataset, reached: Counters, done: float, ended: str = "") -> Path:
    """Write `report.html` for a run that is being trained, and is `done` to a part; where it has ended early, `ended` says how.

    Raises OrnsteinError when the disk refuses.
    """
    run = Run(folder, model, "")
    files, lines = _Files(folder), run.metrics()
    drawn = _drawn(run, dataset, files)
    how = _text(ended) if ended else "The training is at work, and this page reloads itself as long as it is."
    note = f'<p class="lead">{100 * done:.0f} % done. {how}</p>'
    sections = [
        _samples_so_far(run, dataset, drawn, files),
        _losses(lines, _held_out(folder)),
        _over_time(drawn),
        _settings(run, files),
        files.left_out(),
    ]
    return _put(folder, note + _head(run, reached), sections, reload="" if ended else RELOAD)


def _put(folder: Path, head: str, sections: Sequence[str], reload: str = "") -> Path:
    title, body, place = _text(folder.resolve().name), "\n".join(filter(None, sections)), folder / "report.html"
    page = PAGE.format(title=title, style=STYLE, reload=reload, head=head, body=body)
    with new_file(place) as file:
        file.write_text(page, encoding="utf-8", errors="backslashreplace")
    return place


def _if_finite(title: str, section: Callable[[], str]) -> str:
    """A section, or why there is none: a model that has diverged still has a page."""
    try:
        return section()
    except NotFinite as error:
        return _section(title, f"There are none: {_text(error)}.", "")


UNREADABLE = (
    *(OrnsteinError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError),
    *(MemoryError, SyntaxError, Image.DecompressionBombError),  # the last two are Pillow's
)


class _Files:
    """The files of a run, for its page: one that cannot be read is left out and named, be it strange, damaged or a link."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._left = folder, dict[str, str]()

    def read(self, file: Path, reader: Callable[[Path], T]) -> T | None:
        """The result of `reader(file)`; None for a file that is missing or unreadable."""
        try:
            return reader(file)
        except FileNotFoundError:
            return None
        except UNREADABLE as error:
            self.leave(file, " ".join(str(error).split()) or type(error).__name__)
            return None

    def listed(self, name: str) -> list[Path]:
        """The entries of a folder of the run."""
        return self.read(self.folder / name, lambda place: listed(place, self.folder)) or []

    def leave(self, file: Path, reason: str) -> None:
        """Name what is left out."""
        name = str(file.relative_to(self.folder))
        self._left[name] = reason
        warnings.warn(f"the report of {self.folder} leaves out {name}: {reason}", stacklevel=2)

    def left_out(self) -> str:
        """A section about it."""
        cells = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(why)}</dd></div>" for name, why in self._left.items())
        return _section("Left out", "Files that could not be read.", f"<dl>{cells}</dl>") if cells else ""


def _text(value: object) -> str:
    """Words from anywhere as HTML: marks that turn the direction of writing, which would go on after them, are spelled out."""
    return escape(clean(str(value)))


# Sections


def _reached(lines: list[dict[str, Any]], files: _Files) -> Counters:
    """How far the training was at its newest checkpoint, or at its last line of metrics."""
    newest = files.read(files.folder / "checkpoints", lambda place: next(checkpoints(place), None))
    reached = None if newest is None else files.read(newest / "state.json", lambda file: counters(file.parent))
    if reached is None:
        last = lines[-1] if lines else {}
        step, images, seconds = (_number(last.get(key)) for key in ("step", "images", "seconds"))
        reached = Counters(int(step), int(images), seconds, 0)
    return reached


def _head(run: Run, reached: Counters) -> str:
    spec, model = run.spec, run.model
    facts = {
        "steps": f"{reached.step:,}",
        f"{spec.traits.plural} seen": f"{reached.images:,}",
        "epochs": f"{reached.images / spec.count:.3g}",
        "minutes": f"{reached.seconds / 60:.3g}",
        "parameters": f"{sum(p.numel() for p in model.network.parameters()):,}",
    }
    cells = "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in facts.items())
    classes = f", {len(spec.classes)} classes" if spec.classes else ""
    shape = "×".join(map(str, spec.shape)) if spec.shape[1:] else f"{spec.shape[0]} number{'s'[: spec.shape[0] > 1]}"
    what = (
        f"{type(model.network).__name__} trained on <b>{_text(spec.source)}</b>: {spec.count:,} {spec.traits.plural} of {shape}"
        f"{classes}. Path {_text(model.path)}, target {_text(model.target)}."
    )
    return f'<p class="lead">{what}</p><div class="facts">{cells}</div>'


def _number(value: Any) -> float:
    """A number of metrics.jsonl; 0 for anything else."""
    return value if type(value) in (int, float) and 0 <= value < 1 << 63 else 0


def _samples_so_far(run: Run, dataset: Dataset, drawn: list["_Drawn"], files: _Files) -> str:
    """The newest samples that the training drew, and real data; nothing is drawn."""
    if run.spec.traits.drawn or not drawn:
        return _comparison(run, dataset, drawn, files) if drawn else ""
    if isinstance(run.spec, ColumnSpec):
        return _section("Samples", f"After step {drawn[-1].step:,}, over real data (areas).", drawn[-1].sheet)
    body = _figure(drawn[-1].sheet, f"samples after step {drawn[-1].step:,}, over real data in grey")
    return _section("Samples", "", f'<div class="two">{body}{_figure(_plot(None, dataset), "real data")}</div>')


def _comparison(run: Run, dataset: Dataset, drawn: list["_Drawn"], files: _Files) -> str:
    """The newest samples and real data, in the same layout."""
    if not run.spec.traits.drawn:
        samples = _plot(run.sample(POINTS, condition=like(run, dataset, range(POINTS))), dataset)
        if isinstance(run.spec, ColumnSpec):
            return _section(
                "Samples", f"Columns and pairs of {POINTS:,} samples (lines), over real data (areas).", samples
            )
        body = _figure(samples, f"{POINTS:,} samples, over real data in grey")
        return _section("Samples", "", f'<div class="two">{body}{_figure(_plot(None, dataset), "real data")}</div>')
    if not drawn:
        return ""
    samples = _figure(drawn[-1].sheet, f"samples after step {drawn[-1].step:,}")
    settings = files.read(run.folder / "config.yaml", lambda _: run.settings)
    conditions, count = run.model.conditions, (settings["samples"] if settings else 0) or COMPARED
    if conditions.image is not None:
        note = "Each row: what the model was given, the whole image, and samples of what it may have been."
        return _section("Samples with their conditions", note, samples)
    by_class = conditions.label is not None and len(conditions.parts) == 1
    body = samples + _figure(
        _real(dataset, count) if by_class else _image(grid_image(_some(dataset, count), spec=dataset.spec)),
        "real data",
    )
    note = "Each column is one class." if _columns(run.spec) and by_class else ""
    if conditions and not by_class:
        note = "Each sample has the condition of the real item in its place."
    return _section("Samples and real data", note, f'<div class="two">{body}</div>')


def _held_out(folder: Path) -> list[tuple[float, float]]:
    """Steps and losses on held-out items, where they were measured."""
    return _drawable(read_lines(folder / "metrics.jsonl", ("step", "held_out"), folder), "held_out")


def _drawable(lines: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """Steps and losses that have a place on logarithmic axes, at most as many as are drawn."""
    points = sorted((line["step"], line[key]) for line in lines if 0 < line[key] < MOST and 0 < line["step"] < MOST)
    return points[:: len(points) // CURVE + 1]


def _losses(lines: list[dict[str, Any]], held_out: list[tuple[float, float]]) -> str:
    points = _drawable(lines, "loss")
    if len({step for step, _ in points}) < 2:
        return ""
    note = "The training loss, each step and smoothed, on logarithmic axes."
    if held_out:
        note += " Points: the loss of the averaged weights on held-out items."
    return _section("Loss", note, _curve(points, held_out))


def _over_time(drawn: list["_Drawn"]) -> str:
    if len(drawn) < 2:
        return ""
    note = "The same noise and the same classes each time, drawn with the running average of the weights."
    figures = [_figure(each.sheet, f"step {each.step:,}") for each in drawn]
    return _section("Samples over time", note, f'<div class="many">{"".join(figures)}</div>')


def _trajectory(run: Run, dataset: Dataset) -> str:
    """x_t and the clean estimate at several times of one run of the default solver; of a table there is nothing to see."""
    spec, path = run.spec, run.model.path
    if isinstance(spec, ColumnSpec):
        return ""
    count = FOLLOWED if spec.traits.drawn else POINTS
    classes = len(spec.classes)
    labels = torch.arange(count) * classes // count if classes and spec.traits.drawn else run.model.labels(0, count, 0)
    same = like(run, dataset, range(count))
    condition = labels if same is None else run.model.conditions.network_input(same.rows)
    denoiser = run.denoiser if condition is None else run.denoiser.given(condition)
    times, noise = DEFAULT.grid(path, 20), PerSampleNoise()
    start = begin(path, torch.zeros(count, *spec.shape), float(times[0]), noise)
    wanted = {round(i * (len(times) - 1) / (TIMES - 1)) for i in range(TIMES)}
    steps = [s for i, s in enumerate(trajectory(denoiser, start, grid=times, noise=noise)) if i in wanted]
    states, clean = [], []
    for step in steps:
        alpha, sigma = path.levels(step.t, step.x)
        loud = max(
            1.0, math.hypot(float(alpha), float(sigma))
        )  # the noise of paths such as VE is far outside the range
        states.append(spec.from_model(step.x / loud))
        clean.append(spec.from_model(step.estimate.clean))
    if not spec.traits.drawn:
        columns = [f"{_figure(_plot(x, dataset), f't = {s.t:.2g}')}" for x, s in zip(states, steps, strict=True)]
        return _section(
            "From noise to data", f"{count:,} samples on their way.", f'<div class="many">{"".join(columns)}</div>'
        )
    heads = "".join(f"<span>{s.t:.2g}</span>" for s in steps)
    row = f'<div class="times" style="grid-template-columns:repeat({len(steps)},1fr)">{heads}</div>'
    image_files = "".join(
        f"<h3>{name}</h3>{row}{_image(grid_image(np.stack(images, 1).reshape(-1, *spec.item_shape), len(steps), spec=spec))}"
        for name, images in (
            ("What the solver has, x<sub>t</sub>", states),
            ("What the network sees in it", clean),
        )
    )
    note = "Each row is one sample; the numbers are the times t, from 1 (noise) to 0 (data)."
    return _section("From noise to data", note, image_files)


def _evaluations(files: _Files) -> list[str]:
    """A section for each file that `ornstein evaluate` (or another that measures) wrote, with the images named after it."""
    there = files.listed("evaluation")
    sections = []
    for file in there:
        if file.suffix != ".json" or file.name.startswith("."):
            continue
        section = files.read(file, lambda file: _evaluation(read_json(file, root=files.folder)))
        if section is None:
            continue
        image_files = [
            files.read(image, lambda image: _img(_png(image, files.folder), image.stem.endswith("-plot")))
            for image in there
            if image.suffix == ".png" and image.name.startswith(f"{file.stem}-")
        ]
        title, about, table = section
        sections.append(_section(title, about, "".join([table, *filter(None, image_files)])))
    return sections


def _evaluation(evaluation: dict[str, Any]) -> tuple[str, str, str]:
    """Title, words and table of what was measured. Raises ValueError, LookupError or TypeError for anything else."""
    rows = [("", "value", "95 % interval", "real data")]
    for score in (*evaluation["scores"], *evaluation.get("by_class", {}).values()):
        floor = score.get("floor")
        reference = "" if floor is None else f"{floor['value']:.4g} ({floor['low']:.4g} to {floor['high']:.4g})"
        interval = f"{score['low']:.4g} to {score['high']:.4g}"
        rows.append((str(score["name"]), f"{score['value']:.4g}", interval, reference))
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return _text(evaluation["title"]), _text(evaluation["about"]), f"<table>{body}</table>"


def _settings(run: Run, files: _Files) -> str:
    settings = files.read(run.folder / "config.yaml", lambda _: run.settings) or {}
    known = files.read(run.folder / "env.json", lambda file: read_json(file, root=run.folder)) or {}
    cells = "".join(
        f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>"
        for key, value in {**settings, **known}.items()
        if value is not None and value != {}
    )
    changed = files.read(run.folder / NAME, lambda _: described(run.folder)) or []
    cells += "".join(f"<div><dt>changed</dt><dd>{_text(line)}</dd></div>" for line in changed)
    use = _text(f"run = ornstein.load({str(run.folder)!r})") + "\nsamples = run.sample(64)"
    return _section("Settings", "", f"<dl>{cells}</dl>") + _section(
        "Use it", "", f"<pre>import ornstein\n\n{use}</pre>"
    )


# Images


class _Drawn(NamedTuple):
    """Samples that the training drew: after which step, and as HTML."""

    step: int
    sheet: str


def _drawn(run: Run, dataset: Dataset, files: _Files) -> list[_Drawn]:
    """All that can be read, the oldest first."""

    def show(file: Path) -> str:
        if run.spec.traits.drawn:
            return _img(_png(file, files.folder))
        samples = read_arrays(file, root=files.folder)["samples"]
        if (
            samples.dtype.kind not in "fiu"
            or samples.shape[1:] != run.spec.item_shape
            or not (run.spec.may_lack or np.isfinite(samples).all())
        ):
            raise ValueError(f"it holds no samples of shape {run.spec.item_shape}")
        return _plot(samples, dataset)

    drawn = []
    for file in files.listed("samples"):
        match = GRID.fullmatch(file.name)
        if match is None or (match[2] == "png") != run.spec.traits.drawn:
            if file.name.startswith("step-"):
                files.leave(file, "a training gives its samples no such name")
            continue
        if (sheet := files.read(file, show)) is not None:
            drawn.append(_Drawn(int(match[1]), sheet))
    return sorted(drawn)


def _png(file: Path, root: Path) -> bytes:
    """The content of a PNG, which a page may hold. Raises what is in `UNREADABLE`."""
    content = read_bytes(file, root=root)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()
    except UnidentifiedImageError:
        raise ValueError("it is no PNG") from None
    return content


def _columns(spec: DataSpec) -> int | None:
    """As the sample grids have it: a column for each class, where that fits."""
    return len(spec.classes) if 4 <= len(spec.classes) <= 16 else None


def _real(dataset: Dataset, count: int) -> str:
    columns = _columns(dataset.spec)
    if columns is None or dataset.labels is None:
        return _image(grid_image(_some(dataset, count), spec=dataset.spec))
    rows = math.ceil(count / columns)
    by_class = [np.flatnonzero(dataset.labels == label) for label in range(columns)]
    indices = [where[row * len(where) // rows] for row in range(rows) for where in by_class if len(where)]
    return _image(grid_image(np.asarray(dataset.items[np.array(indices)[:count]]), columns, spec=dataset.spec))


def _some(dataset: Dataset, count: int) -> NDArray[Any]:
    """Evenly spaced items."""
    count = min(count, len(dataset))
    return np.asarray(dataset.items[np.arange(count) * len(dataset) // count])


def _image(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return _img(stream.getvalue())


def _img(png: bytes, smooth: bool = False) -> str:
    """Pixels keep their edges where the page enlarges them; of plots they do not."""
    kind = ' class="smooth"' if smooth else ""
    return f'<img alt=""{kind} src="data:image/png;base64,{b64encode(png).decode()}">'


def _plot(samples: NDArray[Any] | None, dataset: Dataset) -> str:
    """Samples over real data: points in the first two dimensions, or histograms where there is one; each column of a table."""
    if isinstance(dataset.spec, ColumnSpec):
        return marginals.drawn(dataset.spec, _some(dataset, 10 * POINTS), samples)
    real = _some(dataset, POINTS).astype(np.float64).reshape(-1, *dataset.spec.shape)[:, :2]
    panels = {"real": real}
    if samples is not None:
        panels["made"] = samples[:POINTS].astype(np.float64).reshape(-1, *dataset.spec.shape)[:, :2]
    low, high = np.quantile(real, 0.005, axis=0), np.quantile(real, 0.995, axis=0)
    margin = np.where(high > low, (high - low) * 0.15, 1.0)
    low, high = low - margin, high + margin
    if real.shape[1] == 1:
        edges = np.linspace(float(low[0]), float(high[0]), 41)
        heights = {name: np.histogram(values[:, 0], edges)[0] / len(values) for name, values in panels.items()}
        top = max(float(height.max()) for height in heights.values()) or 1.0
        paths = [f'<path class="{name} area" d="{_steps(height / top)}"/>' for name, height in heights.items()]
    else:
        dots = {
            name: [(x, y) for x, y in _square(values, low, high) if 0 <= min(x, y) <= max(x, y) <= 200]
            for name, values in panels.items()
        }
        paths = [
            f'<path class="{name} dots" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in at)}"/>'
            for name, at in dots.items()
        ]
    return f'<svg viewBox="0 0 200 200">{"".join(paths)}</svg>'


def _square(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = (values - low) / (high - low)
    return np.stack([unit[:, 0], 1 - unit[:, 1]], 1) * 200


def _steps(heights: NDArray[np.float64]) -> str:
    width = 200 / len(heights)
    corners = [f"L{x:.1f} {195 - 185 * h:.1f}" for i, h in enumerate(heights) for x in (i * width, (i + 1) * width)]
    return f"M0 195{''.join(corners)}L200 195"


def _curve(points: Sequence[tuple[float, float]], held_out: Sequence[tuple[float, float]] = ()) -> str:
    """Loss against step as SVG, both logarithmic: every point thin, a running mean, and points of held-out items."""
    steps, losses = (np.array(values, dtype=np.float64) for values in zip(*sorted(points), strict=True))
    first, last = math.log(steps.min()), math.log(steps.max())
    marked = [(step, loss) for step, loss in held_out if steps.min() <= step <= steps.max()]
    seen = [float(losses.min()), float(losses.max()), *(loss for _, loss in marked)]
    low, high = math.log(min(seen) * 0.95), math.log(max(seen) * 1.05)
    left, right, top, bottom = 52.0, 790.0, 12.0, 262.0

    def across(step: float) -> float:
        return left + (math.log(step) - first) / (last - first) * (right - left)

    def down(loss: float) -> float:
        return bottom - (math.log(loss) - low) / (high - low) * (bottom - top)

    def line(values: NDArray[np.float64], kind: str) -> str:
        places = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in zip(steps, values, strict=True))
        return f'<polyline class="{kind}" points="{places}"/>'

    starts, ends = np.searchsorted(steps, steps / SMOOTH), np.searchsorted(steps, steps * SMOOTH, side="right")
    sums = np.concatenate([[0.0], losses.cumsum()])
    smooth = np.maximum(
        (sums[ends] - sums[starts]) / (ends - starts), losses.min()
    )  # of sums so far, which are rounded
    ticks = [
        f'<line x1="{left}" x2="{right}" y1="{down(v):.1f}" y2="{down(v):.1f}"/>'
        f'<text x="{left - 8}" y="{down(v) + 4:.1f}" text-anchor="end">{v:g}</text>'
        for v in _ticks(math.exp(low), math.exp(high))
    ]
    ticks += [
        f'<text x="{across(v):.1f}" y="{bottom + 20}" text-anchor="middle">{v:,.0f}</text>'
        for v in _ticks(steps.min(), steps.max())
        if v == round(v)
    ]
    marks = [f'<circle cx="{across(step):.1f}" cy="{down(loss):.1f}" r="3.5"/>' for step, loss in marked]
    return (
        f'<svg class="curve" viewBox="0 0 800 300" role="img" aria-label="loss by step">{"".join(ticks)}'
        f"{line(losses, 'raw')}{line(smooth, 'smooth')}{''.join(marks)}"
        f'<text x="{right}" y="{bottom + 36}" text-anchor="end">step</text></svg>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten; powers of ten alone where those are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    leading = (1,) if high / low > 2000 else (1, 2, 5) if high / low > 8 else (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    return [value for k in powers for d in leading if low <= (value := d * 10.0**k) <= high]


# The page


def _section(title: str, note: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{f'<p>{note}</p>' if note else ''}{body}</section>"


def _figure(body: str, caption: str) -> str:
    return f"<figure>{body}<figcaption>{caption}</figcaption></figure>"


RELOAD = '<meta http-equiv="refresh" content="10">\n'

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{reload}<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{head}</header>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --ink: #1d1c1a; --soft: #6d6a64; --line: #e3e0da; --card: #fff;
  --accent: #b4451f; --real: #9a968d; }
@media (prefers-color-scheme: dark) { :root { --page: #161514; --ink: #eceae6; --soft: #9d9a93; --line: #34322f;
  --card: #1f1e1c; --accent: #f0875c; --real: #7d7970; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 3rem 1.25rem 4rem; max-width: 56rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 2.25rem; line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; margin: 0 0 .4rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.25rem 0 .4rem; }
p { margin: 0 0 1rem; max-width: 42rem; color: var(--soft); }
.lead, .lead b { color: var(--ink); overflow-wrap: anywhere; }
section { margin-top: 3rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: 1px; background: var(--line);
  border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
.facts div { background: var(--card); padding: .8rem 1rem; }
.facts b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.facts span, figcaption, dt, .times { color: var(--soft); font-size: .85rem; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 1.25rem; }
.many { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.25rem; }
figure { margin: 0; }
figcaption { margin-top: .4rem; }
img, svg { display: block; width: 100%; height: auto; border-radius: .4rem; }
img { image-rendering: pixelated; background: #fff; }
img.smooth { image-rendering: auto; }
svg { background: var(--card); border: 1px solid var(--line); }
.curve text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.curve line { stroke: var(--line); }
.curve polyline { fill: none; stroke: var(--accent); stroke-width: 2.2; stroke-linejoin: round; }
.curve circle { fill: var(--ink); }
.curve .raw { stroke-width: 1; opacity: .35; }
.dots { fill: none; stroke-linecap: round; stroke-width: 2.4; opacity: .55; }
.real.dots { stroke: var(--real); } .made.dots { stroke: var(--accent); }
.real.area { fill: var(--real); opacity: .45; } .made.area { fill: none; stroke: var(--accent); stroke-width: 1.5; }
.times { display: grid; text-align: center; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.25rem; width: 100%; }
td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; } tr:first-child { color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 0 2rem; margin: 0; }
dl div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line); padding: .3rem 0; }
dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; overflow-x: auto; }
"""

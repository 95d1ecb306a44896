"""`ornstein compare`."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.drawing import MOST_STEPS
from ornstein.cli.features import chosen, recognition, words
from ornstein.cli.guidance_flags import TUNED, must_take
from ornstein.cli.options import Compare
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import columns, say, say_if_busy
from ornstein.cli.real_data import real_data, versions
from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import MissingExtra
from ornstein.meter import Meter
from ornstein.names import SOLVERS
from ornstein.processes import Processes, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.data import Dataset
    from ornstein.files.output import Output
    from ornstein.runs import Run
    from ornstein.solvers import Solver

DEFAULT = {"image": ("kid", "frechet", "agreement"), "vector": ("mmd", "sliced-wasserstein")}
STEPS = (5, 10, 20, 50), (1, 2, 4, 8)  # of any run, of a few-step run


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way of sampling: a run by its name in the plot, a solver by its own, and its steps."""

    name: str
    run: "Run"
    solver_name: str
    solver: "Solver"
    steps: int

    def about(self) -> dict[str, Any]:
        """All that its samples depend on but their numbers."""
        times = self.solver.grid(self.run.model.path, self.steps).tolist()
        return {
            "run": str(self.run.folder.resolve()),
            "weights": self.run.weights_hash,
            "solver": str(self.solver),
            "steps": self.steps,
            "times": times,
        }


def run(words: Sequence[str]) -> int:
    """Sample and measure each run with each solver at each number of steps; a table, a JSON and an image."""
    options = parse(Compare, "compare", words)
    within(options, count=(100, math.inf), seed=(0, 2**63 - 1), batch_size=(1, 2**20))
    steps = None if options.steps is None else _steps(options.steps)
    out = Path(options.out).expanduser()
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} is no .png file; give one, and the numbers go next to it as a .json")
    with joined() as processes:
        processes.on_all(lambda: _compare(options, steps, out, processes))
    return 0


def _compare(options: Compare, steps: tuple[int, ...] | None, out: Path, processes: Processes) -> None:
    import torch

    from ornstein import cpu
    from ornstein.device import choose_device
    from ornstein.metrics import BY_NAME, evaluate, extract, reference
    from ornstein.metrics.holes import alike
    from ornstein.runs import load
    from ornstein.runs.conditioning import like_labels

    cpu.keep_memory()  # networks of features take and free large blocks for every batch
    device = choose_device(options.device, processes)
    runs = [load(folder, device) for folder in options.runs]
    _alike(runs, options.data)
    candidates = _candidates(runs, options.solver, steps)
    data, training, holes, note = alike(*real_data(runs[0], options.data, options.train_data))
    if note:
        say(f"Note: {note}")
    spec = runs[0].spec
    record, image = _outputs(options, out, data.spec.content_hash)
    processes.on_all(lambda: _must_be_free(record, image, candidates))
    names = words(options.metrics) or DEFAULT["image" if spec.traits.pixels else "vector"]
    for name in names:
        if name not in BY_NAME:
            raise UsageError(f"--metrics: there is no metric {name!r}; there are {', '.join(BY_NAME)}")
    extractor, net = processes.in_turn(lambda: chosen(options.features, data, "agreement" in names))
    if not options.metrics:
        names = tuple(name for name in names if name != "agreement" or (net is not None and spec.classes))
    reference_set = (
        reference(extractor, data, training, options.count, "memorisation" in names) if processes.is_first else None
    )
    reference_set = None if reference_set is None else replace(reference_set, holed=holes is not None)
    if (
        reference_set is not None
        and not options.metrics
        and 2 * reference_set.real.shape[1] > min(options.count, len(reference_set.real))
    ):
        names = tuple(name for name in names if name != "frechet")
    about = {
        "count": options.count,
        "seed": options.seed,
        "metrics": list(names),
        "data": {"source": data.spec.source, "content_hash": data.spec.content_hash},
        "features": {"name": extractor.name, "digest": extractor.digest},
        "versions": versions(),
    }
    saved = processes.on_first(lambda: _saved_points(record.path, about))
    points: list[dict[str, Any]] = []
    say_if_busy(device)
    say(f"{options.count:,} samples each, against {data.spec.source}, {extractor.name} features.")
    with Meter("comparing", patience=1.0) as meter:
        for place, one in enumerate(candidates):
            key = one.about()
            point = next((p for p in saved if {k: p.get(k) for k in key} == key), None)
            if point is None:

                def tell(made: int, place: int = place, one: Candidate = one) -> None:
                    text = f"{one.name}, {one.solver_name}, {one.steps} steps: {made:,} of {options.count:,}"
                    meter.update((place + made / options.count) / len(candidates), text)

                items, calls = _drawn(one, data, processes, options, tell)
                if holes is not None:
                    items = holes.punch(items, processes.share(options.count).start)
                parts = processes.gather((extract(extractor, items, spec), items))
                if reference_set is None:  # the first process measures
                    continue
                features = torch.cat([part for part, _ in parts])
                labels = one.run.model.labels(0, options.count, options.seed)
                if _of_classes_alone(one.run):
                    labels = like_labels(one.run, data, options.count, options.seed)
                known = None
                if net is not None and labels is not None and "agreement" in names:
                    known = recognition(net, labels, [i for _, i in parts], spec, extractor, features, data)
                evaluation = evaluate(features, reference_set, names, extractor=extractor, kind=spec.kind, labels=known)
                scores = [row.to_json() for row in evaluation.rows]
                point = {"name": one.name, "solver_name": one.solver_name, "calls": calls, **key, "scores": scores}
            if processes.is_first:
                points.append(point)
                _must_be_free(record, image, candidates)
                record.write_json({**about, "points": points})
    if not processes.is_first:
        return
    say(_table(points))
    say(f"The numbers: {record.path.resolve()}")
    try:
        _draw(image, points, f"{options.count:,} samples against {data.spec.source}, {extractor.name} features")
    except MissingExtra as error:  # what was measured is written
        say(f"Note: {error}.")


# What is compared


def _steps(text: str) -> tuple[int, ...]:
    """5,10,20 as numbers, rising."""
    steps = text.replace(",", " ").split()
    if not steps or not all(word.isdecimal() and 1 <= int(word) <= MOST_STEPS for word in steps):
        raise UsageError(
            f"--steps {text!r} is no list of steps; give whole numbers from 1 to {MOST_STEPS} as in 5,10,20"
        )
    return tuple(sorted({int(word) for word in steps}))


def _alike(runs: "list[Run]", data: str | None) -> None:
    """Raises UsageError unless the runs make the same kind of items and were trained on the same data, or --data is given."""
    first = runs[0].spec
    for other in runs[1:]:
        spec = other.spec
        mine, theirs = ((s.kind, s.shape, s.dtype, s.classes) for s in (first, spec))
        if mine != theirs or first.scaling != spec.scaling:
            raise UsageError(
                f"{other.folder} makes {spec.dtype} {spec.traits.plural} of shape {spec.shape} in {len(spec.classes)} classes "
                f"from {spec.source}, but {runs[0].folder} makes {first.dtype} {first.traits.plural} of shape {first.shape} in "
                f"{len(first.classes)} classes from {first.source}; compare runs on the same data"
            )
        if data is None and spec.content_hash != first.content_hash:
            raise UsageError(
                f"{other.folder} was trained on {spec.source} and {runs[0].folder} on {first.source}, which are other items; "
                "name the real data that both are compared with by --data"
            )


def _candidates(runs: "list[Run]", wanted: str | None, steps: tuple[int, ...] | None) -> list[Candidate]:
    """Every run with every solver at every number of steps; where no solver was named, the tuned ones of a run as well.

    A run without the means for a solver is left out, with a note. Raises UsageError where that leaves a solver without runs.
    """
    from ornstein.names import pick

    named = words(wanted) or ()
    for name in named:
        pick("solver", name, dict.fromkeys([*SOLVERS, TUNED]))
    candidates, refused = list[Candidate](), list[tuple[str, UsageError]]()
    for label, trained in zip(_names(runs), runs, strict=True):
        counts = steps or STEPS[trained.model.takes_aim]
        for name in named or (trained.model.solver,):
            try:
                candidates += [Candidate(label, trained, name, *one) for one in _solvers(trained, name, counts)]
            except UsageError as error:
                refused.append((name, error))
        if wanted is None:
            for count in _tuned(trained, None):
                try:
                    candidates.append(Candidate(label, trained, TUNED, trained.tuned(count), count))
                except OrnsteinError as error:  # of other weights, or damaged
                    say(f"Note: left out: {error}.")
    for name, reason in refused:
        if name not in {one.solver_name for one in candidates}:
            raise reason
        say(f"Note: left out: {reason}.")
    return candidates


def _solvers(trained: "Run", name: str, steps: tuple[int, ...]) -> "list[tuple[Solver, int]]":
    """A solver of a run for each number of steps. Raises UsageError where the run has not the means for it."""
    if name == TUNED:
        return [(trained.tuned(count), count) for count in _tuned(trained, steps)]
    must_take(trained, name)
    return [(SOLVERS[name], count) for count in steps]


def _tuned(trained: "Run", wanted: tuple[int, ...] | None) -> tuple[int, ...]:
    """The numbers of steps that a run has a tuned solver of; of those wanted, all, if it has any."""
    files = (trained.folder / "tuned").glob("steps-*.json")
    there = sorted(int(n) for file in files if (n := file.stem.removeprefix("steps-")).isdecimal())
    if wanted is None:
        return tuple(there)
    return tuple(count for count in wanted if count in there) or wanted  # with none, the run says how to make one


def _names(runs: "list[Run]") -> list[str]:
    """The folders' own names, or as much of their paths as tells them apart."""
    whole = [trained.folder.resolve() for trained in runs]
    if len(set(whole)) < len(whole):
        raise UsageError(f"{runs[0].folder} is given twice; give each run once")
    for depth in range(1, max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-depth:]) for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in whole]


# Samples


def _of_classes_alone(run: "Run") -> bool:
    return run.model.conditions.label is not None and len(run.model.conditions.parts) == 1


def _drawn(
    one: Candidate, data: "Dataset", processes: Processes, options: Compare, tell: Callable[[int], None]
) -> "tuple[NDArray[Any], float]":
    """This process's samples in the data's own units, of the classes that the data have, and the mean network calls of one of
    all."""
    import numpy as np

    from ornstein.runs.conditioning import like

    part = processes.share(options.count)
    batches: list[NDArray[Any]] = []
    with _counted(one.run) as rows:
        for batch in one.run.batches(
            len(part),
            condition=like(one.run, data, part, options.seed) if _of_classes_alone(one.run) else None,
            solver=one.solver,
            steps=one.steps,
            seed=options.seed,
            first=part.start,
            batch_size=options.batch_size,
        ):
            batches.append(batch)
            tell(sum(map(len, batches)) * processes.count)
    calls = float(processes.table(rows[0]).sum()) / options.count
    return np.concatenate(batches), calls


@contextmanager
def _counted(trained: "Run") -> Iterator[list[int]]:
    """A context that counts the rows in network calls: a solver with its own loop has no table that says so."""
    rows = [0]

    def count(_: object, inputs: tuple[Any, ...], __: object) -> None:
        rows[0] += len(inputs[0])

    hook = trained.model.network.register_forward_hook(count)
    try:
        yield rows
    finally:
        hook.remove()


# Results


def _outputs(options: Compare, out: Path, data: str) -> "tuple[Output, Output]":
    """The record and the image, by all that a comparison depends on but the ways of sampling, of which more may come."""
    from ornstein.files.output import Output, digest

    about = {
        "command": "compare",
        "count": options.count,
        "seed": options.seed,
        "metrics": options.metrics,
        "features": options.features,
        "data": data,
    }
    image = Output(out, digest(about), options.force)
    return replace(image, path=out.with_suffix(".json")), image


def _must_be_free(record: "Output", image: "Output", candidates: list[Candidate]) -> None:
    """Raises UsageError where a result of others is there, or one of this kind with points that would be lost."""
    record.check()
    image.check()
    wanted = [one.about() for one in candidates]
    if not record.force and any({k: p.get(k) for k in wanted[0]} not in wanted for p in _points(record.path)):
        raise UsageError(f"{record.path} holds points of other runs, solvers or steps; {record.instead}")


def _points(record: Path) -> list[dict[str, Any]]:
    """Points that are measured already."""
    from ornstein.files.reading import read_json

    try:
        points = read_json(record)["points"]
        return [point for point in points if isinstance(point, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _is_whole(point: dict[str, Any], names: Sequence[str]) -> bool:
    """Whether a point holds what the table and the plot show of these metrics."""

    def is_score(entry: Any) -> bool:
        numbers = [entry[key] for key in ("value", "low", "high")]
        return isinstance(entry["name"], str) and all(type(n) is float and math.isfinite(n) for n in numbers)

    try:
        scores, calls = point["scores"], point["calls"]
        return (
            isinstance(point["name"], str)
            and isinstance(point["solver_name"], str)
            and type(calls) in (int, float)
            and 0 < calls < 1e12
            and len(scores) >= len(names)
            and all(is_score(s) and (s["floor"] is None or is_score(s["floor"])) for s in scores)
        )
    except (KeyError, TypeError):
        return False


def _saved_points(record: Path, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The points that an earlier comparison of the same kind has measured."""
    from ornstein.files.reading import read_json

    try:
        content = read_json(record)
        points = _points(record) if {key: content[key] for key in about} == about else []
        return [point for point in points if _is_whole(point, about["metrics"])]
    except (OSError, ValueError, KeyError):
        return []


def _table(points: list[dict[str, Any]]) -> list[str]:
    """A line for each point, and one for real data."""
    scores = points[0]["scores"]
    lines = [("run", "solver", "steps", "calls", *(score["name"] for score in scores))]
    for p in points:
        cells = (f"{s['value']:.4g} ({s['low']:.3g} to {s['high']:.3g})" for s in p["scores"])
        lines.append((p["name"], p["solver_name"], str(p["steps"]), f"{p['calls']:.4g}", *cells))
    floors = ("" if s["floor"] is None else f"{s['floor']['value']:.4g}" for s in scores)
    lines.append(("real data", "", "", "", *floors))
    return columns(lines)


def _draw(image: "Output", points: list[dict[str, Any]], about: str) -> None:
    from ornstein import plots
    from ornstein.metrics import Score

    def score(entry: dict[str, Any]) -> Score:
        return Score(*(entry[key] for key in ("name", "value", "low", "high")))

    several = len({p["name"] for p in points}) > 1, len({p["solver_name"] for p in points}) > 1

    def curve(p: dict[str, Any]) -> str:
        parts = [text for text, differs in zip((p["name"], p["solver_name"]), several, strict=True) if differs]
        return ", ".join(parts) or str(p["name"])

    panels = []
    for place, metric in enumerate(points[0]["scores"]):
        curves = []
        for name, group in groupby(points, curve):
            entry = sorted(group, key=lambda p: p["calls"])
            scores = tuple(score(p["scores"][place]) for p in entry)
            curves.append(plots.Curve(name, tuple(p["calls"] for p in entry), scores))
        panels.append((metric["name"], curves, None if metric["floor"] is None else score(metric["floor"])))
    plots.comparison(image, panels, about)
    say(f"The image: {image.path.resolve()}")

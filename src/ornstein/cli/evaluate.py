"""`ornstein evaluate`."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli import guidance_flags, made_before
from ornstein.cli.drawing import recipe
from ornstein.cli.features import chosen, recognition, words
from ornstein.cli.options import Evaluate
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import columns, duration, say, say_if_busy
from ornstein.cli.real_data import real_data, versions
from ornstein.cli.results import Results, must_be_json, of_data, report_page
from ornstein.errors import UsageError
from ornstein.meter import Meter
from ornstein.processes import Processes, joined

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ornstein.data import Dataset, DataSpec
    from ornstein.files.output import Output
    from ornstein.guidance import Guidance, GuidanceConfig
    from ornstein.metrics import Evaluation, Score
    from ornstein.metrics.holes import Holes
    from ornstein.metrics.memorisation import Memorisation
    from ornstein.runs import ConditionBatch, Run
    from ornstein.solvers import Solver


FORECASTS, DRAWS = 100, 32  # items of which what is not given is drawn, and draws of each


@dataclass(frozen=True, eq=False)
class Samples:
    """Items in the units of the data, their spec, their requested classes, and how they were made.

    `mine` are the items of this process; `items` are all of them, in the first process.
    """

    mine: "NDArray[Any]"
    items: "NDArray[Any]"
    spec: "DataSpec"
    labels: "Tensor | None"
    made: dict[str, Any]
    name: str
    title: str


def run(arguments: Sequence[str]) -> int:
    """Sample, measure, print a table, and write the result into the run's folder and its report page."""
    options = parse(Evaluate, "evaluate", arguments)
    within(options, count=(100, math.inf), steps=(1, math.inf), seed=(0, math.inf))
    must_be_json(options.out)
    guidance_flags.must_name_solver(options.solver)
    wanted = words(options.metrics)
    with joined() as processes:
        processes.on_all(lambda: _evaluate(options, wanted, processes))
    return 0


def _evaluate(options: Evaluate, wanted: tuple[str, ...] | None, processes: Processes) -> None:
    from ornstein import cpu
    from ornstein.device import choose_device
    from ornstein.metrics.evaluation import must_be_metrics
    from ornstein.metrics.holes import alike
    from ornstein.runs import load

    must_be_metrics("--metrics", wanted or ())
    cpu.keep_memory()  # networks of features take and free large blocks for every batch
    trained = load(options.run, choose_device(options.device, processes))
    options = guidance_flags.settled(options, trained)
    _must_have_target(options, trained)
    real = real_data(trained, options.data, options.train_data)
    data, training, holes, note = alike(*real)
    if note:
        say(f"Note: {note}")
    guide = guidance_flags.guide(options, trained)
    results = Results(trained, options, "evaluation", "evaluated", data=data.spec.content_hash, guidance_by=str(guide))

    with ExitStack() as held:

        def hold() -> None:
            held.enter_context(results)

        processes.on_first(hold)
        say_if_busy(trained.device)
        _measure(options, wanted, processes, trained, guide, data, training, holes, results, real[0])


def _must_have_target(options: Evaluate, trained: "Run") -> None:
    from ornstein.data.column_spec import ColumnSpec
    from ornstein.metrics.tabular import target_of

    if isinstance(trained.spec, ColumnSpec):
        target_of(trained.spec, options.target)
    elif options.target is not None:
        plural = trained.spec.traits.plural
        raise UsageError(f"--target: {trained.folder} was trained on {plural}, which have no columns; leave it out")


def _measure(
    options: Evaluate,
    wanted: tuple[str, ...] | None,
    processes: Processes,
    trained: "Run",
    guide: "GuidanceConfig",
    data: "Dataset",
    training: "Dataset | None",
    holes: "Holes | None",
    results: Results,
    whole: "Dataset",
) -> None:
    import torch

    from ornstein.data.column_spec import ColumnSpec
    from ornstein.metrics import Network, evaluate, extract, identities, reference, tabular, usual

    spec = trained.spec
    names = usual(spec.kind) if wanted is None else wanted
    began = time.monotonic()
    extractor, net = processes.in_turn(lambda: chosen(options.features, data, "agreement" in names))
    if isinstance(extractor, Network):
        extractor.module.to(trained.model.device)
    prepared = time.monotonic() - began
    if options.samples:
        samples = _from_file(options, trained, processes)
    else:
        if trained.model.conditions.known is not None and not isinstance(spec, ColumnSpec):
            _forecasting(trained, whole, options)  # what it lacks is said before samples are drawn
        samples = _drawn(options, trained, processes, data, guide)
    if holes is not None:
        first = processes.share(len(samples.items) if options.samples else options.count).start
        samples = replace(samples, mine=holes.punch(samples.mine, first), items=holes.punch(samples.items))
    began = time.monotonic()
    with Meter("features", patience=1.0) as meter:

        def progress(done: int, total: int) -> None:
            meter.update(done / total, f"{done:,} of {total:,}")

        parts = processes.gather(extract(extractor, samples.mine, samples.spec, progress))
        if not processes.is_first:
            return
        features = torch.cat(parts)
        compared = reference(extractor, data, training, len(features), "memorisation" in names, progress)
        compared = replace(compared, holed=holes is not None)
    with Meter("measuring", patience=1.0) as meter:
        labels = None
        if net is not None and samples.labels is not None:
            labels = recognition(net, samples.labels, [samples.items], samples.spec, extractor, features, data)
        evaluation = evaluate(
            features,
            compared,
            wanted,
            extractor=extractor,
            kind=spec.kind,
            labels=labels,
            identity=identities(samples.items, samples.spec),
            progress=lambda done, total: meter.update(done / total, names[done]),
        )
        if isinstance(spec, ColumnSpec):
            known = options.samples is None and trained.model.conditions.known is not None
            foretell = partial(_foretold, trained, options) if known else None
            evaluation = tabular.with_columns(evaluation, samples.items, data, training, spec, options.target, foretell)
        elif trained.model.conditions.known is not None and not options.samples:
            evaluation = _with_forecasts(evaluation, trained, whole, options)
    seconds = {"classifier": round(prepared, 1), "measuring": round(time.monotonic() - began, 1)}
    stem = f"{samples.name}-{of_data(data)}-{extractor.name}"
    said = f"{len(features):,} samples against {len(compared.real):,} items of {data.spec.source}, {extractor.name} features"
    record = {
        "scores": [row.to_json() for row in evaluation.rows],
        "by_class": {name: score.to_json() for name, score in evaluation.by_class.items()},
        "findings": list(evaluation.findings),
        "notes": list(evaluation.notes),
        "title": f"Evaluation: {samples.title}",
        "about": f"{'. '.join((said, *evaluation.findings))}. The last column is what other real data score in the place of the "
        "samples.",
        "samples": samples.made,
        "data": {"source": data.spec.source, "content_hash": data.spec.content_hash, "compared": len(compared.real)},
        "training": {"source": spec.source, "content_hash": spec.content_hash},
        "features": {"name": extractor.name, "digest": extractor.digest},
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
    }
    output = results.at(f"{stem}.json")
    where = results.write(output, record)
    say(f"{said}.")
    for finding in evaluation.findings:
        say(f"{finding[0].upper()}{finding[1:]}.")
    say(show(evaluation))
    for note in evaluation.notes:
        say(f"Note: {note}.")
    say(f"Measured in {duration(sum(seconds.values()))}: {where}")
    if evaluation.nearest is not None and training is not None and spec.kind == "image":
        pairs = replace(output, path=output.path.with_name(f"{output.path.stem}-nearest.png"))
        nearest = evaluation.nearest, training
        results.also(lambda: _save_pairs(pairs, samples, *nearest))
    if training is not None and results.out is None:
        report_page(results, training)


def _with_forecasts(evaluation: "Evaluation", trained: "Run", data: "Dataset", options: Evaluate) -> "Evaluation":
    """With the CRPS of what is not given of items, in the data's units, and how often intervals of draws hold it."""
    from ornstein.metrics import Row

    measured = trained.calibrate(
        data,
        min(FORECASTS, len(data)),
        DRAWS,
        solver=_forecasting(trained, data, options),
        steps=guidance_flags.steps_of(options),
        seed=options.seed,
        batch_size=options.batch_size,
    )
    scores = [score for score in measured.scores if score.name.startswith(("central", "CRPS"))]
    known = trained.model.conditions.known
    note = f"CRPS and coverage are of {len(measured.balls):,} items, {DRAWS} draws of each, given {known.law if known else ''}"
    rows = (*evaluation.rows, *map(Row, scores))
    return replace(evaluation, rows=rows, notes=(*evaluation.notes, note))


def _forecasting(trained: "Run", data: "Dataset", options: Evaluate) -> "Solver":
    """The solver of the flags, for what is given in forecasts."""
    import numpy as np

    from ornstein.guidance import PLAIN
    from ornstein.runs import ConditionBatch
    from ornstein.runs.calibrating import rows_as_trained

    rows = rows_as_trained(trained.model.conditions, data, np.arange(min(2, len(data))), options.seed)
    return guidance_flags.solver(options, trained, None, PLAIN, ConditionBatch(rows))


# What is compared


# Samples


def _drawn(
    options: Evaluate, trained: "Run", processes: Processes, data: "Dataset", guide: "GuidanceConfig"
) -> Samples:
    """Samples drawn here, each process its part; of a run with more than classes, under the conditions of the real data."""
    import numpy as np

    from ornstein.runs.conditioning import like, like_labels

    part = processes.share(options.count)
    condition = like(trained, data, part, options.seed)
    solver = guidance_flags.solver(options, trained, None, guide, condition)
    say(recipe(trained.model.path, solver, guidance_flags.steps_of(options), guide))
    if condition is not None and trained.model.conditions.label is not None and len(condition.rows) == 1:
        say(f"Note: samples are of the classes alone that {data.spec.source} has.")
    mine = draw(
        trained, part, solver, guidance_flags.steps_of(options), options.seed, guide, options.batch_size, condition
    )
    blocks = processes.gather(mine)
    made = {
        "run": str(trained.folder.resolve()),
        "weights": trained.weights_hash,
        "count": options.count,
        "solver": str(solver),
        "times": solver.grid(trained.model.path, guidance_flags.steps_of(options)).tolist(),
        "seed": options.seed,
        "guidance": str(guide),
    }
    suffix = "" if guide.plain else f"-{guide.slug}"
    return Samples(
        mine=mine,
        items=np.concatenate(blocks) if processes.is_first else mine,
        spec=trained.spec,
        labels=like_labels(trained, data, options.count, options.seed),
        made=made,
        name=f"{guidance_flags.slug(options.solver)}-{options.steps}{suffix}-n{options.count}-seed{options.seed}",
        title=f"{options.solver}, {options.steps} steps" + ("" if guide.plain else f", {guide}"),
    )


def draw(
    trained: "Run",
    part: range,
    solver: "Solver",
    steps: int,
    seed: int,
    guide: "Guidance",
    batch_size: int | None = None,
    condition: "ConditionBatch | None" = None,
) -> "NDArray[Any]":
    """The samples of these numbers, with progress."""
    import numpy as np

    batches: list[NDArray[Any]] = []
    began = time.monotonic()
    with Meter("sampling", patience=1.0) as meter:
        for batch in trained.batches(
            len(part),
            condition=condition,
            guide=guide,
            solver=solver,
            steps=steps,
            seed=seed,
            first=part.start,
            batch_size=batch_size,
        ):
            batches.append(batch)
            made, seconds = sum(map(len, batches)), time.monotonic() - began
            left = duration(seconds * (len(part) / made - 1))
            meter.update(made / len(part), f"{made:,} of {len(part):,}  {made / seconds:,.1f} a second  {left} left")
    return np.concatenate(batches)


def _foretold(trained: "Run", options: Evaluate, rows: "NDArray[Any]", place: int) -> "NDArray[Any]":
    """Draws of the numbers of a column of rows, or the chances of its states, given their other columns."""
    from ornstein.data.column_spec import ColumnSpec
    from ornstein.metrics.tabular import ENSEMBLE

    spec, steps = trained.spec, guidance_flags.steps_of(options)
    assert isinstance(spec, ColumnSpec)
    column = spec.columns[place]
    if column.is_numeric:
        drawn = trained.impute(rows, ENSEMBLE, steps=steps, seed=options.seed, batch_size=options.batch_size)
        return drawn[:, :, place].T
    said = trained.predict(rows, column.name, seed=options.seed, batch_size=options.batch_size)
    assert said.chances is not None
    return said.chances


def _from_file(options: Evaluate, trained: "Run", processes: Processes) -> Samples:
    """Made before: a file or folder as `sample` writes it."""
    file = Path(str(options.samples)).expanduser()
    items, labels, digest = made_before.read(file, trained)
    made = {"file": str(file.resolve()), "digest": digest, "count": len(items)}
    part, name = processes.share(len(items)), f"samples-{file.stem}-{digest.rpartition('-')[2][:8]}"
    return Samples(items[part.start : part.stop], items, trained.spec, labels, made, name, file.name)


# Results


def show(evaluation: "Evaluation") -> list[str]:
    """The scores as a table: value, interval, and what other real data score."""
    lines = [("", "value", "95 % interval", "real data")]
    for row in evaluation.rows:
        lines.append(_line(row.score, row.floor))
    if evaluation.by_class:
        lines += [("", "", "", ""), *(_line(score, None, "  ") for score in evaluation.by_class.values())]
    return columns(lines)


def _line(score: "Score", floor: "Score | None", indent: str = "") -> tuple[str, str, str, str]:
    reference = "" if floor is None else f"{floor.value:.4g} ({floor.low:.4g} to {floor.high:.4g})"
    return f"{indent}{score.name}", f"{score.value:.4g}", f"{score.low:.4g} to {score.high:.4g}", reference


def _save_pairs(output: "Output", samples: Samples, nearest: "Memorisation", training: "Dataset") -> None:
    """Rows of the samples nearest to a training item, each with that item below it."""
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from ornstein.data import grid_image
    from ornstein.files.output import KEYWORD

    own, theirs = nearest.samples.numpy(), nearest.training.numpy()
    columns = min(8, len(own))
    sheets = [
        np.asarray(grid_image(np.asarray(items[rows[start : start + columns]]), columns, spec=spec))
        for start in range(0, len(own), columns)
        for items, rows, spec in ((samples.items, own, samples.spec), (training.items, theirs, training.spec))
    ]
    width = max(sheet.shape[1] for sheet in sheets)
    padded = [
        np.pad(s, ((0, 6), (0, width - s.shape[1]), *((0, 0),) * (s.ndim - 2)), constant_values=255) for s in sheets
    ]
    about = PngInfo()
    about.add_text(KEYWORD, output.stamp)
    with output.write() as fresh:
        Image.fromarray(np.concatenate(padded)).save(fresh, "png", pnginfo=about)

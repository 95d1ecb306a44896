"""`ornstein likelihood`."""

import json
import math
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ornstein.cli.options import Likelihood
from ornstein.cli.parse import parse, within
from ornstein.cli.reading import opened
from ornstein.cli.show import Meter, duration, say
from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.likelihood import Measured, Method, Summary
    from ornstein.runs import Run

METHODS = {"ode": 24, "elbo": 32, "bound": 100}
LEAST = {"ode": 12, "elbo": 2, "bound": 2}
TRACES = ("exact", "rademacher", "gaussian", "hutch++")
SAID = {"ode": "−log p", "elbo": "bound on −log p", "bound": "bound on −log p"}


def run(words: Sequence[str]) -> int:
    """Measure, print a table, and write what was found beside the run."""
    options = parse(Likelihood, "likelihood", words)
    if not options.run:
        raise UsageError("likelihood needs a run folder; give for example `ornstein likelihood runs/digits`")
    for key, value, choices in (
        ("method", options.method, tuple(METHODS)),
        ("trace", options.trace, TRACES),
        ("dequantise", options.dequantise, ("path", "uniform")),
    ):
        if value is not None and value not in choices:
            raise UsageError(f"--{key} {value!r} is not known; give one of {', '.join(choices)}")
    steps = METHODS[options.method] if options.steps is None else options.steps
    within(
        options,
        count=(1, 1e9),
        probes=(1, 1e6),
        seed=(0, 2**63 - 1),
        batch_size=(1, 1e9),
        steps=(LEAST[options.method], 1e6),
    )
    if options.tolerance is not None and not options.tolerance > 0:
        raise UsageError(f"--tolerance {options.tolerance:g} must be positive")
    from ornstein.runs import load
    from ornstein.training import build

    trained = load(options.run, build.device(options.device))
    if options.data is None:
        say(f"Data: {trained.spec.source}, which {trained.folder} was trained on; give --data for held-out items.")
    dataset = opened(trained, options.data)
    try:
        return _measure(trained, dataset, options, steps)
    except ImportError as error:
        raise OrnsteinError(str(error)) from error


def _method(options: Likelihood, steps: int) -> "Method":
    from ornstein import likelihood as l

    if options.method == "elbo":
        return l.ELBO(steps)
    if options.method == "bound":
        return l.DiscreteBound(steps)
    traces: dict[str | None, l.Trace | None] = {
        None: None if options.probes == 2 else l.Hutchinson(options.probes),
        "exact": l.ExactTrace(),
        "rademacher": l.Hutchinson(options.probes),
        "gaussian": l.Hutchinson(options.probes, gaussian=True),
        "hutch++": l.HutchPP(samples=options.probes),
    }
    solver = l.FixedSteps(steps) if options.tolerance is None else l.Adaptive(options.tolerance, options.tolerance)
    return l.ODE(traces[options.trace], solver, l.Uniform() if options.dequantise == "uniform" else None)


def _measure(trained: "Run", dataset: "Dataset", options: Likelihood, steps: int) -> int:
    import numpy as np

    method, total = _method(options, steps), min(options.count, len(dataset))
    indices = np.sort(np.random.default_rng(options.seed).permutation(len(dataset))[:total])
    batches = trained.likelihood(
        dataset,
        indices,
        method,
        seed=options.seed,
        unconditional=options.unconditional,
        batch_size=options.batch_size,
    )
    began, done = time.monotonic(), 0
    found: list[Measured] = []
    with Meter("measuring", patience=1.0) as meter:
        for batch in batches:
            found.append(batch)
            done, seconds = done + len(batch.nats), time.monotonic() - began
            meter.update(done / total, f"{done:,} of {total:,}  {duration(seconds * (total / done - 1))} left")
    return _tell(trained, dataset, options, method, found, time.monotonic() - began)


def _tell(
    trained: "Run", dataset: "Dataset", options: Likelihood, method: "Method", found: "list[Measured]", seconds: float
) -> int:
    import torch

    from ornstein.data.atomic import new_file
    from ornstein.likelihood import summarise

    spec = trained.spec
    nats, probe = (torch.cat([getattr(batch, key).cpu() for batch in found]) for key in ("nats", "probe"))
    if not bool(nats.isfinite().all()):
        bad = int((~nats.isfinite()).sum())
        raise OrnsteinError(f"{bad} of {len(nats)} values are not finite; try more --steps, or --method elbo")
    checks = [batch.solver.cpu() for batch in found if batch.solver is not None]
    summary = summarise(nats, probe, torch.cat(checks) if checks else None)
    dims = math.prod(spec.shape)
    images = spec.kind == "image"
    unit, factor = ("bits/dim", 1 / (dims * math.log(2))) if images else ("nats", 1.0)
    rows = {SAID[options.method]: summary.scaled(factor)}
    rows |= {
        f"  {name}": summarise(torch.cat([b.terms[name].cpu() for b in found])).scaled(factor)
        for name in found[0].terms
    }
    conditional = bool(spec.classes) and not options.unconditional
    given = "given its label" if conditional else "unconditional" if spec.classes else ""
    whole = spec.level_width is not None
    density = "probability of its whole numbers" if whole else f"density in the units of the data, {dims} dimensions"
    say(
        f"{len(nats):,} of {len(dataset):,} items of {dataset.spec.source}, "
        + ", ".join(filter(None, (given, density)))
    )
    say(_table(unit, rows))
    where = trained.folder / "likelihood"
    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset.spec.source).strip("-")[-60:]
    file = where / f"{options.method}{'-unconditional' if options.unconditional else ''}-{name}.json"
    record: dict[str, Any] = {
        "unit": unit,
        "rows": {key.strip(): {**row._asdict(), "total": row.total} for key, row in rows.items()},
        "nats": {**summary._asdict(), "total": summary.total},
        "dims": dims,
        "method": str(method),
        "conditional": conditional,
        "data": {"source": dataset.spec.source, "content_hash": dataset.spec.content_hash, "count": len(dataset)},
        "weights": trained.weights,
        "seed": options.seed,
        "seconds": round(seconds, 1),
    }
    with new_file(file) as fresh:
        fresh.write_text(json.dumps(_plain(record), indent=1) + "\n", encoding="utf-8")
    say(f"In {duration(seconds)}; all of it in {file}")
    return 0


def _table(unit: str, rows: "dict[str, Summary]") -> str:
    """A line for each mean, with its standard error and the parts of it."""
    width = max(map(len, rows))
    lines = [f"  {'':{width}}{unit:>11}{'± total':>10}{'data':>10}{'probe':>10}{'solver':>10}"]
    for name, row in rows.items():
        parts = (row.total, row.data, row.probe, row.solver) if name == next(iter(rows)) else (row.total,)
        cells = "".join(f"{'?' if math.isnan(part) else format(part, '.4f'):>10}" for part in parts)
        lines.append(f"  {name:{width}}{row.mean:>11.4f}{cells}")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """What JSON holds: a part that is not known is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value

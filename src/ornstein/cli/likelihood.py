"""`ornstein likelihood`."""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ornstein.cli.options import Likelihood
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import duration, say
from ornstein.cli.real_data import real_data, versions
from ornstein.cli.results import Results, must_be_json, report_page
from ornstein.errors import OrnsteinError, UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.data import Dataset
    from ornstein.files.output import Output
    from ornstein.likelihood import Dequantisation, Measured, Method, Summary
    from ornstein.runs import Run

METHODS = {"ode": 96, "elbo": 32, "bound": 100}
LEAST = {"ode": 12, "elbo": 2, "bound": 2}
TRACES = ("exact", "rademacher", "gaussian", "hutch++")
DEQUANTISE = ("auto", "path", "uniform", "variational")
PRIORS = ("centred", "normal")
SAID = {"ode": "−log p", "elbo": "bound on −log p", "bound": "bound on −log p"}
CHECKED = 8  # items on which the solver's error is measured,
COST = 5.0  # which takes each so many times as long
GROUPS = 10  # rows of steps on the screen
FITTING = 150  # steps of the variational dequantisation
CHOICE, COARSE = 8, 48  # training items on which noise within bins is chosen, and steps of the ODE for that
PRICE = {"ode": 0.183, "elbo": 0.234, "bound": 0.234}  # of `path` on smooth data: −log ∫_bin of the noise, in bits


def run(words: Sequence[str]) -> int:
    """Measure, print a table, and write the results into the run's folder and its report page, or to a file."""
    options = parse(Likelihood, "likelihood", words)
    for key, value, choices in (
        ("method", options.method, tuple(METHODS)),
        ("trace", options.trace, TRACES),
        ("dequantise", options.dequantise, DEQUANTISE),
        ("prior", options.prior, PRIORS),
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
    must_be_json(options.out)
    import numpy as np

    from ornstein.device import choose_device
    from ornstein.runs import load

    trained = load(options.run, choose_device(options.device))
    dataset, training = real_data(trained, options.data, options.train_data)
    dataset, note = dataset.whole()
    if note:
        say(f"Note: {note}")
    with Results(trained, options, "evaluation", "measured", data=dataset.spec.content_hash, steps=steps) as results:
        try:
            chosen: dict[str, float] = {}
            if trained.spec.is_whole:  # what does not fit is refused before noise within bins is chosen or fitted
                trained.likelihood(
                    dataset, np.arange(0), _method(options, steps, None), unconditional=options.unconditional
                )
            method = _method(options, steps, _dequantisation(options, trained, training, chosen))
            measured, indices, seconds = _measure(trained, dataset, options, method)
        except ImportError as error:
            raise OrnsteinError(str(error)) from error
        _tell(trained, dataset, training, options, method, measured, indices, seconds, results, chosen)
    return 0


def _output(options: Likelihood, results: Results, dataset: "Dataset") -> "Output":
    """Where the result goes: one of other flags or data is not replaced."""
    from ornstein.files.output import unused

    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset.spec.source).strip("-")[-60:]
    stem = f"likelihood-{options.method}{'-unconditional' if options.unconditional else ''}-{name}"
    return results.out or unused(results.folder / f"{stem}.json", results.recipe, results.force)


def _dequantisation(
    options: Likelihood, trained: "Run", training: "Dataset | None", chosen: dict[str, float]
) -> "Dequantisation | None":
    """The noise within bins; `chosen` is filled with what each cost on training items where it was chosen by that."""
    from ornstein.likelihood import Uniform

    if options.dequantise in ("uniform", "variational") and not trained.spec.is_whole:
        raise UsageError(
            f"--dequantise {options.dequantise}: {trained.folder} was trained on {trained.spec.dtype}, no whole numbers: "
            "there is nothing to dequantise; leave it out"
        )
    if options.dequantise == "path" or not trained.spec.is_whole:
        return None
    if options.dequantise == "uniform":
        return Uniform()
    if options.dequantise == "auto":
        return _chosen(options, trained, training, chosen)
    if options.method != "ode":
        raise UsageError(
            f"--dequantise variational is for --method ode; with {options.method} give auto, path or uniform"
        )
    if training is None:
        raise UsageError(
            f"--dequantise variational is fitted to the training data, {trained.spec.source}, which are not opened unasked, or "
            "not there any more; name them by --train-data, or give --dequantise path"
        )
    with Meter("fitting the noise within bins", patience=1.0) as meter:
        return trained.dequantisation(
            training,
            FITTING,
            seed=options.seed,
            unconditional=options.unconditional,
            progress=lambda done, total: meter.update(done / total, f"{done} of {total}"),
        )


def _chosen(
    options: Likelihood, trained: "Run", training: "Dataset | None", chosen: dict[str, float]
) -> "Dequantisation | None":
    """The tighter of two bounds on a few training items: a choice made on the items that are reported would be too good."""
    import numpy as np
    import torch

    from ornstein import likelihood as l

    if training is None:
        say(
            "Note: --dequantise path, since the tighter noise within bins is chosen on training data; name them by --train-data "
            f"(on data that are smooth within a bin it costs {PRICE[options.method]} bits a dimension, and uniform nothing)."
        )
        return None
    some = np.sort(np.random.default_rng(options.seed).permutation(len(training))[:CHOICE])
    unit, factor = _unit(trained)
    among: dict[str, Dequantisation | None] = {"path": None, "uniform": l.Uniform()}
    for name, noise in among.items():
        methods: dict[str, Method] = {
            "ode": l.ODE(solver=l.FixedSteps(COARSE), dequantisation=noise),
            "elbo": l.ELBO(COARSE, dequantisation=noise),
            "bound": l.DiscreteBound(2 * COARSE, dequantisation=noise),
        }
        batches = trained.likelihood(
            training,
            some,
            methods[options.method],
            seed=options.seed,
            unconditional=options.unconditional,
            checked=0,
            batch_size=options.batch_size,
        )
        chosen[name] = float(torch.cat([batch.nats.double().cpu() for batch in batches]).mean()) * factor
    best = min(chosen, key=lambda name: chosen[name] if math.isfinite(chosen[name]) else math.inf)
    values = " and ".join(f"{value:.3f} ({name})" for name, value in chosen.items())
    say(f"Noise within bins: {best}, the tighter bound on {len(some)} training items, {values} {unit}.")
    return among[best]


def _unit(trained: "Run") -> tuple[str, float]:
    """The unit of likelihoods, and how much of it a nat is."""
    spec = trained.spec
    return ("bits/dim", 1 / (math.prod(spec.shape) * math.log(2))) if spec.traits.per_dimension else ("nats", 1.0)


def _method(options: Likelihood, steps: int, dequantisation: "Dequantisation | None") -> "Method":
    from ornstein import likelihood as l

    prior: l.PriorTerm = l.NormalPrior() if options.prior == "normal" else l.CentredPrior()
    if options.method == "elbo":
        return l.ELBO(steps, prior=prior, dequantisation=dequantisation)
    if options.method == "bound":
        return l.DiscreteBound(steps, prior=prior, dequantisation=dequantisation)
    traces: dict[str | None, l.Trace | None] = {
        None: None if options.probes == 2 else l.Hutchinson(options.probes),
        "exact": l.ExactTrace(),
        "rademacher": l.Hutchinson(options.probes),
        "gaussian": l.Hutchinson(options.probes, gaussian=True),
        "hutch++": l.HutchPP(samples=options.probes),
    }
    solver = l.FixedSteps(steps) if options.tolerance is None else l.Adaptive(options.tolerance, options.tolerance)
    return l.ODE(traces[options.trace], solver, dequantisation)


def _measure(
    trained: "Run", dataset: "Dataset", options: Likelihood, method: "Method"
) -> "tuple[list[Measured], NDArray[Any], float]":
    import numpy as np

    total = min(options.count, len(dataset))
    indices = np.sort(np.random.default_rng(options.seed).permutation(len(dataset))[:total])
    batches = trained.likelihood(
        dataset,
        indices,
        method,
        seed=options.seed,
        unconditional=options.unconditional,
        checked=CHECKED,
        batch_size=options.batch_size,
    )
    began, done = time.monotonic(), 0
    more = (COST - 1) * min(CHECKED, total) if options.method == "ode" else 0.0
    measured: list[Measured] = []
    with Meter("measuring", patience=1.0) as meter:
        for batch in batches:
            measured.append(batch)
            done, seconds = done + len(batch.nats), time.monotonic() - began
            left = duration(seconds * (total - done) / (done + more))
            meter.update(done / total, f"{done:,} of {total:,}  {left} left")
    return measured, indices, time.monotonic() - began


def _tell(
    trained: "Run",
    dataset: "Dataset",
    training: "Dataset | None",
    options: Likelihood,
    method: "Method",
    measured: "list[Measured]",
    indices: "NDArray[Any]",
    seconds: float,
    results: Results,
    chosen: dict[str, float],
) -> None:
    import torch

    from ornstein.likelihood import summarise
    from ornstein.metrics.score import Score, Z

    spec = trained.spec
    nats, probe = (torch.cat([getattr(batch, key).cpu() for batch in measured]) for key in ("nats", "probe"))
    if not bool(nats.isfinite().all()):
        bad = int((~nats.isfinite()).sum())
        raise OrnsteinError(f"{bad} of {len(nats)} values are not finite; try more --steps, or --method elbo")
    checks = [batch.solver.cpu() for batch in measured if batch.solver is not None]
    summary = summarise(nats, probe, torch.cat(checks) if checks else None)
    dims = math.prod(spec.shape)
    unit, factor = _unit(trained)
    rows = {SAID[options.method]: summary.scaled(factor)}
    rows |= {
        f"  {name}": summarise(torch.cat([b.terms[name].cpu() for b in measured])).scaled(factor)
        for name in measured[0].terms
    }
    conditions = trained.model.conditions
    conditional = bool(conditions) and not options.unconditional
    what = "its label" if conditions.label is not None and len(conditions.parts) == 1 else "its condition"
    condition_text = f"given {what}" if conditional else "unconditional" if conditions else ""
    whole = spec.level_width is not None
    density = "probability of its whole numbers" if whole else f"density in the units of the data, {dims} dimensions"
    if spec.may_lack:
        condition_text = ""
        density = "probabilities of categories and whole numbers, densities of other numbers in their own units"
    about = f"{len(nats):,} of {len(dataset):,} items of {dataset.spec.source}, " + ", ".join(
        filter(None, (condition_text, density))
    )
    steps = _steps(trained, measured, factor)
    record: dict[str, Any] = {
        "title": f"Likelihood: {options.method}",
        "about": f"{about}; {unit}.",
        "scores": [
            Score(f"{name.strip()}, {unit}", row.mean, row.mean - Z * row.total, row.mean + Z * row.total).to_json()
            for name, row in rows.items()
        ],
        "unit": unit,
        "rows": {key.strip(): {**row._asdict(), "total": row.total} for key, row in rows.items()},
        "nats": {**summary._asdict(), "total": summary.total},
        "steps": steps,
        "dims": dims,
        "method": str(method),
        "dequantisation": {"chosen_on_training_items": chosen} if chosen else None,
        "conditional": conditional,
        "options": asdict(options),
        "data": {"source": dataset.spec.source, "content_hash": dataset.spec.content_hash, "count": len(dataset)},
        "run": str(trained.folder.resolve()),
        "weights": trained.weights_hash,
        "versions": versions(),
        "seconds": round(seconds, 1),
    }
    if options.per_item:
        record["items"] = {"index": indices.tolist(), "nats": nats.tolist(), "probe": probe.tolist()}
    output = _output(options, results, dataset)
    where = results.write(output, _plain(record))
    say(about)
    say(_table(unit, rows))
    if steps:
        say(_profile(unit, steps))
    say(f"In {duration(seconds)}; all of it in {where}")
    if training is not None and results.out is None:
        report_page(results, training)


def _steps(trained: "Run", measured: "list[Measured]", factor: float) -> list[dict[str, float]]:
    """Mean contribution of each step to a bound, from data to noise, with its standard error."""
    import torch

    if measured[0].steps is None or measured[0].times is None:
        return []
    steps = torch.cat([batch.steps.cpu() for batch in measured if batch.steps is not None], 1).double() * factor
    times = measured[0].times.cpu().double()
    alpha, sigma = trained.model.path.levels(times, times)
    log_snr = 2 * (alpha.log() - sigma.log())
    errors = steps.std(1) / math.sqrt(steps.shape[1]) if steps.shape[1] > 1 else torch.full((len(steps),), math.nan)
    edges = zip(times[:-1], times[1:], log_snr[:-1], log_snr[1:], steps.mean(1), errors, strict=True)
    keys = ("t", "to_t", "log_snr", "to_log_snr", "mean", "error")
    return [dict(zip(keys, map(float, row), strict=True)) for row in edges]


def _profile(unit: str, steps: list[dict[str, float]]) -> list[str]:
    """The steps in groups, as bars: at which noise levels the bound is spent."""
    size = math.ceil(len(steps) / GROUPS)
    groups = [steps[i : i + size] for i in range(0, len(steps), size)]
    sums = [sum(step["mean"] for step in group) for group in groups]
    longest = max(max(sums), 1e-12)
    lines = [f"  {'log-SNR':>16}{unit:>11}"]
    for group, total in zip(groups, sums, strict=True):
        span = f"{group[0]['log_snr']:.1f} to {group[-1]['to_log_snr']:.1f}"
        lines.append(f"  {span:>16}{total:>11.4f}  {'█' * round(40 * max(total, 0) / longest)}".rstrip())
    return lines


def _table(unit: str, rows: "dict[str, Summary]") -> list[str]:
    """A line for each mean, with its standard error and the parts of it."""
    width = max(map(len, rows))
    lines = [f"  {'':{width}}{unit:>11}{'± total':>10}{'data':>10}{'probe':>10}{'solver':>10}"]
    for name, row in rows.items():
        parts = (row.total, row.data, row.probe, row.solver) if name == next(iter(rows)) else (row.total,)
        cells = "".join(f"{'?' if math.isnan(part) else format(part, '.4f'):>10}" for part in parts)
        lines.append(f"  {name:{width}}{row.mean:>11.4f}{cells}")
    return lines


def _plain(value: Any) -> Any:
    """Values as JSON: a number that is not finite is null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

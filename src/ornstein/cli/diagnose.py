"""`ornstein diagnose`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ornstein.cli.options import Diagnose
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.cli.real_data import real_data, versions
from ornstein.cli.results import Results, must_be_json, of_data, report_page
from ornstein.meter import Meter

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.metrics.diagnostics import NoiseLevel
    from ornstein.runs import Run


def run(words: Sequence[str]) -> int:
    """Print a line for each noise level, and write them into the run's folder and its report page."""
    options = parse(Diagnose, "diagnose", words)
    within(options, count=(100, math.inf), levels=(1, math.inf), seed=(0, math.inf))
    must_be_json(options.out)
    import numpy as np

    from ornstein import plots
    from ornstein.device import choose_device
    from ornstein.metrics.diagnostics import diagnose, times
    from ornstein.runs import load

    device = choose_device(options.device)
    trained = load(options.run, device)
    data, training = real_data(trained, options.data, options.train_data)
    data, note = data.whole()
    if note:
        say(f"Note: {note}")
    rows = np.sort(np.random.default_rng(0).permutation(len(data))[: options.count])
    x, _ = data.batch(rows)
    x = x.to(device)
    denoiser = trained.denoiser
    conditioned = None
    conditions = trained.model.conditions
    if conditions:
        conditions.must_fit(data, options.run)
        known = [row.to(device) for row in conditions.of_items(data, rows, options.seed)]
        conditioned = lambda part: denoiser.given(conditions.network_input(tuple(row[part] for row in known)))  # noqa: E731
    with Results(trained, options, "evaluation", "diagnosed", data=data.spec.content_hash) as results:
        at, measured = times(trained.model.path, options.levels), []
        with Meter("diagnosing", patience=1.0) as meter:
            for level in diagnose(denoiser, x, at, conditioned=conditioned, seed=options.seed):
                measured.append(level)
                meter.update(len(measured) / len(at), f"{len(measured)} of {len(at)} noise levels")
        what = f"{len(x):,} items of {data.spec.source}"
        output = results.at(f"diagnosis-{of_data(data)}.json")
        where = results.write(output, _record(trained, data, options, measured, what))
        say(f"{what}; errors are per number, in model units.")
        say(_table(measured))
        say(f"The numbers: {where}")
        results.image(output, lambda drawn: plots.diagnosis(drawn, measured, what))
        if training is not None and results.out is None:
            report_page(results, training)
    return 0


def _record(
    trained: "Run", data: "Dataset", options: Diagnose, levels: "list[NoiseLevel]", what: str
) -> dict[str, Any]:
    return {
        "title": "Diagnosis of the model",
        "about": f"By noise level, on {what}: the error of the noise estimate, and the actual squared error of the denoiser "
        "over what its own Jacobian predicts (1: calibrated).",
        "scores": [
            score.named(f"{name} at t = {level.t:.3f}").to_json()
            for name, of in (("noise error", "noise"), ("calibration", "calibration"))
            for level in levels
            for score in (getattr(level, of),)
        ],
        "levels": [level.to_json() for level in levels],
        "weights": trained.weights_hash,
        "data": {
            "source": data.spec.source,
            "content_hash": data.spec.content_hash,
            "count": min(options.count, len(data)),
        },
        "seed": options.seed,
        "versions": versions(),
    }


def _table(levels: "list[NoiseLevel]") -> list[str]:
    """A line for each noise level."""
    head = f"  {'t':>6}  {'log-SNR':>7}  {'noise error':>11}  {'clean error':>11}  {'continuity':>10}"
    lines = [f"{head}  calibration (1: right)"]
    for level in levels:
        c = level.calibration
        lines.append(
            f"  {level.t:6.3f}  {level.log_snr:7.2f}  {level.noise.value:11.4g}  {level.clean.value:11.4g}"
            f"  {level.continuity:10.2g}  {c.value:.3f} ({c.low:.3f} to {c.high:.3f})"
        )
    return lines

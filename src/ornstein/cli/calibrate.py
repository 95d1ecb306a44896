"""`ornstein calibrate`."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ornstein.cli import guidance_flags
from ornstein.cli.drawing import MOST_STEPS
from ornstein.cli.options import Calibrate
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.cli.real_data import real_data, versions
from ornstein.cli.results import Results, must_be_json, of_data, report_page
from ornstein.errors import UsageError
from ornstein.meter import Meter
from ornstein.names import SOLVERS

if TYPE_CHECKING:
    from ornstein.metrics.calibration import Calibration

UNLIKELY = 0.01  # a probability of ranks below which they are said not to be uniform


def run(words: Sequence[str]) -> int:
    """Print coverage with intervals, write it beside the run and into its report page, and draw it."""
    options = parse(Calibrate, "calibrate", words)
    within(
        options,
        count=(10, math.inf),
        draws=(10, 10**6),
        steps=(1, MOST_STEPS),
        seed=(0, 2**63 - 1),
        batch_size=(1, 2**20),
    )
    must_be_json(options.out)
    guidance_flags.must_name_solver(options.solver)
    from ornstein import plots
    from ornstein.device import choose_device
    from ornstein.guidance import PLAIN
    from ornstein.runs import load

    trained = load(options.run, choose_device(options.device))
    options = guidance_flags.settled(options, trained)
    if options.solver.partition(":")[0] == guidance_flags.TUNED:
        raise UsageError("--solver tuned is for `ornstein sample`; calibrate with another solver")
    guidance_flags.must_take(trained, options.solver, PLAIN)
    solver = SOLVERS[options.solver]
    data, training = real_data(trained, options.data, options.train_data)
    with Results(trained, options, "evaluation", "calibrated", data=data.spec.content_hash) as results:
        with Meter("calibrating", patience=1.0) as meter:
            measured = trained.calibrate(
                data,
                options.count,
                options.draws,
                density=options.density,
                solver=solver,
                steps=guidance_flags.steps_of(options),
                seed=options.seed,
                batch_size=options.batch_size,
                progress=lambda done, total: meter.update(done / total, f"{done:,} of {total:,} samples"),
            )
        what = f"{len(measured.balls):,} items of {data.spec.source}, {measured.draws:,} draws of each"
        record = {
            "title": "Calibration",
            "about": f"{what}: how often an interval of the model's draws holds the truth, and the CRPS, in the data's units, of "
            "columns each in its own.",
            **measured.to_json(),
            "weights": trained.weights_hash,
            "data": {"source": data.spec.source, "content_hash": data.spec.content_hash, "count": len(measured.balls)},
            "seed": options.seed,
            "versions": versions(),
        }
        output = results.at(f"calibration-{of_data(data)}.json")
        where = results.write(output, record)
        say(f"{what}.")
        say(_table(measured))
        say(f"The numbers: {where}")
        results.image(output, lambda drawn: plots.calibration(drawn, measured, what))
        if training is not None and results.out is None:
            report_page(results, training)
    return 0


def _table(measured: "Calibration") -> list[str]:
    """A line for each score, and one for what is not uniform."""
    width = max(20, *(len(score.name) for score in measured.scores))
    lines = [
        f"  {score.name:<{width}} {score.value:8.4g}  ({score.low:.4g} to {score.high:.4g})"
        for score in measured.scores
    ]
    odd = {name: chance for name, chance in measured.uniform.items() if chance < UNLIKELY / len(measured.uniform)}
    if not odd:
        return [*lines, "  Ranks are uniform as far as so many items tell (Kolmogorov and Smirnov)."]
    worst = sorted(odd, key=lambda name: odd[name])[:6]
    return [*lines, f"  Not uniform: {', '.join(f'{name} (probability {odd[name]:.1g})' for name in worst)}."]

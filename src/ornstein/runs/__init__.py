"""Trained runs: `run = ornstein.load("RUN")`, `images = run.sample(64, label=3)`.

A `Run` is a folder and the model in it. What is done with one is a function of a run, in a file for each purpose: sampling,
editing, likelihoods, tuned solvers, averages of the weights. `runs.tune(run, 6)` is `run.tune(6)`; a file whose work is not
needed is not imported.
"""

from typing import TYPE_CHECKING

from ornstein._lazy import attach
from ornstein.runs.conditioning import ConditionBatch, Label
from ornstein.runs.run import FUNCTIONS, Run, load

if TYPE_CHECKING:
    from ornstein.runs.averaging import averages, earlier, ema
    from ornstein.runs.calibrating import calibrate
    from ornstein.runs.conditioning import condition_rows
    from ornstein.runs.editing import edit, interpolate, restore
    from ornstein.runs.hub import push_to_hub
    from ornstein.runs.imputing import impute
    from ornstein.runs.likelihoods import dequantisation, likelihood, log_prob
    from ornstein.runs.predicting import predict
    from ornstein.runs.sampling import batches, compile, sample
    from ornstein.runs.tuning import tune, tuned
else:
    __getattr__, __dir__ = attach(__name__, FUNCTIONS)

__all__ = [
    "ConditionBatch",
    "Label",
    "Run",
    "averages",
    "batches",
    "calibrate",
    "compile",
    "condition_rows",
    "dequantisation",
    "earlier",
    "edit",
    "ema",
    "impute",
    "interpolate",
    "likelihood",
    "load",
    "log_prob",
    "predict",
    "push_to_hub",
    "restore",
    "sample",
    "tune",
    "tuned",
]

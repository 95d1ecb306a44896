"""A solver on a run's model as numbers that a loop in any language runs.

With x_j the input of call j and f_j what the network answers to (c_in_j·x_j, c_noise_j),

    x_{j+1} = Σ_{k≤j} (X_jk·x_k + F_jk·f_k) + R_j·ξ_j        x_0 = start·ξ        ξ ~ N(0, I)

where X and F are the table's P and Q times the matrices that turn (x, f) into (clean, noise). Guidance acts on f: where its scale
s_j is not 1, f_j = u + s_j·(f − u) with u the answer under the null condition (Ho and Salimans 2022), or under another label.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein._version import __version__
from ornstein.arguments import as_table_solver, as_times
from ornstein.data.layout import from_model_order
from ornstein.errors import UsageError
from ornstein.flowmap import takes_aim
from ornstein.guidance import ClassifierFree, Interval
from ornstein.guidance.config import PLAIN, Guidance, GuidanceConfig, NegativeLabel, unconditional
from ornstein.names import SOLVERS
from ornstein.runs import Run
from ornstein.runs.conditioning import indexed_guide
from ornstein.solvers import Solver
from ornstein.solvers.solver import table_of
from ornstein.table import Table

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Loop:
    """`steps` of a solver on a run's model under guidance, as numbers.

    Raises UsageError for guidance that is no combination of two answers with one number, TypeError for a solver without a table.
    """

    run: Run
    solver: Solver | str | None = None
    steps: int | None = None
    guide: Guidance = PLAIN

    def __post_init__(self) -> None:
        guide = indexed_guide(self.run, self.guide)
        plain = isinstance(guide, GuidanceConfig) and (
            guide.plain
            or (
                guide.method is ClassifierFree
                and not guide.rescale
                and (guide.negative is unconditional or isinstance(guide.negative, NegativeLabel))
            )
        )
        if not plain:
            raise UsageError(
                "guidance: an exported loop has classifier-free guidance by a scale, in an interval, and away from a label; "
                f"{guide} needs more: export without it"
            )
        object.__setattr__(self, "guide", guide)

    def times_and_table(self) -> tuple[Tensor, Table]:
        """The grid's times, at the first of which noise is drawn, and the solver's table on the model's path."""
        model = self.run.model
        method = as_table_solver("export", model.solver if self.solver is None else self.solver, SOLVERS["abm"])
        times = as_times(model.path, method, model.steps if self.steps is None else self.steps, None)
        return times, table_of(method, model.path, times)

    def scales(self, times: Tensor) -> list[float]:
        """The guidance scale at each of the times (M,)."""
        guide: Any = self.guide
        if guide.plain:
            return [1.0] * len(times)
        guided: Any = guide(self.run.denoiser, torch.zeros(1, dtype=torch.int64))
        inside = guided.inside(times) if isinstance(guided, Interval) else torch.ones_like(times, dtype=torch.bool)
        values = [float(guide.scale(t)) if callable(guide.scale) else float(guide.scale) for t in times]
        return [scale if within else 1.0 for scale, within in zip(values, inside.tolist(), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """All that a loop needs, as plain values: see the page on exports for what each is."""
        run, (grid, table) = self.run, self.times_and_table()
        denoiser, model, times = run.denoiser, run.model, table.times[:-1]
        matrices = denoiser.inverse(times)
        X, F = (table.P * matrices[:, 0, m] + table.Q * matrices[:, 1, m] for m in (0, 1))
        c_in, c_noise = denoiser.preconditioning(model.path, times)
        aims: dict[str, Any] = {}
        if takes_aim(denoiser):
            ends = c_noise if table.aims is None else denoiser.preconditioning(model.path, table.aims)[1]
            aims = {"aim": (c_noise - ends).tolist()}
        elif table.aims is not None:
            raise UsageError("solver: jumps are for few-step runs, which this is not; export with another solver")
        sigma = float(model.path.sigma(grid[0]))
        return {
            "format": FORMAT,
            "ornstein": __version__,
            "weights": run.weights_hash,
            "path": str(model.path),
            "target": str(model.target),
            "guidance": str(self.guide),
            "shape": list(run.spec.shape),
            "inputs": inputs_of(self),
            "start": sigma * table.gain,
            "calls": {
                "c_in": [1.0] * len(times) if c_in is None else c_in.tolist(),
                "c_noise": c_noise.tolist(),
                **aims,
                "scale": self.scales(times),
                "alpha": model.path.alpha(times).tolist(),
                "sigma": model.path.sigma(times).tolist(),
                "inverse": matrices.tolist(),
            },
            "steps": {"X": X.tolist(), "F": F.tolist(), "R": table.R.tolist()},
            "units": units_of(run),
            "table": table.to_dict(),
        }


def inputs_of(loop: Loop) -> list[dict[str, Any]]:
    """The conditions in the order of the network: name, shape of a row, type, the null, and what guidance goes away from."""
    guide, entries = loop.guide, list[dict[str, Any]]()
    conditions = loop.run.model.conditions
    for part, row in zip(conditions.parts, conditions.null(1), strict=True):
        null = float(row.flatten()[0]) if row.is_floating_point() else int(row.flatten()[0])
        negative = getattr(guide, "negative", None)
        away = negative.index if isinstance(negative, NegativeLabel) and part is conditions.label else null
        classes = {"classes": list(part.classes)} if part is conditions.label else {}
        kind = {torch.bool: "bool", torch.int64: "int64"}.get(row.dtype, "float32")
        entry = {"name": part.names[0], "shape": list(row.shape[1:]), "dtype": kind, "null": null, "away": away}
        entries.append({**entry, "is": part.description, **classes})
    return entries


def units_of(run: Run) -> dict[str, Any]:
    """The way back to the data's own units, v = x·scale + offset in each channel; what is rounded, held to bounds, and in which
    order axes go."""
    spec = run.spec
    offset, one = (
        spec.scaling.from_model(np.full((1, spec.shape[0], *[1] * (len(spec.shape) - 1)), value, dtype=np.float64))
        for value in (0.0, 1.0)
    )
    whole, held = spec.is_whole, spec.is_whole or bool(spec.traits.held and spec.lows)
    channels = spec.shape[0]
    lows = list(spec.lows) if spec.lows else [spec.low] * channels
    highs = list(spec.highs) if spec.highs else [spec.high] * channels
    places = np.arange(int(np.prod(spec.shape))).reshape(1, *spec.shape)
    order = from_model_order(places, spec.layout)
    return {
        "scale": (one - offset).reshape(-1).tolist(),
        "offset": offset.reshape(-1).tolist(),
        "round": [True] * channels if whole else (list(spec.whole) if held and any(spec.whole) else [False] * channels),
        "low": lows if held else None,
        "high": highs if held else None,
        "dtype": spec.dtype,
        "shape": list(spec.item_shape),
        "transpose": _transposition(order[0], places[0]),
    }


def _transposition(order: Any, places: Any) -> list[int]:
    """The order of the model's axes (0: the items) that gives the data's, those of length 1 that they lack at the end."""
    for axes in permutations(range(places.ndim)):
        if (places.transpose(axes).reshape(order.shape) == order).all():
            return [0, *(1 + axis for axis in axes)]
    raise AssertionError("a layout is an order of axes")

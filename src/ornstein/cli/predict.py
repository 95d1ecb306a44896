"""`ornstein predict`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein.cli.drawing import MOST_STEPS
from ornstein.cli.options import Predict
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import say
from ornstein.cli.table_input import read_rows, table_output
from ornstein.errors import UsageError
from ornstein.meter import Meter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.data.columns import Column

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ELSEWHERE = {"run", "data", "out", "force", "device", "batch_size"}


def run(words: Sequence[str]) -> int:
    """Predict a column of each row, and write a row of probabilities or quantiles for it."""
    options = parse(Predict, "predict", words)
    within(options, draws=(1, 10**6), steps=(1, MOST_STEPS), seed=(0, 2**63 - 1), batch_size=(1, 2**20))
    if not options.column:
        raise UsageError("predict needs --column; give for example --column income")
    from ornstein.data.column_spec import ColumnSpec
    from ornstein.data.table_writing import new_table
    from ornstein.device import choose_device
    from ornstein.runs import load

    trained = load(options.run, choose_device(options.device))
    if not isinstance(trained.spec, ColumnSpec):
        raise UsageError(f"{trained.folder} was trained on {trained.spec.traits.plural}, and predict is for tables")
    column = trained.spec.columns[trained.spec.place(options.column)]
    rows, digest = read_rows(trained, options.data, options.column)
    flags = {key: value for key, value in asdict(options).items() if key not in ELSEWHERE}
    name = f"predictions-{Path(options.data).stem}-{options.column}-seed-{options.seed}.csv"
    output = table_output(trained, options.out, name, {"command": "predict", "rows": digest, **flags}, options.force)
    with Meter("predicting", patience=1.0) as meter:
        predicted = trained.predict(
            rows,
            options.column,
            draws=options.draws,
            steps=options.steps,
            seed=options.seed,
            batch_size=options.batch_size,
            progress=lambda done, total: meter.update(done / total, f"draw {done:,} of {total:,}"),
        )
    columns, values = _table(column, predicted)
    with new_table(output, columns) as append:
        append(values)
    say(f"{options.column} of {len(rows):,} rows: {output.path.resolve()}")
    return 0


def _table(column: "Column", predicted: "Any") -> "tuple[list[Column], NDArray[Any]]":
    """The columns of a prediction: the value itself, then the chances of states, then the mean and quantiles of numbers."""
    import warnings
    from dataclasses import replace

    import numpy as np

    from ornstein.data.cells import NumberCells
    from ornstein.data.columns import Column

    def number(name: str, decimals: int) -> "Column":
        return Column(name, "numeric", NumberCells(decimals), constant=0.0)

    columns, values = [], []
    if predicted.draws is None:
        best = predicted.chances.argmax(1).astype(np.float64)
        best[best >= len(getattr(column.cells, "names", ()))] = np.nan
        columns.append(replace(column))
        values.append(best)
    chances = predicted.chances
    if chances is not None:
        for state, name in enumerate(predicted.states):
            columns.append(number(f"P({column.name}={name or 'missing'})", 6))
            values.append(chances[:, state])
    if predicted.draws is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of rows without any number
            cells = column.cells  # of dates, whose mean is one; a number has two decimals more than its column
            if isinstance(cells, NumberCells):
                cells = NumberCells(None if cells.decimals is None else min(cells.decimals + 2, 20), mark=cells.mark)
            columns.append(replace(column, name=f"{column.name} mean", cells=cells))
            mean = np.nanmean(predicted.draws, axis=1)
            values.append(cells.rounded(mean) if isinstance(cells, NumberCells) else np.round(mean))
            for part in QUANTILES:
                columns.append(replace(column, name=f"{column.name} {100 * part:g}%"))
                values.append(np.nanquantile(predicted.draws, part, axis=1, method="nearest"))
    return columns, np.stack(values, 1)

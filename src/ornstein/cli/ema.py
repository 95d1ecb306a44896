"""`ornstein ema`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ornstein.cli.options import EMA
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import folder_size, say, size, table
from ornstein.cli.usage import sampling
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from ornstein.folder.posthoc import Archive

LENGTHS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.25)


def run(words: Sequence[str]) -> int:
    """Write the average of a length as the run's model, or list what can be had."""
    options = parse(EMA, "ema", words)
    if options.list == (options.length is not None):
        raise UsageError("give --length, such as --length 0.05, or --list for the lengths that the snapshots reach")
    within(options, length=(1e-6, 12**-0.5))
    from ornstein.runs import load

    trained = load(options.run)
    if options.length is None:
        say(_snapshots(trained.averages()))
        return 0
    made = trained.ema(options.length, options.out)
    say(
        f"Averaged over {options.length:g} of the training; the weighting is within "
        f"{100 * trained.averages().error(options.length):.2g} % of the one wanted."
    )
    say(f"Sample it: {sampling(made.folder, made.model.config())}")
    return 0


def _snapshots(archive: "Archive") -> list[str]:
    from ornstein.folder.posthoc import snapshots, time_of

    stored = [f"{time_of(file):,}" for file in snapshots(archive.folder) if time_of(file) < archive.updates]
    after = f", after {', '.join(reversed(stored))} steps ({size(folder_size(archive.folder))})" if stored else ""
    shortest, longest = archive.reach()
    rows = [
        ("tracked", f"{' and '.join(f'{length:g}' for length in archive.last)}, after {archive.updates:,} steps"),
        ("snapshots", f"{len(stored)} of both{after}"),
        ("reach", f"lengths from {shortest:g} to {longest:g}"),
    ]
    rows += [(f"{length:g}", f"within {100 * archive.error(length):.2g} %") for length in LENGTHS]
    return table(rows)

"""`ornstein clean`."""

from collections.abc import Sequence
from pathlib import Path

from ornstein.cli.options import CleanRun
from ornstein.cli.parse import parse
from ornstein.cli.printing import folder_size, say, size, table
from ornstein.folder.layout import must_be_run


def run(words: Sequence[str]) -> int:
    """Remove from a run what sampling does not need, and say what can no longer be done."""
    options = parse(CleanRun, "clean", words)
    folder = Path(options.run)
    must_be_run(folder)
    from ornstein.folder import cleaning

    before = folder_size(folder)
    gone = cleaning.surplus(folder) if options.dry_run else cleaning.clean(folder)
    goes = "would go" if options.dry_run else "gone"
    rows = [
        (name, f"{', '.join(place.name for place in places)} ({goes})")
        for name, places in (("checkpoints", gone.checkpoints), ("averages", gone.snapshots))
        if places
    ]
    rows += [(f"{place.relative_to(folder)}", f"stays: {reason}") for place, reason in gone.left.items()]
    say(table(rows) if rows else f"There is nothing in {folder} that sampling does not need.")
    if gone.checkpoints:
        say(
            "Without checkpoints the training cannot go on, and `ornstein ema` has nothing to average; `ornstein train --from "
            f"{folder}` starts another run from its weights."
        )
    elif gone.snapshots:
        say("Without snapshots `ornstein ema` can make no other averages.")
    after = before - gone.size if options.dry_run else folder_size(folder)
    say(
        f"{folder.resolve()}: {size(before)} before, {size(after)} {'then; nothing was removed' if options.dry_run else 'now'}."
    )
    return 0

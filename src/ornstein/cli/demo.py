"""`ornstein demo`."""

from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ornstein.cli import drawing, following
from ornstein.cli.guidance_flags import settled
from ornstein.cli.options import Demo, Sample
from ornstein.cli.parse import parse
from ornstein.cli.printing import say
from ornstein.names import SOLVERS
from ornstein.settings import Settings

ROWS = 10  # of samples in the image: a column for each digit


def run(words: Sequence[str]) -> int:
    """Train on digits, draw samples by class, write the report page, and say what to do next."""
    options = parse(Demo, "demo", words)
    settings = Settings(data="digits:train", out=options.out, minutes=options.minutes, device=options.device)
    training = following.begun(settings)
    from ornstein.runs import load

    say(following.describe(training))
    stopped = following.follow(training, " ".join(["ornstein demo", *map(quote, words)]))
    if stopped:
        return stopped
    trained = load(options.out, training.device)
    classes = len(trained.spec.classes)
    wanted = settled(Sample(run=options.out, count=ROWS * classes), trained)
    image = Path(options.out) / "samples-by-class.png"
    labels = [i % classes for i in range(wanted.count)]
    say()
    drawing.draw(trained, image, wanted, SOLVERS[wanted.solver], labels, columns=classes, by_default=True)
    say(f"Each column of that image is one digit, sampled by its label: 0 to {classes - 1}.")
    say(["", "Now your own images, a folder of them (sub-folders become classes):"])
    say("  ornstein train --data FOLDER --size 32 --out runs/mine --minutes 20")
    return 0

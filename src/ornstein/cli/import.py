"""`ornstein import`."""

import math
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from ornstein.cli.options import Import
from ornstein.cli.parse import parse, within
from ornstein.cli.printing import dims, say
from ornstein.cli.retraining import STRONGEST
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

NULL = "+1"  # behind classes: there is a place for none of them


def run(words: Sequence[str]) -> int:
    """Make the run folder, and say what the model is and how it is sampled."""
    options = parse(Import, "import", words)
    within(options, channels=(1, 1 << 20), guidance=(-STRONGEST, STRONGEST))
    if not options.out:
        raise UsageError("import needs --out, the folder of the new run; give for example --out runs/theirs")
    scale, size = _numbers("range", options.range, 2), _numbers("size", options.size, 3)
    if scale is not None and len(scale) != 2:
        raise UsageError(f"--range {options.range} must be two numbers; give for example 0,255")
    if size is not None and not all(side >= 1 and side == int(side) for side in size):
        raise UsageError(f"--size {options.size} must be whole numbers above 0; give for example 32")
    from ornstein.runs.imported import AWAY, Choices, take

    choices = Choices(
        options.convention,
        options.scheduler,
        None if scale is None else (scale[0], scale[1]),
        options.channels,
        None if size is None else tuple(map(int, size)),
        _classes(options.classes),
        options.classes is not None and options.classes.endswith(NULL),
        options.guidance,
        options.discrete,
    )
    inputs = _inputs("bind", options.bind)
    inputs |= {f"{AWAY}{name}": part for name, part in _inputs("away", options.away).items()}
    made = take(options.model, options.out, choices, inputs)
    spec, kind = made.spec, type(made.model.network.network).__name__
    classes = f", {len(spec.classes)} classes" if spec.classes else ""
    say(f"{kind}: {spec.traits.plural} of {dims(spec)}{classes}, on {made.model.path}, predicting {made.model.target}.")
    say(
        f"{spec.low:g} to {spec.high:g} of the samples ({spec.dtype}) are -1 to 1 of the model; --range says otherwise."
    )
    say(f"The run: {made.folder.resolve()}, which refers to {options.model}.")
    say(f"Sample it: ornstein sample {quote(options.out)} -n 16")
    return 0


def _numbers(flag: str, text: str | None, most: int) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = ()
    if not 1 <= len(numbers) <= most or not all(map(math.isfinite, numbers)):
        raise UsageError(f"--{flag} {text!r} must be numbers with commas")
    return numbers


def _classes(text: str | None) -> int | tuple[str, ...] | None:
    if text is None:
        return None
    text = text.removesuffix(NULL)
    if text.isascii() and text.isdigit():
        return min(int(text[:9]), 10**6)
    return tuple(name.strip() for name in text.split(","))


def _inputs(flag: str, text: str | None) -> "dict[str, Tensor]":
    """Inputs of a file of tensors, or numbers by name."""
    if text is None:
        return {}
    import torch

    from ornstein.weights import loaded

    if Path(text).suffix.lower() == ".safetensors":
        file = Path(text).expanduser()
        if not file.is_file():
            raise UsageError(f"--{flag} {text} is not there; give a .safetensors file of one row of each input")
        return loaded(file, mend="write it anew, as safetensors.torch.save_file does")
    inputs = {}
    for entry in text.split(","):
        name, equals, number = entry.partition("=")
        try:
            if not (name.strip() and equals):
                raise ValueError
            value = float(number)
            inputs[name.strip()] = torch.tensor([int(value) if number.strip().lstrip("-").isdigit() else value])
        except (ValueError, OverflowError, RuntimeError):
            raise UsageError(
                f"--{flag} {entry!r} is no .safetensors file and no NAME=NUMBER; give for example --{flag} difficulty=0.5"
            ) from None
    return inputs

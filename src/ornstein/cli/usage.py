"""The command that samples a model: what `train`, `ema` and `info` say to do next. Needs no torch."""

from pathlib import Path
from shlex import quote
from typing import Any


def sampling(folder: Path, config: dict[str, Any]) -> str:
    """A command that samples a model, with its conditions."""
    classes = config["data"]["classes"]
    label = f" --label {quote(classes[-1])}" if classes else ""
    table = "columns" in config["data"]  # of which nothing needs to be known
    parts = [entry for entry in config.get("conditions", ()) if not (table and entry["type"] == "Known")]
    options = "".join(_condition_options(entry) for entry in parts)
    steps = " --steps 1" if config["network"].get("aim") is True else ""
    return f"ornstein sample {quote(str(folder))} -n 64{steps}{label}{options}"


def _condition_options(condition: dict[str, Any]) -> str:
    """The flags that ask for a condition."""
    if condition["type"] == "ImageCondition":
        return " --condition image.png" + " --mask mask.png" * (condition["degradation"]["type"] == "RandomMask")
    flags = {
        "Known": " --known X,?,..." if len(condition.get("shape", ())) == 1 else " --known known.npy",
        "Text": " --text WORDS",
        "Vector": " --condition X,...",
        "LabelSet": " --label CLASS,...",
    }
    return flags.get(condition["type"], " --condition VALUE")

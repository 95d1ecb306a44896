"""A model put into a run folder, with a page about it and what it was made with."""

import platform
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import torch

from ornstein import terminal
from ornstein._version import __version__
from ornstein.files.atomic import new_file, write_json
from ornstein.model import Model
from ornstein.settings import Settings


def environment() -> dict[str, Any]:
    """The environment of the run."""
    return {
        "ornstein": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }


def publish(
    folder: Path,
    model: Model,
    settings: Settings,
    step: int,
    write: Callable[[Path], object],
    into: Path | None = None,
) -> None:
    """Put a model into a run folder: its weights, by `write(file)`, what gives them a meaning, and a page about them.

    `into` is a folder that will be `folder`.
    """
    place = (into or folder) / "model"
    place.mkdir(parents=True, exist_ok=True)
    with new_file(place / "model.safetensors") as file:
        write(file)
    write_json(place / "config.json", model.config())
    with new_file(place / "README.md") as file:
        file.write_text(card(folder, model, settings, step), "utf-8", "backslashreplace")


def card(folder: Path, model: Model, settings: Settings, step: int) -> str:
    """The model's README: what it is, and how to use it."""
    spec = model.spec
    parameters = sum(p.numel() for p in model.network.parameters())
    own = f", network={type(model.network).__name__}()" if model.is_own else ""
    classes = f"\nClasses: {', '.join(map(_prose, spec.classes))}.\n" if spec.classes else ""
    others = [_prose(part.description) for part in model.conditions.parts if part is not model.conditions.label]
    classes += f"\nConditions: {', '.join(others)}.\n" if others else ""
    network = f"{type(model.network).__name__} of {parameters:,} parameters"
    few = f" Flow map: {_prose(settings.flow_map)}." if settings.few_steps else ""
    return f"""# {_prose(folder.name)}

A {network}, trained with Ornstein {__version__} on {_code(spec.source)}
({spec.count:,} {spec.traits.plural} of shape {spec.shape}) for {step:,} steps of {settings.batch_size}.
Path: {model.path}. Target: {model.target}.{few} These weights are an average of length {settings.ema:g}.
{classes}
```python
import ornstein

run = ornstein.load({str(folder)!r}{own})
samples = run.sample(64)
```
"""


def _prose(text: str) -> str:
    """Words from anywhere in a line of Markdown, where they mean nothing else."""
    text = escape(terminal.clean(text), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$]|:(?=//)|(?<=www)\.)", r"\\\1", text)


def _code(text: str) -> str:
    """A name as code in Markdown, if nothing in it means anything there."""
    return f"`{text}`" if re.fullmatch(r"[\w./:~+-]+( [\w./:~+-]+)*", text) else _prose(text)

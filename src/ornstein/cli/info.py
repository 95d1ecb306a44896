"""`ornstein info`: read from the run folder's small files, without torch."""

import json
import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from shlex import quote
from typing import Any

from ornstein.cli.options import Info
from ornstein.cli.parse import parse
from ornstein.cli.show import dims, duration, few, folder_size, say, size, table
from ornstein.errors import OrnsteinError, UsageError


def run(words: Sequence[str]) -> int:
    """Print one screen about a run."""
    options = parse(Info, "info", words)
    if not options.run:
        raise UsageError("info needs a run folder; give for example `ornstein info runs/digits`")
    folder = Path(options.run)
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; give the --out of a training run")
    settings = _settings(folder)
    say(f"{folder.resolve()}\n")
    config = _json(folder / "model" / "config.json")
    if config is None:
        where = settings.get("data")
        say(
            f"No model yet: the training on {where} has not saved one; the same `ornstein train` command starts or goes on."
        )
        return 0
    say(table(_rows(folder, settings, config)))
    say(f"\n{_usage(folder, config)}")
    return 0


def _rows(folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str]]:
    from ornstein.data import Spec

    spec = Spec.from_json(config["data"])
    lines = _metrics(folder / "metrics.jsonl")
    kept = sorted((folder / "checkpoints").glob("step-*[0-9]"))
    last = {"step": 0, "images": 0, "seconds": 0.0, **(lines[-1] if lines else {})}
    if kept:  # the checkpoint is exact; metrics are written every few steps
        last |= _json(kept[-1] / "state.json") or {}
    goal = f"{settings['minutes']:g} minutes" if settings.get("minutes") is not None else f"{settings['steps']:,} steps"
    weights = folder / "model" / "model.safetensors"
    return [
        ("data", f"{spec.source}: {spec.count:,} {spec.kind}s, {dims(spec)}, {spec.dtype}"),
        ("classes", few(spec.classes) if spec.classes else "none"),
        ("network", f"{config['network']['type']} {settings['preset']}: {_parameters(weights):,} parameters"),
        ("path", _called(config["path"])),
        ("target", _called(config["target"])),
        ("trained", f"{last['step']:,} steps of {settings['batch_size']} in {duration(last['seconds'])}, of {goal}"),
        ("seen", f"{last['images']:,} {spec.kind}s, {last['images'] / spec.count:.3g} epochs"),
        ("loss", " ".join(f"{line['loss']:.4f} (step {line['step']:,})" for line in _spread(lines)) or "none yet"),
        ("model", f"{weights.parent} ({size(folder_size(weights.parent))})"),
        (
            "checkpoints",
            f"{', '.join(place.name for place in kept) or 'none'} ({size(folder_size(folder / 'checkpoints'))})",
        ),
        ("report", f"{page}" if (page := folder / "report.html").exists() else "not written yet"),
    ]


def _usage(folder: Path, config: dict[str, Any]) -> str:
    classes = config["data"]["classes"]
    label = f" --label {quote(classes[-1])}" if classes else ""
    given = f", label={classes[-1]!r}" if classes else ""
    out = "samples.npz" if config["data"]["kind"] == "vector" else "grid.png"
    return f"""Sample it:
  ornstein sample {quote(str(folder))} -n 64{label} --out {out}
In Python:
  run = ornstein.load({str(folder)!r})
  samples = run.sample(64{given})"""


def _settings(folder: Path) -> dict[str, Any]:
    import yaml

    file = folder / "config.yaml"
    try:
        values = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise UsageError(
            f"{folder} is no run folder: it has no config.yaml; give the --out of a training run"
        ) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise OrnsteinError(f"{file} cannot be read ({' '.join(str(error).split())}); resume the training") from error
    if not isinstance(values, dict):
        raise OrnsteinError(f"{file} holds no settings; resume the training to write it anew")
    return values


def _json(file: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); resume the training to write it anew") from error


def _metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file, without a last one that a kill cut short."""
    lines = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _spread(lines: list[dict[str, Any]], count: int = 4) -> list[dict[str, Any]]:
    """The last line, and those at a half, a quarter and an eighth of its step."""
    if not lines:
        return []
    wanted = [lines[-1]["step"] / 2**k for k in reversed(range(count))]
    nearest = [min(lines, key=lambda line: abs(line["step"] - step)) for step in wanted]
    return [line for i, line in enumerate(nearest) if line not in nearest[:i]]


def _parameters(file: Path) -> int:
    """Counted from the header of a safetensors file: 8 bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, file.stat().st_size)))
        return sum(prod(about["shape"]) for name, about in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); resume the training to write it anew") from error


def _called(config: dict[str, Any]) -> str:
    fields = ", ".join(
        f"{key}={_called(value) if isinstance(value, dict) else f'{len(value)} numbers' if isinstance(value, list) else value}"
        for key, value in config.items()
        if key != "type"
    )
    return f"{config['type']}({fields})"

"""`ornstein info`: read from the run folder's small files, without torch."""

import json
import re
import struct
import sys
import warnings
from array import array
from collections.abc import Sequence
from math import isfinite, prod
from pathlib import Path
from shlex import quote
from typing import Any

from ornstein.cli.options import Info
from ornstein.cli.parse import parse
from ornstein.cli.printing import dims, duration, epochs, few, folder_size, say, size, table
from ornstein.cli.usage import sampling
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.formats import upgraded
from ornstein.folder.layout import is_imported, must_be_run

HEADER = 16 << 20  # bytes that the header of a safetensors file may have
LOOKED_AT = 1 << 20  # bytes of a tensor


def run(words: Sequence[str]) -> int:
    """Print one screen about a run."""
    options = parse(Info, "info", words)
    folder = Path(options.run)
    must_be_run(folder)
    if is_imported(folder):
        _say_imported(folder)
        return 0
    settings = _settings(folder)
    say([f"{folder.resolve()}", ""])
    config = _json(folder / "model" / "config.json", folder)
    diverged = _diverged(folder)
    if config is None and diverged:
        say(
            f"No model: {diverged} before one was saved; train again with a smaller --learning-rate, into another --out."
        )
        return 0
    if config is None:
        where = settings.get("data")
        say(
            f"No model yet: the training on {where} has not saved one; the same `ornstein train` command starts or goes on."
        )
        return 0
    try:
        config = upgraded(config)
        lines = [*table(_rows(folder, settings, config)), "", *(_broken(folder, diverged) or _usage(folder, config))]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OrnsteinError(f"{folder / 'model' / 'config.json'} does not describe a model ({reason})") from error
    say(lines)
    return 0


def _say_imported(folder: Path) -> None:
    """One screen about a model of another library, whose files are compared with what was imported."""
    config = _json(folder / "model" / "config.json", folder) or {}
    try:
        origin, known = config["network"]["imported"], config["data"]["classes"]
        sums, choices = dict[str, str](origin["files"]), origin["choices"]
        rows = [
            ("imported", f"{origin['place']} ({config['network']['type']}, {origin['kind']})"),
            ("files", f"{len(sums)}, as they were imported" if (other := _other(sums)) is None else other),
            ("convention", choices["convention"] or choices["scheduler"] or "that of its scheduler's configuration"),
            ("data", f"{config['data']['kind']}, shape {config['data']['shape']}, {config['data']['dtype']}"),
            ("range", f"{config['data']['low']:g} to {config['data']['high']:g} are -1 to 1 of the model"),
            ("classes", few(known) if known else "none"),
            ("inputs", "those of model/inputs.safetensors" if origin["inputs"] else "none besides"),
            ("path", _called(config["path"])),
            ("target", _called(config["target"])),
        ]
        lines = [f"{folder.resolve()}", "", *table(rows), "", *([] if other else _usage(folder, config))]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise OrnsteinError(
            f"{folder / 'model' / 'config.json'} does not describe an imported model ({reason})"
        ) from error
    say(lines)


def _other(sums: dict[str, str]) -> str | None:
    """A foreign file that is missing or not as it was imported, in words; None where all are."""
    from ornstein.files.output import digest_of

    for name, digest in sums.items():
        try:
            if digest_of(Path(name)) != digest:
                return (
                    f"{name} has changed since the import, so nothing can be sampled; bring it back, or import it again"
                )
        except (OSError, ValueError):
            return f"{name} is missing, so nothing can be sampled; bring it back, or import the model from where it is"
    return None


def _rows(folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str]]:
    from ornstein.data import DataSpec
    from ornstein.files.reading import read_lines
    from ornstein.folder.history import described
    from ornstein.settings import Settings

    spec = DataSpec.from_json(config["data"])
    lines = read_lines(folder / "metrics.jsonl", ("step", "loss", "seconds", "images"), folder)
    checkpoints = [
        place for place in _listed(folder / "checkpoints", folder) if re.fullmatch(r"step-\d{8,}", place.name)
    ]
    last: dict[str, Any] = {"step": 0, "images": 0, "seconds": 0.0, **(lines[-1] if lines else {})}
    if checkpoints:  # the checkpoint is exact; metrics are written every few steps
        last |= _state(checkpoints[-1] / "state.json", folder)
    minutes, steps = settings["minutes"], settings["steps"]
    goal = f"{minutes:g} minutes" if minutes is not None else "no given length" if steps is None else f"{steps:,} steps"
    weights = folder / "model" / "model.safetensors"
    return [
        ("data", f"{spec.source}: {spec.count:,} {spec.traits.plural}, {dims(spec)}, {spec.dtype}"),
        ("classes", few(spec.classes) if spec.classes else "none"),
        *_lacking(folder),
        *(("condition", _called(entry)) for entry in config.get("conditions", ())),
        ("network", f"{config['network']['type']} {settings['preset']}: {_parameters(weights, folder):,} parameters"),
        ("path", _called(config["path"])),
        ("target", _called(config["target"])),
        *([("flow map", line)] if (line := Settings(**settings).flow_map) else []),
        ("trained", f"{last['step']:,} steps of {settings['batch_size']} in {duration(last['seconds'])}, of {goal}"),
        ("seen", f"{last['images']:,} {spec.traits.plural}, {epochs(last['images'] / spec.count)}"),
        *(("changed", line) for line in described(folder)),
        ("loss", " ".join(f"{line['loss']:.4f} (step {line['step']:,})" for line in _spread(lines)) or "none yet"),
        *_held_out(folder),
        ("model", f"{weights.parent} ({size(folder_size(weights.parent))})"),
        (
            "checkpoints",
            f"{', '.join(place.name for place in checkpoints) or 'none'} ({size(folder_size(folder / 'checkpoints'))})",
        ),
        *_averages(folder),
        ("disk", f"{size(folder_size(folder))}{_cleaning(folder, bool(checkpoints))}"),
        ("report", f"{page}" if (page := folder / "report.html").exists() else "not written yet"),
    ]


def _cleaning(folder: Path, trained: bool) -> str:
    """A line about files that sampling does not need, if there are any."""
    needed = trained or any(_listed(folder / "averages", folder))
    return f"; `ornstein clean {quote(str(folder))}` removes what sampling does not need" if needed else ""


def _diverged(folder: Path) -> str | None:
    """How the training ended, if its last steps had no finite loss."""
    from ornstein.files.reading import read_lines

    lines = read_lines(folder / "metrics.jsonl", ("step", "skipped"), folder)
    if not lines or lines[-1].get("diverged") is not True:
        return None
    return f"the training diverged (losses or samples at step {lines[-1]['step']:,} were not finite)"


def _broken(folder: Path, diverged: str | None) -> list[str]:
    """Why nothing is to be sampled, if so: weights that are not finite, or a training that diverged."""
    if not _finite(folder / "model" / "model.safetensors", folder):
        return [
            "The weights of the model are not finite, so nothing can be sampled: the training diverged. Remove the newest",
            "checkpoint and go on from the one before, or train again with a smaller --learning-rate, into another --out.",
        ]
    if diverged:
        return [
            f"Samples may be broken: {diverged},",
            "and the model is of the last checkpoint before. Train again with a smaller --learning-rate, into another --out.",
        ]
    return []


def _held_out(folder: Path) -> list[tuple[str, str]]:
    """The loss on held-out items as it was measured last, where it was, and its least."""
    from ornstein.files.reading import read_lines

    lines = read_lines(folder / "metrics.jsonl", ("step", "held_out"), folder)
    if not lines:
        return []
    last, least = lines[-1], min(lines, key=lambda line: line["held_out"])
    best = "" if least is last else f", least {least['held_out']:.4f} (step {least['step']:,})"
    return [("held-out loss", f"{last['held_out']:.4f} (step {last['step']:,}){best}")]


def _lacking(folder: Path) -> list[tuple[str, str]]:
    """How many items of the data lacked what others have."""
    lacking = (_json(folder / "env.json", folder) or {}).get("lacking") or {}
    words = ", ".join(f"{count:,} items have no {name}" for name, count in lacking.items())
    return [("missing", f"{words}: learned without")] if words else []


def _averages(folder: Path) -> list[tuple[str, str]]:
    """Disk use of the snapshots of averages, if there are any."""
    place = folder / "averages"
    count = sum(file.name.startswith("update-") for file in _listed(place, folder))
    return [("averages", f"{count} snapshots for `ornstein ema` ({size(folder_size(place))})")] if count else []


def _usage(folder: Path, config: dict[str, Any]) -> list[str]:
    from ornstein.data.kinds import NAMED

    classes = config["data"]["classes"]
    options = f", label={classes[-1]!r}" if classes else ""
    options += ", steps=1" if config["network"].get("aim") is True else ""
    kind = NAMED[config["data"]["kind"]]
    out = "grid.png" if kind.drawn else f"samples{kind.ending}"
    if config["network"].get("own") is True:  # its class is in no file, so no command can build it
        known = {"Label", "Vector", "Text", "LabelSet", "ImageCondition"}
        strange = [str(entry.get("type")) for entry in config.get("conditions", ()) if entry.get("type") not in known]
        parts = f", conditions=[{', '.join(f'{name}(...)' for name in strange)}]" if strange else ""
        return [
            "Its network is your own, so it is sampled in Python:",
            f"  run = ornstein.load({str(folder)!r}, network={config['network']['type']}(...){parts})",
            f"  samples = run.sample(64{options})",
        ]
    return [
        "Sample it:",
        f"  {sampling(folder, config)} --out {out}",
        "In Python:",
        f"  run = ornstein.load({str(folder)!r})",
        f"  samples = run.sample(64{options})",
    ]


def _settings(folder: Path) -> dict[str, Any]:
    from ornstein.folder import config
    from ornstein.settings import Settings

    settings = config.of_run(folder)
    if settings is None:
        raise UsageError(f"{folder} holds a model, but no config.yaml; bring back the one of its training")
    return Settings(**settings).to_dict()


def _json(file: Path, root: Path) -> dict[str, Any] | None:
    from ornstein.files.reading import read_json

    try:
        return read_json(file, root=root)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); resume the training to write it anew") from error


def _listed(place: Path, folder: Path) -> list[Path]:
    """The entries of a folder of the run; empty, with a warning, if it is a link."""
    from ornstein.files.reading import listed

    try:
        return listed(place, folder)
    except (OSError, ValueError) as error:
        warnings.warn(f"{place} was left out ({error})", stacklevel=2)
        return []


def _state(file: Path, folder: Path) -> dict[str, Any]:
    """The numbers of a checkpoint; nothing, with a warning, where it cannot be read."""
    try:
        state = _json(file, folder) or {}
        return {key: state[key] for key in ("step", "images", "seconds") if 0 <= state[key] < 1 << 63}
    except (OrnsteinError, KeyError, TypeError) as error:
        warnings.warn(f"{file} was left out ({error})", stacklevel=2)
        return {}


def _spread(lines: list[dict[str, Any]], count: int = 4) -> list[dict[str, Any]]:
    """The last line, and those at a half, a quarter and an eighth of its step."""
    if not lines:
        return []
    wanted = [lines[-1]["step"] / 2**k for k in reversed(range(count))]
    nearest = [min(lines, key=lambda line: abs(line["step"] - step)) for step in wanted]
    return [line for i, line in enumerate(nearest) if line not in nearest[:i]]


def _parameters(file: Path, root: Path) -> int:
    """Counted from the header of a safetensors file: 8 bytes of length, then JSON."""
    from ornstein.files.reading import must_be_regular

    try:
        must_be_regular(file, root)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, HEADER)))
        shapes = [about["shape"] for name, about in header.items() if name != "__metadata__"]
        if any(len(shape) > 8 or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape) for shape in shapes):
            raise ValueError("it holds no shapes")
        return sum(map(prod, shapes))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise OrnsteinError(f"{file} cannot be read ({error}); resume the training to write it anew") from error


def _finite(file: Path, root: Path) -> bool:
    """Whether the numbers of a safetensors file are finite, as far as its header can be followed: the first of each tensor,
    since what diverges does so everywhere. Other types than float32 pass."""
    from ornstein.files.reading import must_be_regular

    try:
        must_be_regular(file, root)
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(length, HEADER)))
            for start, end in (about["data_offsets"] for about in header.values() if about.get("dtype") == "F32"):
                stream.seek(8 + length + start)
                numbers = array("f")
                numbers.frombytes(stream.read(min(end - start, LOOKED_AT) // 4 * 4))
                if sys.byteorder == "big":
                    numbers.byteswap()
                if not isfinite(sum(numbers)):
                    return False
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, struct.error):
        pass
    return True


def _called(config: dict[str, Any]) -> str:
    fields = ", ".join(
        f"{key}={_called(value) if isinstance(value, dict) else f'{len(value)} numbers' if isinstance(value, list) else value}"
        for key, value in config.items()
        if key != "type"
    )
    return f"{config['type']}({fields})"

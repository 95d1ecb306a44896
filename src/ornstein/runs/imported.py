"""Runs of other libraries' models: RUN/model/config.json refers to their files by path and hash, and nothing is copied.

    run = imported.take("google/ddpm", "runs/theirs")       # or a .onnx file, with convention="edm"
    run.sample(16); run.tune(6)                             # as any run

Each time that the run is loaded its foreign files are read anew, and a file that is missing or has changed is refused. Nothing in
them is run: configurations are JSON, weights are tensors, a graph is run by onnxruntime alone.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ornstein.conditions import Conditions, Label
from ornstein.data.kinds import ALL
from ornstein.data.spec import FULL_RANGE, DataSpec
from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.files.atomic import new_folder
from ornstein.files.formats import MODEL
from ornstein.files.output import digest_of
from ornstein.files.reading import read_json
from ornstein.interop.convention import Convention, Snapped
from ornstein.interop.imported import ImportedNetwork, Inputs, Opened
from ornstein.model import Model, to_config
from ornstein.names import CONVENTIONS, FOREIGN
from ornstein.settings import Settings
from ornstein.weights import hashed, loaded

if TYPE_CHECKING:
    from ornstein.runs.run import Run

INPUTS = "inputs.safetensors"  # in RUN/model: what the model is called with besides x, the time and a class
AWAY = "away."
MOST_INPUTS = 1 << 28  # bytes
ENDINGS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin")
AGAIN = "import it again, with another --out"


@dataclass(frozen=True)
class Choices:
    """What the files of a foreign model leave open.

    convention: a name of `names.CONVENTIONS`, with its numbers as in "edm:80"; scheduler: a scheduler_config.json of diffusers,
    in its place. None: that of the folder.
    scale: the numbers in the data's own units that −1 and 1 of the model stand for; None: 0 and 255 for images of one or three
    channels, else −1 and 1.
    channels, size: of one item, where the files leave them open. classes: how many, or their names; None: those of the files.
    null: whether the place behind the classes says none of them, where the files do not tell.
    guidance: the scale at which the prediction is guided away from the inputs named "away.".
    discrete: the network knows whole steps alone.
    """

    convention: str | None = None
    scheduler: str | None = None
    scale: tuple[float, float] | None = None
    channels: int | None = None
    size: tuple[int, ...] | None = None
    classes: int | tuple[str, ...] | None = None
    null: bool = False
    guidance: float = 1.0
    discrete: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Choices":
        """The inverse. Raises TypeError for other keys."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class Origin:
    """Where a foreign model is, as it stands in RUN/model/config.json: its files by path with their hashes, and the choices."""

    kind: str
    place: str
    files: Mapping[str, str]
    choices: Choices = field(default_factory=Choices)
    inputs: str | None = None
    """The sha256 of the file of inputs in RUN/model."""

    @property
    def digest(self) -> str:
        """What everything made with the model belongs to, in the place of the sha256 of a run's weights."""
        return sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**vars(self), "files": dict(self.files), "choices": self.choices.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Origin":
        """The inverse. Raises KeyError, TypeError or ValueError."""
        made = cls(**{**values, "choices": Choices.from_json(values["choices"])})
        words = (made.kind, made.place, *made.files, *made.files.values())
        if made.kind not in FOREIGN or not all(isinstance(word, str) for word in words):
            raise ValueError("it names no files of a foreign model")
        return made


def take(
    source: str | Path,
    out: str | Path,
    choices: Choices | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    device: str | torch.device = "cpu",
) -> "Run":
    """Make a run folder of a foreign model: a folder of diffusers, or an ONNX file, which stay where they are.

    inputs: tensors of one row each that every call gets, by the names of the model's inputs; those that begin with "away." are
    what `choices.guidance` leads away from. The same import again changes nothing.
    Raises UsageError for a model of another kind, choices that do not fit it, and a folder that holds something else;
    OrnsteinError for damaged files and where the disk refuses.
    """
    place, out = Path(source).expanduser(), Path(out).expanduser()
    kind = kind_of(place)
    choices, inputs = choices or Choices(), dict(inputs or {})
    _must_be_rows(inputs)
    foreign, digests = _opened(kind, place, choices)
    model = _model(foreign, choices, inputs)
    _tried(model, foreign)
    files = {os.path.abspath(file): digest for file, digest in digests.items()}
    origin = Origin(kind, os.path.abspath(place), files, replace(choices, scheduler=_absolute(choices.scheduler)))
    if not _is_same(out, origin, inputs):
        _write(out, foreign.name, model, origin, inputs)
    from ornstein.runs.run import load

    return load(out, device)


def _write(out: Path, name: str, model: Model, origin: Origin, inputs: Mapping[str, Tensor]) -> None:
    with new_folder(out, replace=False) as folder:
        stored = folder / "model"
        stored.mkdir()
        if inputs:
            save_file({key: part.contiguous() for key, part in inputs.items()}, stored / INPUTS)
            origin = replace(origin, inputs=digest_of(stored / INPUTS))
        content = {**described(model), "network": {"type": name, "imported": origin.to_json()}}
        (stored / "config.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def opened(source: str | Path, device: str | torch.device = "cpu") -> "Run":
    """A foreign model as a run in no folder of its own, with what its files say of it. Raises what `take` raises."""
    from ornstein.runs.run import Run

    place = Path(source)
    kind = kind_of(place)
    foreign, digests = _opened(kind, place, Choices())
    model = _model(foreign, Choices(), {})
    _tried(model, foreign)
    origin = Origin(kind, os.path.abspath(place), {os.path.abspath(file): digest for file, digest in digests.items()})
    return Run(place, model, origin.digest).to(device)


def read(folder: Path) -> tuple[Model, str]:
    """The model that a run folder refers to, on the CPU, and the digest of what it refers to.

    Raises OrnsteinError that names the file which is missing, damaged or not as it was when it was imported.
    """
    file = folder / "model" / "config.json"
    try:
        config = read_json(file, root=folder)
        origin = Origin.from_json(config["network"]["imported"])
        spec = DataSpec.from_json(config["data"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise OrnsteinError(
            f"{file} does not describe an imported model ({type(error).__name__}: {reason}); {AGAIN}"
        ) from error
    missing = next((name for name in origin.files if not os.path.exists(name)), None)
    if missing is not None:
        raise OrnsteinError(f"{missing} is missing, which {folder} refers to; bring it back, or {AGAIN}")
    inputs = dict[str, Tensor]()
    if origin.inputs is not None:
        stored = folder / "model" / INPUTS
        inputs, digest = hashed(stored, partial(loaded, root=folder, mend=AGAIN), folder, AGAIN)
        if digest != origin.inputs:
            raise OrnsteinError(f"{stored} has changed since the import; {AGAIN}")
    foreign, digests = _opened(origin.kind, Path(origin.place), origin.choices)
    for name, digest in digests.items():
        if origin.files.get(str(name)) != digest:
            raise OrnsteinError(f"{name} has changed since it was imported into {folder}; bring it back, or {AGAIN}")
    return replace(_model(foreign, origin.choices, inputs), spec=spec), origin.digest


def is_outdated(folder: Path, digest: str) -> bool:
    """Whether a run folder refers to something else by now than what had this digest; no, where it is the model's own."""
    if is_foreign(folder):
        return False
    try:
        return (
            Origin.from_json(read_json(folder / "model" / "config.json", root=folder)["network"]["imported"]).digest
            != digest
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True


def settings(model: Model) -> Settings:
    """In place of the settings of a training, which nobody knows: the size of the data, and whether there is a null condition."""
    channels, *sides = model.spec.shape
    square = model.spec.traits.pixels and len(set(sides)) == 1
    null = bool(getattr(model.network, "has_null", True))
    return Settings(
        size=sides[0] if square else None,
        channels=channels if model.spec.traits.pixels and channels in (1, 3, 4) else None,
        label_dropout=0.1 if null else 0.0,
    )


def described(model: Model) -> dict[str, Any]:
    """What a model file says besides its network."""
    return {
        "format": MODEL,
        "path": to_config(model.path),
        "target": to_config(model.target),
        "frequencies": list(model.frequencies),
        "conditions": [],
        "data": model.spec.to_json(),
    }


def is_foreign(place: Path) -> bool:
    """Whether a place is that of a foreign model, by the names in it: no run, and nothing of it is read."""
    return (
        (place / "model_index.json").is_file() or (place / "config.json").is_file() or place.suffix.lower() == ".onnx"
    )


def kind_of(place: Path) -> str:
    """Which of `names.FOREIGN` opens a place. Raises UsageError for what none of them does, and for files that hold code."""
    if place.is_dir():
        return "diffusers"
    if place.suffix.lower() in ENDINGS:
        raise UsageError(
            f"{place} may hold code, which is not run here: load it in your own process as its authors say, and pass the object "
            "to ornstein.interop"
        )
    if not place.exists():
        raise UsageError(f"{place} is not there; give a folder of diffusers or an .onnx file")
    if place.suffix.lower() != ".onnx":
        raise UsageError(f"{place} is no folder of diffusers and no .onnx file; give one of these")
    return "onnx"


def _opened(kind: str, place: Path, choices: Choices) -> tuple[Opened, dict[Path, str]]:
    """The foreign model with the scheduler's configuration that was chosen, and the sha256 of all files."""
    foreign: Opened = FOREIGN[kind](place)
    digests = dict(foreign.digests)
    if choices.scheduler is not None:
        file = Path(choices.scheduler).expanduser()
        config, digests[file] = hashed(file, read_json, None, "give a scheduler_config.json of diffusers")
        foreign = replace(foreign, scheduler=config)
    return foreign, digests


def _model(foreign: Opened, choices: Choices, inputs: Mapping[str, Tensor]) -> Model:
    """The model of a foreign network. Raises UsageError for choices that do not fit it."""
    convention = _convention(foreign, choices)
    names, known = _classes(foreign, choices)
    bound = {name: part for name, part in inputs.items() if not name.startswith(AWAY)}
    away = {name.removeprefix(AWAY): part for name, part in inputs.items() if name.startswith(AWAY)}
    _must_have_inputs(foreign, bound, away, choices.guidance)
    label = foreign.label if names else None
    if foreign.label is not None and label is None:
        raise UsageError(f"{foreign.label} is a class, and nothing says how many there are; give --classes")
    network = ImportedNetwork(
        foreign.network, convention, Inputs(label, len(names), known, bound, away, choices.guidance)
    ).eval()
    conditions = Conditions((Label(names, (1 / len(names),) * len(names)),)) if names else Conditions()
    spec = _spec(foreign, choices, names)
    clock = convention.clock
    if convention.discrete and convention.levels is not None:
        clock = Snapped(clock, convention.levels)
    return Model(network, convention.path, convention.target, spec, conditions, preconditioning=clock)


def _convention(foreign: Opened, choices: Choices) -> Convention:
    from ornstein.interop import diffusers

    try:
        if choices.convention is None:
            if foreign.scheduler is None:
                raise UsageError(
                    f"{foreign.name}: nothing says how it is called and what it predicts; give --convention, one of "
                    f"{', '.join(CONVENTIONS)}, or --scheduler FILE.json of diffusers"
                )
            named = diffusers.convention(foreign.scheduler, variance=foreign.variance, discrete=choices.discrete)
        else:
            name, _, numbers = choices.convention.partition(":")
            named = CONVENTIONS.pick(name, *map(float, numbers.split(",") if numbers else ()))
            named = replace(named, discrete=choices.discrete, variance=named.variance or foreign.variance)
        return named if foreign.call is None else replace(named, call=foreign.call)
    except UsageError:
        raise
    except Exception as error:  # numbers that nobody foresaw
        what, reason = choices.convention or "the scheduler's configuration", " ".join(str(error).split())[:200]
        raise UsageError(f"convention: {what} describes none ({type(error).__name__}: {reason})") from error


def _classes(foreign: Opened, choices: Choices) -> tuple[tuple[str, ...], bool]:
    """The names of the classes, and whether the network has a place for none of them."""
    chosen = foreign.classes if choices.classes is None else choices.classes
    names = tuple(map(str, range(chosen))) if isinstance(chosen, int) else chosen
    if names and foreign.label is None:
        raise UsageError(f"--classes: this {foreign.name} takes no class; leave it out")
    if foreign.embedded and len(names) > foreign.embedded:
        raise UsageError(f"--classes: {len(names)} are more than the {foreign.embedded} that the network knows")
    return names, len(names) < foreign.embedded or (choices.null and not foreign.embedded)


def _must_have_inputs(foreign: Opened, bound: Mapping[str, Tensor], away: Mapping[str, Tensor], scale: float) -> None:
    taken = ", ".join(foreign.inputs) or "nothing else"
    if lacking := [name for name in foreign.inputs if name not in bound]:
        raise UsageError(
            f"this {foreign.name} also takes {', '.join(lacking)}; give one row of each by --bind, as {lacking[0]}=NUMBER or in "
            "a file of tensors (.safetensors)"
        )
    if strange := [name for name in (*bound, *away) if name not in foreign.inputs]:
        raise UsageError(f"--bind: this {foreign.name} has no input {brief(strange[0])}; it takes {taken}")
    if bool(away) != (scale != 1):
        raise UsageError(
            "--guidance of an import leads away from the inputs in --away FILE: give both, or neither (classes are guided when "
            "sampling)"
        )


def _spec(foreign: Opened, choices: Choices, names: tuple[str, ...]) -> DataSpec:
    """The data as far as they are known: a range that is −1 to 1 for the model."""
    shape = _shape(foreign, choices)
    kind = next((kind for kind in ALL if len(kind.axes) == len(shape)), None)
    if kind is None:
        raise UsageError(f"items of {len(shape)} axes are none of {', '.join(kind.plural for kind in ALL)}")
    visible = kind.pixels and shape[0] in (1, 3) and not foreign.latent
    low, high = choices.scale or ((0.0, 255.0) if visible else (-1.0, 1.0))
    if not low < high:
        raise UsageError(f"--range {low:g},{high:g} must rise; give for example 0,255")
    whole = {limits: dtype for dtype, limits in FULL_RANGE.items() if dtype != "bool"}
    per_dimension = shape[0] if kind.held else 0
    scale: dict[str, Any] = {"mean": ((low + high) / 2,) * per_dimension, "std": ((high - low) / 2,) * per_dimension}
    dtype = whole.get((low, high), "float32") if kind.pixels else "float32"
    values: dict[str, Any] = {"source": "unknown data", "count": 1, "content_hash": "unknown", "data_std": 0.5}
    try:
        return DataSpec.from_json(
            DataSpec(kind.name, shape, dtype, low, high, **scale, classes=names, **values).to_json()
        )
    except (ValueError, TypeError) as error:
        raise UsageError(f"--range, --channels and --size describe no data ({error})") from error


def _shape(foreign: Opened, choices: Choices) -> tuple[int, ...]:
    channels, *sides = foreign.shape or (None,)
    if choices.channels is not None:
        if channels not in (None, choices.channels):
            raise UsageError(f"--channels {choices.channels}: this {foreign.name} takes {channels}; leave it out")
        channels = choices.channels
    if choices.size is not None:
        if len(choices.size) not in (1, len(sides)):
            raise UsageError(
                f"--size has {len(choices.size)} sides, and an item of this {foreign.name} {len(sides)}; give as many"
            )
        sides = [*choices.size] * (1 if len(choices.size) == len(sides) else len(sides))
    shape = (channels, *sides)
    if open_ := [i for i, side in enumerate(shape) if side is None]:
        flag = "--channels" if open_[0] == 0 else "--size"
        raise UsageError(f"the files of this {foreign.name} leave the shape of an item open; give {flag}")
    return tuple(int(side) for side in shape if side is not None)


def _tried(model: Model, foreign: Opened) -> None:
    """One call of the network. Raises UsageError where it does not answer as the convention says."""
    x = torch.zeros(1, *model.spec.shape)
    label = None if model.conditions.label is None else torch.zeros(1, dtype=torch.int64)
    try:
        with torch.inference_mode():
            fits = bool(model.denoiser().given(label)(x, 0.5).clean.isfinite().all())
        reason = "it answers numbers that are not finite"
    except Exception as error:  # of a foreign library
        fits, reason = False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if not fits:
        raise UsageError(
            f"this {foreign.name} cannot be called on items of shape {model.spec.shape} as the convention says ({reason}); give "
            "another --convention, --size or --bind"
        )


def _must_be_rows(inputs: Mapping[str, Tensor]) -> None:
    for name, part in inputs.items():
        if not isinstance(part, Tensor) or part.ndim < 1 or len(part) != 1:
            raise UsageError(f"--bind: {brief(name)} must have one row, which is that of all samples")


def _absolute(file: str | None) -> str | None:
    return None if file is None else os.path.abspath(os.path.expanduser(file))


def _is_same(out: Path, origin: Origin, inputs: Mapping[str, Tensor]) -> bool:
    """Whether a folder is this import already."""
    file = out / "model" / "config.json"
    try:
        there = Origin.from_json(read_json(file, root=out)["network"]["imported"])
        stored = loaded(out / "model" / INPUTS, out) if there.inputs is not None else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OrnsteinError):
        return False
    same = stored.keys() == inputs.keys() and all(torch.equal(stored[name], part) for name, part in inputs.items())
    return same and replace(there, inputs=None) == origin

"""What several views ask for alike: a run, how many samples of it, their seed, classes and other conditions, guidance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ornstein import conditions
from ornstein.conditions import ImageCondition, RandomMask, Rows
from ornstein.errors import UsageError
from ornstein.guidance.config import PLAIN, GuidanceConfig, NegativeLabel, unconditional
from ornstein.names import GUIDANCE, SOLVERS
from ornstein.noise import PerSampleNoise
from ornstein.runs.conditioning import check_guide, condition_rows
from ornstein.sampling import begin
from ornstein.studio.fields import Fields
from ornstein.studio.shelf import Place, solvers_of
from ornstein.terminal import clean

if TYPE_CHECKING:
    from ornstein.denoiser import Denoiser
    from ornstein.runs import Run
    from ornstein.solvers import Solver
    from ornstein.studio.state import Studio

MOST = 64  # samples of an image at once
MOST_POINTS = 4096
NUMBERS = 1 << 20  # of all samples at once
AS_DATA, IN_TURN = -1, -2  # places of `label` that are no class


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """Samples of a run that are asked for: `labels` are places among the classes, None without classes."""

    place: Place
    run: "Run"
    count: int
    seed: int
    label: int
    labels: list[int] | None
    text: str | None
    vector: list[float] | None
    image: Any
    mask: Any
    guide: GuidanceConfig
    words: dict[str, Any]  # flags of the guidance

    @property
    def condition(self) -> dict[str, Any] | None:
        """What is given besides a class."""
        values = {"text": self.text, "vector": self.vector, "image": self.image, "mask": self.mask}
        there = {name: value for name, value in values.items() if value is not None}
        return there or None

    @property
    def denoiser(self) -> "Denoiser":
        """The guided denoiser of these samples."""
        return self.with_guide(self.guide)

    def with_guide(self, guide: GuidanceConfig) -> "Denoiser":
        """The same with other guidance."""
        run, model = self.run, self.run.model
        rows = self.rows()
        inputs = None if rows is None else model.conditions.network_input(rows)
        return guide(run.denoiser, conditions.to(inputs, model.device, model.dtype))

    def rows(self) -> Rows | None:
        """The conditions, a row for each sample; None of a run without any."""
        run, known = self.run, self.run.model.conditions
        rows = condition_rows(run, self.count, None, self.condition, self.labels)
        if rows is not None or not known:
            return rows
        labels = run.model.labels(0, self.count, self.seed)  # as often as in the data; of all others the null
        parts = zip(known.parts, known.null(self.count), strict=True)
        return tuple(null if part is not known.label or labels is None else labels for part, null in parts)

    def start(self, times: Tensor) -> Tensor:
        """x at the first of the times."""
        model = self.run.model
        empty = torch.zeros(self.count, *self.run.spec.shape, device=model.device, dtype=model.dtype)
        return begin(model.path, empty, float(times[0]), self.noise)

    @property
    def noise(self) -> PerSampleNoise:
        return PerSampleNoise(self.seed)

    @property
    def names(self) -> list[str]:
        """The class of each sample, as text."""
        labels = self.labels
        if labels is None:
            drawn = self.run.model.labels(0, self.count, self.seed)
            labels = [] if drawn is None else drawn.tolist()
        return [clean(self.run.spec.classes[i]) for i in labels]

    def flags(self) -> dict[str, Any]:
        """As flags of a command."""
        classes = self.run.spec.classes
        return {
            "-n": self.count,
            "--label": classes[self.label] if self.label >= 0 else None,
            "--text": self.text,
            "--condition": ",".join(f"{v:g}" for v in self.vector)
            if self.vector
            else "image.png"
            if self.image is not None
            else None,
            "--mask": None if self.mask is None else "mask.png",
            "--seed": self.seed,
            **self.words,
        }

    def arguments(self) -> dict[str, Any]:
        """As arguments of `run.sample`."""
        from ornstein.studio.commands import Code

        classes = self.run.spec.classes
        there = {name: value for name, value in (("text", self.text), ("vector", self.vector)) if value is not None}
        return {
            "0": self.count,
            "label": classes[self.label] if self.label >= 0 else None,
            "label_index": Code(f"[i % {len(classes)} for i in range({self.count})]")
            if self.label == IN_TURN
            else None,
            "condition": there or self._image_code(),
            "guide": None if self.guide.plain else Code(guide_code(self.guide)),
            "seed": self.seed,
        }

    def _image_code(self) -> str | None:
        """The image, and the mask where there is one, as variables."""
        from ornstein.studio.commands import Code

        names = [name for name in ("image", "mask") if getattr(self, name) is not None]
        return Code(f"{{{', '.join(f'{name!r}: {name}' for name in names)}}}") if names else None


def draw(studio: "Studio", client: str, fields: Fields, count: int = 16, guided: bool = True) -> SampleRequest:
    """What a request says of samples. Raises UsageError."""
    place = studio.shelf.place(fields.text("run", next(iter(studio.shelf.places), "")))
    run = place.run()
    spec, model = run.spec, run.model
    most = MOST if spec.traits.drawn else MOST_POINTS
    most = max(1, min(most, NUMBERS // max(1, torch.Size(spec.shape).numel())))
    count = fields.whole("count", min(count, most), 1, most)
    seed = fields.whole("seed", 0, 0, 2**53)
    known = model.conditions
    classes = len(spec.classes) if known.label is not None else 0
    label = fields.whole("label", AS_DATA, IN_TURN if classes else AS_DATA, classes - 1)
    labels = None
    if label == IN_TURN:
        labels = [i % classes for i in range(count)]
    elif label >= 0:
        labels = [label] * count
    text = fields.text("text") or None
    vector = None
    if any("vector" in part.names for part in known.parts):
        size = next(part.arguments["vector"] for part in known.parts if "vector" in part.names)
        vector = fields.numbers("vector", [0.0] * size, size, 1e6)
    upload = fields.text("image")
    image = studio.uploads.get(client, place.id, upload).own if upload else None
    mask = _mask(known.image, fields) if image is not None and known.image is not None else None
    guide, words = guidance(run, fields) if guided else (PLAIN, {})
    made = SampleRequest(place, run, count, seed, label, labels, text, vector, image, mask, guide, words)
    condition_rows(run, 1, None, made.condition, None if labels is None else labels[:1])  # raises for what does not fit
    return made


def _mask(part: ImageCondition, fields: Fields) -> Any:
    """Where the image is hidden, (H, W), of a run that fills in what a mask hides. Raises UsageError."""
    if not isinstance(part.degradation, RandomMask):
        return None
    _, height, width = part.shape
    hidden = fields.bits("mask", height * width).reshape(height, width)
    if not hidden.any():
        raise UsageError("mask: paint what to fill in")
    return hidden


def guidance(run: "Run", fields: Fields) -> tuple[GuidanceConfig, dict[str, Any]]:
    """The guidance of a request, and its flags. Raises UsageError for what the run has not the means for."""
    scale = fields.number("scale", 1.0, -10.0, 30.0)
    name = fields.choice("method", "cfg", list(GUIDANCE))
    low, high = fields.number("low", 0.0, 0.0, 1e6), fields.number("high", 1e6, 0.0, 1e6)
    classes = len(run.spec.classes) if run.model.conditions.label is not None else 0
    negative = fields.whole("negative", -1, -1, classes - 1)
    if scale == 1:
        return PLAIN, {}
    if not low < high:
        raise UsageError(f"low, high: {low:g}, {high:g} must rise; they are noise levels σ/α")
    method, rescale = GUIDANCE[name]
    away = unconditional if negative < 0 else NegativeLabel(clean(run.spec.classes[negative]), negative)
    levels = (low, float("inf") if high >= 1e6 else high)
    try:
        guide = GuidanceConfig(scale, method, levels, rescale, away)
        check_guide(run, guide)
    except ValueError as error:
        raise UsageError(f"guidance: {error}") from error
    whole = levels == (0.0, float("inf"))
    return guide, {
        "--guidance": scale,
        "--guidance-method": None if name == "cfg" else name,
        "--guidance-interval": None if whole else f"{low:g},{levels[1]:g}",
        "--not-label": None if negative < 0 else run.spec.classes[negative],
    }


def solver(draw: SampleRequest, fields: Fields, name: str = "solver") -> tuple[str, "Solver", int]:
    """The solver of a request by name, and its steps. Raises UsageError."""
    run = draw.run
    known = solvers_of(run)
    chosen = fields.choice(name, run.model.solver, [*known["ode"], *known["sde"], "tuned"])
    steps = fields.whole("steps", run.model.steps, 1, 250)
    return chosen, run.tuned(steps, condition=draw.condition) if chosen == "tuned" else SOLVERS[chosen], steps


def guide_code(guide: GuidanceConfig) -> str:
    parts = [f"{guide.scale:g}" if isinstance(guide.scale, float) else str(guide.scale)]
    method = getattr(guide.method, "__name__", "")
    if method != "ClassifierFree":
        parts.append(f"ornstein.guidance.{method}")
    low, high = guide.levels
    if guide.levels != (0.0, float("inf")):
        parts.append(f"levels=({low:g}, {high:g})" if high != float("inf") else f"levels=({low:g}, float('inf'))")
    if guide.rescale:
        parts.append(f"rescale={guide.rescale:g}")
    if isinstance(guide.negative, NegativeLabel):
        parts.append(f"negative=ornstein.guidance.NegativeLabel({guide.negative.label!r})")
    return f"ornstein.guidance.GuidanceConfig({', '.join(parts)})"

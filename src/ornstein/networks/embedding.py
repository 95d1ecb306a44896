"""Times, coordinates, positions and conditions as vectors.

Equations:
(1) sinusoidal, width 2m:    e(u) = [sin(u ω_1) … sin(u ω_m), cos(u ω_1) … cos(u ω_m)],  ω_j = P^(−(j−1)/(m−1))
(2) Fourier features:        γ(v) = [a_1 cos 2π b_1·v … a_m cos 2π b_m·v, a_1 sin 2π b_1·v … a_m sin 2π b_m·v]
(3) positions on a grid:     the embedding of each axis' index, axis after axis, with ω_j = P^(−(j−1)/m)
(4) condition:               c = MLP(e(t)) + MLP(e(aim)) + Σ_{label in set} E[label] + MLP(vector)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .layers import xavier_, zero_

Condition = Tensor | tuple[Tensor | None, ...] | None
"""None, one of these tensors, or a tuple of several, each kind at most once and None where it is missing:

- labels: integers (B,) of which K is the null label, or sets of labels, boolean (B, K + 1), whose last column says that there
  is a set, so that an empty set is not the same as none;
- a floating vector (B, V);
- a floating image (B, C', *spatial), concatenated with x.

Vectors and images of zeros, sets without their last column, and what is None are one thing: the null condition.
"""

PERIOD = 10_000.0
SLOW = 1.0, 8.0
"""Lowest and highest angular frequency of features of time that are smooth, in radians over t from 0 to 1."""
DDPM = 0.1, 1000.0
"""Those of Ho et al. 2020, who embed step 1000 t with the period 10,000; DiT's are alike."""
AIM = 0.5, 8.0, 32
"""Lowest and highest angular frequency of the features of an aim, and how many: slow, as flow maps are differentiated in it."""


def _waves(u: Tensor, frequencies: Tensor) -> Tensor:
    angles = u.unsqueeze(-1) * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def sinusoidal(u: Tensor, width: int, period: float = PERIOD) -> Tensor:
    """Sinusoidal embedding, equation (1): all sines, then all cosines, from angular frequency 1 down to 1/`period`.

    u: (...) of any dtype, in steps (DDPM's step `i` of 1000 is `1000 t`); result: (..., width), at least float32,
    because the fastest wave turns by a radian per step. Raises ValueError unless `width` is even and at least 4.
    Source: Vaswani et al. 2017, section 3.5, with the order and the end points of Ho et al. 2020 (their code).
    """
    if width < 4 or width % 2:
        raise ValueError(f"a sinusoidal embedding needs an even width of at least 4, not {width}")
    u = u.to(torch.promote_types(u.dtype, torch.float32))
    exponents = torch.linspace(0, 1, width // 2, dtype=u.dtype, device=u.device)
    return _waves(u, torch.exp(-math.log(period) * exponents))


class FourierFeatures(nn.Module):
    """Fourier features of coordinates, equation (2), Tancik et al. 2020, equation (5).

    γ(v)·γ(w) = Σ_j a_j² cos 2π b_j·(v − w): a kernel of the difference alone. Frequencies `b` (m, d) in cycles per
    unit of `v` and amplitudes `a` (m,) are fixed buffers, saved with the weights and never trained.
    """

    frequencies: Tensor
    amplitudes: Tensor

    def __init__(self, frequencies: Tensor, amplitudes: Tensor | None = None) -> None:
        """frequencies: (m, d); amplitudes: (m,), ones when None. Raises ValueError when the shapes do not fit."""
        super().__init__()
        amplitudes = torch.ones_like(frequencies[..., 0]) if amplitudes is None else amplitudes
        if frequencies.ndim != 2 or amplitudes.shape != frequencies.shape[:1]:
            raise ValueError(
                "Fourier features need frequencies of shape (m, d) and amplitudes of shape (m,), "
                f"not {tuple(frequencies.shape)} and {tuple(amplitudes.shape)}"
            )
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("amplitudes", amplitudes)

    @classmethod
    def gaussian(cls, dim: int, count: int, scale: float, seed: int = 0) -> "FourierFeatures":
        """`count` frequencies from N(0, scale² I) in `dim` coordinates, the same for the same seed.

        With amplitudes √(1/count) the kernel's mean over seeds is exp(−2π² scale² ‖v − w‖²); here they are 1, so
        that features keep unit size. Source: Rahimi & Recht 2007; for times (`dim` 1), Song et al. 2021, appendix C.
        """
        generator = torch.Generator().manual_seed(seed)
        return cls(scale * torch.randn(count, dim, generator=generator, device="cpu"))

    def forward(self, v: Tensor) -> Tensor:
        """v: (..., d) -> (..., 2m), all cosines, then all sines, at least float32 (also under autocast)."""
        v = v.to(torch.promote_types(v.dtype, torch.float32))
        # Not a matmul: autocast would round the angles to bfloat16, and 2π b·v is large.
        angles = 2 * math.pi * (v.unsqueeze(-2) * self.frequencies).sum(-1)
        return torch.cat((self.amplitudes * angles.cos(), self.amplitudes * angles.sin()), dim=-1)


def grid_positions(shape: Sequence[int], width: int, period: float = PERIOD) -> Tensor:
    """Sine-cosine embedding of every position of a 1-D, 2-D, 3-D, … grid, equation (3).

    Result: (prod(shape), width), rows in row-major order; each axis has `width / len(shape)` columns, sines first.
    Raises ValueError unless `width` is a multiple of `2·len(shape)`.
    Source: Vaswani et al. 2017, section 3.5, per axis as in Dosovitskiy et al. 2021, appendix D.4.
    """
    axes = len(shape)
    if axes == 0 or width % (2 * axes):
        raise ValueError(f"positions on a {axes}-D grid need a width that is a multiple of {2 * axes}, not {width}")
    half = width // axes // 2
    frequencies = torch.exp(-math.log(period) / half * torch.arange(half))
    indices = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    return torch.cat([_waves(index.flatten(), frequencies) for index in indices], dim=-1)


class Conditioning(nn.Module):
    """One vector for time, labels and vector condition, equation (4).

    `classes = K` gives the table E K + 1 rows; row K is the null label, used for all when no label is given. A set of one label
    is embedded as that label. A vector condition that is not given is zero.

    Time is seen through sines and cosines, equation (1), of `frequencies`: the lowest and the highest, in radians over t from 0
    to 1. A network varies with t as fast as these. With `DDPM` its output jitters between neighbouring times, and solvers of high
    order do not reach their order; with `SLOW` it is smooth. `fourier > 0` replaces the sinusoids by Gaussian Fourier features,
    equation (2), with that standard deviation, in cycles over t from 0 to 1 (Song et al. 2021 use 16).

    With `aim` there is a second time, how far a jump goes (`ornstein.flowmap`): slow sinusoids of it, through layers of which the
    last starts at zero, so that a network answers at first as if it had none.
    """

    def __init__(
        self,
        features: int,
        width: int,
        classes: int = 0,
        vector: int = 0,
        fourier: float = 0.0,
        frequencies: Sequence[float] = SLOW,
        aim: bool = False,
    ) -> None:
        """features: width of the embedding of time; width: of the result; vector: width of the vector condition.

        Raises ValueError unless 0 < lowest < highest frequency.
        """
        super().__init__()
        lowest, highest = frequencies
        if not 0 < lowest < highest < math.inf:
            raise ValueError(
                f"frequencies = {tuple(frequencies)} must be a lowest and a higher highest one, both positive"
            )
        self.features, self.classes, self.vector = features, classes, vector
        self.highest, self.ratio = highest, highest / lowest
        self.fourier = FourierFeatures.gaussian(1, features // 2, fourier) if fourier else None
        self.time = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(classes + 1, width) if classes else None
        self.vectors = nn.Sequential(nn.Linear(vector, width), nn.SiLU(), nn.Linear(width, width)) if vector else None
        self.aim = nn.Sequential(nn.Linear(AIM[2], width), nn.SiLU(), nn.Linear(width, width)) if aim else None
        xavier_(self)
        if self.aim is not None:
            zero_(self.aim[2])

    def forward(self, t: Tensor, condition: Condition, batch: int, aim: Tensor | None = None) -> Tensor:
        """t, aim: () or (B,), an aim of None is 0; result: (B, width), or (1, width), to be broadcast, when no row differs.

        Raises ValueError for a time or a condition that does not fit. The range of labels is checked on the CPU only:
        elsewhere the check would wait for the device.
        """
        if not t.is_floating_point() or t.shape not in ((), (batch,)):
            raise ValueError(
                f"t must be a floating tensor in [0, 1] of shape () or ({batch},), not {t.dtype} {tuple(t.shape)}"
            )
        labels, vector, _ = _split(condition)
        t = t.reshape(-1)
        if self.fourier is None:
            waves = sinusoidal(self.highest * t, self.features, self.ratio)
        else:
            waves = self.fourier(t.unsqueeze(-1))
        weight = next(self.time.parameters())
        embedding: Tensor = self.time(waves.to(weight.dtype))

        if self.aim is not None:
            lowest, highest, features = AIM
            far = torch.zeros_like(t) if aim is None else aim.reshape(-1)
            embedding = embedding + self.aim(sinusoidal(highest * far, features, highest / lowest).to(weight.dtype))
        elif aim is not None:
            raise ValueError("an aim was given to a network without one; build it with aim=True")

        if self.labels is not None:
            if labels is None:
                labels = torch.full((1,), self.classes, device=weight.device)
            else:
                _check_labels(labels, self.classes, batch)
            embedding = embedding + self._labels(labels, self.labels)
        elif labels is not None:
            raise ValueError("labels were given to a network without classes; build it with classes=K")

        if self.vectors is not None:
            if vector is None:
                vector = weight.new_zeros(1, self.vector)
            elif vector.shape != (batch, self.vector):
                raise ValueError(
                    f"the vector condition must have shape ({batch}, {self.vector}), not {tuple(vector.shape)}"
                )
            embedding = embedding + self.vectors(vector.to(weight.dtype))
        elif vector is not None:
            raise ValueError("a vector condition was given to a network without one; build it with vector=WIDTH")
        return embedding

    def _labels(self, labels: Tensor, table: nn.Embedding) -> Tensor:
        if labels.ndim == 1:
            embedded: Tensor = table(labels.long())
            return embedded
        present = labels[:, -1:]
        return torch.cat([labels[:, :-1] & present, ~present], 1).to(table.weight.dtype) @ table.weight


def concat_image(x: Tensor, condition: Condition, channels: int) -> Tensor:
    """x (B, C, *spatial) with the `channels` of the image in a condition behind its own, zeros where there is none.

    Raises ValueError for an image that does not fit x, or that a network without one is given.
    """
    image = _split(condition).image
    if not channels:
        if image is not None:
            raise ValueError("an image was given to a network without one; build it with image=CHANNELS")
        return x
    expected = (x.shape[0], channels, *x.shape[2:])
    if image is None:
        image = x.new_zeros(expected)
    elif image.shape != expected:
        raise ValueError(f"the image must have shape {expected}, not {tuple(image.shape)}")
    return torch.cat([x, image.to(x.dtype)], 1)


def concat_vector(x: Tensor, condition: Condition, width: int) -> Tensor:
    """x (B, N) with the vector in a condition of so many numbers behind its own, zeros where there is none."""
    if not width:
        return x
    vector = _split(condition).vector
    return torch.cat([x, x.new_zeros(len(x), width) if vector is None else vector.to(x.dtype)], 1)


class _Parts(NamedTuple):
    labels: Tensor | None
    vector: Tensor | None
    image: Tensor | None


def _split(condition: Condition) -> _Parts:
    """The parts of a condition by what they are."""
    parts: dict[str, Tensor] = {}
    for part in condition if isinstance(condition, tuple) else (condition,):
        if part is None:
            continue
        kind = "image" if part.ndim > 2 else "vector" if part.is_floating_point() else "labels"
        if kind in parts:
            raise ValueError(
                f"a condition holds labels, a vector (floating) and an image once at most, not {kind} twice: "
                f"{parts[kind].dtype} {tuple(parts[kind].shape)} and {part.dtype} {tuple(part.shape)}"
            )
        parts[kind] = part
    return _Parts(parts.get("labels"), parts.get("vector"), parts.get("image"))


def _check_labels(labels: Tensor, classes: int, batch: int) -> None:
    if labels.dtype is torch.bool and labels.shape == (batch, classes + 1):
        return
    if labels.is_complex() or labels.dtype is torch.bool or labels.shape != (batch,):
        raise ValueError(
            f"labels must be integers of shape ({batch},), or boolean sets of shape ({batch}, {classes + 1}), "
            f"not {labels.dtype} {tuple(labels.shape)}"
        )
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        wrong = labels[(labels < 0) | (labels > classes)]
        if len(wrong):
            raise ValueError(
                f"label {int(wrong[0])} is outside 0..{classes} ({classes} classes; {classes} is the null label)"
            )

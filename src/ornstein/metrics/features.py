"""Feature extractors: from items in model units to the vectors that are compared. A score bears its extractor's name."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ornstein import cpu
from ornstein.data import Dataset, DataSpec
from ornstein.data.arrays import Arrays
from ornstein.data.cache import Items, cached, default_folder
from ornstein.data.content import chunks
from ornstein.errors import UsageError

Progress = Callable[[int, int], None]  # done, total
BATCH = 64  # of one worker; the same for any number of them, so that features do not depend on it


class Extractor(Protocol):
    """Features (B, D), float32, of items in model units: images (B, C, H, W) in [−1, 1], vectors (B, D).

    `digest` changes with anything the features depend on; `frechet` is what a Fréchet distance of them is called.
    """

    @property
    def name(self) -> str:
        """What the features are called."""
        ...

    @property
    def digest(self) -> str:
        """Changes with anything that the features depend on."""
        ...

    @property
    def frechet(self) -> str:
        """What a Fréchet distance of these features is called."""
        ...

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Values:
    """The numbers themselves: pixels of images, coordinates of vectors."""

    name: str = "pixels"
    digest: str = "values"
    frechet: str = "Fréchet distance"

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@dataclass(frozen=True, eq=False)
class Network:
    """Any torch module from (B, C, H, W) in model units to features (B, ...), which are flattened.

    `features` is what is called where that is not the module itself.
    """

    name: str
    module: nn.Module
    features: Callable[[Tensor], Tensor] | None = None
    frechet: str = "Fréchet distance"

    @property
    def digest(self) -> str:
        """Hash of the module's text and its state."""
        digest = sha256(repr(self.module).encode())
        for key, value in self.module.state_dict().items():
            digest.update(key.encode())
            digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
        return digest.hexdigest()[:16]

    def __call__(self, x: Tensor) -> Tensor:
        """Computed where the module is; the features are on the CPU."""
        place = next((parameter.device for parameter in self.module.parameters()), x.device)
        with torch.inference_mode():
            return (self.features or self.module)(x.to(place)).flatten(1).float().cpu().clone()


def extract(extractor: Extractor, items: NDArray[Any], spec: DataSpec, progress: Progress | None = None) -> Tensor:
    """Features (N, D) of items in their own units, in batches; on the CPU one at a time a thread, see `cpu.in_order`.

    Raises UsageError that names the first item which holds NaN or infinity: a network may make a number of it.
    """
    if not spec.may_lack:
        must_be_finite(items)

    def batch(start: int) -> Tensor:
        return extractor(spec.to_model(np.array(items[start : start + BATCH])))

    features = list[Tensor]()
    starts = range(0, len(items), BATCH)
    for done in cpu.in_order(batch, starts, torch.get_num_threads() if on_cpu(extractor) else 1):
        features.append(done)
        if progress is not None:
            progress(min(BATCH * len(features), len(items)), len(items))
    return torch.cat(features)


def on_cpu(extractor: Extractor) -> bool:
    """Whether all weights of the extractor are on the CPU, where it may be called from several threads at once."""
    return not isinstance(extractor, Network) or all(
        weight.device.type == "cpu" for weight in extractor.module.parameters()
    )


def must_be_finite(items: NDArray[Any]) -> None:
    """Raises UsageError that names the first item which holds NaN or infinity."""
    if items.dtype.kind != "f":
        return
    start = 0
    for chunk in chunks(items):
        wrong = ~np.isfinite(chunk).reshape(len(chunk), -1).all(1)
        if wrong.any():
            raise UsageError(
                f"sample {start + int(wrong.argmax())} holds NaN or infinite numbers, of which no metric says anything; leave "
                "such samples out or mend what made them"
            )
        start += len(chunk)


def of_data(
    extractor: Extractor,
    dataset: Dataset,
    rows: NDArray[np.int64] | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Features (N, D) of real data (or of these rows), cached with the decoded data under the hashes of data and extractor.

    The bare numbers are not cached: they are the data. Raises OrnsteinError when the disk refuses.
    """
    items = dataset.items if rows is None else dataset.items[rows]
    if isinstance(extractor, Values):
        return extract(extractor, items, dataset.spec)
    part = "all" if rows is None else sha256(rows.astype(np.int64).tobytes()).hexdigest()
    about = (
        "features",
        extractor.name,
        extractor.digest,
        dataset.spec.content_hash,
        dataset.spec.shape,
        dataset.spec.scaling,
        part,
    )

    def build(entry: Items) -> Arrays:
        for row in extract(extractor, items, dataset.spec, progress).numpy():
            entry.append(row)
        return Arrays(np.zeros(0), None, ())

    saved = cached(default_folder() if cache is None else cache, about, build)
    return torch.from_numpy(np.array(saved.items))

"""Numbers of an item as condition, which the network sees besides x_t: any part of an item given any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ornstein.conditions.condition import Condition, require
from ornstein.data.layout import to_model_order
from ornstein.errors import UsageError
from ornstein.masking import LAWS, AnyColumns, Every, Gaps, MaskLaw, Past

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.spec import DataSpec


@dataclass(frozen=True)
class Known(Condition):
    """Numbers that are given: (B, 2C, ...) or, of vectors, (B, 2, D): first the numbers, 0 where unknown, then their marks.

    A mark is 1 where a number is known, 0 where it is to be estimated, and −1 where the data lack it (NaN with `missing`), so
    that it is neither: the model is then that of the others alone. In training the `law` draws what is known; the error counts
    where it is to be estimated (Tashiro et al. 2021, "CSDI", section 4). The null condition is 0 everywhere: nothing is known.
    Outside of training nothing is drawn: only what a user gives is known.
    """

    law: MaskLaw
    shape: tuple[int, ...]

    names = ("known",)
    place = 95
    drawn_in_training = True

    def __post_init__(self) -> None:
        sides = len(self.shape) > 0 and all(type(n) is int and n > 0 for n in self.shape)
        require(sides, f"the shape of known numbers is {self.shape}")
        self.law.check(self.shape)

    @property
    def numbers(self) -> int:  # type: ignore[override]
        return self.law.count(self.shape)

    @property
    def optional(self) -> bool:  # type: ignore[override]
        """Whether the law gives nothing at times: for the least numbers or the largest."""
        visible = self.law(torch.tensor([[0.0], [1 - 1e-6]]).expand(2, self.law.count(self.shape)), self.shape)
        return not bool(visible.flatten(1).any(1).all())

    @property
    def _cells(self) -> tuple[int, ...]:
        """The shape of an item with an axis of channels."""
        return (1, *self.shape) if len(self.shape) == 1 else self.shape

    @property
    def arguments(self) -> dict[str, int]:
        return {"image": 2 * self._cells[0]}

    @property
    def description(self) -> str:
        return f"known numbers, {self.law}"

    def null(self, count: int) -> Tensor:
        channels, *rest = self._cells
        return torch.zeros(count, 2 * channels, *rest)

    def missing(self, dataset: Dataset) -> str:
        return "" if dataset.spec.shape == self.shape else f"lacks items of shape {self.shape}"

    def of(self, dataset: Dataset, indices: NDArray[np.int64], x: Tensor, numbers: Tensor) -> Tensor:
        """What the law gives of items x, in which NaN is missing: never known, and never to be estimated."""
        visible = self.law(numbers, self.shape).to(x.device).expand(x.shape)
        return self.rows(x, torch.where(x.isnan(), -1.0, visible.to(x.dtype)))

    def scored(self, rows: Tensor) -> Tensor:
        marks = rows.chunk(2, 1)[1]
        return (marks == 0).to(rows.dtype).reshape(len(rows), *self.shape)

    def dropped(self, rows: Tensor, where: Tensor) -> Tensor:
        """The rows with nothing known where `where` (B,) is true; what the data lack remains marked."""
        values, marks = rows.chunk(2, 1)
        nothing = torch.cat([torch.zeros_like(values), marks.clamp(max=0.0)], 1)
        return torch.where(where.reshape(-1, *[1] * (rows.ndim - 1)).to(rows.device), nothing, rows)

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        """`values["known"]`: an item, or one for each sample, in the units and axes of the data, with NaN where it is unknown.

        Raises UsageError that says what is wrong.
        """
        array = self.read(values["known"], count, spec)
        visible = ~self._spread(np.isnan(array), spec)
        if refusal := self.law.refusal(visible, self.shape):
            raise UsageError(f"known: {refusal}")
        x = spec.to_model(spec.within(array))
        return self.rows(x.nan_to_num(0.0), visible.to(x.dtype)).expand(count, *self.null(1).shape[1:])

    def read(self, known: Any, count: int, spec: DataSpec) -> NDArray[np.float64]:
        """Known numbers of one item or of `count`, (1 or count, *item_shape), checked. Raises UsageError."""
        shape = spec.item_shape
        try:
            array = np.array(known.detach().cpu().double().numpy() if isinstance(known, Tensor) else known, np.float64)
        except (TypeError, ValueError):
            raise UsageError("known: give numbers, with NaN where they are unknown") from None
        array = array[None] if array.shape == shape else array
        if array.shape[1:] != shape or len(array) not in (1, count):
            raise UsageError(
                f"known: it has shape {array.shape}, and must have shape {shape}, or {(count, *shape)} with one item for each "
                "sample; NaN stands for what is unknown"
            )
        if np.isinf(array).any():
            raise UsageError("known: it holds infinite numbers; give NaN where a number is unknown")
        spec.must_be_levels(np.nan_to_num(array), "known")
        return array

    def _spread(self, marked: NDArray[np.bool_], spec: DataSpec) -> Tensor:
        """The marks of items in the axes of the data, (N, *shape) of the model: a column in all its dimensions."""
        if len(self.shape) > 1:
            return torch.from_numpy(np.array(to_model_order(marked, spec.layout)))
        spread = torch.zeros(len(marked), *self.shape, dtype=torch.bool)
        for place, column in zip(marked.T, spec.dimensions, strict=True):
            spread[:, list(column.all)] = torch.from_numpy(place)[:, None]
        return spread

    def rows(self, x: Tensor, marks: Tensor) -> Tensor:
        """The condition of items x (B, *shape) in model units of which `marks`, like x, say what is known."""
        values = torch.where(marks > 0, x, 0.0)
        cells = (len(x), *self._cells)
        return torch.cat([values.reshape(cells), marks.reshape(cells)], 1)

    def to_json(self) -> dict[str, Any]:
        law = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self.law).items()}
        return {"type": "Known", "law": {"type": type(self.law).__name__, **law}, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Known:
        fields = {key: tuple(value) if isinstance(value, list) else value for key, value in values["law"].items()}
        law: MaskLaw = LAWS[str(fields.pop("type"))](**fields)
        return cls(law, tuple(values["shape"]))


ALL = (
    Known(AnyColumns((1, 2)), (3,)),
    Known(Past(2), (1, 4, 6)),
    Known(Gaps(), (3, 4, 6)),
    Known(Every(2, 2), (1, 4, 6)),
)

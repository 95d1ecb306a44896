"""A user's arrays as items of a run: from the data's own units and axes to the model's."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ornstein.errors import OrnsteinError, UsageError

if TYPE_CHECKING:
    from ornstein.runs.run import Run


def model_units(run: "Run", items: Any, name: str = "items") -> Tensor:
    """Items in the data's own units, one or a batch of them, as (N, *model shape) in model units on the run's device.

    Raises UsageError for another shape, for what is not finite, and for images between 0 and 1 of a run of whole numbers,
    which are in other units.
    """
    spec = run.spec
    array = np.asarray(items.detach().cpu() if isinstance(items, Tensor) else items)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{name}: an array of {array.dtype} holds no numbers; give items in the units of the data")
    if not array.size:
        raise UsageError(f"{name}: there are none; give one item, or (N, ...) of them")
    check_units(run, array, name)
    try:
        adopted, notes = spec.adopt(array, name)
    except OrnsteinError as error:
        raise UsageError(str(error)) from None
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return spec.to_model(adopted).to(run.model.device, run.model.dtype)


def check_units(run: "Run", array: Any, name: str) -> None:
    """Raises UsageError for fractions of black to white where a run has whole numbers."""
    spec, floating = run.spec, array.dtype.kind == "f"
    whole = np.dtype(spec.dtype).kind != "f"
    if floating and whole and spec.high - spec.low > 1 and array.min() >= 0 and array.max() <= 1 and (array % 1).any():
        raise UsageError(
            f"{name}: these are fractions between 0 and 1, and the data of {run.folder} are {spec.dtype} from {spec.low:g} to "
            f"{spec.high:g}; give them in those units"
        )

"""A run's network as one function of tensors, network(x, c_noise, *conditions, aim) -> prediction, for any batch."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.errors import UsageError
from ornstein.export.loop import Loop


class Graph(nn.Module):
    """x (B, *shape) is c_in·x_t; c_noise (B,); a row of each condition for each of the batch; aim (B,) of a flow map.

    The prediction is that of the target, (B, *shape): learned variances behind it are cut off.
    """

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        model = loop.run.model
        self.network, self._conditions, self._channels = model.network, model.conditions, model.spec.shape[0]
        self._aimed = model.takes_aim

    @property
    def names(self) -> list[str]:
        """Of the inputs, in order."""
        conditions = [part.names[0] for part in self._conditions.parts]
        return ["x", "c_noise", *conditions, *(["aim"] if self._aimed else [])]

    def forward(self, x: Tensor, c_noise: Tensor, *others: Tensor) -> Tensor:
        rows = others[: len(self._conditions.parts)]
        bound: tuple[Any, ...] = (self._conditions.network_input(rows),) if rows else ()
        if self._aimed:
            bound = (*(bound or (None,)), others[-1])
        prediction: Tensor = self.network(x, c_noise, *bound)
        return prediction[:, : self._channels]

    def shapes(self) -> tuple[Any, ...]:
        """Which axes of the inputs may have any length: the first, the same of all."""
        batch = torch.export.Dim("batch", min=1)
        axes = {0: batch}
        others = tuple(axes for _ in self.names[2:])
        return (axes, axes, others) if others else (axes, axes)


def traced(graph: Graph, inputs: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """The graph as a program for any batch, from one batch of inputs.

    Raises UsageError for a network that torch cannot trace so, such as one whose own code asks for `len(x)`.
    """
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(graph, inputs, dynamic_shapes=graph.shapes())
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{type(graph.network).__name__} cannot be exported for batches of any size (where its code says len(x), write "
            f"x.shape[0]; no branch on values): {reason}"
        ) from error

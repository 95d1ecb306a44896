"""The loss on items that are held out of the training."""

import math
from dataclasses import replace

import torch
from torch import nn

from ornstein.processes import ALONE
from ornstein.training.batch import Batches
from ornstein.training.recipe import Recipe

ITEMS = 1024  # held-out items that the loss is a mean over, at most


class HeldOutLoss:
    """loss(network) -> the training's loss on the first held-out items in the order of the seed.

    Always on the same items, times and noise, each with its condition: numbers of two steps differ by the network alone.
    """

    def __init__(self, recipe: Recipe) -> None:
        assert recipe.held_out is not None
        size = min(recipe.batch_size, len(recipe.held_out))
        plain = replace(recipe.settings, label_dropout=0.0, augment=0.0, flips=False, accumulate=1)
        self._recipe = replace(recipe, settings=plain, dataset=recipe.held_out, batch_size=size, processes=ALONE)
        self._steps = math.ceil(min(ITEMS, len(recipe.held_out)) / size)

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> float:
        recipe = self._recipe
        loss, batches = recipe.loss_module(network, recipe.model, recipe.bf16, None), Batches(recipe)
        errors = [loss(part)[1] for step in range(self._steps) for part in batches.parts(step)]
        return sum(torch.stack(errors).tolist()) / len(errors)  # read at the end: a GPU is not waited for in between

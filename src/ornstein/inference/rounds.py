"""Truncated rounds: simulations are spent where the posterior of one observation is (Miller et al. 2021, "Truncated marginal
neural ratio estimation", section 3; Sharrock et al. 2024, "Sequential neural score estimation", section 4.2).

After each round the prior is cut to the box that holds all but a small part of the posterior's draws. Within it simulations of
all rounds come from the same prior, so the posterior needs no correction: it is that of the cut prior, and 0 outside of the box.
"""

from typing import Any

import numpy as np

from ornstein.arguments import as_whole
from ornstein.errors import UsageError
from ornstein.inference.learned import AmortisedPosterior, Array, Simulator, _matrix, posterior
from ornstein.inference.prior import Box, as_prior, draw

LEFT_OUT = 1e-3  # of the draws, on each side of each parameter
MARGIN = 0.1  # of the box's width that is added on each side
DRAWS = 2000


def truncated_rounds(
    simulate: Simulator,
    prior: Any,
    x: Any,
    *,
    rounds: int = 3,
    simulations: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> AmortisedPosterior:
    """The posterior given one observation x by `rounds` of so many simulations each, from a prior that is cut after each.

    simulate: from parameters (N, D) to observations (N, C). prior: a `Box`, or (low, high). settings: those of `posterior`; `out`
    is left to the last round. The result is for x, and for observations like it alone.
    Raises UsageError for a prior that is no box.
    """
    box = as_prior(prior)
    if not isinstance(box, Box):
        raise UsageError("truncated_rounds: a prior that can be cut is a box; give (low, high) or inference.Box")
    out = settings.pop("out", None)
    theta, seen = np.zeros((0, box.size)), None
    for number in range(as_whole("rounds", rounds, 1)):
        fresh = draw(box, as_whole("simulations", simulations, 1), seed + number)
        made = _matrix("simulate", simulate(fresh))
        inside = np.isfinite(box.log_prob(theta)) if len(theta) else np.zeros(0, bool)
        theta = np.concatenate([theta[inside], fresh])
        seen = made if seen is None else np.concatenate([seen[inside], made])
        last = number == rounds - 1
        post = posterior(theta, seen, box, seed=seed, **({"out": out} if last else {}), **settings)
        if not last:
            box = _cut(box, post.given(x).sample(DRAWS, seed=seed))
    return post


def _cut(box: Box, draws: Array) -> Box:
    low, high = np.quantile(draws, [LEFT_OUT, 1 - LEFT_OUT], axis=0)
    margin = MARGIN * (high - low)
    return box.truncated(low - margin, high + margin)

"""Simulation-based inference: posteriors of the parameters of a simulator, learned from its simulations.

post = ornstein.posterior(theta, x, prior=(low, high))
post.given(x_o).sample(1000)
ornstein.calibrate(post, theta_test, x_test).scores
"""

from ornstein.inference.learned import AmortisedPosterior, LogDensity, ObservedPosterior, calibrate, posterior
from ornstein.inference.prior import Box, IndependentNormal, JoinedPriors, Prior
from ornstein.inference.rounds import truncated_rounds

__all__ = [
    "AmortisedPosterior",
    "Box",
    "IndependentNormal",
    "JoinedPriors",
    "LogDensity",
    "ObservedPosterior",
    "Prior",
    "calibrate",
    "posterior",
    "truncated_rounds",
]

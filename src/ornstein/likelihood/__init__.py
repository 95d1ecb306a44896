"""Likelihoods of denoisers in nats: exactly along the probability-flow ODE, and by variational bounds.

log_prob, estimate      the density of p_t along the ODE; the same with the errors that its probes and its steps leave
elbo, bound             the continuous and the discrete variational bound, term by term
Uniform, Truncated      noise that makes a density of whole-number data (dequantisation)
Variational, fit_dequantisation   the same, with a q(y | x) that is fitted to the model (variational dequantisation)
CentredPrior, NormalPrior   the density at t = 1 whose divergence is the prior term of a bound
summarise               the mean over data, its standard error split into data, probe and solver parts
"""

from ornstein.likelihood.adaptive import Adaptive
from ornstein.likelihood.continuous import Bound, elbo
from ornstein.likelihood.decoder import Discretised, GaussianDecoder
from ornstein.likelihood.dequantise import Dequantisation, Truncated, Uniform
from ornstein.likelihood.discrete import bound
from ornstein.likelihood.fixed import FixedSteps
from ornstein.likelihood.hutchinson import Hutchinson
from ornstein.likelihood.hutchpp import HutchPP
from ornstein.likelihood.methods import ELBO, ODE, DiscreteBound, Measured, Method, Units
from ornstein.likelihood.ode import Estimated, estimate, log_prob
from ornstein.likelihood.prior import CentredPrior, NormalPrior, PriorTerm, known, matched, standard
from ornstein.likelihood.summary import Summary, summarise
from ornstein.likelihood.trace import ExactTrace, Trace
from ornstein.likelihood.variational import Variational, fit_dequantisation

TRACES: tuple[Trace, ...] = (ExactTrace(), Hutchinson(), Hutchinson(gaussian=True), HutchPP())

__all__ = [
    "ELBO",
    "ODE",
    "TRACES",
    "Adaptive",
    "Bound",
    "CentredPrior",
    "Dequantisation",
    "DiscreteBound",
    "Discretised",
    "Estimated",
    "ExactTrace",
    "FixedSteps",
    "GaussianDecoder",
    "HutchPP",
    "Hutchinson",
    "Measured",
    "Method",
    "NormalPrior",
    "PriorTerm",
    "Summary",
    "Trace",
    "Truncated",
    "Uniform",
    "Units",
    "Variational",
    "bound",
    "elbo",
    "estimate",
    "fit_dequantisation",
    "known",
    "log_prob",
    "matched",
    "standard",
    "summarise",
]

"""Guidance: denoisers around denoisers. One published method, one small file; they compose.

A guided field is not the field of a tilted distribution p(x)·p(y | x)^w: for that there is `ornstein.tilting`.
"""

from ornstein.guidance.apg import APG
from ornstein.guidance.autoguidance import Autoguidance
from ornstein.guidance.cfg_zero import CFGZeroStar
from ornstein.guidance.classifier import Classifier
from ornstein.guidance.classifier_free import ClassifierFree
from ornstein.guidance.clip import Clip, DynamicThreshold
from ornstein.guidance.config import (
    PLAIN,
    Conditional,
    Guidance,
    GuidanceConfig,
    NegativeLabel,
    WeakModel,
    unconditional,
)
from ornstein.guidance.contrast import Contrast
from ornstein.guidance.energy import Energy
from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale
from ornstein.guidance.interval import Interval
from ornstein.guidance.rescaled import Rescaled

CONTRASTS: tuple[type[Contrast], ...] = (ClassifierFree, Autoguidance, CFGZeroStar, APG)

__all__ = [
    "APG",
    "CONTRASTS",
    "PLAIN",
    "Autoguidance",
    "CFGZeroStar",
    "Classifier",
    "ClassifierFree",
    "Clip",
    "Conditional",
    "Contrast",
    "DynamicThreshold",
    "Energy",
    "Guidance",
    "GuidanceConfig",
    "GuidedDenoiser",
    "Interval",
    "NegativeLabel",
    "Rescaled",
    "Scale",
    "WeakModel",
    "unconditional",
]

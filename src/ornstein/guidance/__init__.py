"""Guidance: denoisers around denoisers. One published method, one small file; they compose.

Arguments: x_t (B, ...); t a number, 0-dim or (B,); a scale, a number or (B, 1, ...). Estimates are shaped as x_t.

A guided field is not the field of a tilted distribution p(x)·p(y | x)^w: for that there is `ornstein.tilting`.
"""

from typing import TYPE_CHECKING

from ornstein._lazy import attach

if TYPE_CHECKING:
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
    from ornstein.guidance.contrasts import CONTRASTS
    from ornstein.guidance.energy import Energy
    from ornstein.guidance.guided_denoiser import GuidedDenoiser, Scale
    from ornstein.guidance.interval import Interval
    from ornstein.guidance.rescaled import Rescaled
else:
    HOMES = {
        "APG": "apg",
        "CONTRASTS": "contrasts",
        "Autoguidance": "autoguidance",
        "CFGZeroStar": "cfg_zero",
        "Classifier": "classifier",
        "ClassifierFree": "classifier_free",
        "Clip": "clip",
        "Conditional": "config",
        "Contrast": "contrast",
        "DynamicThreshold": "clip",
        "Energy": "energy",
        "Guidance": "config",
        "GuidanceConfig": "config",
        "GuidedDenoiser": "guided_denoiser",
        "Interval": "interval",
        "NegativeLabel": "config",
        "PLAIN": "config",
        "Rescaled": "rescaled",
        "Scale": "guided_denoiser",
        "WeakModel": "config",
        "unconditional": "config",
    }
    __getattr__, __dir__ = attach(__name__, HOMES)

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

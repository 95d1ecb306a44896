"""The methods that guide by the contrast of two models, for the tests of all of them and `verify.guidance`."""

from ornstein.guidance.apg import APG
from ornstein.guidance.autoguidance import Autoguidance
from ornstein.guidance.cfg_zero import CFGZeroStar
from ornstein.guidance.classifier_free import ClassifierFree
from ornstein.guidance.contrast import Contrast

CONTRASTS: tuple[type[Contrast], ...] = (ClassifierFree, Autoguidance, CFGZeroStar, APG)

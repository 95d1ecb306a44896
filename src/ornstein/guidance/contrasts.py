"""The methods that guide by the contrast of two models, for the tests of all of them and `verify.guidance`.

A new one is a file of this package which ends with `CONTRASTS = (Method,)`.
"""

from ornstein._declared import declared
from ornstein.guidance.contrast import Contrast

CONTRASTS: tuple[type[Contrast], ...] = declared("ornstein.guidance", "CONTRASTS")
"""Guidance from the difference of two denoisers at the same (x_t, t); both passes are one call where one network makes them."""

"""Editing data with a trained denoiser, and restoring data from a measurement; one published method, one small file."""

from ornstein.editing import operators
from ornstein.editing.diffpir import DiffPIR, Renoise
from ornstein.editing.dps import DPS
from ornstein.editing.inpaint import Replacement, inpaint
from ornstein.editing.interpolate import interpolate, slerp
from ornstein.editing.measurement import Measurement
from ornstein.editing.mmps import MMPS
from ornstein.editing.pigdm import PiGDM
from ornstein.editing.reconstruct import reconstruct
from ornstein.editing.repaint import RePaint
from ornstein.editing.sdedit import sdedit

__all__ = [
    "DPS",
    "MMPS",
    "DiffPIR",
    "Measurement",
    "PiGDM",
    "RePaint",
    "Renoise",
    "Replacement",
    "inpaint",
    "interpolate",
    "operators",
    "reconstruct",
    "sdedit",
    "slerp",
]

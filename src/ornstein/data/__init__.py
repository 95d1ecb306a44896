"""Data: from a source's name to batches, and from samples back to files. Torch is imported when tensors are made."""

from typing import TYPE_CHECKING

from ornstein._lazy import attach

if TYPE_CHECKING:
    from ornstein.data.dataset import Dataset
    from ornstein.data.images import grid_image, save_images
    from ornstein.data.objects import dataset_of
    from ornstein.data.shuffle import order
    from ornstein.data.sources import find, names, open
    from ornstein.data.spec import DataSpec
else:
    HOMES = {
        "DataSpec": "spec",
        "Dataset": "dataset",
        "dataset_of": "objects",
        "find": "sources",
        "grid_image": "images",
        "names": "sources",
        "open": "sources",
        "order": "shuffle",
        "save_images": "images",
    }
    __getattr__, __dir__ = attach(__name__, HOMES)

__all__ = [
    "DataSpec",
    "Dataset",
    "dataset_of",
    "find",
    "grid_image",
    "names",
    "open",
    "order",
    "save_images",
]

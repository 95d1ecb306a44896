"""Data: from a source's name to batches, and from samples back to files. Torch is imported when tensors are made."""

from ornstein.data.dataset import Dataset
from ornstein.data.images import grid_image, save_images
from ornstein.data.objects import dataset_of
from ornstein.data.shuffle import order
from ornstein.data.sources import find, names, open
from ornstein.data.spec import DataSpec

__all__ = ["DataSpec", "Dataset", "dataset_of", "find", "grid_image", "names", "open", "order", "save_images"]

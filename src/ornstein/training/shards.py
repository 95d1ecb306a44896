"""Tensors that are spread over processes, written and read by each for itself: torch's distributed checkpoint, in safetensors.

A folder holds one file for each process that wrote it; where in the whole tensors its shards lie stands in the file's header, and
nothing is pickled. Any number of processes, or one, reads from it what it needs.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ornstein.errors import UsageError


def check() -> None:
    """Raises UsageError where torch is too old."""
    try:
        from torch.distributed.checkpoint import HuggingFaceStorageWriter  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"shard: torch {torch.__version__} cannot write sharded checkpoints as safetensors; install torch 2.8 or newer"
        ) from error


def save(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write this process's shards, and its part of what all hold whole. All processes must ask.

    Raises OSError when the disk refused any of them.
    """
    from torch.distributed import checkpoint

    with _plainly():
        writer = checkpoint.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        checkpoint.save(dict(tensors), storage_writer=writer)


def shapes(folder: Path) -> dict[str, torch.Size]:
    """The shapes of the whole tensors in a folder, by name."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader, TensorStorageMetadata

    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: entry.size for name, entry in stored.items() if isinstance(entry, TensorStorageMetadata)}


def load(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read what these tensors, sharded or whole, hold of the folder's into them, without communication.

    Raises RuntimeError for a name that the folder does not have, ValueError for another shape.
    """
    from torch.distributed import checkpoint

    with _plainly(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        reader = checkpoint.HuggingFaceStorageReader(str(folder))
        checkpoint.load(dict(tensors), storage_reader=reader, no_dist=True)


@contextmanager
def _plainly() -> Iterator[None]:
    """Has what failed, in whichever process, raised as it is: wrapped, it is no Exception."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as failed:
        error, _ = next(iter(failed.failures.values()))
        raise error from None

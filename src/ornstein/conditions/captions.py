"""Captions of data as vectors, encoded once and stored with decoded data."""

import os
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ornstein.conditions.text import ENCODERS, Encoder, encode
from ornstein.data.cache import default_folder
from ornstein.data.content import derived
from ornstein.data.dataset import Dataset
from ornstein.errors import UsageError
from ornstein.files.atomic import new_file
from ornstein.spelling import near


def encoded(dataset: Dataset, encoder: str | Encoder, name: str | None = None, cache: Path | None = None) -> Dataset:
    """The data with each caption as a vector, as a condition for training; an empty caption is a missing one.

    `encoder` is one of `ENCODERS` by name, or any function from a list of texts to an array (N, C), to be remembered by `name`.
    Vectors are stored in `cache` (by default with decoded data) by encoder and captions: a function of another content is
    noticed by what it makes of the first caption.
    Raises UsageError for data without captions, or that hold vectors of their own.
    """
    captions, where = dataset.annotations.captions, dataset.spec.source
    if captions is None:
        raise UsageError(
            f"text: {where} has no captions; write a .txt next to each image, a metadata.csv with the columns file_name and "
            "text, or an array `captions` in the .npz"
        )
    if dataset.annotations.vectors is not None:
        raise UsageError(f"text: {where} holds conditions already; leave these or --text out")
    if isinstance(encoder, str):
        if encoder not in ENCODERS:
            nearest = near(encoder, ENCODERS)
            hint = f"; did you mean {nearest!r}?" if nearest else ""
            raise UsageError(f"text: {encoder!r} is not one of {', '.join(ENCODERS)}{hint}")
        name, encoder = encoder, ENCODERS[encoder]()
    name = str(name or getattr(encoder, "__name__", type(encoder).__name__))
    there = np.array([bool(text.strip()) for text in captions])
    if not there.any():
        raise UsageError(f"text: all captions of {where} are empty; write some, or leave --text out")
    texts, places = np.unique(np.array(captions)[there], return_inverse=True)
    encodings = _cached(texts.tolist(), encoder, name, cache or default_folder())
    vectors = np.full((len(captions), encodings.shape[1]), np.nan, np.float32)
    vectors[there] = encodings[places.reshape(-1)]
    content = derived(dataset.spec.content_hash, name, captions)
    return replace(
        dataset,
        spec=replace(dataset.spec, content_hash=content),
        annotations=replace(dataset.annotations, vectors=vectors, encoder=name),
    )


def _cached(texts: list[str], encoder: Encoder, name: str, folder: Path) -> NDArray[np.float32]:
    first = encode(texts[:1], encoder, name)
    digest = sha256("\0".join([name, *texts]).encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = folder / f"text-{digest}.npy"
    try:
        vectors = np.load(file, allow_pickle=False)
        if vectors.shape == (len(texts), first.shape[1]) and np.allclose(vectors[:1], first, rtol=1e-3, atol=1e-4):
            with suppress(OSError):
                os.utime(file)  # what was used longest ago goes first, when the cache is full
            return np.asarray(vectors, np.float32)
    except (OSError, ValueError, EOFError):
        pass
    vectors = encode(texts, encoder, name)
    with new_file(file) as fresh, fresh.open("wb") as stream:
        np.save(stream, vectors)
    return vectors

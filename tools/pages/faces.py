"""Emoji of faces with their names as captions, for a picture of the gallery: `python -m tools.pages.faces FILE.npz`."""

import sys

import numpy as np

from ornstein import data


def faces(size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) of smileys and hearts, and their captions (N,)."""
    emoji = data.open("emoji", size=size)
    assert emoji.labels is not None
    places = np.flatnonzero(emoji.labels == emoji.classes.index("Smileys & Emotion"))
    captions = [emoji.annotations.captions[i] for i in places]
    return np.asarray(emoji.items[places]), np.array(captions)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Give a file: `python -m tools.pages.faces faces.npz`.")
    images, captions = faces()
    np.savez(sys.argv[1], x=images, captions=captions)

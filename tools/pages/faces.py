"""Emoji of faces by caption, for the gallery: `python -m tools.pages.faces faces.npz`, and `python -m tools.pages.faces RUN
faces.png` for the picture."""

import sys

import numpy as np

import ornstein
from ornstein import data

CAPTIONS = ("grinning face", "angry face", "smiling cat face with open mouth", "ghost", "skull", "blue heart")
EACH = 8


def faces(size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, size, size, 3) of smileys and hearts, and their captions (N,)."""
    emoji = data.open("emoji", size=size)
    assert emoji.labels is not None
    places = np.flatnonzero(emoji.labels == emoji.classes.index("Smileys & Emotion"))
    captions = [emoji.annotations.captions[i] for i in places]
    return np.asarray(emoji.items[places]), np.array(captions)


def picture(folder: str, file: str) -> None:
    """A row of samples for each caption, guided by 2."""
    run = ornstein.load(folder)
    guide = ornstein.guidance.GuidanceConfig(2.0)
    rows = [run.sample(EACH, condition={"text": caption}, guide=guide) for caption in CAPTIONS]
    data.grid_image(np.concatenate(rows), 2 * EACH, spec=run.spec, zoom=1).save(file)


if __name__ == "__main__":
    words = sys.argv[1:]
    if len(words) == 1:
        images, texts = faces()
        np.savez(words[0], x=images, captions=texts)
    elif len(words) == 2:
        picture(*words)
    else:
        sys.exit("Give a file, `python -m tools.pages.faces faces.npz`, or a run and a picture.")

"""What was watched as an animated GIF or MP4: the pictures of a job's frames next to each other, under their names."""

import io
import json
import math
import shutil
import subprocess
from collections.abc import Callable, Iterator
from threading import BoundedSemaphore
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ornstein.data.images import grid_image
from ornstein.data.scatter import scatter_image
from ornstein.errors import OrnsteinError, UsageError
from ornstein.studio import frames
from ornstein.studio.jobs import Job

MOST = 60  # frames
MOST_PIXELS = 1 << 26  # of all frames
SIDE = 960  # pixels that all pictures of a frame may be wide, above which they are made smaller
GAP, NAME = 16, 18  # pixels between pictures, and above each for its name
RATE = 10  # frames a second
REST = 11  # times that the last frame is shown
PATIENCE = 60  # seconds for ffmpeg
_working = BoundedSemaphore(2)  # animations made at once

Event = dict[str, Any]
Panel = tuple[str, Image.Image]


class Film(NamedTuple):
    """Frames that are drawn when they are wanted: each is pictures with their names."""

    length: int
    frame: Callable[[int], list[Panel]]


def gif(job: Job, other: Job | None = None) -> bytes:
    """The frames of a job as a GIF. Raises UsageError where there are none, or they are too many pixels."""
    with _working:
        images = list(_images(job, other))
        stream = io.BytesIO()
        durations = [*[1000 // RATE] * (len(images) - 1), REST * 1000 // RATE]
        images[0].save(
            stream, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False
        )
    return stream.getvalue()


def mp4(job: Job, other: Job | None = None) -> bytes:
    """The same as an MP4 by ffmpeg. Raises UsageError without it, OrnsteinError where it fails."""
    program = encoder()
    if program is None:
        raise UsageError("as: an mp4 is made by ffmpeg, which is not installed here; ask for a gif")
    with _working:
        images = list(_images(job, other))
        width, height = (side + side % 2 for side in images[0].size)
        words = [program, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        words += ["-r", str(RATE), "-i", "-", "-pix_fmt", "yuv420p", "-threads", "1"]
        words += ["-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-"]  # for a pipe, which cannot be gone back in
        raw = b"".join(_padded(image, width, height) for image in [*images, *[images[-1]] * (REST - 1)])
        try:
            done = subprocess.run(words, input=raw, capture_output=True, timeout=PATIENCE, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OrnsteinError(f"ffmpeg made no mp4 ({type(error).__name__}); ask for a gif") from error
    if done.returncode or not done.stdout:
        raise OrnsteinError("ffmpeg made no mp4; ask for a gif")
    return done.stdout


KINDS: dict[str, tuple[str, Callable[..., bytes]]] = {"gif": ("image/gif", gif), "mp4": ("video/mp4", mp4)}


def encoder() -> str | None:
    """Where ffmpeg is."""
    return shutil.which("ffmpeg")


def _padded(image: Image.Image, width: int, height: int) -> bytes:
    whole = Image.new("RGB", (width, height), "white")
    whole.paste(image, (0, 0))
    return whole.tobytes()


def _images(job: Job, other: Job | None) -> Iterator[Image.Image]:
    film = _film(job)
    if other is not None:
        film = _together(film, _film(other))
    if not film.length:
        raise UsageError("there is nothing to save yet")
    chosen = np.unique(np.linspace(0, film.length - 1, min(film.length, MOST)).round().astype(int)).tolist()
    for number in chosen:
        image = _joined(film.frame(number))
        if len(chosen) * image.width * image.height > MOST_PIXELS:
            raise UsageError("these are too many pixels for an animation; ask for fewer samples")
        yield image


def _film(job: Job) -> Film:
    events = [json.loads(content) for content in job.events]
    begin = next((event for event in events if event["type"] == "begin"), None)
    if job.title not in FILMS or begin is None:
        raise UsageError("there is nothing to save yet")
    return FILMS[job.title](begin, events)


def _together(left: Film, right: Film) -> Film:
    """The clean estimates of two that were watched."""
    length = min(left.length, right.length) and max(left.length, right.length)

    def frame(number: int) -> list[Panel]:
        part = number / max(1, length - 1)
        return [film.frame(round(part * (film.length - 1)))[-1] for film in (left, right)]

    return Film(length, frame)


def _watched(begin: Event, events: list[Event]) -> Film:
    made = [event for event in events if event["type"] == "frame"]
    scale = f"scale {begin['scale']:g}" if begin.get("scale", 1) != 1 else "clean estimate"

    def frame(number: int) -> list[Panel]:
        event = made[number]
        names = (("x", f"t = {event['t']:.3f}"), ("clean", scale))
        return [(name, _items(event[side], begin["layout"], begin["count"])) for side, name in names]

    return Film(len(made), frame)


def _raced(begin: Event, events: list[Event]) -> Film:
    made = [event["lanes"] for event in events if event["type"] == "frame"]
    fine: Event = next((event["clean"] for event in events if event["type"] == "fine"), {})
    layout, count = begin["layout"], begin["count"]

    def frame(number: int) -> list[Panel]:
        panels = []
        for place, one in enumerate(begin["lanes"]):
            state = next(lanes[place] for lanes in reversed(made[: number + 1]) if lanes[place] is not None)
            panels.append((f"{one['name']}, call {state['calls']}", _items(state["clean"], layout, count)))
        return [*panels, ("fine solve", _items(fine, layout, count))]

    return Film(len(made) if fine else 0, frame)


def _moved(begin: Event, events: list[Event]) -> Film:
    made = [event for event in events if event["type"] == "frame"]
    still = begin["dynamics"] == "langevin"

    def frame(number: int) -> list[Panel]:
        event = made[number]
        points = frames.array(event["points"], "<f4", (begin["count"], 2)).astype(np.float64)
        half = np.full(2, event["width"])
        name = f"step {event['number']}" if still else f"t = {event['t']:.3f}"
        return [(name, scatter_image(points, limits=(-half, half)).convert("RGB"))]

    return Film(len(made), frame)


def _edited(begin: Event, events: list[Event]) -> Film:
    """The frames of an interpolation; else what it began with, then each version beside it."""
    result = next((event for event in events if event["type"] == "result"), None)
    if result is None:
        return Film(0, lambda number: [])
    layout, inputs = begin["layout"], begin["inputs"]
    size = layout["height"] * layout["width"] * result["items"]["channels"]
    values = frames.array(result["items"]["data"], "uint8", (result["count"], size))
    versions = [{"data": frames.text(row), "channels": result["items"]["channels"]} for row in values]
    way = [*versions, *versions[-2:0:-1]] if begin["task"] == "interpolate" else [inputs[-1]["item"], *versions]

    def frame(number: int) -> list[Panel]:
        names = [inputs[0]["name"], "result"] if begin["task"] != "interpolate" else ["on the way"]
        drawn = [inputs[0]["item"], way[number]][-len(names) :]
        return [(name, _items(item, layout, 1, 240)) for name, item in zip(names, drawn, strict=True)]

    return Film(len(way), frame)


FILMS: dict[str, Callable[[Event, list[Event]], Film]] = {
    "watch": _watched,
    "race": _raced,
    "particles": _moved,
    "edit": _edited,
}


def _items(item: Event, layout: Event, count: int, side: int = 0) -> Image.Image:
    """Items as the page gets them, as one image; `side`: at least so many pixels for each, enlarged by a whole number."""
    if layout["as"] == "images":
        shape = (count, layout["height"], layout["width"], item["channels"])
        zoom = max(1, side // max(shape[1:3])) if side else None
        return grid_image(frames.array(item["data"], "uint8", shape), zoom=zoom).convert("RGB")
    points = frames.array(item["data"], "<f4", (count, layout["dims"])).astype(np.float64)
    low, high = np.array(layout["low"]), np.array(layout["high"])
    return scatter_image(points[:, :4], limits=(low[:4], high[:4])).convert("RGB")


def _joined(panels: list[Panel]) -> Image.Image:
    """Side by side, with their names."""
    whole = sum(image.width for _, image in panels) + GAP * (len(panels) - 1)
    shrunk = math.ceil(max(1.0, whole / SIDE))
    images = [(name, image.reduce(shrunk) if shrunk > 1 else image) for name, image in panels]
    width = sum(image.width for _, image in images) + GAP * (len(images) - 1)
    both = Image.new("RGB", (width, NAME + max(image.height for _, image in images)), "white")
    pen, left = ImageDraw.Draw(both), 0
    for name, image in images:
        pen.text((left, 2), name.encode("ascii", "replace").decode(), fill="dimgrey")
        both.paste(image, (left, NAME))
        left += image.width + GAP
    return both

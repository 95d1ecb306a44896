"""A trajectory that was watched as an animated GIF: x_t and the clean estimate next to each other."""

import io
import json
from typing import Any

import numpy as np
from PIL import Image

from ornstein.data.images import grid_image
from ornstein.data.scatter import scatter_image
from ornstein.errors import UsageError
from ornstein.studio import frames
from ornstein.studio.jobs import Job

MOST = 60  # frames
MOST_PIXELS = 1 << 26  # of all frames
GAP = 16


def gif(job: Job) -> bytes:
    """The frames of a job of `watch`. Raises UsageError where there are none, or they are too many pixels."""
    events = [json.loads(content) for content in job.events]
    begin = next((event for event in events if event["type"] == "begin" and "layout" in event), None)
    made = [event for event in events if event["type"] == "frame" and "clean" in event]
    if begin is None or not made:
        raise UsageError("there are no samples to save yet")
    chosen = np.unique(np.linspace(0, len(made) - 1, min(len(made), MOST)).round().astype(int))
    images = [_joined(*(_image(made[i][side], begin) for side in ("x", "clean"))) for i in chosen]
    if len(images) * images[0].width * images[0].height > MOST_PIXELS:
        raise UsageError("these are too many pixels for an animation; ask for fewer samples")
    stream = io.BytesIO()
    durations = [*[100] * (len(images) - 1), 1100]
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
    return stream.getvalue()


def _image(item: dict[str, Any], begin: dict[str, Any]) -> Image.Image:
    layout, count = begin["layout"], begin["count"]
    if layout["as"] == "images":
        shape = (count, layout["height"], layout["width"], item["channels"])
        return grid_image(frames.array(item["data"], "uint8", shape)).convert("RGB")
    points = frames.array(item["data"], "<f4", (count, layout["dims"])).astype(np.float64)
    return scatter_image(points, limits=(np.array(layout["low"]), np.array(layout["high"]))).convert("RGB")


def _joined(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + GAP + right.width, max(left.height, right.height)), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + GAP, 0))
    return both

"""What each view computes: `JOBS` give events one after the other, `CALLS` a single answer."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ornstein.studio.fields import Fields
from ornstein.studio.views import edit, forecast, measure, plane, race, rows, watch

if TYPE_CHECKING:
    from ornstein.studio.state import Studio

Prepare = Callable[["Studio", str, Fields], Iterator[dict[str, Any]]]
Call = Callable[["Studio", str, Fields], Callable[[], dict[str, Any]]]

JOBS: dict[str, Prepare] = {
    "watch": watch.prepare,
    "particles": plane.particles,
    "density": plane.density,
    "forecast": forecast.prepare,
    "race": race.prepare,
    "items": edit.items,
    "edit": edit.prepare,
    "levels": measure.levels,
    "nearest": measure.nearest,
    "rows": rows.prepare,
    "likelihood": measure.likelihood,
}
CALLS: dict[str, Call] = {"field": plane.field, "curve": plane.curve, "path": plane.path_curves}

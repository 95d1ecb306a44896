"""What the views of a studio share."""

from dataclasses import dataclass, field

from ornstein.studio.jobs import Jobs
from ornstein.studio.shelf import Shelf
from ornstein.studio.uploads import Uploads


@dataclass(eq=False)
class Studio:
    """The runs, the queue, what was uploaded, and the data that the command line names to measure beside."""

    shelf: Shelf
    data: str | None = None
    jobs: Jobs = field(default_factory=Jobs)
    uploads: Uploads = field(default_factory=Uploads)

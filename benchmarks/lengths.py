"""How long a benchmark trains: in CPU time, so that other work on the machine does not count."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class ThreadMinutes:
    """So many minutes of this process's CPU time since it `began`: a length of a recipe (`ornstein.training.recipe`)."""

    count: float
    began: float

    def done(self, step: int, seconds: float) -> float:
        return (time.process_time() - self.began) / (60 * self.count)

    def whole(self, step: int, seconds: float, pace: float) -> float:
        return 60 * self.count

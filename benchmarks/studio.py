"""What the studio takes on a run: the first frame, frames a second, and samples for programs one at a time and batched.

    python -m benchmarks.studio RUN

A real server on a socket, asked as a page and as programs ask. Frames are of 16 samples with the defaults of the run; programs
ask for one sample each, first one after the other, then 32 at once.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any
from urllib.request import Request, urlopen

ROUNDS, ALONE, TOGETHER, AT_ONCE = 5, 32, 128, 32


def asked(address: str, path: str, ask: dict[str, Any] | None = None) -> Any:
    """An open answer of the server."""
    base, _, token = address.partition("/?token=")
    body = None if ask is None else json.dumps(ask).encode()
    return urlopen(Request(base + path, body, {"Authorization": f"Bearer {token}"}))


def frames(address: str) -> Iterator[float]:
    """The seconds until each frame of a trajectory has come."""
    began = time.perf_counter()
    job = json.load(asked(address, "/jobs/watch", {"count": 16}))["job"]
    with asked(address, f"/jobs/{job}/events") as events:
        for line in events:
            if line.startswith(b"data:") and b'"type":"frame"' in line:
                yield time.perf_counter() - began


def sample(address: str, seed: int) -> None:
    asked(address, "/api/samples", {"seed": seed}).read()


def main(run: str) -> None:
    words = [sys.executable, "-m", "ornstein", "studio", run, "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        try:
            list(frames(address))
            sample(address, 0)
            rounds = [list(frames(address)) for _ in range(ROUNDS)]
            began = time.perf_counter()
            for seed in range(ALONE):
                sample(address, seed)
            alone = ALONE / (time.perf_counter() - began)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                began = time.perf_counter()
                list(pool.map(lambda seed: sample(address, seed), range(TOGETHER)))
                together = TOGETHER / (time.perf_counter() - began)
        finally:
            server.terminate()
    print(f"first frame: {1000 * median(r[0] for r in rounds):.0f} ms (median of {ROUNDS})")
    print(f"frames a second: {median(len(r) / r[-1] for r in rounds):.1f}")
    print(f"samples a second for programs: {alone:.1f} one at a time, {together:.1f} with {AT_ONCE} at once")


if __name__ == "__main__":
    main(sys.argv[1])

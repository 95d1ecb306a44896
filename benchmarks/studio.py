"""What the studio takes on runs: frames, as a program gets them and as Chromium draws them, samples for programs, and a soak.

    python -m benchmarks.studio RUN
    python -m benchmarks.studio page RUN                                     # needs playwright and Chromium
    python -m benchmarks.studio soak RUN [RUN ...] --minutes 30

A real server on a socket, asked as a page and as programs ask. Frames are of 16 samples with the defaults of the run; programs
ask for one sample each, first one after the other, then 32 at once. In Chromium a frame counts when it is on the screen: the
first from the press of Sample on, and each refresh of the screen that shows another x_t. The soak is eight pages that do all that
the views do, at random, each with a cookie of its own; the resident memory of the server is noted every minute.
"""

import argparse
import io
import json
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np

from ornstein.data import names

ROUNDS, ALONE, TOGETHER, AT_ONCE = 7, 32, 128, 32
PATIENCE = 600  # seconds for an answer


@contextmanager
def serving(runs: list[str], *more: str) -> Iterator[tuple[str, int]]:
    """The address of a server of these runs, and its process."""
    words = [sys.executable, "-m", "ornstein", "studio", *runs, "--no-browser", *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
        try:
            yield address, server.pid
        finally:
            server.terminate()


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


def plain(run: str) -> None:
    """Frames and samples, as programs get them."""
    with serving([run]) as (address, _):
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
    _say(rounds)
    print(f"samples a second for programs: {alone:.1f} one at a time, {together:.1f} with {AT_ONCE} at once")


def _say(rounds: list[list[float]]) -> None:
    first, rate = [1000 * r[0] for r in rounds], [(len(r) - 1) / (r[-1] - r[0]) for r in rounds]
    print(f"first frame: {median(first):.0f} ms, the best {min(first):.0f} (median of {len(rounds)} rounds)")
    print(f"frames a second after it: {median(rate):.1f}, the best {max(rate):.1f}")


WATCHED = """() => new Promise((resolve) => {
  const canvas = document.querySelector("canvas[aria-label^='x_t']"), times = [];
  const began = performance.now();
  let due = false;
  const seen = new MutationObserver(() => {
    const last = canvas.getAttribute("aria-label").startsWith("x_t at t = 0:");
    if (last) setTimeout(() => { seen.disconnect(); resolve(times); }, 300);
    if (due) return;
    due = true;
    requestAnimationFrame(() => setTimeout(() => { due = false; times.push((performance.now() - began) / 1000); }));
  });
  seen.observe(canvas, { attributes: true, attributeFilter: ["aria-label"] });
  [...document.querySelectorAll("button")].find((one) => one.textContent === "Sample").click();
})"""


def page(run: str) -> None:
    """Frames as Chromium draws them."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with serving([run]) as (address, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        tab.goto(address)
        tab.locator("canvas[aria-label^='x_t at t = 0:']").wait_for()
        tab.evaluate(WATCHED)
        _say([tab.evaluate(WATCHED) for _ in range(ROUNDS)])
        browser.close()


class Turned(Exception):
    """The server had too much to do."""


class Client:
    """A page: its cookie, and what it does at random."""

    def __init__(self, address: str, seed: int, counts: "Counter[str]") -> None:
        self.base, _, token = address.partition("/?token=")
        self.rng, self.counts = random.Random(seed), counts
        with urlopen(f"{self.base}/?token={token}", timeout=PATIENCE) as answer:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.runs = json.loads(self.get("/about"))["runs"]

    def send(self, path: str, body: bytes | None, method: str) -> bytes:
        self.counts["requests"] += 1
        headers = {"Cookie": self.cookie, "Origin": self.base}
        try:
            with urlopen(Request(self.base + path, body, headers, method=method), timeout=PATIENCE) as answer:
                content: bytes = answer.read()
                return content
        except HTTPError as error:
            if error.code == 429:
                self.counts["turned away"] += 1
                raise Turned from error
            raise

    def get(self, path: str) -> bytes:
        return self.send(path, None, "GET")

    def post(self, path: str, ask: dict[str, Any]) -> Any:
        return json.loads(self.send(path, json.dumps(ask).encode(), "POST"))

    def run(self, view: str, cancel: bool = False, **ask: Any) -> tuple[str, list[dict[str, Any]]]:
        """A job from its beginning to its end; a job is lost where there is none."""
        job = self.post(f"/jobs/{view}", ask)["job"]
        self.counts["jobs"] += 1
        if cancel:
            self.send(f"/jobs/{job}", None, "DELETE")
        content = self.get(f"/jobs/{job}/events").decode()
        events = [json.loads(line[6:]) for line in content.splitlines() if line.startswith("data: ")][:-1]
        last = events[-1]["type"] if events else ""
        if "event: done" not in content or last not in ("end", "cancelled"):
            self.counts["jobs lost"] += 1
            print(f"lost: {view} {ask} {events[-1:]}")
        elif last == "cancelled":
            self.counts["jobs cancelled"] += 1
        return job, events

    def once(self) -> None:
        """One thing that a person does."""
        run = self.rng.choice(self.runs)
        self.rng.choice([self.watch, self.plane, self.programs, self.curves, *self.fitting(run)])(run)

    def fitting(self, run: dict[str, Any]) -> list[Callable[[dict[str, Any]], None]]:
        some = [self.race] + ([self.nearest, self.levels] if run["source"] in names() else [])
        some += [self.edit] if run["pixels"] else []
        some += [] if run["drawn"] else [self.rows]
        some += [self.forecast] if run["past"] else []
        return some + ([self.density] if run["shape"] == [2] else [])

    def seed(self) -> int:
        return self.rng.randrange(1000)

    def watch(self, run: dict[str, Any]) -> None:
        guided = {"scale": 3, "label": -2} if run["guided"] and run["classes"] else {}
        job, events = self.run("watch", self.rng.random() < 0.2, run=run["id"], count=16, seed=self.seed(), **guided)
        if events[-1]["type"] == "end" and self.rng.random() < 0.3:
            self.get(f"/jobs/{job}/animation?as=gif")

    def race(self, run: dict[str, Any]) -> None:
        self.run("race", run=run["id"], count=4, seed=self.seed(), calls=self.rng.randrange(4, 12))

    def edit(self, run: dict[str, Any]) -> None:
        _, events = self.run("items", run=run["id"], count=2)
        first, other = next(event["uploads"] for event in events if event["type"] == "items")
        task = self.rng.choice(["vary", "interpolate", "blur"])
        more = {"other": other} if task == "interpolate" else {}
        self.run("edit", run=run["id"], upload=first, task=task, count=2, steps=8, seed=self.seed(), **more)

    def plane(self, run: dict[str, Any]) -> None:
        mixture = self.rng.choice(["ring", "moons", "spiral"])
        for _ in range(4):
            self.post("/calls/field", {"mixture": mixture, "t": self.rng.random()})
        self.run("particles", self.rng.random() < 0.3, mixture=mixture, count=300, steps=30, seed=self.seed())

    def density(self, run: dict[str, Any]) -> None:
        self.run("density", run=run["id"], t=self.rng.random(), cells=16)

    def rows(self, run: dict[str, Any]) -> None:
        self.run("rows", run=run["id"], count=300, seed=self.seed())

    def forecast(self, run: dict[str, Any]) -> None:
        series = np.random.default_rng(self.seed()).normal(size=(3, *run["item"])).astype(np.float32)
        self.run("forecast", run=run["id"], upload=self.upload(run, series), item=1, draws=20)

    def upload(self, run: dict[str, Any], items: Any) -> str:
        content = io.BytesIO()
        np.save(content, items)
        self.counts["uploads"] += 1
        made: str = json.loads(self.send(f"/uploads/{run['id']}", content.getvalue(), "POST"))["upload"]
        return made

    def nearest(self, run: dict[str, Any]) -> None:
        self.run("nearest", run=run["id"], count=3, seed=self.seed())
        self.run("nearest", run=run["id"], of=self.upload(run, np.zeros((2, *run["item"]), np.float32)))

    def levels(self, run: dict[str, Any]) -> None:
        self.run("levels", run=run["id"], count=100, levels=4)

    def programs(self, run: dict[str, Any]) -> None:
        kind = "png" if run["drawn"] and self.rng.random() < 0.5 else "json"
        ask = {"run": run["id"], "count": 3, "seed": self.seed(), "format": kind}
        self.send("/api/samples", json.dumps(ask).encode(), "POST")

    def curves(self, run: dict[str, Any]) -> None:
        self.get(f"/curves/{run['id']}?after=-1")


def resident(process: int) -> float:
    """MB of the memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def soak(runs: list[str], minutes: float, clients: int) -> None:
    """Mixed use for so long."""
    counts: Counter[str] = Counter()
    with serving(runs) as (address, process):
        until = time.monotonic() + 60 * minutes
        memory = [resident(process)]

        def use(seed: int) -> None:
            one = Client(address, seed, counts)
            while time.monotonic() < until:
                try:
                    one.once()
                except Turned:
                    pass
                except Exception as error:
                    counts["failures"] += 1
                    print(f"failed: {type(error).__name__} {error}")
                time.sleep(one.rng.uniform(0.2, 2.0))

        threads = [threading.Thread(target=use, args=(seed,)) for seed in range(clients)]
        for thread in threads:
            thread.start()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(60, left))
            memory.append(resident(process))
            passed = minutes + (time.monotonic() - until) / 60
            print(f"{passed:.1f} min: {memory[-1]:.0f} MB, {dict(counts)}", flush=True)
        for thread in threads:
            thread.join()
        memory.append(resident(process))
    part = max(1, len(memory) // 3)
    means = [round(sum(memory[i : i + part]) / len(memory[i : i + part])) for i in range(0, 3 * part, part)]
    print(f"memory: {memory[0]:.0f} MB at first, {means} MB in the thirds, {memory[-1]:.0f} MB at the end")
    print(f"{dict(counts)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    first, *rest = options.words
    if first == "soak" and rest:
        soak(rest, options.minutes, options.clients)
    elif first == "page" and len(rest) == 1:
        page(rest[0])
    elif not rest:
        plain(first)
    else:
        parser.error("give RUN, page RUN, or soak RUN [RUN ...]")


if __name__ == "__main__":
    main()

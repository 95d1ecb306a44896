"""A server of the studio in the process of the tests, with small runs; skipped where the extra is not installed."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio needs starlette: pip install 'ornstein[studio]'")
pytest.importorskip("httpx2", reason="the tests of the studio need httpx2")

import ornstein
from ornstein.studio.app import application
from ornstein.studio.security import Hosts, Key
from ornstein.studio.shelf import Shelf
from ornstein.studio.state import Studio

HOST = "127.0.0.1:8765"
HOSTILE = "<img src=x onerror=alert(1)>\u202e'\"&"


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of digits by class, one of whose names is a script."""
    folder = tmp_path_factory.mktemp("studio") / "digits & <b>co</b>"
    ornstein.train("digits:train", out=folder, steps=12, batch_size=16, samples=0, hold_out=0.2)
    described = folder / "model" / "config.json"
    config = json.loads(described.read_text())
    config["data"]["classes"][3] = HOSTILE
    described.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pairs of numbers."""
    folder = tmp_path_factory.mktemp("studio") / "moons"
    ornstein.train("moons", out=folder, steps=12, batch_size=32, samples=0)
    return folder


@pytest.fixture(scope="session")
def waves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of series of two channels, of which the first 10 of 16 places are given."""
    folder = tmp_path_factory.mktemp("studio") / "waves"
    x = np.sin(np.arange(16) * np.linspace(0.2, 0.9, 40)[:, None])
    series = np.stack([x, 10 + 2 * x], 1).astype(np.float32)
    ornstein.train(series, out=folder, layout="NCL", given="past:10", preset="tiny", steps=2, batch_size=8, samples=0)
    return folder


@pytest.fixture(scope="session")
def holes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of digits that fills in what a mask hides."""
    folder = tmp_path_factory.mktemp("studio") / "holes"
    ornstein.train("digits:train", out=folder, degradation="mask", steps=2, batch_size=8, samples=0)
    return folder


class Browser:
    """A page of the studio: a client with its cookie, that sends what a browser would."""

    def __init__(self, server: Any, key: Key, cookie: bool = True) -> None:
        from starlette.testclient import TestClient

        self.http = TestClient(server, base_url=f"http://{HOST}", raise_server_exceptions=False)
        self.http.headers["origin"] = f"http://{HOST}"
        if cookie:
            assert self.http.get("/", params={"token": key.token}).status_code == 200

    def call(self, name: str, **ask: Any) -> dict[str, Any]:
        answer = self.http.post(f"/calls/{name}", json=ask)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def start(self, view: str, **ask: Any) -> str:
        answer = self.http.post(f"/jobs/{view}", json=ask)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["job"])

    def events(self, job: str, after: int = -1) -> list[dict[str, Any]]:
        with self.http.stream("GET", f"/jobs/{job}/events", headers={"last-event-id": str(after)}) as answer:
            assert answer.status_code == 200
            lines = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines][:-1]  # the last says that there are no more

    def upload(self, run: str, content: Any) -> dict[str, Any]:
        """What is answered to a file: its bytes, or an array that becomes a .npy."""
        if isinstance(content, np.ndarray):
            stream = io.BytesIO()
            np.save(stream, content)
            content = stream.getvalue()
        answer = self.http.post(f"/uploads/{run}", content=content)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def run(self, view: str, **ask: Any) -> list[dict[str, Any]]:
        events = self.events(self.start(view, **ask))
        assert events[-1]["type"] == "end", events[-1]
        return events


@pytest.fixture
def key() -> Key:
    return Key("ornstein-studio-8765", "a-token-of-the-tests")


@pytest.fixture
def studio(digits: Path, moons: Path) -> Iterator[Studio]:
    made = Studio(Shelf([digits, moons]))
    yield made
    made.jobs.close()


@pytest.fixture
def server(studio: Studio, key: Key) -> Any:
    return application(studio, key, Hosts())


@pytest.fixture
def open_page(server: Any, key: Key) -> Callable[..., Browser]:
    return lambda cookie=True: Browser(server, key, cookie)


@pytest.fixture
def page(open_page: Callable[..., Browser]) -> Browser:
    return open_page()


@pytest.fixture
def copy(digits: Path, tmp_path: Path) -> Path:
    """A copy of the run of digits, to be changed."""
    return Path(shutil.copytree(digits, tmp_path / "copy"))

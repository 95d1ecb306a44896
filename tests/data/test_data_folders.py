"""Folders of images: parts of a data set, files that are passed over, and one odd file, which decides nothing."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein import data
from ornstein.data.image_files import held_out
from ornstein.errors import OrnsteinError, UsageError


def picture(place: Path, value: int = 0) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(place)


def filled(root: Path, *places: str) -> Path:
    for place in places:
        for i in range(3):
            picture(root / place / f"{i}.png", 20 * i + len(place))
    return root


def zipped(root: Path) -> Path:
    file = root.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        for place in sorted(root.rglob("*")):
            archive.write(place, place.relative_to(root.parent))
    return file


@pytest.mark.parametrize(
    "names",
    [("train", "test"), ("Train", "VAL"), ("training", "valid", "Testing"), ("TRAIN", "validation"), ("train", "dev")],
)
def test_parts_of_a_data_set_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = filled(tmp_path / "pets", *(f"{name}/{c}" for name in names for c in ("cat", "dog")))
    (root / "README.md").write_text("pets")
    for source in (root, zipped(root)):
        with pytest.warns(match=rf"parts .*{names[0]} \(6 images\).*no classes; these are the images of .*{names[0]}"):
            dataset = data.open(source)
        assert dataset.classes == ("cat", "dog")
        assert len(dataset) == 6
    explicit = data.open(root / names[0])
    assert explicit.spec.content_hash == dataset.spec.content_hash
    part = held_out(root)
    assert part is not None
    assert part.name in names[1:]
    assert data.open(part).classes == ("cat", "dog")
    inside = held_out(zipped(root))
    assert inside is not None
    assert inside.name == part.name
    assert data.open(inside).spec.content_hash == data.open(part).spec.content_hash
    with pytest.raises(UsageError, match="holds no images"):
        data.open(zipped(root) / "nothing")


def test_test_is_held_out_before_val(tmp_path: Path) -> None:
    assert held_out(filled(tmp_path, "train", "test", "val")) == tmp_path / "test"
    assert held_out(tmp_path / "train") is None
    assert held_out(tmp_path / "nowhere") is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_is_a_class(tmp_path: Path) -> None:
    assert data.open(filled(tmp_path / "a", "test", "cat")).classes == ("cat", "test")
    assert data.open(filled(tmp_path / "b", "train", "bus", "car")).classes == ("bus", "car", "train")
    assert data.open(filled(tmp_path / "c", "train")).classes == ()
    assert data.open(filled(tmp_path / "d", "train/x", "train/y")).classes == ("x", "y")
    assert data.open(filled(tmp_path / "e", "train", "training")).classes == ("train", "training")
    with pytest.raises(UsageError, match=r"holds test and val, parts of a data set, and no train; name one"):
        data.open(filled(tmp_path / "f", "test", "val"))


@pytest.mark.parametrize("place", ["train", "."])
def test_the_table_of_a_part_is_used(tmp_path: Path, place: str) -> None:
    filled(tmp_path, "train", "test")
    below = "" if place == "train" else "train/"
    lines = "".join(f"{below}{i}.png,{name}\n" for i, name in enumerate(("10", "9", "10")))
    (tmp_path / place / "metadata.csv").write_text("file_name,label\n" + lines)
    source = tmp_path / "train" if place == "train" else tmp_path
    if place == "train":
        assert data.open(source).classes == ("9", "10")
        with pytest.warns(match="no classes"):
            assert data.open(tmp_path).labels.tolist() == [1, 0, 1]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "train" / "0.png", "set/0.png")
        archive.writestr("set/metadata.jsonl", '{"file_name": "0.png", "label": "x"}')
    assert data.open(tmp_path / "a.zip").classes == ("x",)


def test_files_that_are_passed_over_are_counted_by_their_endings(tmp_path: Path) -> None:
    filled(tmp_path, "a", "b")
    for name in (
        "a/1.HEIC",
        "a/2.heic",
        "b/film.mp4",
        "b/noending",
        "more.tar.gz",
        "notes.txt",
        ".hidden",
        "a/Thumbs.db",
    ):
        (tmp_path / name).write_bytes(b"x")
    for place in tmp_path.rglob("*.png"):
        place.with_suffix(".txt").write_text("a caption")
    with pytest.warns() as caught:
        dataset = data.open(tmp_path)
    (note,) = [str(w.message) for w in caught if "passed over" in str(w.message)]
    assert "6 files" in note
    for part in ("2 .heic", "1 .mp4", "1 without an ending", "1 .gz", "1 .txt"):
        assert part in note
    assert len(dataset) == 6
    assert "metadata" not in note
    (tmp_path / "labels.csv").write_text("file_name,label\na/0.png,1\n")
    with pytest.warns(match=r"a table of labels or captions such as labels.csv is read where it is named metadata\.$"):
        data.open(tmp_path)
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "b" / "more.heic").write_bytes(b"x")
    with pytest.warns(match="3 .heic"):
        data.open(tmp_path)


@pytest.mark.parametrize("count", [3, 30])
def test_one_odd_file_does_not_decide_the_type(tmp_path: Path, count: int) -> None:
    for i in range(count):
        picture(tmp_path / f"{i:03}.png", i)
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(tmp_path / "zz.png")
    with pytest.warns(match=r"1 of .* become uint8, as most are \(zz.png: uint16\)"):
        dataset = data.open(tmp_path)
    assert dataset.spec.dtype == "uint8"
    assert dataset.items[-1].min() == 255
    (tmp_path / "zz.png").unlink()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "zz.tiff")
    with pytest.warns(match=r"\(zz.tiff: float32\)"):
        dataset = data.open(tmp_path)
    assert dataset.spec.dtype == "uint8"
    assert set(np.unique(dataset.items[-1])) == {128}
    Image.fromarray(np.full((8, 8), 300.0, np.float32)).save(tmp_path / "zz.tiff")
    with pytest.warns(match="as most are"), pytest.warns(match="floating numbers outside 0..1"):
        assert len(data.open(tmp_path)) == count


def test_a_truncated_file_does_not_decide_the_type(tmp_path: Path) -> None:
    for i in range(120):
        picture(tmp_path / f"{i:03}.png", i)
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 65535, (64, 64)).astype(np.uint16)).save(whole, "png")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:500])
    with pytest.warns(match="as most are"), pytest.warns(match=r"1 of 121 files in .* cannot be read"):
        dataset = data.open(tmp_path, size=8)
    assert (dataset.spec.dtype, len(dataset)) == ("uint8", 120)


def test_a_type_that_is_common_is_kept(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / f"{i}.png", 255)
    for i in range(3):
        Image.fromarray(np.full((8, 8), 7, np.uint16)).save(tmp_path / f"w{i}.png")
    dataset = data.open(tmp_path)
    assert dataset.spec.dtype == "uint16"
    assert (dataset.items[0].max(), dataset.items[-1].max()) == (65535, 7)


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_one_odd_file_decides_neither_colours_nor_size(tmp_path: Path, count: int, mode: str) -> None:
    for i in range(count):
        Image.new(mode, (80, 72), i).save(tmp_path / f"{i:03}.png")
    other = "RGB" if mode == "L" else "L"
    Image.new(other, (40, 20), 9 if other == "L" else (9, 9, 9)).save(tmp_path / "zz.png")
    with pytest.warns() as caught:
        dataset = data.open(tmp_path)
    said = " ".join(str(w.message) for w in caught)
    assert "1 of" in said
    assert "become 80x72 (width x height), as most are (zz.png: 40x20)" in said
    assert ("become grey, as most are (zz.png)" in said) == (mode == "L")
    assert dataset.items.shape == (count + 1, 72, 80, 1 if mode == "L" else 3)
    assert dataset.items[-1].min() == dataset.items[-1].max() == 9


TABLE = {
    "semicolons": "file_name;label\n0.png;b\n1.png;a\n2.png;\n",
    "tabs": "file_name\tlabel\n0.png\tb\n1.png\ta\n2.png\t\n",
    "capitals": "Filename, Label\n0.png, b\n1.png, a\n2.png,\n",
    "quotes": 'file_name,label\n"0.png","b"\n1.png,"a"\n2.png,""\n',
    "short rows": "file_name,label\n0.png,b\n1.png,a\n2.png\n",
    "trailing": "file_name,label\n0.png,b,\n1.png,a,,\n2.png,,\n",
}


@pytest.mark.parametrize("form", TABLE)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_forms_of_tables(tmp_path: Path, form: str, ending: str) -> None:
    filled(tmp_path, ".")
    (tmp_path / f"metadata.{ending}").write_text(TABLE[form])
    with pytest.warns(match="1 of 3 items have no label"):
        dataset = data.open(tmp_path)
    assert (dataset.classes, dataset.labels.tolist()) == (("a", "b"), [1, 0, 2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file_name,label\n0.png,a\n0.png,b\n", r"names 0.png twice, with label 'a' and, in row 2, 'b'"),
        ("file_name,label,label\n0.png,a,b\n", "has two columns label"),
        ("file_name,text\n0.png,a cat, sitting\n", r"3 cells in row 1 and 2 columns; put a cell that holds ','"),
        ("name,label\n0.png,a\n", "has no column `file_name`"),
    ],
)
def test_a_table_that_is_ambiguous_is_refused(tmp_path: Path, text: str, said: str) -> None:
    filled(tmp_path, ".")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(UsageError, match=said):
        data.open(tmp_path)


@pytest.mark.filterwarnings("ignore:2 items have no caption", "ignore:2 of 3 items")
def test_columns_and_rows_that_are_not_used_are_named(tmp_path: Path) -> None:
    filled(tmp_path, ".")
    (tmp_path / "metadata.csv").write_text("file_name,age,species,text\n0.png,3,cat,one\n0.png,3,cat,two\n")
    with (
        pytest.warns(match="the columns age, species too, which are not used"),
        pytest.warns(match="1 rows of .* again"),
    ):
        dataset = data.open(tmp_path)
    assert dataset.annotations.captions == ("one", "", "")
    assert dataset.labels is None


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path) -> None:
    filled(tmp_path / "a", "x")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OrnsteinError, match="ORNSTEIN_CACHE"):
        data.open(tmp_path / "a", cache=tmp_path / "file" / "cache")

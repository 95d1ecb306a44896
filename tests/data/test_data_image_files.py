"""Image files as sources: modes, sizes, damage, zip files, and the cache."""

import io
import os
import resource
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ornstein import data
from ornstein.data import cache, decode, image_files, images, pixels
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files import atomic

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def colour(height: int = 6, width: int = 5) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def write(path: Path, array: np.ndarray, **options: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return array


def test_a_folder_is_read_bit_for_bit_with_classes(root: Path) -> None:
    expected = {
        name: write(root / f"{name}.png", colour()) for name in ("class9/a", "class10/a", "class9/deep/b", "class10/b")
    }
    (root / "class9" / "notes.txt").write_text("no image")
    (root / "class9" / ".hidden.png").write_text("hidden")
    write(root / ".git" / "c.png", colour())
    write(root / "__MACOSX" / "c.png", colour())
    with pytest.warns(match="1 files .* passed over: 1 .txt"):
        opened = data.open(root)
    assert opened.classes == ("class9", "class10")
    assert opened.labels is not None
    assert opened.labels.tolist() == [1, 1, 0, 0]
    assert np.array_equal(opened.items, np.stack([expected[name] for name in sorted(expected)]))


def test_a_folder_without_subfolders_has_no_classes(root: Path) -> None:
    for i in range(3):
        write(root / f"{i}.png", colour())
    assert data.open(root).labels is None
    write(root / "sub" / "x.png", colour())
    with pytest.warns(UserWarning, match="3 of 4 images .* in no sub-folder"):
        assert data.open(root).labels is None


def test_an_empty_folder_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no images.*\.png"):
        data.open(root)


def test_links_are_followed_once(root: Path) -> None:
    write(root / "a" / "x.png", colour())
    write(root / "b" / "x.png", colour())
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    (root / "b" / "self").symlink_to(root / "b", target_is_directory=True)
    assert len(data.open(root)) == 2


def test_one_damaged_file_among_200_is_skipped_and_named(root: Path) -> None:
    for i in range(200):
        write(root / f"{i:03d}.png", colour(3, 3))
    whole = (root / "123.png").read_bytes()
    (root / "123.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"1 of 200 files .* skipped: 123.png: ") as first:
        opened = data.open(root)
    assert len(opened) == opened.spec.count == 199
    with pytest.warns(UserWarning, match="skipped") as again:  # and from the cache
        data.open(root)
    assert str(again[0].message) == str(first[0].message)


def test_three_damaged_files_among_ten_stop(root: Path) -> None:
    for i in range(7):
        write(root / f"{i}.png", colour())
    (root / "text.png").write_text("just words")
    (root / "empty.jpg").write_bytes(b"")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    with pytest.raises(OrnsteinError) as error:
        data.open(root)
    assert not isinstance(error.value, UsageError)
    for part in ("3 of 10 files", "empty.jpg: not an image", "gone.png: No such file", "text.png: not an image"):
        assert part in str(error.value)


@pytest.mark.parametrize(("total", "allowed"), [(2, 0), (3, 1), (100, 1), (101, 1), (200, 1), (201, 2), (300, 2)])
def test_how_many_may_be_unreadable(total: int, allowed: int) -> None:
    many = image_files.ImageFiles(
        "here", tuple(image_files.ImageFile(str(i), io.BytesIO) for i in range(total)), None, (), ""
    )
    many._stop_if_too_many({str(i): "bad" for i in range(allowed)})
    with pytest.raises(OrnsteinError, match=f"{allowed + 1} of {total}"):
        many._stop_if_too_many({str(i): "bad" for i in range(allowed + 1)})


def huge_png(width: int, height: int) -> bytes:
    """A header that promises far more than the file holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_200, 20_000])  # 85 and 400 megapixels: under and over Pillow's own limits
def test_a_huge_image_is_refused_by_its_header(root: Path, side: int) -> None:
    for i in range(3):
        write(root / f"{i}.png", colour())
    (root / "huge.png").write_bytes(huge_png(side, side))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.warns(UserWarning, match="huge.png: more than 80 megapixels"):
        assert len(data.open(root)) == 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_a_program_in_disguise_is_not_run(root: Path) -> None:
    write(root / "0.png", colour())
    write(root / "1.png", colour())
    (root / "2.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.warns(UserWarning, match="2.png: not an image"):
        assert len(data.open(root)) == 2


def decoded(
    array_or_image: np.ndarray | Image.Image, channels: int, dtype: str = "uint8", kind: str = "PNG"
) -> np.ndarray:
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    file = io.BytesIO()
    image.save(file, kind)
    file.seek(0)
    return decode.decode(file, decode.Format((image.height, image.width), channels, dtype, pad=False))


def test_modes_become_what_they_show() -> None:
    rgb = colour()
    grey = rgb[..., :1]
    assert np.array_equal(decoded(grey[..., 0], 1), grey)
    assert np.array_equal(decoded(grey[..., 0], 3), grey.repeat(3, -1))
    bits = grey[..., 0] > 128
    assert np.array_equal(decoded(Image.fromarray(bits), 1)[..., 0], bits * np.uint8(255))
    palette = Image.fromarray(rgb).quantize(30)
    assert np.array_equal(decoded(palette, 3), np.asarray(palette.convert("RGB")))
    cmyk = Image.fromarray(rgb).convert("CMYK")
    assert np.array_equal(decoded(cmyk, 3, kind="TIFF"), np.asarray(cmyk.convert("RGB")))
    luma = decoded(rgb, 1)[..., 0].astype(int)
    assert np.abs(luma - np.asarray(Image.fromarray(rgb).convert("L"))).max() <= 1


def test_transparency_is_composited_on_white() -> None:
    rgba = RNG.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    shown = decoded(rgba, 3)
    alpha = rgba[..., 3:] / 255
    np.testing.assert_allclose(shown, alpha * rgba[..., :3] + (1 - alpha) * 255, atol=0.5001)
    assert (shown[0] == 255).all()
    assert np.array_equal(shown[1], rgba[1, :, :3])
    wide = rgba.astype(np.uint16) * 257
    np.testing.assert_allclose(pixels.over_white(wide) / 257, alpha * rgba[..., :3] + (1 - alpha) * 255, atol=0.01)
    extremes = np.array([[[0, 0], [0, 255], [255, 0], [255, 255]]], np.uint8)
    assert pixels.over_white(extremes)[0, :, 0].tolist() == [255, 0, 255, 255]
    assert pixels.over_white(extremes.astype(np.uint16) * 257)[0, :, 0].tolist() == [65535, 0, 65535, 65535]
    la = Image.fromarray(rgba[..., :2])
    assert la.mode == "LA"
    alpha = rgba[..., 1:2] / 255
    np.testing.assert_allclose(decoded(la, 1), alpha * rgba[..., :1] + (1 - alpha) * 255, atol=0.5001)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.info["transparency"] = 1
    assert decoded(palette, 3).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_asked_for_alpha_hidden_colours_are_white() -> None:
    rgba = RNG.integers(1, 256, (6, 5, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0
    kept = decoded(rgba, 4)
    assert (kept[0] == [255, 255, 255, 0]).all()
    assert np.array_equal(kept[1:], rgba[1:])
    assert (decoded(rgba[..., :3], 4)[..., 3] == 255).all()
    grey_alpha = decoded(Image.fromarray(rgba[..., 2:]), 4)
    assert np.array_equal(grey_alpha[1:, :, :3], rgba[1:, :, 2:3].repeat(3, -1))
    assert np.array_equal(grey_alpha[..., 3], rgba[..., 3])


def test_resizing_counts_colours_by_their_alpha() -> None:
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = [200, 100, 50, 255]
    image[:, 4:] = [0, 255, 0, 0]  # a hidden green that must not bleed
    small = pixels.fit(image, (3, 3), pad=False, alpha=True)
    seen = small[..., 3] > 8
    assert seen.any()
    assert np.abs(small[seen][:, :3].astype(int) - [200, 100, 50]).max() <= 2
    assert (small[small[..., 3] == 0][:, :3] == 255).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_files_keep_every_bit(root: Path, channels: int) -> None:
    first = RNG.integers(1, 65536, (3, 4, 5, channels), dtype=np.uint16)
    data.save_images(first, root / "out")
    opened = data.open(root / "out", channels=channels)
    assert opened.spec.dtype == "uint16"
    assert np.array_equal(opened.items, first)
    assert np.array_equal(opened.spec.from_model(opened.batch(np.arange(3))[0]), first)


def test_16_bit_grey_of_other_writers(root: Path) -> None:
    image = RNG.integers(0, 65536, (4, 5), dtype=np.uint16)
    Image.fromarray(image).save(root / "a.png")
    Image.fromarray(image).save(root / "b.tif")
    (root / "c.pgm").write_bytes(b"P5 5 4 65535\n" + image.astype(">u2").tobytes())
    assert np.array_equal(data.open(root).items, np.stack([image[..., None]] * 3))


def test_mixed_depths_take_the_wider_type(root: Path) -> None:
    eight = write(root / "a.png", colour()[..., 0])
    sixteen = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
    Image.fromarray(sixteen).save(root / "b.png")
    items = data.open(root).items[..., 0]
    assert np.array_equal(items, np.stack([eight.astype(np.uint16) * 257, sixteen]))


def test_grey_and_colour_mixed_become_colour(root: Path) -> None:
    grey, rgb = write(root / "a.png", colour()[..., 0]), write(root / "b.png", colour())
    assert np.array_equal(data.open(root).items, np.stack([grey[..., None].repeat(3, -1), rgb]))
    assert data.open(root, channels=1).spec.shape == (1, 6, 5)
    with pytest.raises(UsageError, match="1, 3 or 4"):
        data.open(root, channels=2)


def test_exif_orientation_is_applied(root: Path) -> None:
    upright = colour(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    for name in ("a.png", "b.png"):
        Image.fromarray(np.rot90(upright).copy()).save(root / name, exif=exif)
    assert np.array_equal(data.open(root).items[1], upright)


def test_the_first_frame_of_an_animation(root: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 250)]
    for name in ("a.gif", "b.gif"):
        frames[0].save(root / name, save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"2 of 2 files .* several images, of which the first is read.*a.gif, b.gif"):
        assert (data.open(root).items == 10).all()


def test_sizes_that_differ_are_cropped_at_the_centre_without_squashing(root: Path) -> None:
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, 20:60] = 255  # the middle square is white
    tall = np.ascontiguousarray(wide.swapaxes(0, 1))
    write(root / "a.png", wide)
    write(root / "b.png", tall)
    items = data.open(root, size=16).items
    assert items.shape == (2, 16, 16, 3)
    assert (items[:, 2:-2, 2:-2] >= 253).all()
    padded = data.open(root, size=16, pad=True).items
    assert np.array_equal(padded[0, 8, :, 0] > 127, np.repeat([False, True, False], [4, 8, 4]))
    assert np.array_equal(padded[0, 0], padded[0, 4])  # the border is repeated outwards
    with pytest.warns(UserWarning, match="2 different sizes and become 64x64"):
        assert data.open(root).spec.shape == (3, 64, 64)


def test_resizing_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))[..., None]  # the finest there are
    for image, white in ((stripes, 255), (stripes.astype(np.uint16) * 257, 65535), (stripes / np.float32(255), 1)):
        small = pixels.fit(image, (16, 16), pad=False, alpha=False)
        assert small.dtype == image.dtype
        assert np.abs(small[:, 1:-1] / white - 0.5).max() < 0.05


def test_large_jpegs_decoded_in_part_look_the_same(root: Path) -> None:
    y, x = np.mgrid[:800, :1000]
    smooth = np.stack([x / 4, y / 4, 255 - x / 4], -1).astype(np.uint8)
    for name in ("a", "b"):
        write(root / f"{name}.jpg", smooth, quality=95)
    expected = pixels.fit(smooth, (32, 32), pad=False, alpha=False)
    assert np.abs(data.open(root, size=32).items[0].astype(int) - expected).max() <= 4


def test_float_images_keep_their_values(root: Path) -> None:
    image = RNG.normal(size=(5, 4)).astype(np.float32)
    for name in ("a.tif", "b.tif"):
        Image.fromarray(image).save(root / name)
    opened = data.open(root)
    assert opened.items.dtype == np.float32
    assert np.array_equal(opened.items[0, ..., 0], image)
    assert opened.spec.low == image.min()


def test_a_zip_is_read_in_memory_and_nothing_leaves_it(tmp_path: Path) -> None:
    good = {name: colour() for name in ("all/cat/1.png", "all/cat/2.png", "all/dog/3.png")}
    bad = ("../evil.png", "all/../../evil.png", "/evil.png", "__MACOSX/all/cat/1.png", "all/cat/._1.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        for name, array in good.items():
            target.writestr(name, images.png(array))
        for name in bad:
            target.writestr(name, images.png(colour()))
        link = zipfile.ZipInfo("all/cat/link.png")
        link.external_attr = 0o120777 << 16
        target.writestr(link, "/etc/passwd")
        target.writestr("all/readme.txt", "hello")
    before = set(tmp_path.rglob("*"))
    with pytest.warns(match="1 files .* passed over: 1 .txt"):
        opened = data.open(tmp_path / "a.zip", cache=tmp_path / "cache")
    assert opened.classes == ("cat", "dog")
    assert opened.labels is not None
    assert opened.labels.tolist() == [0, 0, 1]
    assert np.array_equal(opened.items, np.stack(list(good.values())))
    new = set(tmp_path.rglob("*")) - before
    assert {path.suffix for path in new if path.is_file()} == {".npy", ".json"}


def test_a_zip_member_too_large_or_damaged_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as target:
        for i in range(2):
            target.writestr(f"{i}.png", images.png(colour()))
        target.writestr("big.png", bytes(3 << 20), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(image_files, "MAX_MEMBER", 2 << 20)
    with pytest.warns(UserWarning, match="big.png: more than 2 MB"):
        assert len(data.open(tmp_path / "a.zip")) == 2
    body = bytearray((tmp_path / "a.zip").read_bytes())
    body[60] ^= 255  # inside the first member: its checksum fails
    (tmp_path / "b.zip").write_bytes(body)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with pytest.raises(OrnsteinError, match=r"0.png: Bad CRC-32.*big.png"):
        data.open(tmp_path / "b.zip")
    (tmp_path / "c.zip").write_text("not a zip")
    with pytest.raises(OrnsteinError, match=r"c\.zip is not a zip file"):
        data.open(tmp_path / "c.zip")


def some_images(root: Path) -> None:
    for i in range(6):
        write(root / f"{i % 2}" / f"{i}.png", colour())


def test_the_second_opening_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some_images(root)
    seen: list[tuple[int, int]] = []
    first = data.open(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]
    monkeypatch.setattr(image_files, "decode", None)
    monkeypatch.setattr(image_files, "header", None)
    again = data.open(root)
    assert np.array_equal(again.items, first.items)
    assert np.array_equal(again.labels, first.labels)
    assert again.spec == first.spec


def test_a_change_or_another_option_is_another_entry(root: Path) -> None:
    some_images(root)
    first = data.open(root)
    assert data.open(root, size=4).items.shape == (6, 4, 4, 3)
    assert len(data.open(root, limit=4)) == 4
    changed = write(root / "0" / "0.png", colour())
    os.utime(root / "0" / "0.png", ns=(0, 0))
    assert np.array_equal(data.open(root).items[0], changed)
    assert not np.array_equal(first.items[0], changed)


@pytest.mark.parametrize("damage", ["cut", "bit", "gone", "json", "half", "header"])
def test_a_damaged_entry_is_made_again(root: Path, tmp_path: Path, damage: str) -> None:
    some_images(root)
    whole = np.array(data.open(root, cache=tmp_path / "c").items)
    (entry,) = (tmp_path / "c").iterdir()
    items = entry / "items.npy"
    body = bytearray(items.read_bytes())
    if damage == "gone":
        items.unlink()
    elif damage == "json":
        (entry / "entry.json").write_text("{}")
    elif damage == "half":
        text = (entry / "entry.json").read_text()
        (entry / "entry.json").write_text(text[: len(text) // 2])
    else:
        body[{"bit": len(body) - 5, "header": 3, "cut": 0}[damage]] ^= 1
        items.write_bytes(body[:-7] if damage == "cut" else body)
    assert np.array_equal(data.open(root, cache=tmp_path / "c").items, whole)
    assert [path.name for path in (tmp_path / "c").iterdir()] == [entry.name]  # nothing is left lying about
    assert np.array_equal(np.load(items), whole)


def test_several_processes_at_once(root: Path, tmp_path: Path) -> None:
    some_images(root)
    code = f"from ornstein import data; print(data.open({str(root)!r}).spec.content_hash)"
    runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {run.communicate()[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert answers == {data.open(root).spec.content_hash + "\n"}
    assert len(list((tmp_path / "xdg" / "ornstein" / "data").iterdir())) == 1


def test_two_writers_of_one_entry(tmp_path: Path) -> None:
    """The second finishes while the first is still building."""

    def build(items: cache.Items, value: int = 1) -> data.arrays.Arrays:
        items.append(np.full((2, 2, 1), value, np.uint8))
        return data.arrays.Arrays(np.zeros(0))

    def slow(items: cache.Items) -> data.arrays.Arrays:
        other.append(cache.cached(tmp_path, ["key"], build))
        return build(items, 2)

    other: list[data.arrays.Arrays] = []
    assert (cache.cached(tmp_path, ["key"], slow).items == 2).all()
    assert (other[0].items == 1).all()  # its map is still whole
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_build_and_a_killed_one_leave_nothing(tmp_path: Path) -> None:
    def build(items: cache.Items) -> data.arrays.Arrays:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached(tmp_path, ["key"], build)
    assert list(tmp_path.iterdir()) == []
    with atomic.scratch(tmp_path) as place:  # as a killed process leaves it
        shutil.copytree(place, tmp_path / "copy")
    (tmp_path / "copy").rename(place)
    with pytest.raises(KeyboardInterrupt):
        cache.cached(tmp_path, ["key"], build)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_the_caches_own_stays(root: Path, tmp_path: Path) -> None:
    """A cache in a folder of the user's: hidden folders however old, look-alikes, and a build that takes more than a day."""
    some_images(root)
    home = tmp_path / "home"
    names = [
        ".git",
        ".ssh",
        ".venv",
        ".0123.abc",
        ".backup.20240101",
        ".x.abcdefgh",
        ".ornstein-0123456789abcdef",
        "0" * 32,
    ]
    for name in names:
        (home / name).mkdir(parents=True)
        (home / name / "precious").write_text("mine")
        os.utime(home / name, (0, 0))
    with atomic.scratch(home) as alive:
        (alive / "items.npy").write_text("half")
        for file in (alive / "owner.json", alive / "items.npy", alive):
            os.utime(file, (0, 0))
        for size in (None, 4):
            data.open(root, cache=home, size=size)
        cache.shrink(home, 0)
        assert (alive / "items.npy").read_text() == "half"
    for name in names:
        assert (home / name / "precious").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some_images(root)
    opened = Path.open

    def full(path: Path, *args: Any, **kwargs: Any) -> Any:
        return opened(Path("/dev/full") if path.name == "items.npy" else path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OrnsteinError, match=r"could not be written \(No space left on device\); free some space"):
        data.open(root, cache=tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_no_warning_leaks_from_readers(root: Path) -> None:
    some_images(root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data.open(root)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [1, 128, 255])
def test_one_colour_stays_what_it_is_however_small_it_gets(level: int, channels: int) -> None:
    image = np.full((1300, 1200, channels), level, np.uint8)
    for size in ((1, 1), (2, 1), (3, 3), (64, 64)):
        assert (pixels.fit(image, size, pad=False, alpha=False) == level).all()

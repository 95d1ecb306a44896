"""Images, archives and arrays that are damaged, enormous, or not what their name says: read as they are, or named."""

import gzip
import io
import os
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from ornstein import data
from ornstein.data import arrays, bit_depth, decode
from ornstein.data.decode import Format, Unreadable
from ornstein.data.images import png
from ornstein.errors import OrnsteinError, UsageError

KEPT = {
    "PNG": ("1", "L", "LA", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "RGB", "RGBA", "I;16", "F"),
    "BMP": ("1", "L", "RGB"),
    "PPM": ("1", "L", "RGB"),
    "GIF": ("L",),
    "WEBP": ("RGB", "RGBA"),
    "JPEG2000": ("L", "RGB"),
}  # what formats hold without loss
LOSSY = (("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "CMYK"), ("PNG", "P"), ("GIF", "P"))
if features.check("avif"):
    LOSSY = (*LOSSY, ("AVIF", "RGB"))
ANIMATED = ("GIF", "PNG", "WEBP", "TIFF")


def numbers(rng: Random, shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
    most = np.iinfo(dtype).max if dtype != "float32" else 1000
    return np.random.default_rng(rng.getrandbits(32)).integers(0, most, shape, endpoint=True).astype(dtype)


def drawing(rng: Random, kind: str, mode: str) -> tuple[bytes, NDArray[Any]]:
    """An image file of a few pixels, and those pixels as `(H, W, C)`."""
    size = rng.randrange(1, 20), rng.randrange(1, 20)
    dtype = {"I;16": "uint16", "F": "float32"}.get(mode, "uint8")
    channels = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}.get(mode, 1)
    values = numbers(rng, (*size, channels), dtype)
    if mode == "1":
        values = values // 128 * np.uint8(255)
    image = Image.fromarray(values if channels > 1 else values[..., 0], "CMYK" if mode == "CMYK" else None)
    if mode in ("1", "P"):
        image = image.convert(mode)
    file, options = io.BytesIO(), {"WEBP": {"lossless": True, "exact": True}}.get(kind, {})
    if kind in ANIMATED and rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [image.copy()]}
    image.save(file, kind, **options)
    return file.getvalue(), values


def broken(content: bytes, rng: Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(min(len(found), rng.choice([40, 200, 10**6])) or 1)
        match rng.randrange(6):
            case 0:
                found[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", rng.randbytes(4)])
            case 1:
                del found[at:]
            case 2:
                found[at:at] = found[at : at + rng.randrange(1, 60)]
            case 3:
                found += rng.randbytes(rng.randrange(50))
            case _ if found:
                found[min(at, len(found) - 1)] = rng.randrange(256)
    return bytes(found)


def test_pictures_are_read_as_they_are_or_not_at_all(cases: Any, memory: Any) -> None:
    kinds = [(kind, mode) for kind, modes in KEPT.items() for mode in modes]
    with memory(2 << 30), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rng in cases(220, 8000):
            kind, mode = rng.choice([*kinds, *kinds, *LOSSY])
            content, values = drawing(rng, kind, mode)
            whole = rng.random() < 0.3
            file = io.BytesIO(content if whole else broken(content, rng))
            try:
                found = decode.header(file)
                size = found.size if whole or max(found.size) < 4000 else (64, 64)
                to = Format(size, rng.choice([1, 3, 4]), found.dtype, rng.random() < 0.5)
                file.seek(0)
                made = decode.decode(file, to)
            except Unreadable as error:
                if whole or not str(error):
                    raise
                continue
            assert made.shape == (*to.size, to.channels)
            assert made.dtype == to.dtype
            if whole and mode in KEPT.get(kind, ()) and values.shape[-1] == to.channels:
                seen = values.copy()
                if to.channels == 4:
                    seen[..., :3][values[..., 3] == 0] = 255  # what cannot be seen is white
                assert np.array_equal(made, seen), (kind, mode)


def tiff(image: NDArray[Any], order: str, packed: bool, planes: bool) -> bytes:
    """A TIFF file of 16-bit colour, which Pillow cannot write. Layout: TIFF 6.0, sections 2, 6 and 24."""
    height, width, channels = image.shape
    stored = np.moveaxis(image, -1, 0) if planes else image
    pixels = np.ascontiguousarray(stored, stored.dtype.newbyteorder("<" if order == "II" else ">")).tobytes()
    pixels = zlib.compress(pixels) if packed else pixels
    e, strips = "<" if order == "II" else ">", channels if planes and not packed else 1
    tags = {256: [width], 257: [height], 258: [16] * channels, 259: [8 if packed else 1], 262: [2], 273: [0] * strips}
    tags |= {277: [channels], 278: [height], 279: [len(pixels) // strips] * strips, 284: [2 if planes else 1]}
    tags |= {338: [2]} if channels == 4 else {}
    start = 8 + 2 + 12 * len(tags) + 4
    extra = b"".join(struct.pack(f"{e}{len(v)}I", *v) for v in tags.values() if len(v) > 1)
    tags[273] = [start + len(extra) + i * len(pixels) // strips for i in range(strips)]
    entries, extra = b"", b""
    for tag, values in tags.items():
        value = struct.pack(f"{e}{len(values)}I", *values)
        entries += struct.pack(f"{e}HHI", tag, 4, len(values))
        entries += value if len(values) == 1 else struct.pack(f"{e}I", start + len(extra))
        extra += value if len(values) > 1 else b""
    head = order.encode() + struct.pack(f"{e}HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + extra + pixels


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_of_colour_are_kept(channels: int, tmp_path: Path) -> None:
    values = numbers(Random(channels), (6, 5, channels), "uint16")
    values[..., 3:] |= 1  # seen, if hardly
    files = [png(values)] + [tiff(values, order, packed, False) for order in ("II", "MM") for packed in (False, True)]
    for i, content in enumerate(files):
        (tmp_path / f"{i}").mkdir()
        for name in ("a", "b"):
            (tmp_path / f"{i}" / f"{name}.{'tif' if i else 'png'}").write_bytes(content)
        found = data.open(tmp_path / f"{i}", channels=channels)
        assert found.spec.dtype == "uint16"
        assert np.array_equal(found.items[0], values)


def test_what_is_cut_to_eight_bits_is_told(tmp_path: Path) -> None:
    values = numbers(Random(0), (6, 5, 3), "uint16")
    wide = values.astype(">u2").tobytes()
    grey = struct.pack(">IIBBBBB", 5, 6, 16, 4, 0, 0, 0)  # grey with alpha
    rows = b"".join(b"\0" + wide[i * 20 : i * 20 + 20] for i in range(6))
    chunks = [(b"IHDR", grey), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    cut = {"a.ppm": b"P6 5 6 65535\n" + wide, "b.png": b"\x89PNG\r\n\x1a\n" + b"".join(framed), "z.png": png(values)}
    for name, content in cut.items():
        (tmp_path / name).write_bytes(content)
    said = r"2 of 3 files .* more than 8 bits a channel, of which 8 are read.*\(a.ppm, b.png\)"
    one = "become uint8, as most are"
    with pytest.warns(UserWarning, match=said), pytest.warns(UserWarning, match=one):
        data.open(tmp_path)
    (tmp_path / "c.tif").write_bytes(tiff(values, "II", False, True))  # Pillow reads other pixels than it holds
    skipped = pytest.warns(UserWarning, match="c.tif: 16-bit colour in planes")
    with pytest.warns(UserWarning, match="2 of 4"), skipped, pytest.warns(UserWarning, match=one):
        data.open(tmp_path)


@pytest.mark.parametrize(
    ("kind", "mark", "offset", "value"), [("JPEG2000", b"\xff\x51", 40, 11), ("AVIF", b"pixi", 9, 12)]
)
def test_the_depth_of_other_formats_is_found(kind: str, mark: bytes, offset: int, value: int) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    file = io.BytesIO()
    Image.fromarray(numbers(Random(0), (32, 32, 3))).save(file, kind)
    with Image.open(file) as image:
        assert bit_depth._bits(image, file) == 8
        content = bytearray(file.getvalue())
        content[content.index(mark) + offset] = value
        assert bit_depth._bits(image, io.BytesIO(content)) == 12


def bomb(side: int) -> bytes:
    """A transparent PNG of side² pixels in a thousandth of their bytes."""
    about = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    packer = zlib.compressobj(1)
    rows = b"".join([packer.compress(bytes(4 * side + 1)) for _ in range(side)] + [packer.flush()])
    chunks = [(b"IHDR", about), (b"IDAT", rows), (b"IEND", b"")]
    framed = (struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("channels", [3, 4])
def test_large_images_take_little_memory_at_once(tmp_path: Path, channels: int, memory: Any, full: bool) -> None:
    side = 8900 if full else 2900  # nearly the most that is read; enough to be decoded alone
    for i in range(8 if full else 3):
        (tmp_path / f"{i}.png").write_bytes(bomb(side))
    with memory((22 if full else 28) * side**2):
        assert (data.open(tmp_path, size=8, channels=channels).items[..., :3] == 255).all()


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes, devices, sockets, folders and files of many gigabytes that are called images."""
    root = tmp_path / "root"
    root.mkdir()
    for i in range(200):
        (root / f"{i}.png").write_bytes(png(numbers(Random(i), (2, 2, 1))))
    os.mkfifo(root / "pipe.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "folder.png").mkdir()
    monkeypatch.chdir(root)
    with pytest.warns(UserWarning, match="2 of 202 files .* device.png: not a file; pipe.png: not a file"):
        assert len(data.open(root)) == 200
    (root / "pipe.png").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.png")
        with pytest.warns(UserWarning, match="socket.png: not a file"):
            data.open(root)
    (root / "socket.png").unlink()
    with (root / "large.webp").open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x7fWEBPVP8 ")
        file.truncate(50 << 30)
    with pytest.warns(UserWarning, match="large.webp: more than 1024 MB"):
        data.open(root)
    for name in ("pipe.npy", "pipe.npz", "pipe.zip", "x-images-idx3-ubyte"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UsageError, match="There is no data source"):
            data.open(tmp_path / name)


def zipped(rng: Random, outside: str) -> bytes:
    """An archive with whatever archives may hold."""
    file = io.BytesIO()
    names = [
        "a.png",
        "b/c.png",
        f"../{outside}",
        f"/{outside}",
        f"a/../../{outside}",
        f"C:\\{outside}",
        f"..\\{outside}",
    ]
    names += ["x" * 300 + ".png", "\x00.png", "ü/🎲.png", "con.png", "a.png/b.png", ".png", "a.zip", "__MACOSX/a.png"]
    methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for _ in range(rng.randrange(6)):
            member = zipfile.ZipInfo(rng.choice(names))
            member.external_attr = rng.choice([0, 0o120777 << 16, 0o644 << 16, 0o10644 << 16])
            member.compress_type = rng.choice(methods)
            content = png(numbers(rng, (3, 3, 1)))
            archive.writestr(member, rng.choice([content, b"/etc/passwd", b"", broken(content, rng)]))
    return file.getvalue()


def test_archives(tmp_path: Path, cases: Any, memory: Any) -> None:
    """Read in memory: nothing appears outside of the cache, whatever their members are called."""
    inner = tmp_path / "some" / "where"
    inner.mkdir(parents=True)
    (tmp_path / "outside.png").write_bytes(b"mine")
    read = 0
    with memory(1 << 30), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rng in cases(50, 1200):
            content = zipped(rng, "outside.png")
            (inner / "a.zip").write_bytes(content if rng.random() < 0.4 else broken(content, rng))
            try:
                read += len(data.open(inner / "a.zip", cache=tmp_path / "cache"))
            except OrnsteinError as error:
                if "a.zip" not in str(error):
                    raise
            assert [path.name for path in inner.iterdir()] == ["a.zip"]
    assert read
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "outside.png", "some"]
    assert (tmp_path / "outside.png").read_bytes() == b"mine"


def stored(rng: Random) -> tuple[str, bytes]:
    """A file of arrays, and its name."""
    items = numbers(
        rng, rng.choice([(5, 4, 4), (5, 3), (5,), (5, 4, 4, 3)]), rng.choice(["uint8", "uint16", "float32"])
    )
    file = io.BytesIO()
    match rng.randrange(4):
        case 0:
            np.save(file, np.asfortranarray(items) if rng.random() < 0.3 else items)
            return "a.npy", file.getvalue()
        case 1 | 2:
            more: dict[str, Any] = rng.choice(
                [{}, {"y": np.arange(5) % 2}, {"low": 0, "high": 2**20}, {"y": list("ababa")}]
            )
            more |= rng.choice(
                [{}, {}, {"classes": ["a", "b"]}, {"low": [1, 2]}, {"high": "x"}, {"y": np.zeros((5, 5))}]
            )
            (np.savez if rng.random() < 0.5 else np.savez_compressed)(file, x=items, **more)
            return "a.npz", file.getvalue()
        case _:
            items = numbers(rng, (5, 4, 4))
            head = struct.pack(">BBBB3I", 0, 0, 8, 3, *items.shape)
            plain = head + items.tobytes()
            plain = plain if rng.random() < 0.5 else broken(plain, rng)
            return rng.choice([("a.idx", plain), ("a.idx.gz", gzip.compress(plain))])


def test_arrays(tmp_path: Path, cases: Any, memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    with memory(1 << 30), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rng in cases(80, 1500):
            name, content = stored(rng)
            monkeypatch.setattr(arrays, "SMALL", rng.choice([0, 4 << 20]))
            (tmp_path / name).write_bytes(content if rng.random() < 0.4 else broken(content, rng))
            try:
                read += len(data.open(tmp_path / name, cache=tmp_path / "cache"))
            except OrnsteinError as error:
                if name not in str(error):
                    raise
            (tmp_path / name).unlink()
    assert read
    assert not [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")]


def claims(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file of that shape, and nothing more."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_a_header_cut_within_its_words(tmp_path: Path) -> None:
    """numpy reads headers of its first two versions word by word, as Python's own."""
    whole = claims((2, 2))
    (tmp_path / "a.npy").write_bytes(whole.replace(b")", b" ") + bytes(4))
    with pytest.raises(OrnsteinError, match=r"a\.npy"):
        data.open(tmp_path / "a.npy", cache=tmp_path / "cache")


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


LARGE = (1 << 28, 4)
BOMBS: dict[str, Callable[[], bytes]] = {
    "a.npz": lambda: npz(x=claims((1 << 44,))),
    "b.npz": lambda: npz(x=claims((4, 4)) + bytes(16), y=claims((1 << 50,))),
    "c.npz": lambda: npz(x=claims((4, 4)) + bytes(16), low=claims((1 << 50,))),
    "d.npz": lambda: npz(x=claims((1 << 62, 1 << 62))),
    "a.npy": lambda: claims((1 << 50,)),
    "a.idx": lambda: struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1),
    "a.idx.gz": lambda: gzip.compress(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)),
    "b.idx.gz": lambda: gzip.compress(struct.pack(">BBBBI", 0, 0, 14, 1, 2**30) + bytes(1 << 20)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_arrays_that_say_they_are_enormous(tmp_path: Path, name: str, memory: Any) -> None:
    (tmp_path / name).write_bytes(BOMBS[name]())
    with memory(256 << 20), pytest.raises(OrnsteinError, match=name):
        data.open(tmp_path / name, cache=tmp_path / "cache")
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [tmp_path / name]


@pytest.mark.parametrize("kind", ["npz", "idx.gz"])
def test_packed_arrays_larger_than_memory_are_read_in_parts(
    tmp_path: Path, kind: str, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """144 MB of ones, where 96 MB may be taken for whatever is no map of a file."""
    import resource

    size, file = 144 << 20, tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez_compressed(file, x=np.ones((size >> 10, 1 << 10), np.uint8))
    else:
        with gzip.open(file, "wb", compresslevel=1) as stream:
            stream.write(struct.pack(">BBBB2I", 0, 0, 8, 2, size >> 10, 1 << 10) + b"\1" * size)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (used + (96 << 20), before[1]))
    try:
        found = data.open(file, cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert found.items.shape == (size >> 10, 1 << 10)
    assert bool((found.items[::100] == 1).all())
    monkeypatch.setattr(
        arrays.shutil, "disk_usage", lambda place: os.terminal_size((0, 0)) and type("", (), {"free": size})
    )
    with pytest.raises(OrnsteinError, match=r"unpacks to 151 MB.*where twice as much is needed"):
        data.open(file, cache=tmp_path / "other")


@pytest.mark.parametrize(
    ("low", "high"), [(-1e308, 1e308), (0.0, 1e-320), (1e200, 1e200), (0.0, 1e101), (-1e-101, 0.0)], ids=str
)
@pytest.mark.parametrize("shape", [(4, 2, 2, 1), (4, 2)], ids=["images", "vectors"])
def test_numbers_that_no_float_can_scale(tmp_path: Path, low: float, high: float, shape: tuple[int, ...]) -> None:
    values = np.full(shape, low)
    values[0] = high
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(OrnsteinError, match="other units"):
        data.open(tmp_path / "a.npy")


def test_all_alike_comes_back_as_it_was(tmp_path: Path) -> None:
    for value in (0.0, 1e99, -1e99, 1e-300):
        np.save(tmp_path / "a.npy", np.full((3, 2, 2, 1), value))
        found = data.open(tmp_path / "a.npy")
        assert found.batch(np.arange(3))[0].isfinite().all()
        np.testing.assert_allclose(found.spec.from_model(found.batch(np.arange(3))[0]), found.items, rtol=1e-6)


@pytest.mark.parametrize(
    "more", [{"low": np.nan}, {"high": np.inf}, {"low": [0, 1]}, {"low": "x"}, {"high": 1e308}], ids=str
)
def test_a_range_that_is_none_is_named(tmp_path: Path, more: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 2, 2)), **{"low": 0, "high": 1, **more})
    with pytest.raises(OrnsteinError, match=r"a\.npz"):
        data.open(tmp_path / "a.npz")


def test_folders_at_the_command_line(tmp_path: Path, cases: Any, run: Any) -> None:
    """Whatever is in a folder: trained on, or one sentence that names the file."""
    for number, rng in enumerate(cases(5, 200)):
        root = tmp_path / str(number)
        root.mkdir()
        for i in range(rng.randrange(1, 6)):
            kind, mode = rng.choice(
                [("PNG", "RGB"), ("JPEG", "CMYK"), ("TIFF", "I;16"), ("GIF", "P"), ("WEBP", "RGBA")]
            )
            content, _ = drawing(rng, kind, mode)
            content = content if rng.random() < 0.7 else broken(content, rng)
            (root / f"{i}.{kind.lower()}").write_bytes(content)
        done = run(["train", "--data", str(root), "--size", "8", "--out", str(tmp_path / "run"), "--dry-run"])
        assert done.code in (0, 1, 2), done
        assert not (tmp_path / "run").exists()
        if done.code:
            assert str(root) in done.sentence

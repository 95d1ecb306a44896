"""Folders of sounds and of NIfTI files: numbers, rate, subtype, affine and header come back; files that differ are refused."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest

from ornstein import data
from ornstein.data.images import SampleFolder
from ornstein.errors import OrnsteinError, UsageError

soundfile = pytest.importorskip("soundfile")
nibabel = pytest.importorskip("nibabel")

SUBTYPES = [
    ("wav", "PCM_U8"),
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "PCM_32"),
    ("wav", "FLOAT"),
    ("wav", "DOUBLE"),
]
SUBTYPES += [("flac", "PCM_16"), ("flac", "PCM_24"), ("flac", "PCM_S8")]


def sounds(
    folder: Path, ending: str = "wav", subtype: str = "PCM_16", channels: int = 1, length: int = 40
) -> list[np.ndarray]:
    """Files of noise, and their numbers as soundfile has them."""
    folder.mkdir(exist_ok=True)
    rng, made = np.random.default_rng(0), []
    for i in range(4):
        x = rng.uniform(-0.9, 0.9, (length, channels)[: 1 + (channels > 1)])
        soundfile.write(folder / f"{i}.{ending}", x, 8000, subtype=subtype)
        kind = "float64" if subtype in ("FLOAT", "DOUBLE") else "int32"
        made.append(soundfile.read(folder / f"{i}.{ending}", dtype=kind)[0])
    return made


def written(dataset: data.Dataset, folder: Path) -> Path:
    files = SampleFolder(folder, {"a": 1}, dataset.spec)
    with files.filling():
        files.write(0, np.asarray(dataset.items))
    return folder


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("ending", "subtype"), SUBTYPES)
def test_sounds_come_back_bit_for_bit(ending: str, subtype: str, channels: int, tmp_path: Path) -> None:
    expected = sounds(tmp_path / "in", ending, subtype, channels)
    dataset = data.open(tmp_path / "in")
    assert (dataset.spec.layout, dataset.items.shape[:2]) == (("NL", "NLC")[channels - 1], (4, 40))
    bits = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(subtype, 32)
    for item, whole in zip(dataset.items, expected, strict=True):  # in the scale of their own bits
        np.testing.assert_array_equal(item, whole if whole.dtype.kind == "f" else whole >> (32 - bits))
    out = written(dataset, tmp_path / "out")
    for i, whole in enumerate(expected):
        file = out / f"{i:05d}.{ending}"
        numbers, rate = soundfile.read(file, dtype=str(whole.dtype))
        np.testing.assert_array_equal(numbers, whole)
        assert (rate, soundfile.info(file).subtype) == (8000, subtype)


def test_sounds_of_other_rates_channels_and_subtypes_are_refused_by_name(tmp_path: Path) -> None:
    for odd, words in (
        ({"samplerate": 44100}, r"0.wav has a sample rate of 8000 and 9.wav 44100"),
        ({"subtype": "PCM_24"}, r"0.wav has the subtype PCM_16 and 9.wav PCM_24"),
        ({"data": np.zeros((40, 2))}, r"0.wav has a number of channels of 1 and 9.wav 2"),
    ):
        sounds(tmp_path)
        soundfile.write(tmp_path / "9.wav", **{"data": np.zeros(40), "samplerate": 8000, "subtype": "PCM_16", **odd})
        with pytest.raises(UsageError, match=words):
            data.open(tmp_path)


def test_sounds_of_several_lengths_are_cut_where_it_is_asked_for(tmp_path: Path) -> None:
    whole = sounds(tmp_path, length=40)
    soundfile.write(tmp_path / "8.wav", np.full(9, 0.5), 8000, subtype="PCM_16")
    with pytest.raises(UsageError, match=r"of 9 \(8.wav\) to 40 numbers \(.*--crop 9"):
        data.open(tmp_path)
    with pytest.warns(UserWarning, match="40 numbers at the ends|49 numbers at the ends|shorter than 15"):
        dataset = data.open(tmp_path, crop=15)
    assert dataset.items.shape == (8, 15)
    np.testing.assert_array_equal(dataset.items[1], whole[0][15:30] >> 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert data.open(tmp_path, like=dataset.spec).spec.content_hash == dataset.spec.content_hash
    with pytest.raises(UsageError, match="has 40 numbers; give fewer"):
        data.open(tmp_path, crop=41)


def test_sounds_have_classes_and_captions_as_images_have(tmp_path: Path) -> None:
    for name in ("dog", "cat, wild"):
        sounds(tmp_path / name)
    dataset = data.open(tmp_path)
    assert dataset.classes == ("cat, wild", "dog")
    (tmp_path / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"dog/{i}.wav,{'ab'[i % 2]}\n" for i in range(4))
    )
    with pytest.warns(UserWarning, match="no label|not in|lack"):
        labelled = data.open(tmp_path)
    assert labelled.classes == ("a", "b")
    assert labelled.labelled.sum() == 4


def test_damaged_sounds_are_one_sentence(tmp_path: Path) -> None:
    sounds(tmp_path)
    content = (tmp_path / "2.wav").read_bytes()
    for broken in (b"", content[:20], content[:-10], b"RIFF" + bytes(60)):
        (tmp_path / "2.wav").write_bytes(broken)
        with pytest.raises(OrnsteinError, match=r"2.wav(:| cannot be read)") as refused:
            data.open(tmp_path)
        assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="crop: this is for"):
        data.open("digits", crop=4)


AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -5], [0, 0, 3.5, 7], [0, 0, 0, 1]])


def scans(
    folder: Path, dtype: str = "int16", ending: str = "nii.gz", slope: float = 1.0, shape: tuple[int, ...] = (5, 6, 4)
) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        numbers = rng.uniform(0, 200, shape).astype(dtype)
        image = nibabel.Nifti1Image(numbers, AFFINE, dtype=numbers.dtype)
        image.header.set_xyzt_units("mm", "sec")
        image.header["descrip"] = b"a scan"
        image.header.set_slope_inter(slope, 10.0 if slope != 1 else 0.0)
        image.to_filename(folder / f"s{i}.{ending}")


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize(
    ("dtype", "slope"), [("int16", 1.0), ("uint8", 1.0), ("float32", 1.0), ("int32", 1.0), ("int16", 0.25)]
)
def test_scans_come_back_with_affine_header_and_type(dtype: str, slope: float, ending: str, tmp_path: Path) -> None:
    scans(tmp_path / "in", dtype, ending, slope)
    dataset = data.open(tmp_path / "in")
    assert (dataset.spec.layout, dataset.spec.dtype) == ("NDHW", dtype if slope == 1 else "float32")
    out = written(dataset, tmp_path / "out")
    for i in range(3):
        before, after = (nibabel.load(path) for path in (tmp_path / f"in/s{i}.{ending}", out / f"{i:05d}.nii.gz"))
        np.testing.assert_allclose(dataset.items[i], before.get_fdata(), rtol=1e-6)
        np.testing.assert_array_equal(after.affine, before.affine)
        np.testing.assert_array_equal(after.dataobj.get_unscaled(), before.dataobj.get_unscaled())
        assert after.header.get_data_dtype() == before.header.get_data_dtype()
        assert (after.dataobj.slope, after.dataobj.inter) == (before.dataobj.slope, before.dataobj.inter)
        assert after.header.get_xyzt_units() == ("mm", "sec")
        assert after.header["descrip"].item() == b"a scan"


def test_scans_that_differ_or_are_damaged_are_refused_by_name(tmp_path: Path) -> None:
    scans(tmp_path)
    moved = AFFINE.copy()
    moved[0, 3] += 1
    odd = tmp_path / "t.nii.gz"
    nibabel.Nifti1Image(np.zeros((5, 6, 4), "i2"), moved).to_filename(odd)
    with pytest.raises(UsageError, match=r"t.nii.gz has another affine than s0.nii.gz"):
        data.open(tmp_path)
    nibabel.Nifti1Image(np.zeros((5, 6, 3), "i2"), AFFINE).to_filename(odd)
    with pytest.raises(UsageError, match=r"s0.nii.gz has the shape \(5, 6, 4\) and t.nii.gz \(5, 6, 3\)"):
        data.open(tmp_path)
    content = gzip.decompress((tmp_path / "s0.nii.gz").read_bytes())
    huge = bytearray(content)
    huge[42:48] = b"\xff\x7f" * 3  # dim[1..3] of 32,767
    for broken in (b"", content[:100], content[:-7], bytes(huge), gzip.compress(content)[:-20]):
        odd.write_bytes(broken)
        with pytest.raises(OrnsteinError) as refused:
            data.open(tmp_path)
        assert "t.nii.gz" in str(refused.value)
        assert "\n" not in str(refused.value)


def test_scans_of_several_scales_and_of_time(tmp_path: Path) -> None:
    scans(tmp_path / "in", slope=0.25)
    image = nibabel.Nifti1Image(np.ones((5, 6, 4), "i2"), AFFINE)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "in/t.nii.gz")
    dataset = data.open(tmp_path / "in")
    assert dataset.items.dtype == np.float32
    out = written(dataset, tmp_path / "out")
    np.testing.assert_allclose(nibabel.load(out / "00000.nii.gz").get_fdata(), dataset.items[0])
    scans(tmp_path / "films", shape=(5, 6, 4, 7))
    assert data.open(tmp_path / "films").spec.layout == "NDHWC"

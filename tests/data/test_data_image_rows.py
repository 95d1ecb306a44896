"""Parquet files of images as hubs write them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein import data
from ornstein.errors import OrnsteinError, UsageError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 6, 5, 3), np.uint8)


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write(path: Path, rows: slice = slice(None), names: list[str] | None = None, **columns: list[object]) -> Path:
    cells = [{"bytes": encoded(pixels), "path": "x.png"} for pixels in PIXELS[rows]]
    images = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"image": images, **{name: pa.array(values) for name, values in columns.items()}})
    features = {"image": {"_type": "Image"}, **({"label": {"names": names, "_type": "ClassLabel"}} if names else {})}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    parquet.write_table(table.replace_schema_metadata(about), path, row_group_size=2)
    return path


def test_images_labels_by_name_and_captions(tmp_path: Path) -> None:
    labels = [0, 1, 2, 0, 1, -1, 2, 0, None]
    path = write(
        tmp_path / "a.parquet", names=["a cat", "b/c", "d;ö"], label=labels, text=[f"no. {i}" for i in range(9)]
    )
    with pytest.warns(UserWarning, match="2 of 9 items have no label"):
        dataset = data.open(path)
    np.testing.assert_array_equal(dataset.items, PIXELS)
    assert dataset.classes == ("a cat", "b/c", "d;ö")
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 3, 2, 0, 3]
    assert dataset.annotations.captions[4] == "no. 4"


def test_parts_of_a_data_set_are_one_and_the_part_train_is_taken(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"train-0000{i}-of-00003.parquet", slice(3 * i, 3 * i + 3), label=["b", "a", "b"])
    write(tmp_path / "test-00000-of-00001.parquet", slice(0, 3), label=["b", "a", "b"])
    dataset = data.open(tmp_path)
    np.testing.assert_array_equal(dataset.items, PIXELS)
    assert (dataset.classes, dataset.labels.tolist()) == (("a", "b"), [1, 0, 1] * 3)


def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds 7, which is none of its 2 classes"):
        data.open(write(tmp_path / "a.parquet", names=["a", "b"], label=[0, 1, 7] * 3))
    with pytest.raises(UsageError, match="numbers or lists that are no labels"):
        data.open(write(tmp_path / "a.parquet", label=[0.5] * 9))
    content = write(tmp_path / "a.parquet").read_bytes()
    for length in (0, 50, len(content) // 2):
        (tmp_path / "a.parquet").write_bytes(content[:length])
        with pytest.raises(OrnsteinError) as refused:
            data.open(tmp_path / "a.parquet")
        assert "\n" not in str(refused.value)

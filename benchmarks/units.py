"""Data in units of their own: what a short training gives back, in deviations and against the same picture in other bits.

    python -m benchmarks.units bits --steps 250
    python -m benchmarks.units fields --minutes 2

- bits: digits as 16-bit images that use all of their type, 12 bits and 10 bits of it, trained alike. The sliced
  Wasserstein distance of 300 samples to the data, both divided by the largest number, over that of the full range.
- fields: 400 fields of 16x32 with a temperature 286 ± 11.5, a wind 0 ± 9 and a geopotential 56,800 ± 1,150. Of each channel the
  gap of the samples' mean in deviations of the data, and the samples' deviation over the data's.

Results are written to benchmarks/results/units.json, one entry for each part.
"""

import argparse
import json
import math
import warnings

import numpy as np
import torch

import ornstein
from benchmarks.solvers import RESULTS
from ornstein.metrics import sliced_wasserstein

FILE = RESULTS / "units.json"
TOPS = (65535, 4095, 1023)
CHANNELS = {"temperature": (286.0, 11.5), "wind": (0.0, 9.0), "geopotential": (56_800.0, 1_150.0)}


def bits(steps: int, threads: int) -> dict[str, dict[str, float]]:
    """Distances of the same picture in 16, 12 and 10 bits of uint16."""
    base = ornstein.data.open("digits").items[..., 0].astype(float) / 16
    results: dict[str, dict[str, float]] = {}
    for top in TOPS:
        x = np.rint(base * top).astype(np.uint16)
        run = ornstein.train(x, steps=steps, preset="tiny", batch_size=32, device="cpu", threads=threads)
        samples = run.sample(300, steps=12)
        own, real = (torch.from_numpy(part.reshape(len(part), -1) / top).float() for part in (samples, x[:1500]))
        distance = sliced_wasserstein(own, real).value
        full = results[str(TOPS[0])]["distance"] if results else distance
        results[str(top)] = {"distance": distance, "ratio": distance / full}
        print(f"0 to {top}: {distance:.4f}, {distance / full:.2f} times that of the full range", flush=True)
    return results


def fields(minutes: float, threads: int) -> dict[str, dict[str, float]]:
    """Mean and deviation of each channel of samples, in those of the data."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:16, 0:32] / 16

    def wave(frequency: int) -> np.ndarray:
        phase = rng.uniform(0, 2 * math.pi, (400, 1, 1))
        made = np.sin(math.pi * (frequency * columns + rows) + phase) * 1.2 + 0.5 * rng.normal(size=(400, 1, 1))
        return (made - made.mean()) / made.std()

    parts = [mean + std * wave(1 + i % 2) for i, (mean, std) in enumerate(CHANNELS.values())]
    x = np.stack(parts, -1).astype(np.float32)
    run = ornstein.train(x, minutes=minutes, preset="tiny", batch_size=16, device="cpu", threads=threads)
    samples = run.sample(64, steps=15).astype(np.float64)
    axes = (0, 1, 2)
    gap = np.abs(samples.mean(axes) - x.mean(axes)) / x.std(axes)
    ratio = samples.std(axes) / x.std(axes)
    steps = len(run.metrics())
    for i, name in enumerate(CHANNELS):
        print(
            f"{name}: mean off by {gap[i]:.2f} deviations, deviation {ratio[i]:.2f} times ({steps} steps)", flush=True
        )
    return {name: {"gap": float(gap[i]), "ratio": float(ratio[i]), "steps": steps} for i, name in enumerate(CHANNELS)}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("bits", "fields"))
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    made = bits(options.steps, options.threads) if options.part == "bits" else fields(options.minutes, options.threads)
    length = {"steps": options.steps} if options.part == "bits" else {"minutes": options.minutes}
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps({**known, options.part: {**length, "results": made}}, indent=1) + "\n")


if __name__ == "__main__":
    main()

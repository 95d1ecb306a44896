"""What keeping freed memory saves when features are extracted: `python -m benchmarks.features [ITEMS]`.

EfficientNet features of items of Fashion-MNIST, in a fresh process each, without and with `cpu.keep_memory`, by turns, on
one thread. Prints seconds, page faults and the largest memory of the process.
"""

import resource
import subprocess
import sys
import time

import numpy as np
import torch

from ornstein import data
from ornstein.cpu import keep_memory
from ornstein.metrics import efficientnet, extract


def measure(keep: bool, count: int) -> str:
    torch.set_num_threads(1)
    kept = keep and keep_memory()
    dataset, extractor = data.open("fashion-mnist:test"), efficientnet()
    items = np.array(dataset.items[:count])
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    extract(extractor, items, dataset.spec)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    faults, memory = after.ru_minflt - before.ru_minflt, after.ru_maxrss / 1e3
    return f"{'kept' if kept else 'given back':10} {seconds:6.1f} s {faults:12,} page faults {memory:6,.0f} MB"


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    if len(sys.argv) > 2:
        print(measure(sys.argv[2] == "keep", count))
    else:
        for keep in ("give", "keep") * 2:
            subprocess.run([sys.executable, "-m", "benchmarks.features", str(count), keep], check=True)

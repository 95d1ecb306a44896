"""A published few-step ONNX model under this library: terrain at 1, 2, 4 and 8 calls.

python -m benchmarks.terrain OUT.png, with the package adaptive-terrain-diffusion and onnxruntime installed. Its network is
a consistency model: each call goes to the data, after which noise of the next level is added (Song et al. 2023, algorithm 1).
"""

import sys
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ornstein import PerSampleNoise, interop
from ornstein.grid import karras

CALLS, ROWS = (1, 2, 4, 8), 2
MODEL = "weights/terrain_consistency_unet_difficulty100.onnx"


def main(out: str) -> None:
    file = Path(str(files("terrain_diffusion").joinpath(MODEL)))
    model = interop.onnx.denoiser(file, interop.edm.convention())
    model, noise = model.given({"difficulty": torch.full((ROWS,), 0.6)}), PerSampleNoise(0)
    columns = []
    for calls in CALLS:
        times = karras(model.path, calls).tolist()
        x = 80 * noise(torch.zeros(ROWS, 1, 128, 128), 1.0, 1.0)
        for t, s in pairwise(times):
            x = model(x, t).clean + float(model.path.sigma(torch.tensor(s))) * noise(x, t, s)
        low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        columns.append(((x - low) / (high - low) * 255).byte().numpy()[:, 0])
    rows = [np.concatenate([column[i] for column in columns], 1) for i in range(ROWS)]
    Image.fromarray(np.concatenate(rows)).save(out)


if __name__ == "__main__":
    main(sys.argv[1])

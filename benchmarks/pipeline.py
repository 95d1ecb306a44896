"""A solver tuned to a pipeline of diffusers, at 6 calls, beside its DPM++2M at 18: both inside the pipeline.

A `UNet2DModel` is trained as diffusers' own example does (noise prediction, EMA, cosine learning rate) on the bundled digits
or on Fashion-MNIST, saved as a `DDPMPipeline`, tuned by `ornstein tune FOLDER --out six.json`, and sampled by the pipeline with
either scheduler from the same noises. The error of a sample is its RMSE to the endpoint of the same ODE in 200 calls.
Writes results/pipeline.json, an entry a data set.

    python -m benchmarks.pipeline FOLDER [minutes] [digits|fashion-mnist]        minutes of CPU time; needs the extra `diffusers`
"""

import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ornstein import PerSampleNoise, data, sample
from ornstein.cli import main as command
from ornstein.interop import diffusers as interop

RESULTS = Path(__file__).parent / "results"
STARTS, SEED, FINE = {"digits": 256, "fashion-mnist": 128}, 10_000, 200
BATCH, RATE, WARMUP = 128, 2e-3, 100


def train(folder: Path, minutes: float, source: str) -> dict[str, float]:
    """diffusers' unconditional training loop, for so long, into a pipeline folder."""
    import diffusers as d
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    spec = (items := data.open(source)).spec
    model = d.UNet2DModel(
        sample_size=spec.shape[-1],
        in_channels=spec.shape[0],
        out_channels=spec.shape[0],
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    scheduler = d.DDPMScheduler(num_train_timesteps=1000)
    optimizer, ema = torch.optim.AdamW(model.parameters(), lr=RATE), EMAModel(model.parameters(), decay=0.999)
    step, loss, end, begun = 0, 0.0, 60 * minutes, time.process_time()
    while (spent := time.process_time() - begun) < end:
        warm = min(1.0, (step + 1) / WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = RATE * warm * (0.5 + 0.5 * math.cos(math.pi * spent / end))
        clean = spec.to_model(items.items[torch.randint(len(items.items), (BATCH,))])
        noise, steps = torch.randn_like(clean), torch.randint(0, 1000, (BATCH,))
        predicted = model(scheduler.add_noise(clean, noise, steps), steps).sample
        cost = F.mse_loss(predicted, noise)
        cost.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        step, loss = step + 1, 0.99 * loss + 0.01 * float(cost.detach()) if step else float(cost.detach())
    ema.copy_to(model.parameters())
    d.DDPMPipeline(model, scheduler).save_pretrained(folder)
    return {"steps": step, "loss": loss}


def shape_of(folder: Path) -> tuple[int, int, int]:
    """The shape of an item of the pipeline's network."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    return config["in_channels"], config["sample_size"], config["sample_size"]


def drawn(folder: Path, make: Any, steps: int, start: Tensor) -> tuple[Tensor, int]:
    """Samples of the pipeline in model units under a scheduler, from those noises, and its network calls."""
    import diffusers as d

    pipe = d.DDPMPipeline.from_pretrained(folder)
    pipe.scheduler = make(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    calls = list[int]()
    hook = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    pipe.scheduler.set_timesteps(steps)
    x = start * pipe.scheduler.init_noise_sigma
    with torch.inference_mode():
        for t in pipe.scheduler.timesteps:
            x = pipe.scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
    hook.remove()
    return x, len(calls)


def theirs() -> dict[str, Any]:
    """DPM++2M on the grids that diffusers offers for it."""
    import diffusers as d

    multistep = d.DPMSolverMultistepScheduler
    return {
        "DPM++2M": multistep.from_config,
        "DPM++2M trailing": lambda config: multistep.from_config(config, timestep_spacing="trailing"),
        "DPM++2M Karras": lambda config: multistep.from_config(config, use_karras_sigmas=True),
    }


def measure(folder: Path, starts: int, steps: int = 6, calls: int = 18) -> dict[str, Any]:
    """Tune, and the median errors of both inside the pipeline."""
    solver = folder / f"tuned-{steps}.json"
    if not solver.exists():
        code = command(["tune", str(folder), "--steps", str(steps), "--seconds", "240", "--out", str(solver)])
        assert code == 0
    noise = PerSampleNoise(SEED)
    denoiser = interop.denoiser(folder)
    start = noise(torch.zeros(starts, *shape_of(folder)), 1.0, 1.0)
    goal = sample(denoiser, start=start, steps=FINE)

    def error(ends: Tensor) -> float:
        return float((ends - goal).square().mean((1, 2, 3)).sqrt().median())

    rows = {}
    for name, make in theirs().items():
        ends, made = drawn(folder, make, calls, start)
        rows[f"{name}, {made} calls"] = error(ends)
    for name in ("abm", f"tuned:{solver}"):
        ends, made = drawn(
            folder, lambda config, name=name: interop.Scheduler.from_config(config, solver=name), steps, start
        )
        rows[f"{name.partition(':')[0]}, {made} calls"] = error(ends)
    best = min(value for name, value in rows.items() if name.startswith("DPM"))
    return {"median errors": rows, "ratio": rows[f"tuned, {steps} calls"] / best}


def run(folder: str, minutes: str = "3", source: str = "digits") -> dict[str, Any]:
    """Both, written to results/pipeline.json."""
    warnings.simplefilter("ignore")
    place, file = Path(folder), RESULTS / "pipeline.json"
    trained = {} if (place / "model_index.json").exists() else train(place, float(minutes), source)
    starts = STARTS[source]
    result = {"trained": trained, "starts": starts, "fine": FINE, **measure(place, starts)}
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, source: result}, indent=1) + "\n")
    return result


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:]), indent=1))

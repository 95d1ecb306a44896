"""What a CUDA GPU reaches: training, sampling, the overhead of a step, and evaluation, beside diffusers where it is installed.

    python -m benchmarks.gpu [training] [sampling] [overhead] [evaluation]      # results/gpu-*.json, each under nine minutes
    python -m benchmarks.gpu --device cpu --tiny --out FOLDER                   # the same code on a CPU, to see that it runs
    python -m benchmarks.gpu --there                                            # whether there is a GPU, as exit code

The sides of a case are timed in turn (A B A B ...), each turn as many steps as fill half a second, after two turns that do not
count; medians over turns, and the median ratio of turns that follow each other. The peak is measured in the same run: the
fastest bfloat16 product of large square matrices. Ours is a step of `ornstein train` at its defaults (`benchmarks.training`);
diffusers trains in bfloat16 too, and both are compiled by torch.compile as well. A side that cannot run, or for which no time is
left, is named with the reason.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path as File
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ornstein
from benchmarks.training import Diffusers, Ours, Side, by_time, our_small, their_small
from ornstein import data, path, solvers, target
from ornstein.device import peak, synchronize
from ornstein.metrics import Network, extract, frechet, kid
from ornstein.metrics.inception import Inception
from ornstein.networks import DiT, UNet, placed

RESULTS = File(__file__).parent / "results"
SECONDS = 240.0  # for each of the four parts; what is at work when they are over is finished
TURN = 0.5  # seconds
STEPS = 20
NONE = (
    "There is no CUDA GPU here (torch.cuda.is_available() is false), so nothing was measured; "
    "`python -m benchmarks.gpu --device cpu --tiny` runs the same code on the CPU."
)
GOALS = {"DiT-XL/2, training: share of the bf16 peak": 0.45, "sampling: times diffusers compiled": 1.5}

Run = Callable[[], object]
Make = Callable[[], Run]


@dataclass
class Place:
    """Where it is measured, at which size, and until when."""

    device: torch.device
    tiny: bool
    ends: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.ends

    @property
    def steps(self) -> int:
        """Network calls of a sampling loop."""
        return self.size(2, STEPS)

    def size(self, few: int, many: int) -> int:
        return few if self.tiny else many

    def compile(self, network: nn.Module) -> nn.Module:
        """The network compiled; at tiny sizes without a compiler of kernels."""
        network.compile(**({"backend": "eager"} if self.tiny else {}))
        return network


def seconds(place: Place, run: Run, count: int) -> float:
    """Of one of `count` runs."""
    synchronize(place.device)
    begun = time.perf_counter()
    for _ in range(count):
        run()
    synchronize(place.device)
    return (time.perf_counter() - begun) / count


def measure(place: Place, makers: dict[str, Make]) -> dict[str, Any]:
    """For each side its seconds a run, one a turn, or why it was left out."""
    runs: dict[str, Run] = {}
    left_out: dict[str, str] = {}
    for name, make in makers.items():
        if place.late:
            left_out[name] = "no time was left"
            continue
        try:
            runs[name] = make()
            runs[name]()
        except (RuntimeError, ImportError) as error:
            runs.pop(name, None)
            left_out[name] = " ".join(str(error).split())[:200]
            gc.collect()
    turns: dict[str, list[float]] = {name: [] for name in runs}
    counts = {name: max(1, round(TURN / max(seconds(place, run, 1), 1e-6))) for name, run in runs.items()}
    warm = place.size(0, 2)
    for turn in range(warm + place.size(1, 7)):
        for name, run in runs.items():
            took = seconds(place, run, 1 if place.tiny else counts[name])
            if turn >= warm:
                turns[name].append(took)
        if place.late and turn >= warm + 2:
            break
    first = next(iter(turns), None)
    return {
        "sides": {
            name: {
                "seconds": each,
                "median": statistics.median(each),
                "times the first": statistics.median(b / a for a, b in zip(turns[first], each, strict=True)),
            }
            for name, each in turns.items()
            if first is not None
        },
        "left out": left_out,
    }


@contextmanager
def emptied(place: Place) -> Iterator[None]:
    """Frees the memory of what was made within."""
    try:
        yield
    finally:
        gc.collect()
        torch.compiler.reset()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


# --- networks --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A network of ours, diffusers' of the same cost, the shape of an item, and items a step in training and in sampling."""

    kind: str
    ours: Callable[[], nn.Module]
    theirs: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    samples: int

    def call(self, network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """diffusers' network at x and steps t (B,)."""
        if self.kind == "unet":
            return by_time(network, x, t)
        labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
        out: Tensor = network(x, timestep=t.long(), class_labels=labels).sample
        return out


def dit(name: str, depth: int, heads: int, width: int, batch: int, samples: int) -> Case:
    def theirs() -> nn.Module:
        from diffusers import DiTTransformer2DModel

        made: nn.Module = DiTTransformer2DModel(
            heads, width // heads, in_channels=4, out_channels=4, num_layers=depth, sample_size=32, patch_size=2
        )
        return made

    return Case("dit", lambda: DiT.preset(name, channels=4, size=32, classes=1000), theirs, (4, 32, 32), batch, samples)


def their_cifar10() -> nn.Module:
    from diffusers import UNet2DModel

    made: nn.Module = UNet2DModel(
        sample_size=32,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        downsample_padding=0,
        dropout=0.1,
    )
    return made


CASES = {
    "DiT-XL/2": dit("XL/2", 28, 16, 1152, 64, 64),
    "small U-Net": Case("unet", our_small, their_small, (1, 28, 28), 256, 256),
    "CIFAR-10 U-Net": Case(
        "unet", lambda: UNet.preset("ddpm-cifar10", channels=3), their_cifar10, (3, 32, 32), 128, 128
    ),
    "DiT-S/2": dit("S/2", 12, 6, 384, 256, 128),
}


def tiny_dit() -> nn.Module:
    from diffusers import DiTTransformer2DModel

    made: nn.Module = DiTTransformer2DModel(
        2, 16, in_channels=4, out_channels=4, num_layers=2, sample_size=8, patch_size=2
    )
    return made


def tiny_unet() -> nn.Module:
    from diffusers import UNet2DModel

    made: nn.Module = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    return made


TINY = {
    "tiny U-Net": Case("unet", lambda: UNet(1, width=8, multipliers=(1, 2), blocks=1), tiny_unet, (1, 8, 8), 2, 2),
    "tiny DiT": Case("dit", lambda: DiT(4, 8, width=32, depth=2, heads=2, classes=1000), tiny_dit, (4, 8, 8), 2, 2),
}


def cases(place: Place) -> dict[str, Case]:
    return TINY if place.tiny else CASES


# --- the four parts --------------------------------------------------------------------------------------------------


def training(place: Place) -> dict[str, Any]:
    """Images a second, and the share of the peak of bfloat16 products. Dropout of the CIFAR-10 U-Net is on for both."""
    best, found = peak(place.device, torch.bfloat16, 0.03 if place.tiny else 2.0), {}
    for name, case in cases(place).items():
        with emptied(place), tempfile.TemporaryDirectory() as folder:
            gflop: dict[str, float] = {}
            sides = {side: partial(trained, place, case, File(folder), side, gflop) for side in SIDES[case.kind]}
            found[name] = result = measure(place, sides)
            for side, row in result["sides"].items():
                row["images a second"] = case.batch / row["median"]
                row["share of the peak"] = gflop[side] * 1e9 / row["median"] / best
            result["batch"] = case.batch
    return {"peak, operations a second": best, "cases": found}


SIDES = {"dit": ["ornstein", "diffusers", "ornstein, compiled", "diffusers, compiled"]}
SIDES["unet"] = [*SIDES["dit"], "ornstein, channels first"]


def trained(place: Place, case: Case, folder: File, side: str, gflop: dict[str, float]) -> Run:
    """A step of training; what it computes goes into `gflop`."""
    if side.startswith("ornstein"):
        first = side.endswith("channels first")
        own = File(tempfile.mkdtemp(dir=folder))
        options = {"device": place.device.type, "precision": "bf16", "channels_last": not first}
        made: Side = Ours(case.ours(), case.shape, case.batch, own, case.kind, **options)
    else:
        made = Diffusers(case.theirs(), case.call, case.shape, case.batch, bf16=True, device=place.device)
    gflop[side] = made.gflop
    if side.endswith("compiled"):
        place.compile(made.network)
    return made.step


class Graphed:
    """A network recorded once as a CUDA graph, for inputs of one shape; elsewhere it is called as it is."""

    def __init__(self, network: nn.Module, x: Tensor) -> None:
        self.network, self.graph = network, None
        if x.device.type != "cuda":
            return
        self.x, self.t = x.clone(), torch.full((len(x),), 0.5, device=x.device, dtype=x.dtype)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # what is chosen and allocated at the first calls
            for _ in range(3):
                network(self.x, self.t)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.out = network(self.x, self.t)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if self.graph is None:
            out: Tensor = self.network(x, t)
            return out
        self.x.copy_(x)
        self.t.copy_(t)
        self.graph.replay()
        return self.out.clone()


SOLVERS: dict[str, tuple[Any, str]] = {
    "DDIM": (solvers.DDIM(), "DDIMScheduler"),
    "2M": (solvers.DPMSolverPP(), "DPMSolverMultistepScheduler"),
    "default": (None, "DPMSolverMultistepScheduler"),
}


def sampling(place: Place) -> dict[str, Any]:
    """Whole loops of 20 steps in bfloat16 weights, samples a second; diffusers' default is its 2M."""
    found: dict[str, Any] = {}
    for name, case in cases(place).items():
        with emptied(place):
            x = torch.randn(case.samples, *case.shape, device=place.device, dtype=torch.bfloat16)
            network = cache(partial(_ready, place, case))  # made once for all solvers
            for solver, (method, scheduler) in SOLVERS.items():
                sides: dict[str, Make] = {
                    "ornstein, compiled": lambda m=method, n=network, x=x: our_loop(place, n("ours", True), m, x),
                    "diffusers, compiled": lambda s=scheduler, n=network, c=case, x=x: their_loop(
                        place, partial(c.call, n("theirs", True)), s, x
                    ),
                    "ornstein": lambda m=method, n=network, x=x: our_loop(place, n("ours", False), m, x),
                    "diffusers": lambda s=scheduler, n=network, c=case, x=x: their_loop(
                        place, partial(c.call, n("theirs", False)), s, x
                    ),
                    "ornstein, CUDA graph": lambda m=method, n=network, x=x: our_loop(
                        place, Graphed(n("ours", False), x), m, x
                    ),
                }
                found[f"{name}, {solver}"] = result = measure(place, sides)
                for row in result["sides"].values():
                    row["samples a second"] = case.samples / row["median"]
                ours = [row["median"] for side, row in result["sides"].items() if side.startswith("ornstein")]
                if ours and "diffusers, compiled" in result["sides"]:
                    result["times diffusers compiled"] = result["sides"]["diffusers, compiled"]["median"] / min(ours)
            del network, sides
    return {"cases": found}


def _ready(place: Place, case: Case, whose: str, compiling: bool) -> nn.Module:
    made = case.ours() if whose == "ours" else case.theirs()
    made = placed(made.eval().requires_grad_(False), place.device).to(torch.bfloat16)
    return place.compile(made) if compiling else made


def our_loop(place: Place, network: Callable[..., Tensor], solver: Any, x: Tensor) -> Run:
    denoiser = ornstein.NetworkDenoiser(network, path.Betas.linear(), target.Noise())

    def run() -> None:
        with torch.inference_mode():
            ornstein.sample(denoiser, start=x, solver=solver, steps=place.steps)

    return run


def their_loop(place: Place, network: Callable[[Tensor, Tensor], Tensor], scheduler: str, x: Tensor) -> Run:
    import diffusers

    loop = getattr(diffusers, scheduler)()

    def run() -> None:
        with torch.inference_mode():
            loop.set_timesteps(place.steps, device=x.device)
            y = x
            for t in loop.timesteps:
                y = loop.step(network(y, t.expand(len(y))), t, y).prev_sample

    return run


def overhead(place: Place) -> dict[str, Any]:
    """Microseconds of a sampling step beyond the network call, which here returns a tensor made before."""
    found: dict[str, Any] = {}
    shape = (2, 1, 4, 4) if place.tiny else (64, 4, 32, 32)
    x, out = (torch.randn(shape, device=place.device) for _ in range(2))
    for name, (solver, scheduler) in SOLVERS.items():
        sides: dict[str, Make] = {
            "ornstein": partial(our_loop, place, lambda x, t: out, solver, x),
            "diffusers": partial(their_loop, place, lambda x, t: out, scheduler, x),
        }
        found[name] = result = measure(place, sides)
        for row in result["sides"].values():
            row["microseconds a step"] = row["median"] / place.steps * 1e6
    return {"cases": found}


def evaluation(place: Place) -> dict[str, Any]:
    """Items a second: features of an Inception (weights drawn, which costs the same), and two metrics of them."""
    count, side = (4, 8) if place.tiny else (4000, 32)
    items = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/items.npy", items)
        about = data.open(f"{folder}/items.npy").spec
    net = (nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 4)) if place.tiny else Inception()).eval()
    extractor = Network("inception", net.requires_grad_(False).to(place.device))
    features = torch.randn(place.size(128, 10_000), place.size(4, 2048))
    there = features.to(place.device)
    makers: dict[str, Make] = {
        "features": lambda: partial(extract, extractor, items, about),
        "Fréchet distance": lambda: partial(frechet, features, features.flip(0)),
        "KID": lambda: partial(kid, features, features.flip(0)),
        "Fréchet distance on the device": lambda: partial(frechet, there, there.flip(0)),
        "KID on the device": lambda: partial(kid, there, there.flip(0)),
    }
    result = measure(place, makers)
    for name, row in result["sides"].items():
        row["items a second"] = (count if name == "features" else len(features)) / row["median"]
    return {"cases": {"evaluation": result}}


PARTS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "training": training,
    "sampling": sampling,
    "overhead": overhead,
    "evaluation": evaluation,
}


def about(place: Place) -> dict[str, Any]:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else place.device.type
    return {
        "device": name,
        "tiny": place.tiny,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "ornstein": ornstein.__version__,
        "diffusers": _version("diffusers"),
        "date": datetime.now(UTC).date().isoformat(),
        "goals": GOALS,
    }


def _version(package: str) -> str | None:
    from importlib.metadata import version

    return version(package) if find_spec(package) else None


def run(names: list[str], device: torch.device, tiny: bool, out: File) -> None:
    """Measure the parts named, write gpu-*.json after each, and print a line for each side."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        place = Place(device, tiny)
        torch.manual_seed(0)
        result = {**about(place), **PARTS[name](place)}
        (out / f"gpu-{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        for case, measured in result["cases"].items():
            for side, row in measured["sides"].items():
                figures = (f"{value:,.3g} {key}" for key, value in row.items() if key not in ("seconds", "median"))
                print(f"{name}, {case}, {side}: {row['median'] * 1e3:.4g} ms; {'; '.join(figures)}", flush=True)
            for side, why in measured["left out"].items():
                print(f"{name}, {case}, {side} is left out: {why}", flush=True)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to see that it runs")
    parser.add_argument("--out", type=File, default=RESULTS, help="the folder of the results")
    parser.add_argument("--there", action="store_true", help="only say whether there is a GPU")
    options = parser.parse_args(words)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(NONE)
        return 1
    if not options.there:
        run(options.parts or list(PARTS), device, options.tiny, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Training side by side with the libraries users would pick instead: images a second on the same network and machine.

    python -m benchmarks.training [small] [cifar10] [dit]     # results/training.json and training.md

Each side of a case has a process of its own, set up as its users would find it, and the processes are timed in turn (A B C A
B C ...), about three seconds each after one step: median times, and medians of the ratios of turns that follow each other.
Ours is a step of the training loop of `ornstein train` at its defaults: order of the data, times, noise, forward, backward,
clipping, AdamW and two weight averages. diffusers' is what its unconditional training example does (add_noise, mse, clipping,
torch's AdamW, EMAModel), its batch given free of charge. azula and lucidrains get torch's AdamW and no average. "Memory kept"
lends diffusers what we ask of the C library.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.solvers import table_lines
from ornstein import data
from ornstein.cpu import keep_memory
from ornstein.device import peak
from ornstein.networks import DiT, UNet
from ornstein.settings import Settings
from ornstein.training import split_batch
from ornstein.training.loop import train
from ornstein.training.trainer import FolderTraining

RESULTS = Path(__file__).parent / "results"
TURN = 3.0
Call = Callable[[nn.Module, Tensor, Tensor], Tensor]
Makers = dict[str, Callable[[], "Side"]]


class Side:
    """A network with a step to time."""

    def __init__(self, network: nn.Module, call: Call, shape: tuple[int, ...], batch: int) -> None:
        self.network, self.call, self.shape, self.batch = network.train(), call, shape, batch
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call(network, torch.zeros(1, *shape), torch.ones(1))
        self.gflop = 3 * batch * counter.get_total_flops() / 1e9  # backward is twice forward
        self.parameters = sum(p.numel() for p in network.parameters())

    def step(self) -> None:
        raise NotImplementedError


class Ours(Side):
    def __init__(
        self, network: nn.Module, shape: tuple[int, ...], batch: int, folder: Path, kind: str, **changes: Any
    ) -> None:
        super().__init__(network, lambda n, x, t: n(x, t), shape, batch)
        images = np.random.default_rng(0).integers(0, 256, (4 * batch, *shape[1:], shape[0]), np.uint8)
        np.save(folder / f"{kind}.npy", images)
        given = Settings(data=str(folder / f"{kind}.npy"), out=str(folder / kind), batch_size=batch, steps=10**6)
        given = replace(given, **changes)
        run = FolderTraining(
            replace(given, network=kind, preset="small", target="noise", path="vp"), data.open(given.data)
        )
        run.recipe = replace(run.recipe, model=replace(run.model, network=network))
        self.tuned = ExitStack()
        self.tuned.enter_context(run.recipe.processor())
        state, learner = run.ready()
        self.steps = train(run.recipe, learner, run.batches(), state)

    def step(self) -> None:
        next(self.steps)


class Diffusers(Side):
    """The loop of diffusers' examples/unconditional_image_generation, without its data loader."""

    def __init__(
        self,
        network: Any,
        call: Call,
        shape: tuple[int, ...],
        batch: int,
        bf16: bool = False,
        last: bool = False,
        keep: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        if keep:
            keep_memory()
        super().__init__(network, call, shape, batch)
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.network.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        self.bf16, self.x = bf16, torch.randn(batch, *shape, device=device)
        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        self.optimizer = torch.optim.AdamW(network.parameters(), 1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        self.average = EMAModel(
            self.network.parameters(),
            0.9999,
            use_ema_warmup=True,
            power=0.75,
            model_cls=type(network),
            model_config=network.config,
        )

    def step(self) -> None:
        noise, t = torch.randn_like(self.x), torch.randint(0, 1000, (self.batch,), device=self.x.device)
        noisy = self.scheduler.add_noise(self.x, noise, t).to(memory_format=self.layout)
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.call(self.network, noisy, t)
        F.mse_loss(out.float(), noise).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.step(self.network.parameters())


class Plain(Side):
    """Forward, backward, torch's AdamW at its defaults."""

    def __init__(self, network: nn.Module, call: Call, shape: tuple[int, ...], batch: int) -> None:
        super().__init__(network, call, shape, batch)
        self.x, self.optimizer = torch.randn(batch, *shape), torch.optim.AdamW(network.parameters(), 1e-4)

    def step(self) -> None:
        out = self.call(self.network, self.x, torch.rand(self.batch))
        F.mse_loss(out, self.x).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def by_time(network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    out: Tensor = network(x, t).sample
    return out


def our_small() -> UNet:
    return UNet(1, width=32, multipliers=(1, 2, 2), blocks=2, attention_levels=(1,), additive=True)


def their_small() -> nn.Module:
    """diffusers' network with the parameters and the arithmetic of `our_small`."""
    from diffusers import UNet2DModel

    network: nn.Module = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    return network


def small(folder: Path) -> Makers:
    """1.6 M parameters, 28×28, attention at 14×14, batch 64."""
    shape, batch = (1, 28, 28), 64

    def theirs(**options: bool) -> Side:
        return Diffusers(their_small(), by_time, shape, batch, **options)

    return {
        "ornstein": lambda: Ours(our_small(), shape, batch, folder, "unet"),
        "diffusers": theirs,
        "diffusers, memory kept": partial(theirs, keep=True),
        "diffusers, bf16": partial(theirs, bf16=True),
        "diffusers, bf16, channels-last": partial(theirs, bf16=True, last=True),
        "azula (its own U-Net)": lambda: Plain(*azula(), shape, batch),
        "lucidrains (its own U-Net)": lambda: Plain(*lucidrains(), shape, batch),
    }


def azula() -> tuple[nn.Module, Call]:
    from azula.nn.unet import UNet as Theirs

    network = Theirs(1, 1, hid_channels=(32, 64, 128), hid_blocks=(3, 3, 3), mod_features=128, norm="group")
    return network, lambda n, x, t: n(x, t[:, None].expand(-1, 128))


def lucidrains() -> tuple[nn.Module, Call]:
    # Their package imports these at its head for its trainer, which is not used here.
    for name in ("torchvision", "ema_pytorch", "accelerate", "pytorch_fid", "pytorch_fid.fid_score"):
        sys.modules.setdefault(name, MagicMock())
    sys.modules.setdefault("pytorch_fid.inception", MagicMock())
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    return Unet(dim=28, dim_mults=(1, 2, 3), channels=1), lambda n, x, t: n(x, t)


def cifar10(folder: Path) -> Makers:
    """DDPM's U-Net for CIFAR-10: 35.7 M parameters, 32×32, batch 16."""
    shape, batch = (3, 32, 32), 16

    def theirs(**options: bool) -> Side:
        from diffusers import UNet2DModel

        network = UNet2DModel(
            sample_size=32,
            block_out_channels=(128, 256, 256, 256),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0,
            dropout=0.1,
        )
        return Diffusers(network, by_time, shape, batch, **options)

    return {
        "ornstein": lambda: Ours(UNet.preset("ddpm-cifar10", channels=3), shape, batch, folder, "unet"),
        "diffusers": theirs,
        "diffusers, memory kept": partial(theirs, keep=True),
    }


def dit(folder: Path) -> Makers:
    """DiT-S/2 on 32×32×4, batch 64. Each of diffusers' blocks embeds time and label anew: 7 M parameters more, no arithmetic."""
    shape, batch = (4, 32, 32), 64

    def theirs() -> Side:
        from diffusers import DiTTransformer2DModel

        network = DiTTransformer2DModel(
            6, 64, in_channels=4, out_channels=4, num_layers=12, sample_size=32, patch_size=2
        )
        labels = torch.randint(0, 1000, (batch,))

        def call(network: nn.Module, x: Tensor, t: Tensor) -> Tensor:
            out: Tensor = network(x, timestep=t.long(), class_labels=labels[: len(x)]).sample
            return out

        return Diffusers(network, call, shape, batch)

    ours = partial(DiT.preset, "S/2", channels=4, size=32, classes=1000)
    return {
        "ornstein": lambda: Ours(ours(), shape, batch, folder, "dit"),
        "diffusers": theirs,  # a third side would not fit into 24 GB
    }


CASES: dict[str, tuple[Callable[[Path], Makers], int]] = {"small": (small, 5), "cifar10": (cifar10, 3), "dit": (dit, 3)}


class Apart:
    """A side in a process of its own. `facts` are known after its first step."""

    def __init__(self, make: Callable[..., Side], *arguments: Any) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.facts: dict[str, Any] = self._pipe.recv()

    def timed(self, steps: int) -> float:
        """Seconds a step."""
        self._pipe.send(steps)
        seconds: float = self._pipe.recv()
        return seconds

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def serve(pipe: Connection, make: Callable[..., Side], arguments: tuple[Any, ...]) -> None:
    torch.manual_seed(0)
    side = make(*arguments)
    pipe.send(
        {
            "parameters": side.parameters,
            "without embeddings": sum(p.numel() for n, p in side.network.named_parameters() if not embeds(n)),
            "gflop": side.gflop,
            "batch": side.batch,
            "memory": kept(side),
        }
    )
    while True:
        try:
            steps = pipe.recv()
        except EOFError:
            return
        side.step()  # not counted: caches hold the others' numbers, and the system may have taken back memory that lay idle
        begun = time.perf_counter()
        for _ in range(steps):
            side.step()
        pipe.send((time.perf_counter() - begun) / steps)


def embeds(name: str) -> bool:
    return any(word in name for word in ("conditioning", "time_embedding", "norm1.emb", "pos_embed.pos"))


def kept(side: Side) -> float:
    """MB of tensors that a step's forward pass keeps for its backward pass, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in side.network.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    # the hooks are a thread's own: one does it all, and keeps what two keep between them
    with (
        patch.object(split_batch, "ROWS", sys.maxsize),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        side.step()
    return sum(found.values()) / 1e6


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raises AssertionError unless both have the same arithmetic and, embeddings aside, the same parameters."""
    for key in ("gflop", "without embeddings"):
        assert abs(ours[key] / theirs[key] - 1) < 0.02, (key, ours[key], theirs[key])


def measure(sides: dict[str, Apart], rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each side, one number a turn; a turn takes `TURN` seconds or a step, and the first is not counted.

    Turns of like length meet pauses of the machine alike, where single steps of a short one would meet them by luck.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    steps = {name: max(1, round(TURN / side.timed(1))) for name, side in sides.items()}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side.timed(steps[name]))
    return seconds


def maker(case: str, name: str, folder: Path) -> Side:
    return CASES[case][0](folder)[name]()


def run(names: Iterable[str]) -> str:
    """Measure the cases named, write results/training.{json,md} beside those measured before, and return the tables."""
    file = RESULTS / "training.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    cpu = torch.device("cpu")
    for name in names:
        case, rounds = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            sides = {key: Apart(maker, name, key, Path(folder)) for key in case(Path(folder))}
            same(sides["ornstein"].facts, sides["diffusers"].facts)
            peaks = [peak(cpu, torch.bfloat16)]
            seconds = measure(sides, rounds)
            peaks.append(peak(cpu, torch.bfloat16))
            for side in sides.values():
                side.close()
        known[name] = {
            "about": case.__doc__,
            "peak": max(peaks) / 1e9,
            "threads": torch.get_num_threads(),
            "sides": {key: {**side.facts, "seconds": seconds[key]} for key, side in sides.items()},
        }
        RESULTS.mkdir(exist_ok=True)
        file.write_text(json.dumps(known, indent=1))
    text = "\n".join(tables(known))
    (RESULTS / "training.md").write_text(text)
    return text


def tables(known: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name in CASES:
        if name not in known:
            continue
        case = known[name]
        ours = case["sides"]["ornstein"]
        rows = []
        for key, side in case["sides"].items():
            took = statistics.median(side["seconds"])
            speed = side["gflop"] / took
            ahead = statistics.median(b / a for a, b in zip(ours["seconds"], side["seconds"], strict=True))
            rows.append(
                [
                    key,
                    f"{side['parameters']:,}",
                    f"{side['gflop'] / side['batch'] / 3:.3g}",
                    f"{side['batch'] / took:.3g}",
                    f"{speed:.0f}",
                    f"{100 * speed / case['peak']:.0f} %",
                    f"{side['memory']:.0f}",
                    f"{ahead:.2f}",
                    f"{ahead * ours['gflop'] / side['gflop']:.2f}",
                ]
            )
        header = [
            "library",
            "parameters",
            "GFLOP",
            "images/s",
            "GFLOP/s",
            "of peak",
            "MB kept",
            "ours, images",
            "ours, GFLOP/s",
        ]
        peak = f"Peak of bf16 matrix products: {case['peak']:.0f} GFLOP/s on {case['threads']} threads."
        lines += [f"**{case['about'].splitlines()[0]}** {peak}", "", *table_lines(header, rows), ""]
    return lines


if __name__ == "__main__":
    print(run(sys.argv[1:] or CASES))

"""Flow maps of images: one to four calls of a distilled run beside its base, and beside objectives trained from the data.

    python -m benchmarks.flowmaps fashion-mnist base FOLDER [MINUTES]   # FOLDER/base, 10 minutes; for digits, which are 8×8, 1
    python -m benchmarks.flowmaps fashion-mnist distil FOLDER [MINUTES] # FOLDER/distil from its weights, half of that
    python -m benchmarks.flowmaps fashion-mnist data FOLDER [MINUTES]   # the same with a quarter of the aims at the data
    python -m benchmarks.flowmaps fashion-mnist meanflow FOLDER [MINUTES]   # from the data, the time of both
    python -m benchmarks.flowmaps fashion-mnist shortcut FOLDER [MINUTES]   # the same
    python -m benchmarks.flowmaps fashion-mnist judge FOLDER            # what is new there, to results/flowmaps-DATA.json
    python -m benchmarks.flowmaps fashion-mnist picture FOLDER          # 1, 2 and 4 calls above 20 of the base

Minutes are CPU minutes of one thread, so that other work on the machine does not count. All have the library's U-Net for these
images, its data, conditions, optimiser, rate and average of the weights. The published objectives of MeanFlow and of shortcut
models are written here from their papers. Judged are 1000 samples of labels in equal parts, the same labels and noise in all
rows: KID and sliced Wasserstein distance to held-out images, at most 2000, and the part whose label is recognised, with 95 %
intervals; features and labels are those of a small network trained on the real data.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import ornstein
from benchmarks.lengths import ThreadMinutes
from benchmarks.quality import outputs, train_classifier
from ornstein import data, distillation, metrics
from ornstein.data.images import grid_image
from ornstein.distillation import FlowMapObjective
from ornstein.errors import OrnsteinError
from ornstein.flowmap import NetworkFlowMap
from ornstein.learn import start_from
from ornstein.settings import Settings
from ornstein.training.loss_module import FlowMapLossModule, LossModule
from ornstein.training.recipe import Recipe
from ornstein.training.trainer import FolderTraining

RESULTS = Path(__file__).parent / "results"
HELD, COUNT = 2000, 1000
MINUTES = {"fashion-mnist": 10.0, "digits": 1.0}  # of a base
PARTS = {"base": 1.0, "distil": 0.5, "data": 0.5, "meanflow": 1.5, "shortcut": 1.5}  # of that
TICKS = {"fashion-mnist": 1000, "digits": 800}  # steps of the small network


class Peer(LossModule):
    """A published objective u(x_t, t, r) of the mean velocity on the linear path, learned from the data."""

    average: Callable[[], nn.Module]

    def student(self, part: Any, network: nn.Module | None = None) -> NetworkFlowMap:
        denoiser = self._denoiser if network is None else replace(self._denoiser, network=network)
        given = denoiser.given(part.condition)
        assert isinstance(given, NetworkFlowMap)
        return given


class MeanFlow(Peer):
    """Geng et al. 2025, algorithm 1: logit-normal(−.4, 1) times, a quarter of them apart, adaptive weight of power 1.

    The product with the Jacobian is computed where times are apart alone, and in float32; elsewhere its factor is 0.
    """

    def forward(self, part: Any) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(part.seed)
        x, k, student = part.x, len(part.x) // 4, self.student(part)
        two = torch.sigmoid(-0.4 + torch.randn(len(x), 2, generator=g)).sort(1).values
        r, t = two.unbind(1)
        r = torch.cat([r[:k], t[k:]])
        v = part.noise - x
        x_t = x + t.reshape(-1, 1, 1, 1) * v
        goal = v.clone()
        apart = self.student(part._replace(condition=rows(part.condition, k)))
        _, du = apart.slope_rate(x_t[:k], t[:k], r[:k], v[:k], torch.ones(k), None)
        goal[:k] -= (t - r)[:k].reshape(-1, 1, 1, 1) * du
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            u = student.predict(x_t, t, r)
        error = (u - goal).square().flatten(1).sum(1)
        return (error / (error.detach() + 1e-3)).mean(), error.mean().detach()


class Shortcut(Peer):
    """Frans et al. 2025, algorithm 1: step sizes 2⁰ … 2⁻⁷, a quarter of the batch bootstrapped from the average."""

    def forward(self, part: Any) -> tuple[Tensor, Tensor]:
        g = torch.Generator().manual_seed(part.seed)
        x, k, student = part.x, len(part.x) // 4, self.student(part)
        size, t = 2.0 ** -torch.randint(0, 7, (k,), generator=g), torch.rand(len(x), generator=g)
        t[:k] = ((torch.rand(k, generator=g) / size).floor() + 1) * size
        s = torch.cat([t[:k] - size, t[k:]])
        x_t, goal = x + t.reshape(-1, 1, 1, 1) * (part.noise - x), part.noise - x
        average = self.student(part._replace(condition=rows(part.condition, k)), self.average())
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
            with torch.no_grad():
                first = average.predict(x_t[:k], t[:k], t[:k] - size / 2)
                x_mid = x_t[:k] - (size / 2).reshape(-1, 1, 1, 1) * first
                second = average.predict(x_mid, t[:k] - size / 2, s[:k])
            goal = torch.cat([(first + second).float() / 2, goal[k:]])
            error = (student.predict(x_t, t, s) - goal).square().flatten(1).mean(1)
        return error.mean(), error.mean().detach()


PEERS: dict[str, type[Peer]] = {"meanflow": MeanFlow, "shortcut": Shortcut}


def rows(condition: Any, k: int) -> Any:
    """The first k rows of the network's condition."""
    if isinstance(condition, tuple):
        return tuple(rows(part, k) for part in condition)
    return condition[:k] if isinstance(condition, Tensor) else condition


def train(source: str, kind: str, folder: Path, minutes: float) -> None:
    """FOLDER/KIND, trained for so many CPU minutes of one thread."""
    place, base = folder / kind, folder / "base"
    settings = Settings(
        data=f"{source}:train",
        out=str(place),
        steps=10**6,
        samples=0,
        threads=1,
        save_minutes=60,
        few_steps=None if kind == "base" else "progressive",  # of the others a network that takes an aim
        channels_last=kind != "meanflow",  # whose norms have no forward-mode derivative in that layout
        teacher=str(base) if kind in ("distil", "data") else None,
    )
    run = FolderTraining(settings, data.open(settings.data))
    recipe: Recipe = run.recipe
    if kind in PEERS:
        made = PEERS[kind]

        def peer(*arguments: Any) -> nn.Module:
            module = made(recipe.objective, *arguments)
            module.average = lambda: run.state.average
            return module

        recipe = replace(recipe, loss_module=peer)
    elif kind == "data":
        objective = FlowMapObjective(recipe.objective, distillation.Progressive(), to_data=0.25)
        teach = recipe.loss_module.args[1]  # type: ignore[attr-defined]
        recipe = replace(recipe, loss_module=partial(FlowMapLossModule, objective, teach))
    if settings.teacher is not None:
        start_from(ornstein.load(base), recipe.model, print)
    run.recipe = replace(recipe, length=ThreadMinutes(minutes, time.process_time()))
    for event in run:
        step = event.progress
        if step.step % 100 == 0 or step.done == 1:
            print(f"{kind}: step {step.step}, {step.done:.1%}, loss {step.loss:.4f}, {step.seconds:.0f} s", flush=True)
    (place / "minutes.json").write_text(json.dumps({"minutes": minutes, "steps": step.step}))


CALLS: dict[str, tuple[tuple[str | None, int], ...]] = {
    **dict.fromkeys(("distil", "shortcut", "meanflow", "data"), ((None, 1), (None, 2), (None, 4))),
    "base": ((None, 8), (None, 4), (None, 3), (None, 2), (None, 1), ("tuned", 4)),
}


def judge(source: str, folder: Path) -> None:
    """Every row whose run is there."""
    real, held = data.open(f"{source}:train"), data.open(f"{source}:test")
    file = RESULTS / f"flowmaps-{source}.json"
    net = train_classifier(real, TICKS[source], shift=1 if source == "digits" else 0, clock=count().__next__)
    x_held = held.batch(np.random.default_rng(0).permutation(len(held))[:HELD])[0]
    x_real, y_real = real.batch(np.random.default_rng(1).permutation(len(real))[:COUNT])
    reference = outputs(net, x_held)[0]
    labels = torch.arange(COUNT) % len(held.classes)
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"rows": {}}

    def measured(x: Tensor, asked: Tensor) -> dict[str, Any]:
        features, recognised = outputs(net, x)
        found = {
            "KID": metrics.kid(features, reference),
            "sliced Wasserstein": metrics.sliced_wasserstein(x.flatten(1), x_held.flatten(1)),
            "label agreement": metrics.agreement(asked, recognised, held.classes)[0],
        }
        return {name: [round(v, 5) for v in (s.value, s.low, s.high)] for name, s in found.items()}

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        if "real images" not in known["rows"]:
            yield "real images", measured(x_real, torch.as_tensor(y_real))
        for kind, asked in CALLS.items():
            if not (folder / kind / "model" / "model.safetensors").exists():
                continue
            run = ornstein.load(folder / kind)
            known.setdefault("minutes", {})[kind] = json.loads((folder / kind / "minutes.json").read_text())
            for solver, calls in asked:
                name, chosen = f"{kind}, {solver or 'default'}, {calls} calls", solver
                if name in known["rows"]:  # of a run that was stopped
                    continue
                if solver == "tuned":
                    try:
                        chosen = run.tuned(calls)
                    except OrnsteinError:
                        run.tune(calls, seconds=120)
                        chosen = run.tuned(calls)
                x = run.spec.to_model(
                    run.sample(COUNT, label_index=labels.tolist(), solver=chosen, steps=calls, batch_size=100)
                )
                yield name, measured(x, labels)

    for name, row in rows():
        known["rows"][name] = row
        print(f"{name:32}", *(f"{key} {v:8.4f} [{a:.4f}, {b:.4f}]" for key, (v, a, b) in row.items()), flush=True)
        file.write_text(json.dumps(known, indent=1) + "\n")


def picture(source: str, folder: Path) -> None:
    """A row each of 1, 2 and 4 calls of the distilled run and of 20 of its base, from the same noise and of the same classes."""
    few, base = (ornstein.load(folder / kind) for kind in ("distil", "base"))
    labels = [*range(len(base.spec.classes))]
    made = [
        run.sample(len(labels), label_index=labels, steps=n) for run, n in ((few, 1), (few, 2), (few, 4), (base, 20))
    ]
    sheet = grid_image(np.concatenate(made), len(labels), spec=base.spec)
    sheet.save(RESULTS.parent.parent / "docs" / "images" / f"few-steps-{source}.png", optimize=True)


def main(source: str, what: str, folder: str, minutes: str = "") -> None:
    torch.set_num_threads(1)
    if what in ("judge", "picture"):
        (judge if what == "judge" else picture)(source, Path(folder))
    else:
        train(source, what, Path(folder), float(minutes) if minutes else MINUTES[source] * PARTS[what])


if __name__ == "__main__":
    main(*sys.argv[1:])

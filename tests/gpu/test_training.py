"""Training on a GPU: the losses of the CPU, resumption, precision, prefetch, compiling, processes, short memory, checkpoints."""

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

import ornstein
from ornstein import cli, conditions, data
from ornstein.folder import checkpoints
from ornstein.settings import Settings
from ornstein.training import parallel
from ornstein.training.batch import Batches, Part
from ornstein.training.prefetch import supplied
from ornstein.training.profile import profile
from ornstein.training.trainer import FolderTraining

DIGITS = data.open("digits")
BASE = Settings(data="digits", steps=4, batch_size=8, samples=0, snapshots=0, preset="tiny", precision="float32")
KINDS: dict[str, dict[str, Any]] = {
    "unet": {},
    "unet, all choices": {
        "uncertainty": True,
        "augment": 0.5,
        "flips": True,
        "degradation": "low-res:2",
        "accumulate": 2,
    },
    "dit": {"network": "dit", "target": "v", "path": "cosine"},
    "edm": {"path": "edm", "target": "edm", "weight": "edm"},
}


class Alike(FolderTraining):
    """A run whose batches are drawn on the CPU, wherever it trains: a GPU's own generator gives other normals."""

    def batches(self) -> Batches:
        drawn = Batches(replace(self.recipe, device=torch.device("cpu")))
        place = self.device

        class Sent(Batches):
            def parts(self, step: int) -> Iterator[Part]:
                for part in drawn.parts(step):
                    yield Part(*conditions.to(tuple(part), place))

        return Sent(self.recipe)


def run(folder: Path, place: Any, kind: type[FolderTraining] = FolderTraining, **changes: Any) -> FolderTraining:
    if place.device.type == "standin":  # which is of one thread
        changes = {"prefetch": False, **changes}
    settings = replace(BASE, out=str(folder), device=place.device.type, **changes)
    return kind(settings, DIGITS, tell=lambda text: None)


def losses(of: FolderTraining) -> list[float]:
    return [event.progress.loss for event in of]


def tensors(of: FolderTraining) -> dict[str, Tensor]:
    """What the newest checkpoint holds."""
    folder = next(checkpoints.checkpoints(of.folder / "checkpoints"))
    return {f"{file.stem}.{name}": t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_losses_are_those_of_the_cpu(place, tmp_path, changes):
    """50 steps in float32. Adam magnifies rounding where a gradient is all but zero, so later losses may differ more."""
    place.only_if("uncertainty" in changes or changes.get("network") == "dit")
    steps = place.size(2, 50)
    here = losses(run(tmp_path / "here", place, Alike, steps=steps, **changes))
    cpu = replace(place, device=torch.device("cpu"))
    there = losses(run(tmp_path / "there", cpu, Alike, steps=steps, **changes))
    assert len(here) == steps
    assert here[0] == pytest.approx(there[0], rel=1e-4)
    assert here == pytest.approx(there, rel=1e-2)
    assert sum(here) == pytest.approx(sum(there), rel=2e-3)


@pytest.mark.parametrize("changes", [{}, {"network": "dit"}], ids=["unet", "dit"])
def test_a_stopped_run_goes_on_to_the_bit(place, tmp_path, changes, repeatable):
    place.only_if("network" in changes)
    whole = run(tmp_path / "whole", place, **changes)
    losses(whole)
    parts = run(tmp_path / "parts", place, **changes)
    for event in parts:
        if event.progress.step == 2:
            parts.stop()
    parts = run(tmp_path / "parts", place, **changes)
    assert len(losses(parts)) == 2
    ours, theirs = tensors(parts), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only algorithms that give the same bits again, where there are such."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("way", ["from the device to the CPU", "from the CPU to the device"])
def test_checkpoints_go_from_one_device_to_another(place, tmp_path, way):
    cpu = replace(place, device=torch.device("cpu"))
    first, second = (place, cpu) if "to the CPU" in way else (cpu, place)
    begun = run(tmp_path / "run", first)
    for event in begun:
        if event.progress.step == 2:
            begun.stop()
    going_on = run(tmp_path / "run", second)
    assert len(losses(going_on)) == 2
    assert going_on.resumed is not None
    loaded = ornstein.load(tmp_path / "run")
    on_device = ornstein.load(tmp_path / "run", place.device)
    assert on_device.device.type == place.device.type
    apart = np.abs(on_device.sample(4, steps=3).astype(int) - loaded.sample(4, steps=3).astype(int))
    assert apart.max() <= 1  # of 16 levels: a value may be rounded the other way


def gradients(learner: nn.Module, part: Part) -> tuple[float, Tensor]:
    """The loss of a part and its gradient as one vector, float64 on the CPU."""
    learner.zero_grad(set_to_none=True)
    cost, _ = learner(part)
    cost.backward()
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    whole = [g.full_tensor() if parallel.is_sharded(g) else g for g in found]  # type: ignore[attr-defined]
    return float(cost.detach()), torch.cat([g.flatten().double().cpu() for g in whole])


def moved(learner: nn.Module) -> None:
    """Weights away from their zeros, where a network has hardly a gradient."""
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=draws).to(weight))


@pytest.mark.parametrize("network", ["unet", "dit"])
@pytest.mark.parametrize(("precision", "tf32", "bound"), [("float32", True, 5e-3), ("bf16", False, 5e-2)])
def test_what_a_precision_costs(real, tmp_path, network, precision, tf32, bound):
    """`--precision bf16`, and float32 with torch's TF32 switched on: the error of the gradient against float32."""
    of = run(tmp_path / "run", real, Alike, network=network, batch_size=real.size(8, 64))
    part = next(iter(of.batches().parts(0)))
    _, learner = of.ready()
    moved(learner)
    exact_loss, exact = gradients(learner, part)
    other = run(tmp_path / "other", real, Alike, network=network, precision=precision)
    _, learner = other.ready()
    moved(learner)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32  # the fixture sets them back
    loss, found = gradients(learner, part)
    assert loss == pytest.approx(exact_loss, rel=bound)
    error = float((found - exact).norm() / exact.norm())
    assert error < bound
    assert error > 1e-5 or real.small


def test_the_precision_setting_leaves_torch_s_own_choices(real, tmp_path):
    """float32 and bf16 are autocast or none; TF32 stays what the user has set."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for tf32 in (True, False):
        matmul.allow_tf32 = cudnn.allow_tf32 = tf32
        losses(run(tmp_path / f"{tf32}", real, steps=1))
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (tf32, tf32)
    chosen = run(tmp_path / "chosen", real, steps=1)
    assert FolderTraining(
        replace(chosen.settings, precision=None, out=str(tmp_path / "open")), DIGITS
    ).settings.precision in (
        "bf16",
        "float32",
    )


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(equal(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_batches_made_ahead_in_pinned_memory_are_the_same(real, tmp_path):
    """While a step is at work on the device; and as numbers what the CPU draws, but for the device's own normals."""
    changes = {"augment": 0.5, "flips": True, "degradation": "mask", "accumulate": 2}
    of = run(tmp_path / "run", real, batch_size=real.size(8, 256), **changes).batches()
    steps = range(real.size(3, 30))
    work = torch.randn(real.size(16, 4096), real.size(16, 4096), device=real.device)
    plain = [list(of.parts(step)) for step in steps]
    on_cpu = list(replace(of, recipe=replace(of.recipe, device=torch.device("cpu"))).parts(0))
    with supplied(of, early=True) as parts:
        for step in steps:
            found = list(parts(step))
            work = work @ work / work.norm()
            assert equal(tuple(found), tuple(plain[step]))
    for ours, theirs in zip(plain[0], on_cpu, strict=True):
        assert all(t.device.type == real.device.type for t in (ours.x, ours.u, ours.noise, ours.labels))
        torch.testing.assert_close(ours.x.cpu(), theirs.x, atol=1e-4, rtol=1e-4)
        assert equal(ours.u.cpu(), theirs.u)
        assert equal(ours.labels.cpu(), theirs.labels)


def test_prefetch_changes_no_loss(real, tmp_path, repeatable):
    found = [losses(run(tmp_path / f"{early}", real, prefetch=early)) for early in (True, False)]
    assert found[0] == found[1]


@pytest.fixture
def quick_compile(real: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, torch.compile without a compiler of kernels, which would take a minute."""
    if real.small:
        compiled = nn.Module.compile
        monkeypatch.setattr(nn.Module, "compile", lambda self, **words: compiled(self, **words, backend="eager"))


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_compiling_and_its_check(real, tmp_path, quick_compile, network):
    """The compiled network passes the check of its gradients, stays compiled, and trains as the network as written."""
    real.only_if(network == "dit")
    said: list[str] = []
    plain = losses(run(tmp_path / "plain", real, Alike, network=network))
    of = run(tmp_path / "run", real, Alike, network=network, compile=True)
    of.tell = said.append
    found = losses(of)
    assert not [text for text in said if text.startswith("Warning")]
    assert of.model.network._compiled_call_impl is not None
    assert found == pytest.approx(plain, rel=1e-2)
    loaded = ornstein.load(tmp_path / "run", real.device)
    before = loaded.sample(4, steps=3)
    assert loaded.compile(batch_size=4) is None
    assert np.abs(loaded.sample(4, steps=3).astype(int) - before.astype(int)).max() <= 1
    torch.compiler.reset()


@pytest.fixture
def group(real: Any, tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    backend = "gloo" if real.small else "cpu:gloo,cuda:nccl"
    if not real.small:
        torch.cuda.set_device(0)
    distributed.init_process_group(backend, init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("way", ["DDP", "FSDP2"])
def test_wrapped_learners_give_the_same_gradients(real, tmp_path, group, way):
    """What several processes use, around one: the loss, the gradient, its clipped norm, and the checkpoint."""
    plain, other = (run(tmp_path / name, real, Alike) for name in ("plain", "wrapped"))
    part = next(iter(plain.batches().parts(0)))
    _, learner = plain.ready()
    state, wrapped = other.ready()
    moved(learner)
    moved(wrapped)
    device = torch.device("cuda", 0) if real.device.type == "cuda" else real.device
    if way == "DDP":
        wrapped = parallel.copied(wrapped, device)
    else:
        wrapped.network.to(memory_format=torch.contiguous_format)  # as `Run.ready` leaves it for FSDP2
        wrapped = parallel.sharded(wrapped, device, other.processes)
    loss, exact = gradients(learner, part)
    found_loss, found = gradients(wrapped, part)
    assert found_loss == pytest.approx(loss, rel=1e-5)
    assert float((found - exact).norm() / exact.norm()) < 1e-4
    norms = [float(parallel.clip(list(m.parameters()), 0.5)) for m in (learner, wrapped)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    whole = parallel.gather(state.network.state_dict())
    for name, tensor in plain.model.network.state_dict().items():
        assert torch.equal(whole[name].cpu(), tensor.cpu()), name


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]


def test_torchrun_with_one_process(real, tmp_path):
    """The command under torchrun; on the CPU in this process, since torchrun takes long to start."""
    words = ["-m", "ornstein", "train", "--data", "digits", "--out", str(tmp_path / "run"), "--steps", "2"]
    words += ["--batch-size", "8", "--preset", "tiny", "--samples", "0", "--device", real.device.type]
    if real.small:
        assert cli.main(words[2:]) == 0
    else:
        env = {**os.environ, "PYTHONPATH": str(Path(ornstein.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*TORCHRUN, *words], env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ornstein.load(tmp_path / "run").sample(2, steps=2).shape == (2, 8, 8, 1)


@pytest.fixture
def little_memory(real: Any) -> Callable[[nn.Module], Any]:
    """Makes memory short for batches above four rows: by torch's own limit on a GPU; on the CPU the network refuses."""
    return lambda network: Short(network, real)


class Short:
    """Within, the network's batches above four rows find no memory."""

    def __init__(self, network: nn.Module, place: Any) -> None:
        self.network, self.place = network, place

    def __enter__(self) -> None:
        if self.place.small:

            def refuse(module: nn.Module, inputs: tuple[Any, ...]) -> None:
                if len(inputs[0]) > 4:
                    raise torch.OutOfMemoryError("CUDA out of memory")

            self.hook = self.network.register_forward_pre_hook(refuse)
            return
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        some = torch.cuda.memory_reserved() + (96 << 20)
        torch.cuda.set_per_process_memory_fraction(some / whole)

    def __exit__(self, *_: object) -> None:
        if self.place.small:
            self.hook.remove()
        else:
            torch.cuda.set_per_process_memory_fraction(1.0)


def test_batches_are_halved_where_memory_is_short(real, tmp_path, little_memory):
    """The samples are those of the small batches, with one warning; nothing of the failed batch stays behind."""
    losses(run(tmp_path / "run", real, steps=1))
    loaded = ornstein.load(tmp_path / "run", real.device)
    count = real.size(8, 4096)
    expected = loaded.sample(count, steps=2, batch_size=real.size(4, 64))
    with little_memory(loaded.model.network), pytest.warns(UserWarning, match="memory is short"):
        found = loaded.sample(count, steps=2, batch_size=count)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_the_profile_of_a_step(real, tmp_path):
    found = profile(run(tmp_path / "run", real), real.size(1, 5))
    assert found.seconds > 0
    assert math.isfinite(found.peak)
    assert found.peak > 1e6


def test_the_run_as_python_sees_it(place, tmp_path):
    """A run on a device: guided and conditional samples, tuning, likelihood, earlier weights, all in NumPy on the CPU."""
    losses(run(tmp_path / "run", place, network="dit", steps=2))
    loaded = ornstein.load(tmp_path / "run", place.device)
    for solver in (None, ornstein.solvers.DDIM(1.0)):
        made = loaded.sample(3, label=[1, 2, 3], guide=ornstein.guidance.GuidanceConfig(2.0), steps=3, solver=solver)
        assert made.shape == (3, 8, 8, 1)
    effort = {"seconds": 5, "starts": 48, "teacher": 20} if not place.small else {"starts": 1, "teacher": 2}
    tuned = loaded.tune(place.size(1, 4), stop=lambda: place.small, **effort)
    assert loaded.tuned(place.size(1, 4)) == tuned
    rows, checked, steps = np.arange(place.size(1, 8)), place.size(0, 2), place.size(6, 12)
    for method in (ornstein.likelihood.ODE(solver=ornstein.likelihood.FixedSteps(steps)), ornstein.likelihood.ELBO(4)):
        for measured in loaded.likelihood(DIGITS, rows, method, checked=checked):
            assert measured.nats.isfinite().all()

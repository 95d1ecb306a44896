"""Arguments of public functions: names or objects, the network's device and type, batches, and sentences for a wrong kind."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein import (
    NetworkDenoiser,
    editing,
    encode,
    exact,
    grid,
    likelihood,
    names,
    path,
    sample,
    solvers,
    target,
    tilting,
    trajectory,
    tuning,
    verify,
)
from ornstein.arguments import as_solver, place_of
from ornstein.editing import DPS, DiffPIR, Measurement, Replacement, inpaint, sdedit
from ornstein.errors import UsageError
from ornstein.guidance import ClassifierFree, Interval
from ornstein.noise import BrownianNoise, PerSampleNoise
from ornstein.path import Path
from ornstein.preconditioning import UnitVariance
from ornstein.table import Table

F64 = torch.float64


class Net(nn.Module):
    """A small network of x (B, 2), t (B,) and labels (B,), deaf to the rest of its batch."""

    classes = 3

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.last, self.label = nn.Linear(3, width), nn.Linear(width, 2), nn.Embedding(4, width)

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        hidden = self.first(torch.cat([x, t[:, None]], 1))
        return self.last(torch.tanh(hidden if label is None else hidden + self.label(label)))


def network(dtype: torch.dtype = torch.float32, device: str = "cpu") -> NetworkDenoiser:
    return NetworkDenoiser(Net().to(device, dtype), path.Cosine(), target.V(), UnitVariance(0.5))


MIXTURE = exact.GaussianMixture([0.3, 0.7], [[-1.0, 0.3], [0.8, -0.5]], 0.2, path.Linear())


def test_every_name_is_a_solver_and_importing_the_names_imports_no_torch() -> None:
    for name in names.SOLVERS:
        assert as_solver(name) == names.SOLVERS[name]
        assert isinstance(names.SOLVERS[name].order, int)
    assert as_solver("heun") == solvers.Heun()
    assert torch.equal(sample(MIXTURE, (3, 2), solver="rk4"), sample(MIXTURE, (3, 2), solver=solvers.rk4()))
    code = "import sys; from ornstein.names import SOLVERS; assert 'heun' in SOLVERS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_samples_are_of_the_type_of_the_network(dtype: torch.dtype) -> None:
    denoiser = network(dtype)
    labels = torch.tensor([0, 1, 2])
    for bound in (denoiser, ClassifierFree(denoiser.given(labels), denoiser, 2.0)):
        made = sample(bound, (3, 2), solver="ancestral", steps=4)
        assert made.dtype == dtype
        assert bool(made.isfinite().all())
        wide = NetworkDenoiser(Net().double(), denoiser.path, denoiser.target, denoiser.preconditioning)
        wide.network.load_state_dict(denoiser.network.state_dict())
        wide_bound = wide if bound is denoiser else ClassifierFree(wide.given(labels), wide, 2.0)
        close = sample(wide_bound, (3, 2), solver="ancestral", steps=4)
        assert float((made.double() - close).abs().max()) < (1e-12 if dtype == F64 else 0.2)
    assert sample(network(), (3, 2), steps=2, dtype=torch.float32).dtype == torch.float32


def test_samples_are_made_where_the_network_is() -> None:
    """The meta device stands for any other: it holds shapes alone, and refuses tensors of the CPU."""
    made = sample(network(device="meta"), (3, 2), solver="ddim", steps=2)
    assert made.device.type == "meta"
    assert made.shape == (3, 2)


def test_the_place_is_found_inside_other_denoisers_and_methods() -> None:
    denoiser, meta = network(F64), torch.device("meta")
    within = Interval(ClassifierFree(denoiser, denoiser, 2.0), 0.1, 0.9)
    measured = Measurement(lambda x: x, torch.zeros(2), 0.1)
    for each in (denoiser, within, DPS(within, measured), NetworkDenoiser(denoiser.network.forward, *VP)):
        assert place_of(each) == (torch.device("cpu"), F64)
    assert place_of(MIXTURE) == (torch.device("cpu"), torch.float32)
    assert place_of(denoiser, "meta", torch.float32) == (meta, torch.float32)


VP = path.VariancePreserving(), target.V()


@pytest.mark.parametrize("solver", [*verify.available(), editing.RePaint()], ids=str)
@pytest.mark.parametrize("source", [PerSampleNoise(3), BrownianNoise(3)], ids=str)
def test_the_batch_size_changes_no_sample(solver: solvers.Solver, source: PerSampleNoise | BrownianNoise) -> None:
    adaptive = isinstance(solver, solvers.AdaptiveODE)  # steps of one size for a batch
    whole = sample(MIXTURE, (5, 2), solver=solver, steps=3, noise=source)
    parts = sample(MIXTURE, (5, 2), solver=solver, steps=3, noise=source, batch_size=2)
    assert torch.allclose(whole, parts, atol=1e-4) if adaptive else torch.equal(whole, parts)
    assert not torch.equal(parts[:2], parts[2:4])


def guided() -> ClassifierFree:
    denoiser = network(F64)
    return ClassifierFree(denoiser.given(torch.tensor([0, 1, 2, 0, 1])), denoiser, 2.0)


@pytest.mark.parametrize(
    "denoiser",
    [
        network(F64).given(torch.tensor([0, 1, 2, 0, 1])),
        Interval(guided(), 0.2, 0.8),
        MIXTURE.given(torch.tensor([0, 1, 1, 0, 1])),
        Replacement(MIXTURE, torch.arange(10.0).reshape(5, 2), torch.tensor([1.0, 0.0])),
        DPS(MIXTURE, Measurement(lambda x: x[:, :1], torch.arange(5.0)[:, None], 0.3)),
        DiffPIR(MIXTURE, Measurement(lambda x: x, torch.ones(2), 0.3)),
    ],
    ids=lambda d: type(d).__name__,
)
def test_conditions_with_a_row_for_each_sample_are_cut_with_them(denoiser: Any) -> None:
    whole, parts = (sample(denoiser, (5, 2), steps=4, dtype=F64, batch_size=size) for size in (None, 2))
    assert torch.allclose(whole, parts, rtol=1e-9, atol=1e-9)
    assert float((whole[1:] - whole[:-1]).abs().min()) > 1e-6


def test_progress_counts_the_steps_of_all_batches() -> None:
    for solver, steps in ((solvers.DDIM(), 4), (solvers.rk4(), 4), (solvers.AdaptiveSDE(), 1), (solvers.Langevin(), 4)):
        seen: list[tuple[int, int]] = []
        sample(MIXTURE, (5, 2), solver=solver, steps=4, batch_size=2, progress=lambda *at: seen.append(at))  # noqa: B023
        assert seen == sorted(seen)
        assert seen[-1] == (3 * steps, 3 * steps)
        assert len({done for done, _ in seen}) > steps
    seen = []
    editing.reconstruct(MIXTURE, torch.ones(2, 2), steps=3, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (6, 6)
    seen = []
    likelihood.log_prob(MIXTURE, torch.ones(5, 2), steps=6, batch_size=2, progress=lambda *at: seen.append(at))
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    "solver",
    [solvers.ABM(), solvers.Ancestral(), solvers.rk4(), solvers.AdaptiveODE(1e-10, 1e-10), solvers.EDMHeun(5.0)],
    ids=str,
)
def test_gradients_through_sampling(solver: solvers.Solver) -> None:
    """Against finite differences, with respect to the start and to the network's weights."""
    denoiser, start = network(F64), torch.linspace(-1, 1, 6, dtype=F64).reshape(3, 2).requires_grad_()
    weight = denoiser.network.last.weight  # type: ignore[attr-defined]

    def loss(x: Tensor, gradients: bool) -> Tensor:
        return sample(denoiser, start=x, solver=solver, steps=4, differentiable=gradients).square().sum()

    by_x, by_weight = torch.autograd.grad(loss(start, True), (start, weight))
    h = 1e-5
    with torch.no_grad():
        move = torch.zeros_like(start)
        move[1, 0] = h
        assert float(by_x[1, 0]) == pytest.approx(
            float(loss(start + move, False) - loss(start - move, False)) / (2 * h), rel=1e-5
        )
        sides = []
        for sign in (1, -1):
            weight[0, 3] += sign * h
            sides.append(loss(start, False))
            weight[0, 3] -= sign * h
        assert float(by_weight[0, 3]) == pytest.approx(float(sides[0] - sides[1]) / (2 * h), rel=1e-4)
    assert not sample(denoiser, start=start, solver=solver, steps=4).requires_grad


def test_gradients_store_no_activations() -> None:
    """What is stored for the backward pass does not grow with the network."""

    def stored(width: int, gradients: Callable[[NetworkDenoiser], Tensor]) -> int:
        held: list[int] = []
        denoiser = NetworkDenoiser(Net(width), path.Cosine(), target.V())
        sizes = [p.numel() for p in denoiser.network.parameters()]  # type: ignore[attr-defined]

        def pack(tensor: Tensor) -> Tensor:
            if tensor.numel() not in sizes:
                held.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            gradients(denoiser)
        return sum(held)

    def checkpointed(denoiser: NetworkDenoiser) -> Tensor:
        return sample(denoiser, (64, 2), steps=5, differentiable=True)

    def plain(denoiser: NetworkDenoiser) -> Tensor:
        x = torch.ones(64, 2)
        with torch.enable_grad():
            for t in (0.9, 0.7, 0.5, 0.3, 0.1):
                x = x - 0.2 * denoiser(x, t).clean
        return x

    assert stored(512, checkpointed) == stored(8, checkpointed)
    assert stored(512, plain) > 10 * stored(8, plain) / 2


def test_a_run_step_by_step_carries_gradients_too() -> None:
    denoiser, start = network(F64), torch.ones(2, 2, dtype=F64, requires_grad=True)
    *_, last = trajectory(denoiser, start, steps=3, differentiable=True)
    code = encode(denoiser, last.x, steps=3, differentiable=True)
    (slope,) = torch.autograd.grad(code.sum(), start)
    assert float((slope - 1).abs().max()) < 0.5  # there and back is near the identity
    assert not next(trajectory(denoiser, start, steps=3)).estimate.clean.requires_grad


def test_a_trajectory_may_draw_its_start() -> None:
    *_, last = trajectory(MIXTURE, shape=(3, 2), seed=4, solver="em", steps=5)
    assert torch.equal(last.x, sample(MIXTURE, (3, 2), seed=4, solver="em", steps=5))


class OnlyATable:
    """A solver of somebody's own that is a table and nothing else."""

    def table(self, path: Path, grid: Tensor) -> Table:
        return solvers.DDIM(0.5).table(path, grid)


def test_an_object_with_a_table_alone_is_a_solver() -> None:
    assert torch.equal(sample(MIXTURE, (2, 2), solver=OnlyATable()), sample(MIXTURE, (2, 2), solver=solvers.DDIM(0.5)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="adds fresh noise"):
        encode(MIXTURE, torch.ones(2, 2), solver=OnlyATable())  # type: ignore[arg-type]


X = torch.ones(2, 2)
WRONG: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (lambda: sample(Net(), (2, 2)), TypeError, r"Net is a bare network; .*sample\(NetworkDenoiser\(network, path"),
    (lambda: sample(exact.Gaussian, (2, 2)), TypeError, "denoiser=Gaussian is a class"),
    (lambda: sample("runs/moons", (2, 2)), TypeError, r"not the text 'runs/moons': use ornstein.load"),
    (lambda: sample(3, (2, 2)), TypeError, "int is none"),
    (lambda: NetworkDenoiser(Net(), path.Linear, target.Velocity()), TypeError, "path=Linear is a class"),
    (lambda: NetworkDenoiser(Net(), path.Linear(), target.Velocity), TypeError, "target=Velocity is a class"),
    (lambda: NetworkDenoiser(Net, path.Linear(), target.Velocity()), TypeError, "network=Net is a class"),
    (
        lambda: sample(MIXTURE, (2, 2), solver=solvers.Heun),
        TypeError,
        r"solver=Heun is a class; .*solver=Heun\(\.\.\.\)",
    ),
    (lambda: sample(MIXTURE, (2, 2), solver=solvers.rk4), TypeError, r"call it: solver=rk4\(\)"),
    (lambda: sample(MIXTURE, (2, 2), solver="huen"), UsageError, "did you mean 'heun'"),
    (lambda: sample(MIXTURE, (2, 2), solver=3), TypeError, 'solver=3 is no solver; give a name such as solver="heun"'),
    (lambda: sample(MIXTURE, (2, 2), solver=likelihood.FixedSteps()), TypeError, "integrates likelihoods"),
    (lambda: sample(MIXTURE, (2, 2), labels=3), TypeError, r"sample has no labels=: .*denoiser.given\(labels\)"),
    (lambda: sample(MIXTURE, (2, 2), sedd=3), TypeError, "did you mean seed=?"),
    (lambda: sample(MIXTURE, (2, 2), num_inference_steps=3), TypeError, "did you mean steps=?"),
    (lambda: sample(MIXTURE, (2, 2), scheduler=3), TypeError, "did you mean solver=?"),
    (lambda: sdedit(MIXTURE, X, stength=0.5), TypeError, "sdedit has no stength=; did you mean strength=?"),
    (lambda: tuning.fit(MIXTURE, (2,), batch=3), TypeError, "did you mean batch_size=?"),
    (lambda: sample(MIXTURE, X), TypeError, "shape is a tensor; to begin from it give start=x"),
    (lambda: sample(MIXTURE, start=(2, 2)), TypeError, r"start = \(2, 2\) is a shape, .*give shape=\(2, 2\)"),
    (lambda: trajectory(MIXTURE, (2, 2)), TypeError, r"start = \(2, 2\) is a shape"),
    (lambda: encode(MIXTURE, [2, 2]), TypeError, r"encode: x = \(2, 2\) is a shape"),
    (lambda: encode(MIXTURE, torch.ones(2, 2, dtype=torch.uint8)), TypeError, "not a tensor of torch.uint8"),
    (lambda: sample(MIXTURE, 64), TypeError, "shape = 64 must be the whole shape"),
    (lambda: sample(MIXTURE, ()), ValueError, "shape is empty"),
    (lambda: sample(MIXTURE, (2.5, 2)), TypeError, "shape = 2.5 must be a whole number"),
    (lambda: sample(MIXTURE, (-1, 2)), ValueError, "shape = -1 must be at least 0"),
    (lambda: sample(MIXTURE), ValueError, "sample needs either shape"),
    (lambda: trajectory(MIXTURE), ValueError, "trajectory needs either shape"),
    (lambda: sample(MIXTURE, (2, 2), steps=0), ValueError, "steps = 0 must be at least 1"),
    (lambda: sample(MIXTURE, (2, 2), steps=2.5), TypeError, "steps = 2.5 must be a whole number"),
    (lambda: sample(MIXTURE, (2, 2), batch_size=0), ValueError, "batch_size = 0 must be at least 1"),
    (lambda: sample(MIXTURE, (2, 2), seed=-1), ValueError, "seed = -1 must be at least 0"),
    (
        lambda: sample(MIXTURE, (2, 2), seed=1, noise=PerSampleNoise()),
        ValueError,
        "seed = 1 or a noise source, not both",
    ),
    (lambda: sample(MIXTURE, (2, 2), noise=X), TypeError, "noise is a function .*start="),
    (lambda: sample(MIXTURE, (2, 2), noise=PerSampleNoise), TypeError, "noise=PerSampleNoise is a class"),
    (lambda: sample(MIXTURE, (2, 2), noise=7), TypeError, "for a seed give seed="),
    (lambda: sample(MIXTURE, (2, 2), dtype="float64"), TypeError, "is no dtype of torch"),
    (lambda: sample(MIXTURE, (2, 2), grid=[0.0, 0.5, 1.0]), ValueError, r"the grid rises .*give grid.flip\(0\)"),
    (
        lambda: sample(MIXTURE, (2, 2), solver="em", grid=[0.0, 1.0]),
        ValueError,
        "EulerMaruyama adds noise and needs a grid that falls",
    ),
    (lambda: sample(MIXTURE, (2, 2), grid=torch.ones(3, 2)), ValueError, "a grid is a 1-D tensor"),
    (lambda: sample(MIXTURE, (2, 2), grid=[1.0, 0.5, 0.5, 0.0]), ValueError, "falls strictly"),
    (
        lambda: sample(MIXTURE, (2, 2), grid=grid.karras),
        TypeError,
        r"call it with a path and steps: grid.karras\(path, 20\)",
    ),
    (lambda: sample(MIXTURE, (2, 2), grid=20), TypeError, "give steps=20"),
    (
        lambda: sample(MIXTURE, (2, 2), grid="karras"),
        TypeError,
        "make one by a function of ornstein.grid",
    ),
    (lambda: likelihood.log_prob(MIXTURE, X, solver=solvers.Heun()), TypeError, r"likelihood.FixedSteps\(96\)"),
    (lambda: likelihood.log_prob(MIXTURE, X, solver="heun"), TypeError, r"likelihood.FixedSteps\(96\)"),
    (lambda: likelihood.log_prob(MIXTURE, X, solver=likelihood.FixedSteps), TypeError, "solver=FixedSteps is a class"),
    (lambda: likelihood.log_prob(Net(), X), TypeError, "bare network"),
    (lambda: likelihood.elbo(MIXTURE, (2, 2)), TypeError, "is a shape"),
    (lambda: likelihood.bound(MIXTURE, X, label=1), TypeError, r"bound has no label=: .*denoiser.given\(label\)"),
    (lambda: tilting.tilt(MIXTURE, lambda x: x.sum(1), (4, 2), solver="heun"), ValueError, "adds no noise"),
    (lambda: tilting.tilt(MIXTURE, lambda x: x.sum(1), (4, 2), solver="pc"), TypeError, "a loop of its own"),
    (lambda: inpaint(Net(), X, X), TypeError, "inpaint needs a denoiser"),
    (lambda: tuning.fit(Net(), (2,)), TypeError, "fit needs a denoiser"),
    (lambda: UnitVariance(0.0), ValueError, "data_std = 0.0 must be positive"),
]


@pytest.mark.parametrize(("call", "error", "says"), WRONG)
def test_a_wrong_kind_of_argument_gets_the_right_call(
    call: Callable[[], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 320


def test_likelihoods_in_batches_are_those_of_the_whole() -> None:
    x = torch.randn(5, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    denoiser = MIXTURE.given(torch.tensor([0, 1, 1, 0, 1]))
    hutchinson = likelihood.Hutchinson()
    for options in ({}, {"trace": hutchinson, "noise": BrownianNoise(2)}):
        whole, parts = (likelihood.estimate(denoiser, x, steps=12, batch_size=size, **options) for size in (None, 2))  # type: ignore[arg-type]
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    exactly = torch.stack([MIXTURE.given(int(k)).log_prob(x[i : i + 1])[0] for i, k in enumerate((0, 1, 1, 0, 1))])
    assert torch.allclose(likelihood.log_prob(denoiser, x, batch_size=3), exactly, atol=1e-5)
    for bound in (likelihood.elbo, likelihood.bound):
        whole, parts = (bound(denoiser, x, seed=3, batch_size=size) for size in (None, 2))
        for one, other in zip(whole, parts, strict=True):
            assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
        assert not torch.equal(whole.total, bound(denoiser, x, seed=4).total)
    assert likelihood.log_prob(denoiser, x.float(), steps=6, dtype=F64).dtype == F64


def test_edits_take_the_keywords_of_sampling() -> None:
    x, mask = torch.randn(5, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([1.0, 0.0])
    edits: list[Callable[..., Tensor]] = [
        lambda **options: sdedit(MIXTURE, x, 0.5, **options),
        lambda **options: inpaint(MIXTURE, x, mask, **options),
    ]
    for edit in edits:
        one, two = edit(solver="er-sde", seed=3), edit(solver=solvers.ERSDE(), noise=PerSampleNoise(3), batch_size=2)
        assert torch.equal(one, two)
        assert not torch.equal(one, edit(solver="er-sde", seed=4))
        assert edit(dtype=F64).dtype == F64
    rows = editing.interpolate(MIXTURE, x[:1], x[1:2], 5, solver="heun", steps=40, batch_size=2)
    assert torch.allclose(rows[[0, -1]], x[:2], atol=0.02)
    assert torch.allclose(editing.reconstruct(MIXTURE, x, solver="heun", steps=40, batch_size=2), x, atol=0.02)


def test_a_fit_takes_the_place_of_the_network() -> None:
    fitted = tuning.fit(network(F64), (2,), 2, starts=8, held_out=8, batch_size=8, iterations=3, teacher=8)
    assert fitted.error <= fitted.untuned
    assert bool(sample(network(F64), (2, 2), solver=fitted, steps=2).isfinite().all())

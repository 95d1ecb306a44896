"""Tables: the executor against the definition, folding, the life of the history, exact export, and the recorder's rules."""

import json
import math
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ornstein import NetworkDenoiser, exact, path, solvers, target
from ornstein.estimate import Estimate
from ornstein.noise import PerSampleNoise
from ornstein.path import Path
from ornstein.table import Level, Recorder, Table, combine, execute, level

F64 = torch.float64


def random_table(calls: int, seed: int) -> Table:
    draw = torch.Generator().manual_seed(seed)
    P, Q = torch.randn(2, calls, calls, generator=draw, dtype=F64).tril() * torch.rand(2, 1, 1, generator=draw).round()
    R = torch.randn(calls, generator=draw, dtype=F64) * torch.rand(calls, generator=draw).round()
    return Table(torch.linspace(1, 0, calls + 1, dtype=F64), P, Q, R)


class Stub:
    """Any pair of functions of (x, t) will do for the executor."""

    path = path.Linear()

    def __call__(self, x: Tensor, t: float) -> Estimate:
        return Estimate(torch.sin(x + t), torch.cos(2 * x) * t)


def last(steps: Any) -> Any:
    return list(steps)[-1]


@given(calls=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_the_executor_is_the_definition(calls: int, seed: int) -> None:
    table, denoiser, noise = random_table(calls, seed), Stub(), PerSampleNoise(seed)
    start = torch.randn(3, 2, dtype=F64)
    times, x, pairs = table.times.tolist(), start, []
    for i in range(calls):
        pairs.append(denoiser(x, times[i]))
        x = table.R[i] * noise(x, times[i], times[i + 1])
        for j, (clean, eps) in enumerate(pairs):
            x = x + table.P[i, j] * clean + table.Q[i, j] * eps
    assert torch.allclose(last(execute(table, denoiser, start, noise)).x, x, rtol=1e-12, atol=1e-12)


@given(calls=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_folding_a_prediction_into_the_table_changes_nothing(calls: int, seed: int) -> None:
    denoiser = NetworkDenoiser(lambda x, t: torch.sin(3 * x) + t[:, None], path.Trigonometric(), target.Velocity())
    table, start = random_table(calls, seed), torch.randn(3, 2, dtype=F64)
    folded = list(execute(table, denoiser, start, PerSampleNoise()))
    plain = list(execute(table, lambda x, t: denoiser(x, t), start, PerSampleNoise()))
    for mine, theirs in zip(folded, plain, strict=True):
        assert torch.allclose(mine.x, theirs.x, rtol=1e-9, atol=1e-9)
        assert torch.allclose(mine.estimate.clean, theirs.estimate.clean, rtol=1e-9, atol=1e-9)
        assert torch.allclose(mine.estimate.noise, theirs.estimate.noise, rtol=1e-9, atol=1e-9)


def test_steps_tell_time_input_estimate_and_calls() -> None:
    table, start = solvers.DDIM().table(path.Linear(), torch.tensor([1.0, 0.5, 0.0])), torch.randn(2, 3)
    first, second, result = execute(table, Stub(), start, PerSampleNoise())
    assert [(step.t, step.calls) for step in (first, second, result)] == [(1, 1), (0.5, 2), (0, 2)]
    assert first.x is start
    assert torch.equal(second.estimate.clean, Stub()(second.x, 0.5).clean)
    assert torch.equal(result.estimate.clean, second.estimate.clean)
    assert torch.equal(result.x, second.estimate.clean)  # DDIM's last step returns the estimate of the data


class CountOperations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def operations_between_calls(solver: Any, seen_at: list[int], counter: CountOperations, steps: int) -> list[list[str]]:
    prediction = torch.randn(4, 5)

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen_at.append(len(counter.names))
        return prediction

    denoiser = NetworkDenoiser(network, path.Linear(), target.Velocity(), preconditioning=lambda path, t: (None, t))
    table = solver.table(denoiser.path, solver.grid(denoiser.path, steps))
    run = execute(table, denoiser, torch.randn(4, 5), PerSampleNoise())
    with counter:
        next(run)
        for _ in run:
            pass
    return [counter.names[a:b] for a, b in pairwise(seen_at)]


def test_a_ddim_step_is_two_tensor_operations() -> None:
    for names in operations_between_calls(solvers.DDIM(), [], CountOperations(), 6):
        assert names == ["mul.Tensor", "add_.Tensor"]


def test_a_second_order_multistep_is_one_operation_per_entry() -> None:
    lengths = [len(names) for names in operations_between_calls(solvers.DPMSolverPP(), [], CountOperations(), 6)]
    assert max(lengths) == 4


@pytest.mark.parametrize(("solver", "kept"), [(solvers.DDIM(), 1), (solvers.DPMSolverPP(), 2), (solvers.Heun(), 2)])
def test_estimates_are_freed_when_no_later_row_uses_them(solver: Any, kept: int) -> None:
    living: list[weakref.ref[Tensor]] = []
    most = 0

    class Watched(Stub):
        def __call__(self, x: Tensor, t: float) -> Estimate:
            nonlocal most
            estimate = super().__call__(x, t)
            living.append(weakref.ref(estimate.clean))
            most = max(most, sum(ref() is not None for ref in living))
            return estimate

    for _ in execute(solver.table(path.Linear(), solver.grid(path.Linear(), 8)), Watched(), torch.ones(2, 2), None):  # type: ignore[arg-type]
        pass
    # the estimate just made, the ones still needed, and the one that the last step holds for its reader
    assert most <= kept + 1


def test_the_inputs_that_steps_hold_are_never_written_to() -> None:
    table = solvers.Ancestral().table(path.Linear(), torch.linspace(1, 0, 6))
    steps = [(step, step.x.clone()) for step in execute(table, Stub(), torch.randn(2, 3), PerSampleNoise())]
    assert all(torch.equal(step.x, copy) for step, copy in steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_combinations_treat_rows_alike_whatever_their_length(dtype: torch.dtype) -> None:
    terms = [(0, 0, 0.3337), (0, 1, 1.237), (1, 0, -0.711)]
    for size in (1, 2, 7, 15, 31, 63, 65, 127):
        a, b, c = torch.randn(3, 9, size).to(dtype)
        whole = combine(terms, {0: (a, b), 1: (c, c)})
        for i in range(9):
            assert torch.equal(combine(terms, {0: (a[i], b[i]), 1: (c[i], c[i])}), whole[i])


def test_a_row_without_entries_is_zero() -> None:
    table = Table(torch.tensor([1.0, 0.0], dtype=F64), *torch.zeros(2, 1, 1, dtype=F64), torch.zeros(1, dtype=F64))
    assert torch.equal(last(execute(table, Stub(), torch.ones(2, 3), PerSampleNoise())).x, torch.zeros(2, 3))


@given(calls=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_json_gives_the_same_bits_back(calls: int, seed: int) -> None:
    table = random_table(calls, seed)
    back = Table.from_dict(json.loads(json.dumps(table.to_dict())))
    assert back == table
    for name in ("times", "P", "Q", "R"):
        assert torch.equal(getattr(back, name), getattr(table, name))


def test_equality_and_distance() -> None:
    table, other = random_table(4, 1), random_table(4, 1)
    assert table == other
    other.R[2] += 1e-9
    assert table != other
    assert table.distance(other) == pytest.approx(1e-9)
    assert table.distance(random_table(5, 1)) == math.inf
    assert table != "a table"
    with pytest.raises(TypeError, match="unhashable"):
        hash(table)


def test_a_table_prints_as_formulas() -> None:
    table = solvers.DDIM(1.0).table(path.EDM(), torch.tensor([1.0, 0.5, 0.0], dtype=F64))
    assert str(table).splitlines() == [
        "2 network calls, t = 1 to 0",
        "x(0.5) = +1 clean_0 +20 noise_0 +34.641 ξ",
        "x(0) = +1 clean_1",
    ]


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (((2, 2), (2, 2), (3,)), "a table of 2 calls needs P, Q of shape (2, 2) and R of shape (2,)"),
        (((3, 3), (2, 2), (2,)), "not (3, 3), (2, 2) and (2,)"),
    ],
)
def test_shapes_that_disagree_are_refused(shapes: tuple[tuple[int, ...], ...], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        Table(torch.linspace(1, 0, 3), *(torch.zeros(shape) for shape in shapes))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("matrix", ["P", "Q"])
def test_a_step_that_knows_the_future_is_refused(matrix: str) -> None:
    data = random_table(3, 0).to_dict()
    data[matrix][0][2] = 1.0
    with pytest.raises(ValueError, match="P and Q must be lower triangular"):
        Table.from_dict(data)


def test_a_missing_entry_is_named() -> None:
    with pytest.raises(KeyError, match="R"):
        Table.from_dict({key: value for key, value in random_table(2, 0).to_dict().items() if key != "R"})


def recorded(loop: Callable[[Recorder, Level, Level], Any]) -> Table:
    record = Recorder(path.Linear(), torch.tensor([1.0, 0.5, 0.0]))
    return record.end(loop(record, *record.steps[0]))


def test_the_recorder_writes_what_the_loop_computes() -> None:
    def loop(record: Recorder, t: Level, s: Level) -> Any:
        clean, noise = record.call(t, record.start)
        middle = record.call(s, (clean - 3 * noise) / 2 + record.fresh(0.25))
        return -middle.clean + noise * 4 + clean + clean

    table = recorded(loop)
    assert torch.equal(table.times, torch.tensor([1.0, 0.5, 0.0], dtype=F64))
    assert table.P.tolist() == [[0.5, 0], [2, -1]]
    assert table.Q.tolist() == [[-1.5, 0], [4, 0]]
    assert table.R.tolist() == [0.25, 0]
    assert table.stochastic


def two_noises(record: Recorder, t: Level, s: Level) -> Any:
    return t.mix(record.call(t, record.start)) + record.fresh(1.0) + record.fresh(2.0)


def one_noise_twice(record: Recorder, t: Level, s: Level) -> Any:
    x = t.mix(record.call(t, record.start)) + record.fresh(1.0)
    return x + record.call(s, x).noise


def start_as_a_term(record: Recorder, t: Level, s: Level) -> Any:
    return record.start + record.call(t, record.start).noise


@pytest.mark.parametrize(
    ("loop", "sentence"),
    [
        (two_noises, "a row of a table holds one fresh noise of its own"),
        (one_noise_twice, "a row of a table holds one fresh noise of its own"),
        (start_as_a_term, "the start is no column of a table"),
        (lambda record, t, s: record.start, "the start is no column of a table"),
        (lambda record, t, s: record.call(t, t.mix(record.call(t, record.start)) * 1).clean, None),
        (lambda record, t, s: record.call(t, record.fresh(1.0)).clean, "the first call of a table, and no other"),
        (
            lambda record, t, s: record.call(s, record.call(t, record.start) and record.start).clean,
            "the first call of a table, and no other",
        ),
    ],
)
def test_misuse_of_the_recorder_is_refused(loop: Any, sentence: str | None) -> None:
    if sentence is None:
        assert recorded(loop).calls == 2
        return
    with pytest.raises(ValueError, match=sentence):
        recorded(loop)


def test_levels() -> None:
    at = level(path.Linear(), 0.25)
    assert (at.t, at.alpha, at.sigma) == (0.25, 0.75, 0.25)
    assert at.half_log_snr == pytest.approx(math.log(3))
    assert at.slopes(path.Linear()) == (-1, 1)
    assert level(path.Linear(), 0.0).half_log_snr == math.inf
    assert level(path.Linear(), 1.0).half_log_snr == -math.inf
    with pytest.raises(ValueError, match=r"Cosine.*infinite at t = 0; use a solver in a bounded chart"):
        level(path.Cosine(), 0.0).slopes(path.Cosine())


def test_paths_without_derivatives_serve_solvers_that_need_none() -> None:
    class Levels(Path):
        def alpha(self, t: Tensor) -> Tensor:
            return 1 - t

        def sigma(self, t: Tensor) -> Tensor:
            return torch.from_numpy(t.numpy().copy())  # not differentiable by torch

    p, grid = Levels(), torch.linspace(1, 0, 5, dtype=F64)
    for solver in (solvers.DDIM(), solvers.DDIM(1.0), solvers.Heun(), solvers.DPMSolverPP()):
        assert solver.table(p, grid) == solver.table(path.Linear(), grid)


def test_a_thousand_steps_are_written_with_few_path_evaluations() -> None:
    """Stochastic kernels of all steps are asked of the path at once."""
    evaluations = 0

    class Counted(path.Linear):
        def sigma(self, t: Tensor) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            return t

    for solver in (solvers.DDIM(1.0), solvers.Ancestral(), solvers.DPMSolverPP()):
        table = solver.table(Counted(), torch.linspace(1, 0, 1001, dtype=F64))
        assert table.calls == 1000
    assert evaluations < 30


def test_an_exact_denoiser_runs_unfolded() -> None:
    denoiser = exact.Gaussian(torch.zeros(2, dtype=F64), 1.0, path.Linear())
    assert not hasattr(denoiser, "inverse")
    x = last(execute(random_table(3, 1), denoiser, torch.ones(2, 2, dtype=F64), PerSampleNoise())).x
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16])
def test_steps_found_again_give_the_bits_of_steps_made_anew(dtype: torch.dtype) -> None:
    """The first coefficients of a row are tensors there, of runs without gradients too."""
    denoiser = NetworkDenoiser(lambda x, t: torch.sin(x), path.Cosine(), target.V())
    solver, x, noise = solvers.DPMSolverPP(), torch.randn(3, 5).to(dtype), PerSampleNoise()
    grid = solver.grid(denoiser.path, 6)
    anew = last(execute(solver.table(denoiser.path, grid), denoiser, x, noise)).x
    with torch.inference_mode():
        assert torch.equal(last(solver.run(denoiser, x, grid, noise)).x, anew)
    x.requires_grad_()
    found = last(solver.run(denoiser, x, grid, noise)).x
    found.sum().backward()
    assert torch.equal(found, anew)
    assert x.grad is not None

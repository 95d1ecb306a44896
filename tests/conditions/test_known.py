"""Any part of an item given any other: what a law draws, exact denoisers of the rest, and runs that fill holes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ornstein
from ornstein import data, exact, likelihood, path, target
from ornstein.cli import main
from ornstein.conditions import AnyColumns, Conditions, Every, Gaps, Known, Past
from ornstein.errors import UsageError
from ornstein.known import KnownDenoiser, Rest
from ornstein.masking import MaskLaw
from ornstein.noise import PerSampleNoise, RowsOf

NAN = math.nan


def drawn(law: MaskLaw, shape: tuple[int, ...], count: int = 4000) -> Tensor:
    numbers = torch.rand(count, law.count(shape), generator=torch.Generator().manual_seed(0))
    return law(numbers, shape).expand(count, *shape)


# Laws


def test_any_draws_each_subset_of_a_size_as_often_and_each_size_but_all() -> None:
    shown = drawn(AnyColumns(), (4,), 16000)
    sizes = shown.sum(1).bincount(minlength=5) / 16000
    assert sizes[4] == 0
    assert torch.allclose(sizes[:4], torch.full((4,), 0.25), atol=0.015)
    pairs = shown[shown.sum(1) == 2].long() @ torch.tensor([1, 2, 4, 8])
    counts = pairs.bincount(minlength=16)
    assert (counts > 0).sum() == 6
    assert counts[counts > 0].float().std() / counts.sum() < 0.02


def test_dimensions_of_a_column_are_given_together() -> None:
    law = AnyColumns((1, 3, 2))
    shown = drawn(law, (6,))
    assert (shown[:, 1:4].any(1) == shown[:, 1:4].all(1)).all()
    assert (shown[:, 4] == shown[:, 5]).all()
    assert {0, 1, 2} == set(shown[:, [0, 1, 4]].sum(1).tolist())
    assert law.refusal(shown, (6,)) == ""
    assert "dimensions 1 to 3 are one column" in law.refusal(
        torch.tensor([[True, True, True, False, False, False]]), (6,)
    )


def test_past_and_gaps_are_along_the_first_axis() -> None:
    past = drawn(Past(3), (2, 8, 2), 5)
    assert past[:, :, :3].all()
    assert not past[:, :, 3:].any()
    hidden = ~drawn(Gaps(), (2, 8, 3))
    assert (hidden == hidden[:, :1, :, :1]).all()
    line = hidden[:, 0, :, 0].long()
    assert (line.diff(dim=1).clamp(min=0).sum(1) + line[:, 0] == 1).all()  # one gap
    lengths = line.sum(1).bincount(minlength=9) / len(line)
    assert torch.allclose(lengths[1:], torch.full((8,), 1 / 8), atol=0.025)
    assert (line.float().mean(0) > 0.3).all()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("anyy", "did you mean 'any'"),
        ("any:0,2", "any: sizes of columns are positive"),
        ("any:2,2", "have 4 dimensions, and the vectors 3"),
        ("any:x", "is not one of any, any:1,3,1"),
        ("past:2", "past is for series; give any for vectors"),
        ("past", "is not one of any"),
        ("gaps:2", "is not one of any"),
        ("grey", "did you mean --degradation"),
    ],
)
def test_settings_that_name_no_law(text: str, says: str) -> None:
    given: dict[str, Any] = {"given": text}
    if text == "grey":  # which a setting of this name was once
        assert main(["train", "--given", "grey", "--data", "moons", "--out", "never"]) == 2
        return
    with pytest.raises(UsageError, match=says):
        ornstein.train(np.zeros((9, 3), np.float32) + np.arange(9)[:, None], steps=1, **given)


# Exact denoisers of the rest


MIXTURE = exact.GaussianMixture(
    [0.3, 0.7],
    [[1.0, 0.0, -1.0], [-0.5, 0.5, 1.0]],
    torch.tensor(
        [[[0.5, 0.2, 0.0], [0.2, 0.4, 0.1], [0.0, 0.1, 0.3]], [[0.3, -0.1, 0.1], [-0.1, 0.6, 0.2], [0.1, 0.2, 0.5]]]
    ),
    path.Linear(),
)
KNOWN = torch.tensor([NAN, 0.4, NAN], dtype=torch.float64)


def test_the_rest_of_a_mixture_is_the_joint_over_the_marginal() -> None:
    rest = MIXTURE.rest(KNOWN)
    x = rest.draw(50, generator=torch.Generator().manual_seed(1)).double()
    whole = KNOWN.repeat(50, 1)
    whole[:, [0, 2]] = x
    marginal = exact.GaussianMixture([0.3, 0.7], [[0.0], [0.5]], torch.tensor([[[0.4]], [[0.6]]]), path.Linear())
    expected = MIXTURE.log_prob(whole) - marginal.log_prob(torch.tensor([[0.4]], dtype=torch.float64))
    torch.testing.assert_close(rest.log_prob(x), expected, atol=1e-6, rtol=1e-6)
    nothing = MIXTURE.rest(torch.full((3,), NAN))
    torch.testing.assert_close(nothing.log_prob(whole), MIXTURE.log_prob(whole), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="with NaN in it"):
        MIXTURE.rest(torch.zeros(3))


class Optimal(torch.nn.Module):
    """What a network learns: the velocity of the rest at x_t, whatever stands where a number is known."""

    def __init__(self) -> None:
        super().__init__()
        self.rest = MIXTURE.rest(KNOWN)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        values, marks = condition.unbind(1)
        assert (marks == torch.tensor([0.0, 1.0, 0.0])).all()
        assert torch.allclose(values[:, 1], torch.tensor(0.4, dtype=values.dtype))
        assert (x[:, 1] == 0).all()  # as in training
        clean, noise = self.rest(x[:, [0, 2]], t)
        out = torch.full_like(x, 1e3)  # of no meaning where a number is known
        out[:, [0, 2]] = noise - clean
        return out


def bound(count: int) -> KnownDenoiser:
    rows = torch.tensor([[0.0, 0.4, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64).expand(count, 2, 3)
    made = KnownDenoiser(Optimal(), path.Linear(), target.Velocity()).given(rows)
    assert isinstance(made, KnownDenoiser)
    return made


@pytest.mark.parametrize("solver", ["abm", "heun", "ode", "ancestral", "pc"])
def test_samplers_hold_what_is_known_and_draw_the_rest_of_a_closed_form(solver: str) -> None:
    count = 1500
    if solver == "ode":
        pytest.importorskip("torchdiffeq")
    x = ornstein.sample(bound(count), (count, 3), solver=solver, steps=40, dtype=torch.float64)
    assert float((x[:, 1] - 0.4).abs().max()) < 1e-3
    rest = MIXTURE.rest(KNOWN)
    mine, theirs = x[:, [0, 2]], rest.draw(200_000, generator=torch.Generator().manual_seed(2)).double()
    off = (mine.mean(0) - theirs.mean(0)) / (theirs.std(0) / math.sqrt(count))
    assert off.abs().max() < 4
    torch.testing.assert_close(mine.T.cov(), theirs.T.cov(), atol=0.06, rtol=0.1)


def test_the_density_of_the_rest_is_that_of_a_closed_form() -> None:
    rest = MIXTURE.rest(KNOWN)
    x = rest.draw(20, generator=torch.Generator().manual_seed(3)).double()
    places = torch.tensor([0, 2]).expand(20, 2)
    made = likelihood.log_prob(Rest(bound(20), places, (3,)), x, batch_size=7)
    torch.testing.assert_close(made, rest.log_prob(x), atol=2e-4, rtol=0)


def test_estimates_are_consistent_where_numbers_are_known() -> None:
    denoiser, x = bound(6), torch.randn(6, 3, dtype=torch.float64)
    for t in (0.0, 1e-3, 0.5, 1.0):
        clean, noise = denoiser(x, t)
        point = denoiser.path.at(t, x)
        assert clean.isfinite().all()
        torch.testing.assert_close(point.alpha * clean + point.sigma * noise, x)
        if t > 0:
            torch.testing.assert_close(clean[:, 1], torch.full((6,), 0.4, dtype=torch.float64))
    table = denoiser.predictors(torch.tensor([1e-3, 0.5], dtype=torch.float64), x)
    for t, ask in zip((1e-3, 0.5), table, strict=True):
        torch.testing.assert_close(ask(x), denoiser.predict(x, t))


def test_rows_of_a_source_are_its_own() -> None:
    source, x = PerSampleNoise(3), torch.zeros(6, 2)
    picked = RowsOf(source, (4, 1))
    assert torch.equal(picked(x[:2], 0.5, 0.1), source(x, 0.5, 0.1)[[4, 1]])
    assert torch.equal(picked.repeat(2).skip(1)(x[:1], 0.5, 0.1), source.repeat(2)(x, 0.5, 0.1)[[1]])


# Runs


POINTS = MIXTURE.draw(3000, generator=torch.Generator().manual_seed(4)).numpy().astype(np.float32) * [1, 10, 100] + [
    5,
    0,
    0,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ornstein.runs.Run:
    out = tmp_path_factory.mktemp("known") / "run"
    points = POINTS.astype(np.float32)
    return ornstein.train(points, given="any", preset="tiny", steps=120, batch_size=128, out=out, snapshots=0)


def test_the_condition_is_kept_in_files(run: ornstein.runs.Run) -> None:
    known = ornstein.load(run.folder).model.conditions.known
    assert known == Known(AnyColumns((1, 1, 1)), (3,))
    assert isinstance(run.denoiser, KnownDenoiser)


def test_what_is_known_comes_back_to_the_last_bit_and_decides_the_rest(run: ornstein.runs.Run) -> None:
    asked = np.array([NAN, 4.1234567, NAN])
    made = run.sample(300, known=asked)
    assert (made[:, 1] == np.float32(4.1234567)).all()
    assert np.ptp(made[:, 0]) > 0.5
    each = np.array([[NAN, NAN, 250.0], [NAN, NAN, -250.0]]).repeat(150, 0)
    both = run.sample(300, known=each)
    assert np.array_equal(both[:, 2], each[:, 2])
    assert both[:150, 0].mean() < both[150:, 0].mean() - 0.5  # of another component
    assert np.array_equal(run.sample(2, known=asked, first=7), made[7:9]) or np.allclose(
        run.sample(2, known=asked, first=7), made[7:9], rtol=1e-4
    )
    assert np.array_equal(run.sample(5, condition={"known": asked}), run.sample(5, known=torch.tensor(asked)))


def test_draws_of_holes_depend_on_item_and_draw_alone(run: ornstein.runs.Run) -> None:
    holed = POINTS[:40].copy()
    holed[np.random.default_rng(0).random(holed.shape) < 0.4] = NAN
    filled = run.impute(holed, 3)
    seen = ~np.isnan(holed)
    assert filled.shape == (3, 40, 3)
    assert filled.dtype == np.float32
    assert np.isfinite(filled).all()
    assert (filled[:, seen] == holed[seen].astype(np.float32)).all()
    assert (filled[0] != filled[1])[~seen].all()
    assert np.array_equal(run.impute(holed), filled[0])
    np.testing.assert_allclose(run.impute(holed[:7], 2), filled[:2, :7], rtol=1e-4)
    assert run.impute(holed[0]).shape == (1, 3)


def test_densities_of_the_rest_add_up(run: ornstein.runs.Run) -> None:
    """log p(a, b, c) of a trained network is nearly log p(b) + log p(a, c | b): the same network in two ways, and exact units."""
    items = POINTS[:6].astype(np.float32)
    given = np.array([False, True, False])
    mixed = np.stack([given, ~given, given, ~given, given, ~given])
    some = run.log_prob(items, known=mixed, steps=24)
    apart = np.where(
        mixed[:, 1], run.log_prob(items, known=given, steps=24), run.log_prob(items, known=~given, steps=24)
    )
    np.testing.assert_allclose(some, apart, atol=1e-4)
    assert run.log_prob(items, known=np.ones(3, bool)).tolist() == [0.0] * 6
    whole = run.log_prob(items, known=np.zeros(3, bool), steps=24)
    np.testing.assert_allclose(whole, run.log_prob(items, steps=24), atol=1e-3)
    spec = run.spec  # densities of the model's units, in the data's own: those of the unknown numbers alone count
    rows = run.model.conditions.requested(6, spec, condition={"known": np.where(given, items, NAN)})
    assert rows is not None
    bound, places = run.denoiser.given(run.model.conditions.network_input(rows)), torch.tensor([0, 2]).expand(6, 2)
    inside = likelihood.log_prob(Rest(bound, places, (3,)), spec.to_model(items)[:, [0, 2]], steps=24)
    np.testing.assert_allclose(apart[::2], inside[::2].numpy() + np.log(spec.slopes)[[0, 2]].sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda run: run.sample(2, known=[1.0, 2.0]), r"known: it has shape \(2,\), and must have shape \(3,\)"),
        (lambda run: run.sample(2, known=np.zeros((3, 3))), r"or \(2, 3\) with one item for each"),
        (lambda run: run.sample(2, known=[1.0, np.inf, NAN]), "infinite"),
        (lambda run: run.sample(2, known=["a", "b", "c"]), "known: give numbers"),
        (lambda run: run.sample(2, known=[NAN] * 3, shape=(4,)), "shape"),
        (lambda run: run.impute(np.zeros((0, 3))), "there are none"),
        (lambda run: run.impute(np.zeros((2, 4))), "known: it has shape"),
        (lambda run: run.log_prob(POINTS[:2].astype(np.float32), known=[True]), r"known: it has shape \(1,\)"),
    ],
)
def test_requests_that_do_not_fit(run: ornstein.runs.Run, ask: Callable[[Any], Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ask(run)


def test_runs_without_the_means_say_how_to_train() -> None:
    plain = ornstein.train(POINTS.astype(np.float32), preset="tiny", steps=1)
    for ask in (lambda: plain.sample(1, known=[NAN] * 3), lambda: plain.impute(POINTS)):
        with pytest.raises(UsageError, match="train with --given any"):
            ask()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"few_steps": "progressive"}, "few_steps: a flow map takes no known numbers"),
        ({"learned_variance": True}, "learned_variance"),
        ({"coupling": "ot"}, "coupling: what is given decides"),
        ({"conditions": ()}, "your own take the place"),
    ],
)
def test_settings_that_exclude_given(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ornstein.train(POINTS.astype(np.float32), given="any", preset="tiny", steps=1, **changes)


def test_what_data_lack_is_neither_known_nor_estimated() -> None:
    holed = POINTS[:400].astype(np.float32)
    lacking = np.random.default_rng(1).random(holed.shape) < 0.3
    holed[lacking] = NAN
    dataset = data.dataset_of(holed, missing="mask")
    known = Known(AnyColumns(), (3,))
    indices, numbers = np.arange(400), torch.rand(400, known.numbers, generator=torch.Generator().manual_seed(0))
    x = dataset.batch(indices)[0]
    rows = known.of(dataset, indices, x, numbers)
    values, marks = rows.unbind(1)
    assert torch.equal(marks == -1, torch.from_numpy(lacking))
    assert (values[marks != 1] == 0).all()
    assert torch.equal(values[marks == 1], x[marks == 1])
    assert torch.equal(known.scored(rows) == 1, marks == 0)
    dropped = known.dropped(rows, torch.ones(400, dtype=torch.bool))
    assert torch.equal(dropped[:, 1] == -1, torch.from_numpy(lacking))
    assert torch.equal(known.scored(dropped) == 1, ~torch.from_numpy(lacking))
    outside = Conditions((known,)).of_items(dataset, indices)[0]  # nothing is drawn there
    assert torch.equal(outside, dropped)
    run = ornstein.train(holed, given="any", missing="mask", preset="tiny", steps=20)
    assert np.isfinite(run.impute(holed)).all()


def test_series_are_forecast_and_their_gaps_filled() -> None:
    t = np.arange(24)
    waves = np.sin(0.4 * t + np.random.default_rng(0).uniform(0, 6, (64, 1))).astype(np.float32)[:, None]
    small = {"network": "unet", "preset": "tiny", "steps": 2, "batch_size": 4}
    run = ornstein.train(waves, layout="NCL", given="past:16", **small)
    asked = np.where(t < 16, waves[:2].astype(np.float64), NAN)
    made = run.sample(2, known=asked, steps=4)
    assert np.array_equal(made[..., :16], waves[:2, :, :16])
    assert np.isfinite(made).all()
    with pytest.raises(UsageError, match="give the first 16 and NaN for all that follows"):
        run.sample(2, known=np.where(t < 12, waves[:2], NAN))
    gaps = ornstein.train(waves, layout="NCL", given="gaps", **small)
    asked = np.where((t > 3) & (t < 9), NAN, waves[:2])
    assert np.array_equal(gaps.impute(asked, steps=4)[..., 9:], waves[:2, :, 9:])


def test_every_gives_places_along_any_axis_and_no_other_request_is_answered() -> None:
    for axis, expected in ((1, [1, 0, 0, 1, 0]), (2, [1, 0, 0, 1, 0, 0, 1])):
        visible = Every(3, axis)(torch.zeros(2, 0), (2, 5, 7)).expand(2, 2, 5, 7)
        place = [0, 0, 0, 0]
        place[axis + 1] = slice(None)  # type: ignore[call-overload]
        assert visible[tuple(place)].long().tolist() == expected
        assert Every(3, axis).refusal(visible, (2, 5, 7)) == ""
        assert "give these places and NaN" in Every(3, axis).refusal(visible.roll(1, axis + 1), (2, 5, 7))
    for wrong, shape in ((Every(2, 3), (1, 4, 4)), (Every(2), (3,)), (Every(2), (1, 1, 4)), (Every(4), (1, 4, 9))):
        with pytest.raises(ValueError, match="every"):
            wrong.check(shape)
    with pytest.raises(ValueError, match="every: the step is 1"):
        Every(1)


def test_quantiles_of_a_forecast_are_written_and_its_coverage_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walks = np.random.default_rng(0).normal(size=(200, 1, 16)).cumsum(2).astype(np.float32)
    folder = str(tmp_path / "run")
    ornstein.train(walks, layout="NCL", given="past:12", preset="tiny", steps=2, batch_size=4, out=folder, snapshots=0)
    np.save(tmp_path / "walks.npy", walks)
    np.save(tmp_path / "begun.npy", np.where(np.arange(16) < 12, walks[:3], np.float32(NAN)))
    words = [
        "impute",
        folder,
        str(tmp_path / "begun.npy"),
        "--steps",
        "2",
        "--device",
        "cpu",
        "--quantiles",
        "0.1,0.5,0.9",
    ]
    assert main([*words, "--out", str(tmp_path / "never.npy")]) == 2
    assert "give for example --draws 100" in capsys.readouterr().err
    assert main([*words, "--draws", "6", "--out", str(tmp_path / "q.npy")]) == 0
    draws = ornstein.load(folder).impute(np.load(tmp_path / "begun.npy"), 6, steps=2)
    np.testing.assert_allclose(
        np.load(tmp_path / "q.npy"), np.quantile(draws, [0.1, 0.5, 0.9], axis=0), rtol=1e-4, atol=1e-5
    )
    words = ["evaluate", folder, "--data", str(tmp_path / "walks.npy"), "-n", "100", "--steps", "2", "--device", "cpu"]
    assert main([*words, "--metrics", "sliced-wasserstein", "--out", str(tmp_path / "e.json")]) == 0
    scores = {score["name"]: score["value"] for score in json.loads((tmp_path / "e.json").read_text())["scores"]}
    assert {"CRPS", "central 50%", "central 90%"} <= scores.keys()
    assert 0 < scores["CRPS"] < 10
    assert scores["central 50%"] < scores["central 90%"]


# Commands


def test_the_command_fills_holes_and_samples_the_rest(
    run: ornstein.runs.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holed = POINTS[:6].astype(np.float32)
    holed[0, 0] = holed[3, 2] = NAN
    np.save(tmp_path / "holes.npy", holed)
    folder, out = str(run.folder), str(tmp_path / "filled.npy")
    words = ["impute", folder, str(tmp_path / "holes.npy"), "--steps", "4"]
    assert main([*words, "--out", out]) == 0
    filled = np.load(out)
    assert filled.shape == (6, 3)
    assert (filled[~np.isnan(holed)] == holed[~np.isnan(holed)]).all()
    assert main([*words, "--out", out]) == 0  # the same command may write it again
    assert main([*words, "--draws", "2", "--out", out]) == 2
    assert main([*words, "--draws", "2", "--out", str(tmp_path / "twice.npz")]) == 0
    assert np.load(tmp_path / "twice.npz")["samples"].shape == (2, 6, 3)
    np.save(tmp_path / "whole.npy", POINTS[:200].astype(np.float32))
    assert main(["impute", folder, str(tmp_path / "whole.npy")]) == 2
    assert "has no holes" in capsys.readouterr().err
    assert main(["impute", folder, str(tmp_path / "none.npy")]) == 2
    given = ["sample", folder, "-n", "3", "--steps", "4"]
    assert main([*given, "--known", "?,2.5,nan", "--out", str(tmp_path / "s.npz")]) == 0
    assert (np.load(tmp_path / "s.npz")["samples"][:, 1] == 2.5).all()
    np.save(tmp_path / "known.npy", np.array([NAN, 1.5, NAN]))
    assert main([*given, "--known", str(tmp_path / "known.npy"), "--out", str(tmp_path / "k.npz")]) == 0
    assert (np.load(tmp_path / "k.npz")["samples"][:, 1] == 1.5).all()
    for wrong in ("a,b", "1,2", "none.npy"):
        assert main([*given, "--known", wrong]) == 2
    held_out = ["--data", str(tmp_path / "whole.npy"), "--metrics", "mmd"]
    assert main(["evaluate", folder, *held_out, "-n", "100", "--steps", "2"]) == 0
    assert main(["likelihood", folder, *held_out[:2], "-n", "4", "--steps", "12"]) == 0


@pytest.mark.slow
def test_every_conditional_of_a_mixture_is_within_sampling_error() -> None:
    torch.manual_seed(0)
    points = MIXTURE.draw(100_000, generator=torch.Generator().manual_seed(5)).numpy()
    run = ornstein.train(points, given="any", preset="tiny-linear", steps=1500, batch_size=512)
    test = MIXTURE.draw(256, generator=torch.Generator().manual_seed(6)).double()
    rng = np.random.default_rng(0)
    for subset in range(7):  # of the known
        given = np.array([bool(subset >> k & 1) for k in range(3)])
        rests = [MIXTURE.rest(torch.where(torch.from_numpy(given), x, NAN)) for x in test]
        true = torch.stack(
            [rest.log_prob(x[None, ~torch.from_numpy(given)])[0] for rest, x in zip(rests, test, strict=True)]
        )
        mine = run.log_prob(test.numpy().astype(np.float32), known=given)
        assert abs((mine - true.numpy()).mean()) < 0.03
        row = rng.integers(256)
        rest = rests[row].draw(20_000, generator=torch.Generator().manual_seed(7)).double()
        drawn = run.sample(2000, known=np.where(given, test[row], NAN))[:, ~given]
        off = (drawn.mean(0) - rest.mean(0).numpy()) / (rest.std(0).numpy() / math.sqrt(2000))
        assert np.abs(off).max() < 6
    holed = test.numpy().astype(np.float32)
    holes = rng.random(holed.shape) < 0.3
    draws = run.impute(np.where(holes, NAN, holed), 200)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    inside = ((low <= holed) & (holed <= high))[holes].mean()
    assert abs(inside - 0.9) < 3 * math.sqrt(0.09 / holes.sum())

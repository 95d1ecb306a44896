"""Posteriors from simulations: priors as coordinates, normalised densities, several observations, rounds, calibration."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ornstein
from ornstein import exact, inference, path
from ornstein.cli import main
from ornstein.cli.calibrate import _table
from ornstein.errors import UsageError
from ornstein.inference import Box, IndependentNormal, JoinedPriors
from ornstein.inference.prior import draw, log_slope
from ornstein.inference.several import Each, Product
from ornstein.metrics.calibration import Calibration, calibration
from ornstein.metrics.score import Score

PRIORS = (
    Box([-2.0, 0.0], [1.0, 0.01]),
    IndependentNormal([3.0, -1.0], [0.1, 20.0]),
    JoinedPriors((Box(-1.0, 1.0), IndependentNormal(0.0, 2.0))),
)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_coordinates_of_a_prior_are_standard_normal_and_lead_back(prior: Any) -> None:
    theta = draw(prior, 4000, seed=1)
    u = prior.to_normal(theta)
    assert u.shape == (4000, prior.size)
    assert np.abs(u.mean(0)).max() < 0.06
    assert np.abs(u.std(0) - 1).max() < 0.05
    np.testing.assert_allclose(prior.from_normal(u), theta, rtol=1e-6, atol=1e-9)
    step = 1e-6 * np.ptp(theta, axis=0)
    some = np.clip(theta[:50], np.quantile(theta, 0.01, axis=0), np.quantile(theta, 0.99, axis=0))
    rates = (prior.to_normal(some + step) - prior.to_normal(some - step)) / (2 * step)
    np.testing.assert_allclose(log_slope(prior, some), np.log(rates).sum(1), atol=1e-4)


def test_no_coordinate_leads_out_of_a_box() -> None:
    box = Box([0.0, -1.0], [1e-3, 5.0])
    theta = box.from_normal(np.array([[40.0, -40.0], [-1e9, 1e9], [0.0, 0.0]]))
    assert (theta >= box.low).all()
    assert (theta <= box.high).all()
    assert np.isfinite(box.to_normal(theta)).all()
    assert box.log_prob(np.array([[0.5, 0.0]])) == -np.inf
    with pytest.raises(UsageError, match=r"parameter 1 of row 0 is 6, outside of -1 to 5"):
        box.to_normal(np.array([[0.0, 6.0]]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Box(1.0, 0.0), "low below high"),
        (lambda: Box([0.0, math.inf], 5.0), "finite"),
        (lambda: IndependentNormal(0.0, 0.0), "std positive"),
        (lambda: ornstein.posterior(np.zeros((5, 2)), np.zeros((4, 2))), "5 parameters and 4 observations"),
        (lambda: ornstein.posterior(np.zeros((5, 2)), np.full((5, 2), np.nan)), "x: row 0 holds NaN"),
        (lambda: ornstein.posterior(np.zeros((5, 2)), np.zeros((5, 2)), (0.0, 1.0)), "prior: it is of 1 parameters"),
        (lambda: ornstein.posterior("theta", np.zeros((5, 2))), "theta: give an array of numbers"),
        (lambda: inference.truncated_rounds(lambda t: t, IndependentNormal(0.0, 1.0), [0.0]), "is a box"),
    ],
)
def test_what_does_not_fit(make: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


# Several observations


def test_the_product_of_gaussian_posteriors_is_exact_at_every_level() -> None:
    p, generator = path.Linear(), np.random.default_rng(0)
    spread = [np.eye(2) * 2.0]
    for _ in range(3):
        a = generator.standard_normal((2, 2))
        spread.append(np.linalg.inv(np.linalg.inv(spread[0]) + a @ a.T))
    means = [np.zeros(2), *generator.standard_normal((3, 2))]
    prior, *each = [exact.Gaussian(torch.tensor(m), torch.tensor(c), p) for m, c in zip(means, spread, strict=True)]
    precisions = [np.linalg.inv(c) for c in spread]
    total = sum(precisions[1:]) - 2 * precisions[0]
    middle = np.linalg.solve(total, sum(q @ m for q, m in zip(precisions[1:], means[1:], strict=True)))
    truth = exact.Gaussian(torch.tensor(middle), torch.tensor(np.linalg.inv(total)), p)

    class Split(Each):
        def __call__(self, x_t: torch.Tensor, t: Any, count: int) -> torch.Tensor:
            return torch.stack([one(x_t, t).clean for one in each])

    made = Product(
        Split(None, torch.zeros(0)), prior, torch.tensor(np.stack(precisions[1:])), torch.tensor(precisions[0])
    )
    x = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in (1e-3, 0.2, 0.7, 0.999):
        got, expected = made(x, t), truth(x, t)
        torch.testing.assert_close(got.clean, expected.clean, atol=1e-8, rtol=1e-6)
        torch.testing.assert_close(got.noise, expected.noise, atol=1e-6, rtol=1e-6)


# Posteriors

BOX = Box([0.0, -1.0], [2.0, 1.0])


def simulate(theta: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(len(theta)).standard_normal(theta.shape)
    return theta + 0.1 * noise


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> inference.AmortisedPosterior:
    theta = draw(BOX, 2000)
    out = tmp_path_factory.mktemp("posterior") / "run"
    return ornstein.posterior(theta, simulate(theta), BOX, out=out, steps=150, batch_size=128, snapshots=0)


def test_samples_are_near_the_truth_and_never_outside(post: inference.AmortisedPosterior) -> None:
    edge = post.given([0.01, 0.98]).sample(400)
    assert ((edge >= BOX.low) & (edge <= BOX.high)).all()
    inner = post.given([1.2, -0.3]).sample(400)
    assert np.abs(inner.mean(0) - [1.2, -0.3]).max() < 0.2
    assert (inner.std(0) < 0.45).all()  # the prior's is 0.58
    again = inference.AmortisedPosterior(ornstein.load(post.run.folder), BOX).given([1.2, -0.3])
    np.testing.assert_allclose(again.sample(3), inner[:3], rtol=1e-4, atol=1e-5)
    both = post.given([[1.2, -0.3], [1.25, -0.35]]).sample(200, steps=10)
    assert np.abs(both.mean(0) - [1.2, -0.3]).max() < 0.25


def test_densities_integrate_to_one_in_parameters(post: inference.AmortisedPosterior) -> None:
    sides = [(np.arange(24) + 0.5) / 24 * (high - low) + low for low, high in zip(BOX.low, BOX.high, strict=True)]
    grid = np.stack(np.meshgrid(*sides), -1).reshape(-1, 2)
    value, error = post.given([1.2, -0.3]).log_prob(grid, steps=24, check=False)
    assert np.isnan(error).all()
    assert np.exp(value).sum() * (2 / 24) ** 2 == pytest.approx(1, abs=0.01)
    value, error = post.given([1.2, -0.3]).log_prob([[1.2, -0.3], [2.5, 0.0]], steps=24)
    assert np.isfinite(value[0])
    assert abs(error[0]) < 0.05
    assert value[1] == -np.inf
    with pytest.raises(UsageError, match="not normalised"):
        post.given([[1.2, -0.3]] * 2).log_prob([[1.0, 0.0]])
    with pytest.raises(UsageError, match="an observation has 2 finite numbers"):
        post.given([1.0])


def test_several_observations_have_a_density_up_to_a_constant(post: inference.AmortisedPosterior) -> None:
    seen, theta = np.array([[1.2, -0.3], [1.3, -0.2]]), np.array([[1.2, -0.3], [1.0, -0.2], [2.5, 0.0]])
    value, error = post.given(seen).unnormalised_log_prob(theta, steps=12, check=False)
    alone = [post.given(x).log_prob(theta, steps=12, check=False).value for x in seen]
    np.testing.assert_allclose(value[:2], sum(alone)[:2] + math.log(4))  # the prior is 1/4 in the box
    assert value[2] == -np.inf
    assert value[0] > value[1]
    assert np.isnan(error[:2]).all()
    unknown = inference.AmortisedPosterior(post.run).given(seen)
    with pytest.raises(UsageError, match="give prior= to"):
        unknown.unnormalised_log_prob(theta)


def test_a_solver_is_tuned_to_the_posteriors_of_observations(post: inference.AmortisedPosterior) -> None:
    observations = simulate(draw(BOX, 64, seed=5))
    solver = post.tune(observations, 3, starts=32, held_out=32, iterations=4)
    assert solver.fitted.calls == 3
    assert solver.error < solver.untuned
    x = [0.4, 0.2]
    fine = post.given(x).sample(200, steps=60)
    made = post.given(x).sample(200, solver=solver)

    def off(draws: np.ndarray) -> float:
        return float(np.abs(draws - fine).mean())

    assert off(made) < off(post.given(x).sample(200, steps=3))
    assert off(made) < 0.05


def test_rounds_cut_the_prior_around_the_truth() -> None:
    made = inference.truncated_rounds(
        simulate, ([0.0, -1.0], [2.0, 1.0]), [1.2, -0.3], rounds=2, simulations=600, steps=100, batch_size=128
    )
    box = made.prior
    assert isinstance(box, Box)
    low, high = np.array(box.low), np.array(box.high)
    assert ((low < [1.2, -0.3]) & (high > [1.2, -0.3])).all()
    assert ((high - low) < 1.9).any()
    draws = made.given([1.2, -0.3]).sample(100)
    assert ((draws >= low) & (draws <= high)).all()


# Calibration


def scores(draws: np.ndarray, truth: np.ndarray, **more: Any) -> dict[str, Score]:
    return {score.name: score for score in calibration(draws, truth, **more).scores}


def gaussian(count: int = 1500, each: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """AmortisedPosterior draws of θ ~ N(0, 1) given x = θ + ε, the truth, and draws of the prior."""
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((count, 2))
    x = truth + rng.standard_normal((count, 2))
    draws = x[:, None] / 2 + math.sqrt(0.5) * rng.standard_normal((count, each, 2))
    return draws, truth, rng.standard_normal((count, each, 2))


def test_true_posteriors_are_calibrated_and_narrow_ones_are_not() -> None:
    draws, truth, prior = gaussian()
    right, found = scores(draws, truth), calibration(draws, truth)
    for name, score in right.items():
        if name != "CRPS":
            level = float(name.split()[-1].rstrip("%")) / 100
            assert abs(score.value - level) < 4 * (score.high - score.low) / 3.92, name
    assert min(found.uniform.values()) > 1e-3
    assert right["CRPS"].value == pytest.approx(math.sqrt(0.5 / math.pi), rel=0.05)  # σ/√π
    narrow = draws.mean(1, keepdims=True) + 0.5 * (draws - draws.mean(1, keepdims=True))
    wrong = scores(narrow, truth)
    assert wrong["central 90%"].high < 0.8
    assert wrong["TARP 90%"].high < 0.88
    assert min(calibration(narrow, truth).uniform.values()) < 1e-6
    assert "Ranks are uniform" in _table(found)[-1]
    assert "Not uniform: " in _table(calibration(narrow, truth))[-1]
    moved = calibration(draws + 0.4, truth)
    assert moved.uniform["number 0"] < 1e-6
    assert wrong["CRPS"].value > right["CRPS"].value
    assert scores(prior, truth)["CRPS"].value > right["CRPS"].value  # calibrated, and less sharp


def test_known_numbers_are_not_judged_and_densities_are() -> None:
    draws, truth, _ = gaussian(400)
    some = truth.copy()
    some[:200, 0] = np.nan
    found = calibration(np.where(np.isnan(some)[:, None], 5.0, draws), some)
    assert np.isnan(found.ranks).sum() == 200
    assert min(found.uniform.values()) > 1e-3
    assert found.to_json()["items"] == 400
    mean = draws.mean(1, keepdims=True)
    density = -np.square(draws - mean).sum(2), -np.square(truth - mean[:, 0]).sum(1)
    assert abs(scores(draws, truth, densities=density)["highest density 90%"].value - 0.9) < 0.06
    with pytest.raises(UsageError, match="do not fit"):
        calibration(draws, truth[:, :1])


def test_a_missing_value_of_a_table_is_an_outcome() -> None:
    """Draws of the true distribution are calibrated, those that are missing too often are not; each column has its own CRPS."""
    draws, truth, _ = gaussian(400)
    rng = np.random.default_rng(5)
    judged = rng.random(truth.shape) < 0.7
    lost = np.where(rng.random(truth.shape) < 0.3, np.nan, truth)

    def made(rate: float, scale: float = 1.0) -> Calibration:
        lacking = np.where(rng.random(draws.shape) < rate, np.nan, draws)
        return calibration(lacking * [1, scale], lost * [1, scale], names=("a", "b"), judged=judged)

    right, wrong = made(0.3), made(0.6)
    assert np.isnan(right.ranks).sum() == (~judged).sum()
    assert min(right.uniform.values()) > 1e-3
    assert max(wrong.uniform["a"], wrong.uniform["b"]) < 1e-6
    some = np.random.default_rng(6).integers(0, 3, (400, 41, 2)).astype(float)  # of which most balls hold as many
    assert min(calibration(some[:, 1:], some[:, 0], judged=judged).uniform.values()) > 1e-3
    found = [{s.name: s.value for s in made(0.3, scale).scores} for scale in (1.0, 100.0)]
    assert "CRPS" not in found[0]
    assert found[1]["CRPS of b"] == pytest.approx(100 * found[0]["CRPS of b"], rel=0.1)
    assert found[1]["CRPS of a"] == pytest.approx(found[0]["CRPS of a"], rel=0.1)


def test_the_command_calibrates_posteriors_and_runs_of_known_numbers(
    post: inference.AmortisedPosterior, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theta = draw(BOX, 60, seed=3)
    np.savez(tmp_path / "test.npz", x=BOX.to_normal(theta).astype(np.float32), conditions=simulate(theta))
    words = ["calibrate", str(post.run.folder), "-n", "30", "--draws", "20", "--steps", "5"]
    assert main([*words, "--data", str(tmp_path / "test.npz"), "--out", str(tmp_path / "c.json"), "--density"]) == 0
    made = json.loads((tmp_path / "c.json").read_text())
    assert made["items"] == 30
    assert {"central 90%", "TARP 90%", "highest density 90%", "CRPS"} <= {score["name"] for score in made["scores"]}
    assert "CRPS" in capsys.readouterr().out
    result = post.calibrate(theta, simulate(theta), count=30, draws=20, steps=5)
    assert result.ranks.shape == (30, 2)
    assert (
        ornstein.calibrate(post, theta, simulate(theta), count=30, draws=20, steps=5).balls.tolist()
        == result.balls.tolist()
    )
    points = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    known = ornstein.train(points, given="any", preset="tiny", steps=20)
    found = known.calibrate(ornstein.data.dataset_of(points), 40, 20, steps=4)
    assert 0.2 < np.isnan(found.ranks).mean() < 0.6
    plain = ornstein.train(points, preset="tiny", steps=1)
    with pytest.raises(UsageError, match="has no conditions"):
        plain.calibrate(ornstein.data.dataset_of(points), 40, 20)
    assert main(["calibrate", str(post.run.folder), "--data", str(tmp_path / "test.npz"), "--out", "c.txt"]) == 2


@pytest.mark.slow
def test_a_linear_gaussian_posterior_is_that_of_a_closed_form() -> None:
    from ornstein.metrics.c2st import c2st

    rng = np.random.default_rng(0)
    matrix, noise = rng.standard_normal((3, 2)), 0.5
    theta = rng.standard_normal((10_000, 2))
    x = theta @ matrix.T + noise * rng.standard_normal((10_000, 3))
    post = ornstein.posterior(theta, x, IndependentNormal([0.0, 0.0], 1.0), steps=4000, batch_size=512)
    cov = np.linalg.inv(np.eye(2) + matrix.T @ matrix / noise**2)
    for seen in x[:2]:
        mean = cov @ matrix.T @ seen / noise**2
        true = rng.multivariate_normal(mean, cov, 4000)
        given = post.given(seen)
        assert c2st(torch.tensor(given.sample(4000)), torch.tensor(true)).low < 0.53
        density = exact.Gaussian(torch.tensor(mean), torch.tensor(cov), path.Linear())
        value, error = given.log_prob(true[:256])
        assert np.abs(error).max() < 1e-3
        assert abs((value - density.log_prob(torch.tensor(true[:256])).numpy()).mean()) < 0.03


def test_numbers_of_an_item_that_are_one_count_as_one() -> None:
    draws, truth, _ = gaussian(400)
    one = scores(draws[..., :1], truth[:, :1])["central 90%"]
    eight = scores(draws[..., :1].repeat(8, 2), truth[:, :1].repeat(8, 1))["central 90%"]
    assert eight.value == pytest.approx(one.value, abs=0.01)
    assert eight.high - eight.low == pytest.approx(one.high - one.low, rel=0.2)

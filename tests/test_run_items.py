"""What a run does with a user's own items: edits, restorations, likelihoods, other shapes and starts, in the data's own units."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import ornstein
from ornstein import editing, likelihood
from ornstein.editing import operators
from ornstein.errors import UsageError
from ornstein.guidance import GuidanceConfig
from ornstein.noise import PerSampleNoise
from ornstein.runs import Run
from ornstein.runs.editing import weighed

Array = NDArray[Any]
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (60, 8, 12, 1), np.uint8)
POINTS = RANDOM.normal(size=(300, 2)).astype(np.float32) * [40, 0.2] + [1000, -5]
LINE = RANDOM.normal(size=(200, 1)) * 30 + 500


def trained(data: Any, **settings: Any) -> Run:
    return ornstein.train(data, **{"steps": 2, "seed": 1, "batch_size": 16, "tell": lambda _: None, **settings})


@pytest.fixture(scope="module")
def images() -> Run:
    return trained((IMAGES, np.arange(60) % 3), network="unet", preset="tiny")


@pytest.fixture(scope="module")
def points() -> Run:
    return trained(POINTS.astype(np.float32), steps=60)


# Edits


@pytest.mark.parametrize("count", [1, 3])
def test_an_edit_is_the_edit_in_model_units(images: Run, count: int) -> None:
    made = images.edit(IMAGES[:2], strength=0.6, count=count, seed=7, steps=3)
    assert made.shape == (2 * count, *IMAGES.shape[1:])
    assert made.dtype == np.uint8
    x = images.spec.to_model(IMAGES[:2]).repeat_interleave(count, 0)
    with torch.no_grad():
        expected = editing.sdedit(images.denoiser, x, 0.6, steps=3, seed=7)
    np.testing.assert_array_equal(made, images.spec.from_model(expected))
    assert (
        np.abs(
            made.astype(int) - images.edit(IMAGES[:2], strength=0.6, count=count, seed=7, steps=3, batch_size=1)
        ).max()
        <= 1
    )


def test_one_item_is_a_batch_of_one_and_a_tensor_an_array(images: Run) -> None:
    one = images.edit(IMAGES[0], strength=0.4, steps=3)
    np.testing.assert_array_equal(one, images.edit(IMAGES[:1], strength=0.4, steps=3))
    np.testing.assert_array_equal(one, images.edit(torch.from_numpy(IMAGES[0]), strength=0.4, steps=3))


@pytest.mark.parametrize("solver", [None, "heun"])
def test_what_a_mask_leaves_out_stays_as_it_is(images: Run, points: Run, solver: str | None) -> None:
    hidden = np.zeros((8, 12), bool)
    hidden[:, 6:] = True
    made = images.edit(IMAGES[:2], mask=hidden, steps=4, solver=solver)
    np.testing.assert_array_equal(made[:, :, :6], IMAGES[:2, :, :6])
    assert (made[:, :, 6:] != IMAGES[:2, :, 6:]).mean() > 0.5
    np.testing.assert_array_equal(made, images.edit(IMAGES[:2], mask=hidden[..., None], steps=4, solver=solver))
    filled = points.edit(POINTS[:5].astype(np.float32), mask=[1, 0], steps=4, solver=solver)
    np.testing.assert_allclose(filled[:, 1], POINTS[:5, 1], rtol=1e-6)
    assert (filled[:, 0] != POINTS[:5, 0]).all()


LAYOUTS = {
    "NHW": ((8, 12), (8, 12), (16, 8)),
    "NHWC": ((8, 12, 3), (8, 12), (16, 8, 3)),
    "NCHW": ((3, 8, 12), (8, 12), (3, 16, 8)),
    "NCL": ((2, 16), (16,), (2, 24)),
    "NLC": ((16, 2), (16,), (24, 2)),
    "NDHW": ((8, 8, 8), (8, 8, 8), (8, 16, 8)),
}
"""Of each the shape of an item, its sides, and another size."""


@pytest.fixture(scope="module", params=LAYOUTS)
def laid_out(request: pytest.FixtureRequest) -> tuple[Run, Array, str]:
    layout = request.param
    items = np.random.default_rng(1).normal(size=(24, *LAYOUTS[layout][0])).astype(np.float32)
    labels = np.arange(24) % 3 + 1
    return trained((items, labels), layout=layout, network="unet", preset="tiny", steps=1, batch_size=4), items, layout


def test_masks_in_every_layout(laid_out: tuple[Run, Array, str]) -> None:
    run, items, layout = laid_out
    shape, sides, _ = LAYOUTS[layout]
    half = np.zeros(sides, bool)
    half[: sides[0] // 2] = True
    spread = half if shape == sides else np.expand_dims(half, layout.index("C") - 1)
    spread = np.broadcast_to(spread, shape)
    made = run.edit(items[0], mask=half, steps=2)
    assert made.shape == (1, *shape)
    np.testing.assert_allclose(made[0][~spread], items[0][~spread], rtol=1e-5, atol=1e-5)
    assert (made[0][spread] != items[0][spread]).all()
    np.testing.assert_array_equal(run.edit(items[0], mask=spread, steps=2), made)
    one = np.zeros(shape, bool)
    one.flat[:3] = True  # of one channel, or of three
    made = run.edit(items[0], mask=one, steps=2)
    np.testing.assert_allclose(made[0][~one], items[0][~one], rtol=1e-5, atol=1e-5)
    if len(sides) > 1 and sides != sides[::-1]:
        with pytest.raises(UsageError, match="mask: it has shape"):
            run.edit(items[0], mask=half.T, steps=2)
    with pytest.raises(UsageError, match="mask: it has shape"):
        run.edit(items[0], mask=np.ones((5, *shape)), steps=2)


def test_other_shapes_in_every_layout(laid_out: tuple[Run, Array, str]) -> None:
    run, _, layout = laid_out
    shape, sides, other = LAYOUTS[layout]
    assert run.sample(1, steps=1, shape=other).shape == (1, *other)
    made = run.sample(1, steps=1, shape=[2 * side for side in sides])
    assert run.spec.layout == layout
    assert made.shape == (1, *(2 * n if axis != "C" else n for axis, n in zip(layout[1:], shape, strict=True)))
    wrong = [(*sides, 5), (0, *sides[1:])] + ([] if shape == sides else [tuple(7 for _ in shape)])
    for bad in wrong:
        with pytest.raises(UsageError, match=r"shape = .*: one sample of"):
            run.sample(1, steps=1, shape=bad)


def test_an_index_is_the_place_of_a_label(laid_out: tuple[Run, Array, str]) -> None:
    run, items, _ = laid_out
    ways: tuple[dict[str, Any], dict[str, Any]] = {"label": 3}, {"label_index": 2}
    for first, second in (
        [run.edit(items[0], strength=0.5, steps=2, **way) for way in ways],
        [run.interpolate(items[0], items[1], 3, steps=2, **way) for way in ways],
        [run.log_prob(items[0], steps=6, **way) for way in ways],
    ):
        np.testing.assert_array_equal(first, second)
    with pytest.raises(UsageError, match="label, label_index: give one"):
        run.edit(items[0], strength=0.5, label=3, label_index=2)
    with pytest.raises(UsageError, match="label_index: 3 is not one of the 3"):
        run.log_prob(items[0], steps=6, label_index=3)


def test_a_label_and_guidance_reach_the_model(images: Run) -> None:
    ways: list[dict[str, Any]] = [{}, {"label": 1}, {"label": 1, "guide": GuidanceConfig(3.0)}, {"label": [1, 2]}]
    x = torch.zeros(2, 1, 8, 12)
    for way in ways:
        wanted = [way["label"]] * 2 if isinstance(way.get("label"), int) else way.get("label")
        denoiser = images.denoiser if wanted is None else images.denoiser.given(torch.tensor(wanted))
        if "guide" in way:
            denoiser = way["guide"](images.denoiser, torch.tensor(wanted))
        with torch.no_grad():
            expected = editing.sdedit(denoiser, images.spec.to_model(IMAGES[:2]), 0.7, steps=3)
        np.testing.assert_array_equal(
            images.edit(IMAGES[:2], strength=0.7, steps=3, **way), images.spec.from_model(expected)
        )
    assert x.shape == (2, *images.spec.shape)
    with pytest.raises(UsageError, match="needs something to guide towards"):
        images.edit(IMAGES[:1], strength=0.5, guide=GuidanceConfig(2.0))


@pytest.mark.filterwarnings("ignore:.* its numbers are taken as they are")
def test_interpolation_ends_near_its_ends(points: Run) -> None:
    made = points.interpolate(POINTS[0].astype(np.float32), POINTS[1].astype(np.float32), 5, steps=60)
    assert made.shape == (5, 2)
    assert made.dtype == np.float32
    assert (np.abs(made[[0, -1]] - POINTS[:2]) / POINTS.std(0)).max() < 0.15
    with pytest.raises(UsageError, match="one item to begin"):
        points.interpolate(POINTS[:2].astype(np.float32), POINTS[1].astype(np.float32))


# Restorations


@pytest.mark.parametrize("method", ["mmps", "pigdm", "dps", "diffpir", editing.MMPS])
def test_a_restoration_is_the_posterior_in_model_units(images: Run, method: Any) -> None:
    operator = operators.Downsample(2)
    y = images.spec.from_model(images.spec.to_model(IMAGES[:1]))
    seen = y.reshape(1, 4, 2, 6, 2, 1).mean((2, 4))[0]
    made = images.restore(seen, operator, 12.75, count=3, method=method, steps=3, seed=2)
    assert made.shape == (3, 8, 12, 1)
    assert made.dtype == np.uint8
    if method is not editing.MMPS:
        return
    measured = torch.from_numpy((seen / 127.5 - 1).transpose(2, 0, 1)[None].astype(np.float32))
    posterior = editing.MMPS(images.denoiser, editing.Measurement(operator, measured, 0.1))
    expected = ornstein.sample(posterior, (3, 1, 8, 12), steps=3, noise=PerSampleNoise(2))
    np.testing.assert_array_equal(made, images.spec.from_model(expected))


def test_what_a_masked_measurement_hides_may_be_anything(images: Run) -> None:
    visible = torch.ones(1, 1, 8, 12)
    visible[..., 6:] = 0
    other = IMAGES[0].copy()
    other[:, 6:] = 3
    made = [images.restore(y, operators.Mask(visible), 5.0, steps=3) for y in (IMAGES[0], other, IMAGES[0, ..., 0])]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_noise_is_in_the_own_units_of_each_channel() -> None:
    """Of channels that are scaled by themselves: every residual counts in deviations of its own channel's noise."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, 3, size, size, generator=generator) for size in (8, 4))
    operator, scales = operators.Downsample(2), np.array([0.1, 1 / 9, np.inf])
    measurement = weighed(operator, y, 0.3, scales)
    residual = measurement.at(x).residual / measurement.noise
    expected = (y - operator(x)) / torch.tensor(0.3 * scales, dtype=torch.float32).reshape(-1, 1, 1)
    assert torch.allclose(residual, expected, atol=1e-5)
    assert not residual[:, 2].any()  # a constant channel, whose noise is infinite in model units
    with pytest.raises(UsageError, match="all channels of the data are constant"):
        weighed(operator, y, 0.3, np.array([np.inf]))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_channels_of_different_units_are_restored_in_them(layout: str) -> None:
    fields = RANDOM.normal(size=(40, 8, 8, 2)) * [2.0, 4000.0] + [5.0, 90_000.0]
    items = (fields if layout == "NHWC" else fields.transpose(0, 3, 1, 2)).astype(np.float32)
    run = trained(items, layout=layout, network="unet", preset="tiny")
    made = run.restore(items[0], operators.Blur(0.5), 0.5, count=2, method=editing.MMPS, steps=3)
    assert (made.shape, made.dtype) == ((2, *items.shape[1:]), np.float32)
    y = run.spec.to_model(items[:1])
    measurement = weighed(operators.Blur(0.5), y, 0.5, run.spec.slopes)
    posterior = editing.MMPS(run.denoiser, measurement)
    expected = ornstein.sample(posterior, (2, 2, 8, 8), steps=3, noise=PerSampleNoise(0))
    np.testing.assert_allclose(made, run.spec.from_model(expected), rtol=1e-4)


def test_a_measurement_that_does_not_fit_is_refused(images: Run, points: Run) -> None:
    for y, operator, noise, says in (
        (IMAGES[0], operators.Downsample(2), 5.0, "makes images of shape"),
        (IMAGES[0], operators.Downsample(3), 5.0, "does not divide"),
        (IMAGES[0] / 255.0, operators.Blur(1.0), 5.0, "fractions between 0 and 1"),
        (np.full((8, 12, 1), np.nan), operators.Blur(1.0), 5.0, "NaN or infinite"),
        (IMAGES[0], operators.Blur(1.0), 0.0, "must be positive"),
    ):
        with pytest.raises(UsageError, match=says):
            images.restore(y, operator, noise)
    with pytest.raises(UsageError, match="operator: Blur: items of shape"):
        points.restore(POINTS[0], operators.Blur(), 0.1)
    with pytest.raises(UsageError, match="method: 'mmpss' is not one of"):
        images.restore(IMAGES[0], operators.Blur(), 5.0, method="mmpss")


@pytest.mark.parametrize("layout", ["NCL", "NLC", "NDHW"])
def test_series_and_volumes_are_restored(layout: str) -> None:
    shape = {"NCL": (2, 16), "NLC": (16, 2), "NDHW": (8, 8, 8)}[layout]
    items = (RANDOM.normal(size=(40, *shape)) * 30 + 500).astype(np.float32)
    run = trained(items, layout=layout, network="unet", preset="tiny")
    operator = operators.Downsample(2)
    small = run.spec.of_shape((run.spec.shape[0], *(side // 2 for side in run.spec.shape[1:])), layout)
    y = small.from_model(operator(run.spec.to_model(items[:1])))[0]
    made = run.restore(y, operator, 0.5, count=2, steps=3)
    assert (made.shape, made.dtype) == ((2, *shape), np.float32)
    gap = (operator(run.spec.to_model(made)) - small.to_model(y[None])).abs().max()
    assert float(gap) < 1  # an untrained network's, but for the measurement
    with pytest.raises(UsageError, match=f"makes {run.spec.traits.plural} of shape"):
        run.restore(items[0], operator, 0.5)


def test_hidden_columns_of_vectors_are_restored(points: Run) -> None:
    operator = operators.Mask(torch.tensor([1.0, 0.0]))
    made = points.restore([1020.0, np.nan], operator, 1.0, count=3, steps=15)
    assert made.shape == (3, 2)
    assert np.abs(made[:, 0] - 1020).max() < 10  # of a deviation of 40
    assert len(set(made[:, 1].tolist())) == 3


# Likelihoods


class StandardNormal(nn.Module):
    """The velocity of N(0, 1) on the linear path, u = (2t − 1)/((1 − t)² + t²)·x, whatever is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, t: torch.Tensor, condition: object = None) -> torch.Tensor:
        t = t[:, None]
        return (2 * t - 1) / ((1 - t) ** 2 + t**2) * x + 0 * self.unused


@pytest.mark.filterwarnings("ignore:.* lie outside the range of the training data")
def test_a_gaussian_has_its_density_in_own_units() -> None:
    run = trained(LINE, network=StandardNormal())
    at, (mean,), (std,) = np.linspace(400, 620, 12)[:, None], run.spec.mean, run.spec.std
    with pytest.warns(match="lie outside the range of the training data"):
        values = run.log_prob(at)
    assert values.shape == (12,)
    assert values.dtype == np.float64
    exact = -0.5 * ((at[:, 0] - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(values, exact, atol=1e-4)


def test_log_prob_is_the_likelihood_of_the_items(images: Run, points: Run) -> None:
    for run, items in ((images, IMAGES[:5]), (points, POINTS[:5].astype(np.float32))):
        method, made = likelihood.ODE(solver=likelihood.FixedSteps(6)), ornstein.data.dataset_of(items)
        dataset = made if run is points else ornstein.data.dataset_of((IMAGES[:5], np.zeros(5, int)))
        (part,) = run.likelihood(dataset, np.arange(5), method, checked=0, unconditional=run is images)
        np.testing.assert_allclose(run.log_prob(items, method=method), -part.nats.double().numpy(), rtol=1e-6)
        apart = run.log_prob(items, method=method, batch_size=2)
        np.testing.assert_allclose(apart, run.log_prob(items, method=method), rtol=1e-4)


@pytest.mark.parametrize("steps", [0, 3, 5])
def test_too_few_steps_of_a_likelihood_are_refused(points: Run, steps: int) -> None:
    with pytest.raises((UsageError, ValueError), match=f"steps = {steps}"):
        points.log_prob(POINTS[:1], steps=steps)


def test_data_are_put_into_the_units_of_a_run_once(points: Run, recwarn: pytest.WarningsRecorder) -> None:
    from ornstein.data import dataset_of

    adopted, notes = dataset_of(POINTS[:20].astype(np.float64)).adopt(points.spec)
    assert "holds float64" in notes[0]
    assert adopted.adopt(points.spec) == (adopted, ())
    method = likelihood.ODE(solver=likelihood.FixedSteps(6))
    next(iter(points.likelihood(adopted, np.arange(2), method)))
    assert not len(recwarn)


def test_log_prob_takes_a_label_for_each(images: Run) -> None:
    labels = [0, 1, 2]
    each = images.log_prob(IMAGES[:3], label=labels, steps=6)
    assert not np.array_equal(each, images.log_prob(IMAGES[:3], steps=6))
    assert each[1] == pytest.approx(images.log_prob(IMAGES[:3], label=1, steps=6)[1], rel=1e-6)


# Items that do not fit


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (IMAGES[:, :4], r"has shape \(60, 4, 12, 1\), but the run makes images of shape \(8, 12, 1\) \(NHWC\)"),
        (IMAGES[:0], "there are none; give one item"),
        (IMAGES[:2] / 255.0, "fractions between 0 and 1"),
        (
            np.where(np.arange(12)[:, None] == 3, np.nan, IMAGES[:2].astype(float)),
            r"Item 0 of .* holds NaN .*row 0, column 3",
        ),
        (IMAGES[:2].astype(str), "holds no numbers"),
    ],
)
def test_items_that_do_not_fit_are_refused(images: Run, items: Array, says: str) -> None:
    for work in (
        lambda: images.edit(items, strength=0.5),
        lambda: images.log_prob(items),
        lambda: images.interpolate(items, items),
    ):
        with pytest.raises(UsageError, match=says):
            work()


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ({}, "either a mask"),
        ({"strength": 0.5, "mask": np.ones((8, 12))}, "either a mask"),
        ({"strength": 1.5}, "must lie above 0"),
        ({"mask": np.zeros((8, 12))}, "a part of the item"),
        ({"mask": np.ones((8, 12))}, "a part of the item"),
        ({"mask": np.ones((12, 8))}, r"it has shape \(12, 8\)"),
    ],
)
def test_an_edit_that_means_nothing_is_refused(images: Run, way: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        images.edit(IMAGES[0], **way)


def test_probabilities_are_of_whole_numbers(images: Run) -> None:
    with pytest.warns(match="holds float64"), pytest.raises(UsageError, match="holds numbers that are not whole"):
        images.log_prob(IMAGES[:1] + 0.5)


# Other shapes, and a start


def test_a_network_that_allows_other_sizes_samples_them(images: Run) -> None:
    for shape in ((12, 16), (12, 16, 1)):
        made = images.sample(2, label=1, shape=shape, steps=3)
        assert made.shape == (2, 12, 16, 1)
        assert made.dtype == np.uint8
    with torch.no_grad():
        by_hand = ornstein.sample(images.denoiser.given(torch.tensor([1, 1])), (2, 1, 12, 16), steps=3)
    np.testing.assert_array_equal(made, np.rint(np.clip((by_hand.numpy() + 1) * 127.5, 0, 255)).transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(images.sample(2, label=1, shape=(8, 12)), images.sample(2, label=1))


@pytest.mark.parametrize(
    ("layout", "shape", "sides", "other"),
    [
        ("NCHW", (3, 8, 8), (8, 12), (3, 8, 12)),
        ("NHW", (8, 8), (8, 12), (8, 12)),
        ("NCL", (2, 16), (24,), (2, 24)),
        ("NLC", (16, 2), (24,), (24, 2)),
        ("NL", (16,), (24,), (24,)),
        ("NDHW", (8, 8, 8), (8, 8, 16), (8, 8, 16)),
        ("NCDHW", (2, 8, 8, 8), (8, 8, 16), (2, 8, 8, 16)),
    ],
)
def test_other_sizes_are_stated_and_come_back_in_the_axes_of_the_data(
    layout: str, shape: tuple[int, ...], sides: tuple[int, ...], other: tuple[int, ...]
) -> None:
    items = RANDOM.normal(size=(20, *shape)).astype(np.float32)
    run = trained(items, layout=layout, network="unet", preset="tiny", batch_size=4)
    first, second = (run.sample(2, shape=wanted, steps=2) for wanted in (sides, other))
    assert first.shape == (2, *other)
    np.testing.assert_array_equal(first, second)
    assert run.sample(1, shape=shape, steps=2).shape == (1, *shape)
    with pytest.raises(UsageError, match="give other sides of that kind"):
        run.sample(1, shape=(*other, 5))
    # one item and one of each place, in those axes
    mask = np.zeros(run.spec.shape[1:], np.bool_)
    mask[..., :4] = True
    made = run.edit(items[0], mask=mask, steps=2)
    where = np.broadcast_to(np.expand_dims(mask, layout.index("C") - 1) if "C" in layout else mask, shape)
    np.testing.assert_allclose(made[0][~where], items[0][~where], rtol=1e-4, atol=1e-4)
    assert not np.allclose(made[0][where], items[0][where])


def test_shapes_that_a_network_does_not_take_are_refused(images: Run, points: Run) -> None:
    dit = trained(
        np.zeros((40, 8, 8, 1), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None],
        network="dit",
        preset="tiny",
    )
    for run, shape, says in (
        (images, (12, 16, 3), "give other sides of that kind"),
        (images, (12,), "give other sides of that kind"),
        (images, (0, 8), "give other sides of that kind"),
        (points, (3,), "one sample of"),
        (dit, (16, 16), r"\(DiT\) does not take items of shape \(1, 16, 16\)"),
    ):
        with pytest.raises(UsageError, match=says):
            run.sample(1, shape=shape)


def test_a_start_is_where_sampling_begins(points: Run) -> None:
    start = ornstein.encode(points.denoiser, points.spec.to_model(POINTS[:9]), steps=60)
    made = points.sample(start=start, steps=60)
    assert (np.abs(made - POINTS[:9]) / POINTS.std(0)).max() < 0.15
    np.testing.assert_allclose(points.sample(start=start, steps=60, batch_size=4), made, rtol=1e-5)
    np.testing.assert_array_equal(points.sample(3, start=start[:3]), points.sample(start=start[:3]))
    with pytest.raises(UsageError, match="leave these out"):
        points.sample(4, start=start)
    with pytest.raises(UsageError, match="say how many"):
        points.sample()
    with pytest.raises(TypeError, match="to draw it give shape"):
        points.sample(start=(3, 2))  # type: ignore[arg-type]

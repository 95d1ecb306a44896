"""The operators: what they are in closed form, and their transposes by autograd."""

import pytest
import torch
import torch.nn.functional as F

from ornstein.editing import Measurement
from ornstein.editing.operators import Blur, Downsample, Mask

ALL = (Blur(0.8), Blur(2.5), Downsample(2), Downsample(4), Mask((torch.arange(8) % 3 > 0).float()))


@pytest.mark.parametrize("operator", ALL, ids=lambda o: type(o).__name__)
def test_operators_are_linear_row_by_row_and_have_their_transpose(operator: Blur | Downsample | Mask) -> None:
    x, z = torch.randn(2, 3, 2, 8, 8).double().unbind()
    assert torch.equal(operator(x)[1:2], operator(x[1:2]))
    torch.testing.assert_close(operator(2 * x + z), 2 * operator(x) + operator(z))
    y = torch.randn_like(operator(x))
    seen = Measurement(operator, y, 0.1).at(x)
    torch.testing.assert_close(seen.residual, y - operator(x))
    torch.testing.assert_close(seen.forward(z), operator(z))
    torch.testing.assert_close((seen.transpose(y) * z).sum(), (y * operator(z)).sum())


def test_a_curved_operator_is_linearised() -> None:
    x, w = torch.rand(2, 2, 3).double().unbind()
    seen = Measurement(lambda x: x.square(), torch.zeros(3), 0.1).at(x)
    torch.testing.assert_close(seen.forward(w), 2 * x * w)
    torch.testing.assert_close(seen.transpose(w), 2 * x * w)


def test_blur_is_a_gaussian_and_keeps_constants() -> None:
    point = torch.zeros(1, 1, 15, 15).double()
    point[..., 7, 7] = 1
    spread = Blur(1.5)(point)[0, 0]
    places = torch.arange(15) - 7.0
    gauss = torch.exp(-0.5 * (places / 1.5) ** 2) * (places.abs() <= 5)
    torch.testing.assert_close(spread, torch.outer(gauss, gauss) / gauss.sum() ** 2, check_dtype=False)
    torch.testing.assert_close(Blur(3.0)(torch.full((1, 3, 4, 6), 0.7)), torch.full((1, 3, 4, 6), 0.7))


def test_downsample_is_the_mean_and_mask_hides() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert Downsample(2)(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    torch.testing.assert_close(F.interpolate(Downsample(4)(x), 4).mean(), x.mean())
    assert Mask(torch.tensor([1.0, 0, 0, 1]))(x)[0, 0, 0].tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize("shape", [(2, 3, 8), (2, 1, 4, 8, 6)])
@pytest.mark.parametrize(
    "operator", [Blur(0.8), Downsample(2), Mask(torch.tensor(0.0))], ids=lambda o: type(o).__name__
)
def test_operators_on_series_and_volumes(operator: Blur | Downsample | Mask, shape: tuple[int, ...]) -> None:
    x, z = torch.randn(2, *shape).double().unbind()
    seen = Measurement(operator, operator(x), 0.1).at(z)
    torch.testing.assert_close((seen.transpose(seen.residual) * z).sum(), (seen.residual * operator(z)).sum())
    flat = torch.full(shape, 0.7).double()
    expected = [side // (2 if isinstance(operator, Downsample) else 1) for side in shape[2:]]
    assert list(operator(flat).shape[2:]) == expected
    if not isinstance(operator, Mask):
        torch.testing.assert_close(operator(flat), torch.full_like(operator(flat), 0.7))
        with pytest.raises(ValueError, match="are no series, images or volumes"):
            operator(torch.zeros(2, 3))


def test_a_blur_of_a_volume_is_that_of_its_sides_in_turn() -> None:
    x = torch.randn(1, 2, 5, 6, 7).double()
    slices = Blur(0.9)(x.transpose(1, 2).reshape(5, 2, 6, 7)).reshape(1, 5, 2, 6, 7).transpose(1, 2)
    along = Blur(0.9)(slices.permute(0, 3, 4, 1, 2).reshape(1, -1, 5)).reshape(1, 6, 7, 2, 5).permute(0, 3, 4, 1, 2)
    torch.testing.assert_close(Blur(0.9)(x), along)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        Downsample(3)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="factor"):
        Downsample(0)
    with pytest.raises(ValueError, match="width"):
        Blur(0.0)

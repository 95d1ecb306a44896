"""Augmentation: nothing done is nothing changed, what is done is what the vector says."""

import math

import pytest
import torch
from torch import Tensor

from ornstein.training.augment import NUMBERS, WIDTH, Augment

# one uniform number per choice (mirror, move, scale, turn), then: mirror or not, right, down, scale, angle
NEVER = [1.0] * 4
STILL = [0.9, 0.5, 0.5, 0.5, 0.5]


def numbers(*changes: tuple[int, float]) -> Tensor:
    row = torch.tensor([*NEVER, *STILL])
    for place, value in changes:
        row[place] = value
    return row[None]


def smooth(side: int = 32) -> Tensor:
    """A blob off the centre, away from the borders."""
    y, x = torch.meshgrid(*[torch.arange(side) - side / 2 + 0.5] * 2, indexing="ij")
    return torch.exp(-((x - 4) ** 2 + (y + 2) ** 2) / 18)[None, None]


def test_a_picture_that_is_not_chosen_stays_bit_for_bit() -> None:
    x, many = torch.randn(64, 3, 8, 12), torch.rand(64, NUMBERS)
    made, vector = Augment(0.2)(x, many)
    still = (vector == 0).all(1)
    assert 0 < int(still.sum()) < 64
    assert torch.equal(made[still], x[still])
    assert not any(torch.equal(a, b) for a, b in zip(made[~still], x[~still], strict=True))
    nothing, zero = Augment(0.0)(x, many)
    assert torch.equal(nothing, x)
    assert torch.equal(zero, torch.zeros(64, WIDTH))


def test_mirroring_and_moving_are_exact() -> None:
    x = torch.rand(1, 2, 16, 24)
    made, vector = Augment()(x, numbers((0, 0.0), (4, 0.1)))
    torch.testing.assert_close(made, x.flip(-1), rtol=0, atol=1e-4)
    assert vector[0].tolist() == [1, 0, 0, 0, 0, 0]
    made, vector = Augment()(x, numbers((1, 0.0), (5, 0.999), (6, 0.001)))  # 3 pixels right, 2 up
    torch.testing.assert_close(made[..., :-2, 3:], x[..., 2:, :-3], rtol=0, atol=1e-4)
    assert vector[0].tolist() == [0, 1, -1, 0, 0, 0]


def test_turning_and_scaling_are_about_the_centre() -> None:
    x = smooth()
    made, vector = Augment()(x, numbers((3, 0.0), (8, 0.75)))  # a quarter turn
    torch.testing.assert_close(vector[0], torch.tensor([0.0, 0, 0, 0, -1, 1]), rtol=0, atol=1e-6)
    torch.testing.assert_close(made, x.rot90(-1, (2, 3)), rtol=0, atol=1e-4)
    made, vector = Augment()(x, numbers((2, 0.0), (7, 0.8413447)))  # one standard deviation larger
    assert vector[0, 3] == pytest.approx(1.0, abs=1e-4)
    mass = [float(image.sum()) for image in (x, made)]
    assert mass[1] / mass[0] == pytest.approx(2**0.4, rel=0.02)  # area grows by the square
    back = made[0, 0].argmax().item()
    assert math.hypot(back % 32 - 15.5 - 4 * 2**0.2, back // 32 - 15.5 + 2 * 2**0.2) < 1.0


def test_rows_do_not_depend_on_their_batch() -> None:
    x, many = torch.rand(16, 1, 8, 8), torch.rand(16, NUMBERS)
    made, vector = Augment(0.5)(x, many)
    for i in range(16):
        alone, own = Augment(0.5)(x[i : i + 1], many[i : i + 1])
        torch.testing.assert_close(alone, made[i : i + 1])
        assert torch.equal(own, vector[i : i + 1])

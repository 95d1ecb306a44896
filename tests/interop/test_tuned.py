"""Solvers tuned for other programs: no gain, and readable on any path with the same noise levels."""

import json
from typing import Any

import pytest
import torch

from ornstein import exact, path, sample, tuning

F64 = torch.float64


def mixture(p: path.Path) -> exact.GaussianMixture:
    return exact.GaussianMixture([0.3, 0.7], torch.tensor([[-1.0, 0.4], [1.0, 0.1]], dtype=F64), 0.05, p)


SMALL: dict[str, Any] = {"starts": 48, "held_out": 32, "batch_size": 48, "iterations": 6, "dtype": F64}


@pytest.mark.parametrize("p", [path.Betas.scaled_linear(), path.Linear(), path.EDM()], ids=repr)
def test_without_a_gain_the_first_call_is_made_on_the_start(p: path.Path) -> None:
    tuned = tuning.fit(mixture(p), (2,), 4, gain=False, **SMALL)
    assert tuned.fitted.gain == 1
    assert (tuned.fitted.times[0] == 1) == (not isinstance(p, path.Betas))
    assert tuned.error < tuned.untuned


def test_a_table_is_read_on_another_path_with_its_noise_levels() -> None:
    one, other = path.Betas.scaled_linear(), path.Betas.linear()
    tuned = tuning.fit(mixture(one), (2,), 4, gain=False, **SMALL)
    data = json.loads(json.dumps(tuned.to_dict()))
    assert tuning.Tuned.from_dict(data, one).fitted == tuned.fitted
    moved = tuning.Tuned.from_dict(data, other)
    x = torch.randn(16, 2, dtype=F64)
    ends = [sample(mixture(q.path), start=x, solver=q, steps=4) for q in (tuned, moved)]
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="other noise levels"):
        tuning.Tuned.from_dict(data, path.Linear())
    with pytest.raises(ValueError, match="levels of a table"):
        tuning.Tuned.from_dict({**data, "levels": [[1.0, 0.0]]}, one)
    old = {key: value for key, value in data.items() if key != "levels"}
    assert tuning.Tuned.from_dict(old, one).fitted == tuned.fitted

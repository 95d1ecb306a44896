"""A network that adds nothing to codes is the exact denoiser of independent columns."""

import pytest
import torch

from ornstein import exact, networks, path, preconditioning, target
from ornstein.denoiser import NetworkDenoiser
from ornstein.networks.codes import Codes

SHARES = (0.5, 0.3, 0.2)
STATES = ((0, SHARES, 2.5), (4, (0.3,), 3.0))  # dimension 3 is a number
STD = 0.8


def test_without_a_network_it_is_the_posterior_of_each_column_alone() -> None:
    codes = Codes(5, STD, STATES).double()
    three = 2.5 * (torch.eye(3, dtype=torch.float64) - torch.tensor(SHARES, dtype=torch.float64))
    two = 3.0 * (torch.tensor([[0.0], [1.0]], dtype=torch.float64) - 0.3)
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.5
    for kind in (path.Linear(), path.VariancePreserving()):
        denoiser = NetworkDenoiser(
            lambda x, t: codes(torch.zeros_like(x), x, t), kind, target.Clean(), preconditioning.UnitVariance(STD)
        )
        for t in (0.02, 0.3, 0.7, 0.99):
            clean = denoiser(x, t).clean
            own = [
                exact.Empirical(three.repeat_interleave(torch.tensor([5, 3, 2]), 0), kind)(x[:, :3], t).clean,
                exact.Gaussian(torch.zeros(1).double(), torch.eye(1).double(), kind)(x[:, 3:4], t).clean,
                exact.Empirical(two.repeat_interleave(torch.tensor([7, 3]), 0), kind)(x[:, 4:], t).clean,
            ]
            torch.testing.assert_close(clean, torch.cat(own, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [networks.MLP, networks.ColumnTransformer])
def test_networks_with_codes_estimate_states_among_their_codes(kind: type[networks.MLP]) -> None:
    torch.manual_seed(0)
    net = kind.preset("tiny", dim=5, codes={"data_std": STD, "states": STATES})
    for weights in net.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    x, t = torch.randn(32, 5), torch.linspace(0, 1, 32)
    out = net(x, t).detach()
    assert bool(out.isfinite().all())
    torch.testing.assert_close(out[:, :3].sum(1), torch.zeros(32), rtol=0, atol=1e-5)
    assert -0.9001 <= float(out[:, 4].min()) < float(out[:, 4].max()) <= 2.1001
    again = kind(**net.config)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, t), out)


def test_states_that_do_not_fit_are_refused() -> None:
    for states in (((3, SHARES, 1.0),), ((0, SHARES, 1.0), (2, (0.5,), 1.0)), ((-1, (0.5,), 1.0),)):
        with pytest.raises(ValueError, match="does not fit into 5"):
            Codes(5, 1.0, states)

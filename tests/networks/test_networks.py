"""The contract that all networks share: shapes, conditions, initialisation, saving, precision."""

import inspect
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ornstein.networks import ALL, MLP, ColumnTransformer, Conditioning, DiT, UNet, grown, placed

CASES: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda **k: MLP(5, width=32, depth=2, **k), (5,)),
    "columns": (lambda **k: ColumnTransformer(5, width=32, depth=2, heads=2, **k), (5,)),
    "columns-wide": (lambda **k: ColumnTransformer(5, columns=(1, 3, 1), width=16, depth=1, heads=2, **k), (5,)),
    "unet-1d": (lambda **k: UNet(2, width=8, multipliers=(1, 2), blocks=1, dims=1, **k), (2, 9)),
    "unet-2d": (
        lambda **k: UNet(3, width=8, multipliers=(1, 2, 2), blocks=(0, 1, 1), attention_levels=(1,), **k),
        (3, 7, 10),
    ),
    "unet-3d": (lambda **k: UNet(1, width=8, multipliers=(1, 2), blocks=1, dims=3, **k), (1, 4, 3, 5)),
    "unet-additive": (lambda **k: UNet(1, width=16, multipliers=(1, 2), blocks=1, additive=True, **k), (1, 6, 6)),
    "dit-1d": (lambda **k: DiT(2, (8,), patch=4, width=32, depth=2, heads=4, **k), (2, 8)),
    "dit-2d": (lambda **k: DiT(3, (4, 6), patch=2, width=32, depth=2, heads=2, **k), (3, 4, 6)),
    "dit-3d": (lambda **k: DiT(1, (2, 4, 2), patch=2, width=24, depth=1, heads=2, **k), (1, 2, 4, 2)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def perturbed(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network away from its zero initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def batch(shape: tuple[int, ...], n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, *shape, generator=generator, dtype=dtype), torch.rand(n, generator=generator, dtype=dtype)


def test_output_is_exactly_zero_at_first(case):
    build, shape = case
    x, t = batch(shape, 3)
    out = build(classes=4)(x, t, torch.tensor([0, 1, 4]))
    assert torch.equal(out, torch.zeros_like(x))


def test_out_channels(case):
    build, shape = case
    x, t = batch(shape, 2)
    out = perturbed(build(out_channels=7))(x, t)
    assert out.shape == (2, 7, *shape[1:])
    assert out.isfinite().all()
    assert out.std() > 0


def test_null_label_is_no_condition(case):
    build, shape = case
    network = perturbed(build(classes=4, vector=3))
    x, t = batch(shape, 3)
    null, zero = torch.full((3,), 4), torch.zeros(3, 3)
    expected = network(x, t)
    for condition in (null, zero, (null, zero), (None, None), (null, None), (None, zero)):
        assert torch.allclose(network(x, t, condition), expected, atol=1e-5)


def test_every_input_matters_and_only_to_its_own_row(case):
    build, shape = case
    network = perturbed(build(classes=4, vector=3))
    x, t = batch(shape, 3)
    labels, vector = torch.tensor([0, 1, 2]), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    expected = network(x, t, (labels, vector))

    def change(tensor: Tensor, value: float) -> Tensor:
        return torch.cat((tensor[:1], torch.full_like(tensor[1:2], value), tensor[2:]))

    changes = [
        (x, t, (change(labels, 3), vector)),
        (x, t, (labels, change(vector, 1.5))),
        (x, change(t, 0.123), (labels, vector)),
        (change(x, 0.5), t, (labels, vector)),
    ]
    for arguments in changes:
        difference = (network(*arguments) - expected).flatten(1).abs().amax(1)
        assert difference[1] > 1e-3
        assert difference[[0, 2]].max() < 1e-5


def test_rows_do_not_depend_on_the_batch(case):
    build, shape = case
    network = perturbed(build(classes=4))
    x, t = batch(shape, 64)
    labels = torch.arange(64) % 5
    whole = network(x, t, labels)
    for i in (0, 17, 63):
        alone = network(x[i : i + 1], t[i : i + 1], labels[i : i + 1])
        assert torch.allclose(alone[0], whole[i], rtol=1e-5, atol=1e-5)


def test_one_time_for_all_rows(case):
    build, shape = case
    network = perturbed(build())
    x, _ = batch(shape, 3)
    assert torch.allclose(network(x, torch.tensor(0.37)), network(x, torch.full((3,), 0.37)), atol=1e-5)


def test_gradients_reach_every_parameter(case):
    build, shape = case
    network = perturbed(build(classes=2, vector=3))
    x, t = batch(shape, 6)
    network(x, t, (torch.tensor([0, 1, 2, 0, 1, 2]), torch.ones(6, 3))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_derivative_agrees_with_finite_differences(case):
    build, shape = case
    network = perturbed(build()).double()
    x, t = batch(shape, 1, torch.float64)
    direction, weights = torch.randn(2, *x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(5))

    def value(y: Tensor) -> Tensor:
        return (network(y, t) * weights).sum()

    x.requires_grad_()
    (gradient,) = torch.autograd.grad(value(x), x)
    step = 1e-5 * direction
    with torch.no_grad():
        slope = (value(x + step) - value(x - step)) / 2e-5
    assert torch.allclose((gradient * direction).sum(), slope, rtol=1e-6)


def test_config_rebuilds_the_network(case):
    build, shape = case
    network = perturbed(build(classes=4, vector=3, dropout=0.25, fourier=4.0))
    config = json.loads(json.dumps(network.config))
    assert config.keys() == inspect.signature(type(network)).parameters.keys()
    again = type(network)(**config).eval()
    again.load_state_dict(network.state_dict())
    assert again.config == network.config
    x, t = batch(shape, 2)
    condition = (torch.tensor([1, 4]), torch.ones(2, 3))
    assert torch.equal(again(x, t, condition), network(x, t, condition))


def test_same_seed_same_weights(case):
    build, _ = case
    torch.manual_seed(7)
    one = build(classes=2).state_dict()
    torch.manual_seed(7)
    two = build(classes=2).state_dict()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_dropout_acts_in_training_alone(case):
    build, shape = case
    network = perturbed(build(dropout=0.5))
    x, t = batch(shape, 2)
    assert torch.equal(network(x, t), network(x, t))
    network.train()
    assert not torch.equal(network(x, t), network(x, t))


def test_bfloat16_autocast_is_near(case):
    build, shape = case
    network = perturbed(build(classes=4, fourier=4.0))
    x, t = batch(shape, 4)
    labels = torch.arange(4)
    expected = network(x, t, labels)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(x, t, labels)
    assert (out.float() - expected).square().mean() < (0.03**2) * expected.square().mean() + 1e-6
    out.float().sum().backward()


def test_bfloat16_weights_run(case):
    build, shape = case
    network = perturbed(build(classes=4))
    x, t = batch(shape, 4)
    expected = network(x, t)
    out = network.bfloat16()(x.bfloat16(), t)  # times stay float32
    assert out.dtype is torch.bfloat16
    assert (out.float() - expected).square().mean() < (0.1**2) * expected.square().mean()


def test_the_layout_changes_rounding_alone(case):
    build, shape = case
    network = perturbed(build())
    x, t = batch(shape, 4)
    answers = []
    for _ in range(2):
        out = network(x, t)
        out.square().sum().backward()
        answers.append((out.detach(), {name: p.grad.clone() for name, p in network.named_parameters()}))
        network.zero_grad()
        network = placed(network, "cpu")
    (plain, gradients), (out, found) = answers
    assert torch.allclose(out, plain, atol=1e-4)
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max())), name


def test_labels_outside_the_classes_are_refused(case):
    build, shape = case
    x, t = batch(shape, 2)
    network = build(classes=4)
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=f"label {wrong} is outside 0..4"):
            network(x, t, torch.tensor([0, wrong]))
    with pytest.raises(ValueError, match="integers of shape"):
        network(x, t, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="integers of shape"):
        network(x, t, torch.tensor([True, False]))
    with pytest.raises(ValueError, match="vector=WIDTH"):
        network(x, t, torch.zeros(2, 4))


def test_vectors_of_the_wrong_width_are_refused(case):
    build, shape = case
    x, t = batch(shape, 2)
    network = build(vector=3)
    with pytest.raises(ValueError, match=r"must have shape \(2, 3\), not \(2, 4\)"):
        network(x, t, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="classes=K"):
        network(x, t, (None, torch.zeros(2, 3, dtype=torch.long)))
    with pytest.raises(ValueError, match="classes=K"):
        network(x, t, torch.tensor([0, 1]))


def test_inputs_of_the_wrong_shape_are_refused(case):
    build, shape = case
    network = build()
    t = torch.rand(2)
    for wrong in ((shape[0] + 1, *shape[1:]), (*shape, 2)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, "):
            network(torch.zeros(2, *wrong), t)


def test_classes_are_known(case):
    build, _ = case
    assert build().classes == 0
    assert build(classes=4).classes == 4


@pytest.mark.parametrize("network", ALL)
def test_unknown_presets_are_refused_with_the_nearest_name(network):
    with pytest.raises(ValueError, match="no preset 'smal'; did you mean 'small'"):
        network.preset("smal", 1, 8)


def test_a_network_learns():
    # The least one asks of all the wiring: a few steps fit a map that depends on x, t and the label.
    torch.manual_seed(0)
    network = MLP(1, width=32, depth=2, classes=2)
    x, t = torch.randn(256, 1), torch.rand(256)
    labels = torch.arange(256) % 2
    wanted = (x + labels[:, None]) * t[:, None]
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (network(x, t, labels) - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.02 * wanted.square().mean().item()


def test_an_aim_changes_nothing_before_it_is_learned(case):
    build, shape = case
    x, t = batch(shape, 3)
    network = perturbed(build(classes=4))
    made, labels = grown(network), torch.tensor([0, 1, 4])
    plain = network(x, t, labels)
    for aim in (None, torch.tensor(0.5), torch.tensor([0.0, 0.3, 1.0])):
        assert torch.equal(made(x, t, labels, aim), plain)
    assert made.config == {**network.config, "aim": True}
    assert type(made)(**json.loads(json.dumps(made.config))).state_dict().keys() == made.state_dict().keys()
    learned = perturbed(made)
    assert torch.equal(learned(x, t, labels), learned(x, t, labels, torch.zeros(3)))
    assert not torch.equal(learned(x, t, labels), learned(x, t, labels, torch.full((3,), 0.5)))
    with pytest.raises(ValueError, match="an aim was given to a network without one; build it with aim=True"):
        network(x, t, labels, torch.zeros(3))


def test_growing_a_grown_network_keeps_it(case):
    build, shape = case
    x, t = batch(shape, 2)
    network = perturbed(build(aim=True))
    assert torch.equal(grown(network)(x, t, None, t), network(x, t, None, t))


def test_features_of_an_aim_are_slow():
    conditioning = Conditioning(32, 64, aim=True)
    perturbed(conditioning)
    far = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert conditioning.aim is not None
    out = conditioning.double()(torch.zeros((), dtype=torch.float64), None, 101, far)
    assert (out[1:] - out[:-1]).norm(dim=1).max() < 0.2 * out.std(0).norm()

"""Attention against the softmax written out, and its symmetries."""

import pytest
import torch
from torch import nn

from ornstein.networks import SelfAttention, SpatialAttention
from ornstein.networks.attention import attend


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_explicit_softmax(heads):
    torch.manual_seed(0)
    width = 8
    layer = SelfAttention(width, heads).double()
    x = torch.randn(3, 5, width, dtype=torch.float64)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).split(width, dim=-1)
    parts = []
    for h in range(heads):
        columns = slice(h * width // heads, (h + 1) * width // heads)
        scores = torch.einsum("bic,bjc->bij", q[..., columns], k[..., columns]) / (width / heads) ** 0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        parts.append(torch.einsum("bij,bjc->bic", weights, v[..., columns]))
    expected = torch.cat(parts, -1) @ layer.out.weight.T + layer.out.bias
    assert torch.allclose(layer(x), expected, atol=1e-12)


def test_attention_is_equivariant_under_permutations():
    torch.manual_seed(0)
    layer, x, order = SelfAttention(16, 2), torch.randn(2, 9, 16), torch.randperm(9)
    assert torch.allclose(layer(x)[:, order], layer(x[:, order]), atol=1e-6)


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_do_not_divide_are_refused(heads):
    with pytest.raises(ValueError, match="do not divide"):
        SelfAttention(8, heads)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 2)])
def test_spatial_attention_treats_pixels_as_a_sequence(shape):
    torch.manual_seed(0)
    layer, x = SpatialAttention(nn.GroupNorm(2, 8), 8, head_width=4), torch.randn(2, 8, *shape)
    assert torch.equal(layer(x), x)  # zero-initialised
    nn.init.normal_(layer.attention.out.weight)
    pixels = layer.norm(x).movedim(1, -1).reshape(2, -1, 8)
    expected = x + layer.attention(pixels).reshape(2, *shape, 8).movedim(-1, 1)
    assert torch.allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize(("channels", "heads"), [(32, 1), (64, 1), (128, 2), (192, 3), (100, 1), (224, 2)])
def test_heads_are_about_64_wide_and_divide_the_channels(channels, heads):
    assert SpatialAttention(nn.Identity(), channels).attention.heads == heads


@pytest.mark.parametrize("width", [16, 24])
def test_half_precision_attention_in_training_is_attention(width):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, width, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    out, expected = attend(q, k, v), torch.softmax(exact[0] @ exact[1].mT / width**0.5, -1) @ exact[2]
    weights = torch.randn_like(expected)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    assert out.dtype is torch.bfloat16
    assert "Flash" not in type(out.grad_fn).__name__
    for near, right in [(out, expected), *((x.grad, y.grad) for x, y in zip((q, k, v), exact, strict=True))]:
        assert (near.double() - right).norm() < 0.015 * right.norm()


def test_without_gradients_attention_is_the_fused_kernel():
    q = torch.randn(1, 1, 4, 8, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(attend(q, q, q), nn.functional.scaled_dot_product_attention(q, q, q))

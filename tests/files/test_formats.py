"""Names of earlier versions are read as those of today: in model/config.json, config.yaml, Python and on the command line."""

from pathlib import Path

import pytest

from ornstein.cli import main
from ornstein.errors import UsageError
from ornstein.files.formats import SETTINGS, upgraded, upgraded_settings
from ornstein.folder import config
from ornstein.learn import Trainer
from ornstein.settings import KEYS


@pytest.mark.parametrize("kind", ["Picture", "ImageCondition"])
@pytest.mark.parametrize("key", ["task", "degradation"])
def test_image_conditions_of_earlier_versions(kind: str, key: str) -> None:
    entry = {"type": kind, key: {"type": "Mask"}, "shape": [1, 8, 8]}
    made = upgraded({"conditions": [entry], "network": {"type": "UNet", "picture": 2}})
    assert made["conditions"] == [{"type": "ImageCondition", "degradation": {"type": "RandomMask"}, "shape": [1, 8, 8]}]
    assert made["network"]["image"] == 2


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, (new, _) in SETTINGS.items()])
def test_settings_of_earlier_versions(old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new in KEYS
    assert upgraded_settings({old: "mask", "seed": 3}) == {new: "mask", "seed": 3}
    assert upgraded_settings({old: "any"})[old] == "any"  # which has this name today
    for version in ("", "version: 0.1.0\n"):  # written by hand, and by a run
        (file := tmp_path / "config.yaml").write_text(f"{version}{old}: mask\n")
        assert config.read(file) == {new: "mask"}
    assert main(["train", f"--{old}", "mask", "--data", "digits", "--out", str(tmp_path / "run")]) == 2
    assert f"did you mean --{new}?" in capsys.readouterr().err
    with pytest.raises(UsageError, match=f"{new}: "):  # it is read, and does not fit vectors
        Trainer(None, None, "moons", steps=1, **{old: "mask"})

"""Flow maps are trained, distilled, resumed, sampled and refused as every other run is."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import ornstein
from ornstein import guidance, networks, solvers
from ornstein.cli import main
from ornstein.errors import UsageError
from ornstein.flowmap import NetworkFlowMap
from ornstein.folder import checkpoints
from ornstein.names import FEW_STEPS

POINTS = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32) * np.float32([1.0, 5.0])
SHORT: dict[str, Any] = {"batch_size": 16, "device": "cpu", "preset": "tiny", "snapshots": 0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of points with two classes."""
    folder = tmp_path_factory.mktemp("few")
    np.savez(folder / "points.npz", x=POINTS, y=np.arange(300) % 2)
    words = ["train", "--data", str(folder / "points.npz"), "--out", str(folder / "base"), "--steps", "8"]
    assert main([*words, "--batch-size", "16", "--device", "cpu", "--preset", "tiny"]) == 0
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    place = next(checkpoints.checkpoints(folder / "checkpoints"))
    return {f"{f.stem}.{k}": v for f in sorted(place.glob("*.safetensors")) for k, v in load_file(f).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("method", FEW_STEPS)
def test_a_flow_map_is_trained_from_data(method: str) -> None:
    run = ornstein.train(POINTS, few_steps=method, steps=3, **SHORT)
    assert isinstance(run.denoiser, NetworkFlowMap)
    few = run.sample(5, seed=1)
    assert np.array_equal(few, run.sample(5, seed=1, solver=solvers.Jump(), steps=4))
    assert few.shape == (5, 2)
    for solver in ("restart", "abm", "ancestral"):  # it still is a denoiser
        assert np.isfinite(run.sample(5, solver=solver, steps=3)).all()
    assert np.isfinite(run.log_prob(POINTS[:2])).all()


def test_a_network_of_convolutions_is_differentiated_forward() -> None:
    """Its group norms have no forward-mode derivative in the channels-last layout that it is trained in otherwise."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    run = ornstein.train(images, few_steps="eulerian", steps=1, **SHORT)
    assert run.settings["channels_last"] is False
    assert np.isfinite(run.metrics()[-1]["loss"])


@pytest.mark.parametrize("method", FEW_STEPS)
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, method: str) -> None:
    for steps in (3, 6):
        ornstein.train(
            POINTS, out=tmp_path / "stopped", few_steps=method, steps=steps, schedule=lambda part: 1.0, **SHORT
        )
    ornstein.train(POINTS, out=tmp_path / "whole", few_steps=method, steps=6, schedule=lambda part: 1.0, **SHORT)
    assert same(weights(tmp_path / "stopped"), weights(tmp_path / "whole"))


def test_a_batch_in_parts_is_the_batch(tmp_path: Path) -> None:
    losses = []
    for parts in (1, 2):
        run = ornstein.train(POINTS, few_steps="progressive", steps=3, accumulate=parts, **SHORT)
        losses.append([line["loss"] for line in run.metrics()])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_run_is_distilled_from_its_own_weights(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "distil",
        str(base / "base"),
        "--data",
        str(base / "points.npz"),
        "--out",
        str(base / "few"),
        "--device",
        "cpu",
    ]
    assert main([*words, "--steps", "4"]) == 0
    out = capsys.readouterr().out
    assert "progressive, from" in out
    assert f"Sample it: ornstein sample {base / 'few'} -n 64 --steps 1 --label 1" in out
    assert main(["info", str(base / "few")]) == 0
    out = capsys.readouterr().out
    assert f"progressive, from {base / 'base'}" in out
    assert "steps=1)" in out
    assert "Flow map: progressive, from" in (base / "few" / "model" / "README.md").read_text()
    few, teacher = ornstein.load(base / "few"), ornstein.load(base / "base")
    assert few.settings["few_steps"] == "progressive"
    assert few.spec == teacher.spec
    close = few.sample(20, solver="abm", steps=8) - teacher.sample(20, solver="abm", steps=8)
    assert np.abs(close).mean() < 0.5 * np.abs(POINTS).mean()  # four steps from the teacher's weights
    assert main([*words, "--steps", "6"]) == 0  # goes on
    assert ornstein.load(base / "few").metrics()[-1]["step"] == 6
    assert (
        main(["sample", str(base / "few"), "--steps", "1", "-n", "9", "--label", "1", "--out", str(base / "x.npz")])
        == 0
    )
    assert "Jump" in capsys.readouterr().out
    with np.load(base / "x.npz") as made:
        assert made["samples"].shape == (9, 2)


def test_a_guided_teacher_is_distilled(base: Path) -> None:
    run = ornstein.load(base / "base")
    few = ornstein.distil(run, ornstein.data.open(str(base / "points.npz")), guidance=2.0, out=base / "guided", steps=2)
    assert few.settings["teacher_guidance"] == 2.0
    assert few.sample(4, label=1).shape == (4, 2)
    with pytest.raises(UsageError, match="in memory alone"):
        ornstein.distil(ornstein.train(POINTS, steps=1, **SHORT), POINTS)


def test_a_grown_network_begins_as_the_teacher(base: Path) -> None:
    teacher = ornstein.load(base / "base")
    trainer = ornstein.Trainer(
        None,
        None,
        ornstein.data.open(str(base / "points.npz")),
        few_steps="lagrangian",
        teacher=str(base / "base"),
        start=teacher,
        steps=1,
        **SHORT,
    )
    x, t = torch.randn(5, 2), torch.rand(5)
    labels = torch.arange(5) % 2
    plain = teacher.model.network(x, t, labels)
    with torch.no_grad():
        assert torch.equal(trainer.network(x, t, labels, t / 2), plain)
    assert isinstance(trainer.network, networks.MLP)


def test_another_teacher_is_refused(base: Path, tmp_path: Path) -> None:
    data = ornstein.data.open(str(base / "points.npz"))
    run = ornstein.load(base / "base")
    ornstein.distil(run, data, out=tmp_path / "few", steps=2)
    other = ornstein.train(data, out=tmp_path / "other", steps=2, seed=5, **SHORT)
    with pytest.raises(UsageError, match="was trained with another teacher"):
        ornstein.distil(other, data, out=tmp_path / "few", steps=4)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.takes_aim = True

    def forward(self, x: Tensor, t: Tensor, condition: Any = None, aim: Tensor | None = None) -> Tensor:
        far = torch.zeros_like(t) if aim is None else aim
        return self.layer(torch.cat([x, t[:, None], far[:, None]], 1))


def test_a_network_of_ones_own() -> None:
    run = ornstein.train(POINTS, network=Own(), few_steps="progressive", steps=3, batch_size=16, device="cpu")
    assert run.sample(3, steps=1).shape == (3, 2)


def test_a_network_that_takes_an_aim_but_learned_none_is_a_denoiser(tmp_path: Path) -> None:
    for network in (Own(), networks.MLP(2, 8, 1, aim=True)):
        plain = ornstein.train(POINTS, network=network, out=tmp_path / type(network).__name__, steps=1, device="cpu")
        again = ornstein.load(plain.folder, network=network)
        for run in (plain, again):
            assert (run.model.solver, run.model.steps) == ("abm", 20)
            with pytest.raises(TypeError, match="give a flow map"):
                run.sample(2, solver="jump")
        assert (plain.sample(2) == again.sample(2)).all()


def test_a_run_of_ones_own_network_is_distilled_in_python(tmp_path: Path) -> None:
    ornstein.train(POINTS, network=Own(), out=tmp_path / "own", steps=3, batch_size=16, device="cpu")
    teacher = ornstein.load(tmp_path / "own", network=Own())
    before = {name: tensor.clone() for name, tensor in teacher.model.network.state_dict().items()}
    kept: dict[str, Any] = {"out": tmp_path / "few", "schedule": lambda part: 1.0}
    few = ornstein.distil(teacher, POINTS, steps=3, **kept)
    assert few.settings["teacher"] == str(teacher.folder)
    assert not same(dict(few.model.network.state_dict()), before)
    assert same(dict(teacher.model.network.state_dict()), before)
    assert not any(weight.requires_grad for weight in teacher.model.network.parameters())
    ornstein.distil(teacher, POINTS, steps=5, **kept)  # goes on
    ornstein.distil(teacher, POINTS, steps=5, out=tmp_path / "whole", schedule=lambda part: 1.0)
    assert same(weights(tmp_path / "few"), weights(tmp_path / "whole"))
    assert ornstein.load(tmp_path / "few", network=Own()).sample(3, steps=1).shape == (3, 2)
    other = ornstein.train(POINTS, network=Own(), out=tmp_path / "other", steps=1, batch_size=16, device="cpu")
    with pytest.raises(UsageError, match="was trained with another teacher"):
        ornstein.distil(other, POINTS, steps=6, **kept)
    with pytest.raises(TypeError, match="must be a run"):
        ornstein.Trainer(Own(), None, POINTS, few_steps="progressive", teacher=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"few_steps": "progresive"}, "did you mean 'progressive'"),
        ({"teacher": "runs/x"}, "teacher is for flow maps"),
        ({"teacher_guidance": 2.0}, "teacher_guidance is for flow maps"),
        ({"few_steps": "progressive", "teacher_guidance": 2.0}, "there is no teacher"),
        ({"few_steps": "progressive", "teacher": "BASE", "teacher_guidance": float("nan")}, "must be a finite number"),
        ({"few_steps": "progressive", "uncertainty": True}, "leave uncertainty out"),
        ({"few_steps": "progressive", "coupling": "ot"}, "leave the coupling out"),
        ({"few_steps": "eulerian", "precision": "bf16"}, "in forward mode"),
        ({"few_steps": "lagrangian", "compile": True}, "in forward mode"),
        ({"few_steps": "progressive", "network": nn.Linear(2, 2), "preset": None}, "must take an aim"),
    ],
)
def test_what_excludes_it_is_refused(base: Path, settings: dict[str, Any], says: str) -> None:
    data: Any = POINTS
    if settings.get("teacher") == "BASE":
        data, settings = ornstein.data.open(str(base / "points.npz")), {**settings, "teacher": str(base / "base")}
    with pytest.raises(UsageError, match=says):
        ornstein.train(data, steps=1, **{**SHORT, **settings})


def test_jumps_need_a_flow_map_without_guidance(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(base / "base"), "--solver", "jump", "--out", str(base / "y.npz")]) == 2
    assert "ornstein distil" in capsys.readouterr().err
    few = ornstein.train(
        ornstein.data.open(str(base / "points.npz")), out=base / "own", few_steps="progressive", steps=2, **SHORT
    )
    words = ["sample", str(base / "own"), "--guidance", "2", "--label", "1", "--out", str(base / "z.npz"), "-n", "3"]
    assert main(words) == 2
    assert "not guided; distil the guided run" in capsys.readouterr().err
    assert main([*words, "--solver", "abm"]) == 0
    with pytest.raises(TypeError, match="give a flow map"):
        few.sample(3, label=1, guide=guidance.GuidanceConfig(2.0))


def test_another_path_than_the_teachers_is_refused(base: Path) -> None:
    with pytest.raises(UsageError, match="let them be the same"):
        ornstein.train(
            ornstein.data.open(str(base / "points.npz")),
            few_steps="progressive",
            teacher=str(base / "base"),
            path="cosine",
            steps=1,
            **SHORT,
        )


def test_a_teacher_of_other_units_is_refused(base: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "doubled.npz", x=2 * POINTS, y=np.arange(300) % 2)
    with pytest.raises(UsageError, match=r"has units .* let them be the same"):
        ornstein.train(
            ornstein.data.open(str(tmp_path / "doubled.npz")),
            few_steps="progressive",
            teacher=str(base / "base"),
            steps=1,
            **SHORT,
        )


@pytest.mark.parametrize(
    "flags", [["--guidance", "nan"], ["--guidance", "inf"], ["--seed", "-1"], ["--steps", "1", "--minutes", "1"]]
)
@pytest.mark.parametrize("command", ["distil", "reflow"])
def test_wrong_flags_of_the_commands_that_retrain(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, flags: list[str]
) -> None:
    assert main([command, str(base / "base"), "--out", str(tmp_path / "few"), *flags]) == 2
    assert flags[0] in capsys.readouterr().err
    assert not (tmp_path / "few").exists()

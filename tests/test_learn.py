"""Training from Python: own data, networks, objectives and optimisers; resumed bit for bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import ornstein
from ornstein import objective, path, target
from ornstein.cli import main
from ornstein.conditions import Condition, Vector
from ornstein.data import Dataset, DataSpec, dataset_of
from ornstein.errors import OrnsteinError, UsageError
from ornstein.folder import checkpoints
from ornstein.likelihood import ODE

POINTS = np.random.default_rng(0).normal(size=(300, 2)) * [1.0, 5.0] + [0.0, 3.0]
SHORT: dict[str, Any] = {"steps": 6, "batch_size": 16, "save_every": 2, "device": "cpu"}


class Net(nn.Module):
    """A small network with buffers, dropout and a condition, to be trained as it is."""

    def __init__(self, width: int = 16, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.body = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.1), nn.Linear(width, 2))
        self.to(dtype)
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        self.seen.append(t.detach())
        c = torch.zeros_like(t) if condition is None else condition.reshape(len(x), -1)[:, 0].to(x)
        found: Tensor = self.body(torch.cat([x, t[:, None], c[:, None]], 1))
        return found


class Pairs(torch.utils.data.Dataset[Any]):
    """Items in mappings, with a vector for each."""

    def __len__(self) -> int:
        return len(POINTS)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.tensor(POINTS[index]), "conditions": torch.tensor([float(index % 7)])}


def weights(folder: Path) -> dict[str, Tensor]:
    place = next(checkpoints.checkpoints(folder / "checkpoints"))
    return {f"{f.stem}.{k}": v for f in sorted(place.glob("*.safetensors")) for k, v in load_file(f).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Table:
    """What a data frame is, as far as it matters."""

    columns = ("a", "label", "b")

    def to_numpy(self) -> np.ndarray[Any, Any]:
        return np.array([[1, "x", 0.5], [2, "y", 1.5], [3, "x", 2.5]], object)


LABELS = np.arange(300) % 3
DATA = {
    "array": POINTS,
    "tensor": torch.tensor(POINTS),
    "pair": (POINTS, LABELS),
    "map-style pairs": TensorDataset(torch.tensor(POINTS), torch.tensor(LABELS)),
    "map-style items": [torch.tensor(row) for row in POINTS],
    "mapping": {"x": POINTS, "y": LABELS},
}


@pytest.mark.parametrize("value", DATA.values(), ids=DATA)
def test_every_kind_of_data_is_the_same_points(value: Any) -> None:
    found = dataset_of(value)
    assert np.array_equal(np.asarray(found.items), POINTS)
    if found.labels is not None:
        assert np.array_equal(found.labels, LABELS)
        assert found.classes == ("0", "1", "2")


def test_a_table_has_its_labels_in_a_column() -> None:
    found = dataset_of(Table())
    assert np.array_equal(np.asarray(found.items), [[1, 0.5], [2, 1.5], [3, 2.5]])
    assert found.labels is not None
    assert [found.classes[i] for i in found.labels] == ["x", "y", "x"]


def test_images_of_tensors_have_their_channels_first() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    tensor = torch.tensor(images).permute(0, 3, 1, 2)
    for value in (images, tensor, list(tensor), list(images)):
        dataset = dataset_of(value)
        own = np.stack([np.asarray(item) for item in value])
        assert np.array_equal(np.asarray(dataset.items), own)  # as they are
        assert dataset.spec.shape == (3, 8, 6)
        x, _ = dataset.batch(np.arange(5))
        assert np.array_equal(dataset.spec.from_model(x), own)
    assert dataset_of(images).spec.shape == (3, 8, 6)


def test_vectors_and_sets_belong_to_items() -> None:
    found = dataset_of((POINTS, POINTS[:, :1]))
    assert found.annotations.vectors is not None
    assert np.allclose(found.annotations.vectors, POINTS[:, :1])
    assert dataset_of((POINTS, np.eye(3, dtype=int)[LABELS])).annotations.sets is not None


BAD = {
    "a class": (Net, "no data"),
    "a number": (3, "no data"),
    "labels too few": ((POINTS, LABELS[:5]), "300"),
    "shapes that differ": ([torch.zeros(2), torch.zeros(3)], "item 1"),
    "nothing": ([], "no items"),
    "three parts": ((POINTS, LABELS, LABELS), "pair"),
    "a name": ("digitz", "digits"),
}


@pytest.mark.parametrize(("value", "said"), BAD.values(), ids=BAD)
def test_what_is_no_data_is_one_sentence(value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        dataset_of(value)
    assert "\n" not in str(caught.value)


def test_a_run_in_memory_is_that_of_a_folder_and_of_names(tmp_path: Path) -> None:
    memory = ornstein.train(POINTS, path=path.Linear(), target=target.Velocity(), **SHORT)
    folder = ornstein.train(POINTS, out=tmp_path / "run", path="linear", target="velocity", **SHORT)
    assert np.array_equal(memory.sample(8), folder.sample(8))
    assert folder.settings["path"] == memory.settings["path"] == "linear"
    assert np.array_equal(ornstein.load(tmp_path / "run").sample(8), folder.sample(8))
    assert len(memory.metrics()) == 6


def test_nothing_of_a_run_in_memory_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = ornstein.train(POINTS, **SHORT)
    run.sample(4)
    for missing in (lambda: run.averages(), lambda: run.ema(0.1), lambda: run.tune(4)):
        with pytest.raises(UsageError, match="in memory alone"):
            missing()
    assert not list(tmp_path.iterdir())


def test_a_path_of_other_numbers_is_written_and_read(tmp_path: Path) -> None:
    own = path.VariancePreserving(0.2, 15.0)
    run = ornstein.train(POINTS, out=tmp_path / "run", path=own, target=target.Noise(), **SHORT)
    assert ornstein.load(tmp_path / "run").model.path == own
    assert run.model.path == own
    with pytest.raises(UsageError, match="path"):
        ornstein.train(POINTS, out=tmp_path / "run", path=path.VariancePreserving(0.3, 15.0), target="noise", **SHORT)


@dataclass(frozen=True)
class Bent(path.Linear):
    """A path of one's own."""


def test_a_path_of_ones_own_trains_in_memory_alone(tmp_path: Path) -> None:
    assert ornstein.train(POINTS, path=Bent(), **SHORT).sample(4).shape == (4, 2)
    with pytest.raises(UsageError, match="Bent cannot be written"):
        ornstein.train(POINTS, path=Bent(), out=tmp_path / "run", **SHORT)
    assert not (tmp_path / "run").exists()


def test_wrong_keywords_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean weight_decay"):
        ornstein.train(POINTS, weight_decy=0.1, **SHORT)
    with pytest.raises(UsageError, match="whole number"):
        ornstein.train(POINTS, **{**SHORT, "steps": "many"})
    with pytest.raises(TypeError, match=r"network=Net\(\.\.\.\)"):
        ornstein.train(POINTS, network=Net, **SHORT)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_own_network_sees_x_and_t_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    net = Net(dtype=dtype)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    run = ornstein.train(POINTS, network=net, out=tmp_path / "run", **SHORT)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert run.model.dtype == dtype
    loaded = ornstein.load(tmp_path / "run", network=Net(dtype=dtype))
    assert np.array_equal(loaded.sample(8), run.sample(8))
    x, t = torch.randn(5, 2, dtype=dtype), torch.full((5,), 0.3, dtype=dtype)
    assert torch.equal(loaded.denoiser.predict(x, t), loaded.model.network(x, t))
    nats = next(loaded.likelihood(dataset_of(POINTS), np.arange(4), ODE())).nats
    assert nats.dtype == dtype
    assert bool(nats.isfinite().all())
    assert int(run.model.network.body[1].num_batches_tracked) == 6  # type: ignore[index, union-attr]


def test_an_own_network_is_never_imported_and_must_fit(tmp_path: Path) -> None:
    ornstein.train(POINTS, network=Net(), out=tmp_path / "run", **SHORT)
    with pytest.raises(OrnsteinError, match=r"network=Net\(\)"):
        ornstein.load(tmp_path / "run")
    with pytest.raises(OrnsteinError, match="does not fit the network Net"):
        ornstein.load(tmp_path / "run", network=Net(8))
    with pytest.raises(TypeError, match="is a class"):
        ornstein.load(tmp_path / "run", network=Net)  # type: ignore[arg-type]


def _own(out: Path, stop: int | None = None, **more: Any) -> ornstein.Trainer:
    trainer = ornstein.Trainer(Net(), None, Pairs(), out, **{**SHORT, **more})
    for event in trainer:
        if event.progress.step == stop:
            break
    return trainer


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_left_and_resumed_with_own_everything_is_unbroken(tmp_path: Path, stop: int) -> None:
    own = {"optimizer": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9), "schedule": lambda done: 1 - done}
    whole = _own(tmp_path / "whole", **own)
    _own(tmp_path / "parts", stop, **own)
    _own(tmp_path / "parts", **own)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert isinstance(whole.run().model.conditions.parts[0], Vector)
    assert whole.run().sample(4, condition=[3.0]).shape == (4, 2)


def test_killed_and_resumed_is_unbroken(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from tests.test_learn import Net, Pairs, SHORT; import ornstein\n"
        "for e in ornstein.Trainer(Net(), None, Pairs(), Path(sys.argv[1]), **SHORT):\n"
        "    if e.progress.step == 5: os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parent.parent
    places = os.pathsep.join([str(root), str(Path(ornstein.__file__).parent.parent)])
    env = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # whose runs are alike
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "parts"], env=env)
    assert done.returncode == -signal.SIGKILL
    _own(tmp_path / "whole")
    _own(tmp_path / "parts")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@dataclass(frozen=True)
class Quadrant(Condition):
    """A condition of one's own: the sign of the first number, 0 when nothing is said."""

    names = ("side",)

    @property
    def arguments(self) -> dict[str, int]:
        return {}

    def null(self, count: int) -> Tensor:
        return torch.zeros(count, 1)

    def of(self, dataset: Dataset, indices: np.ndarray[Any, Any], x: Tensor, numbers: Tensor) -> Tensor:
        return x[:, :1].sign()

    def requested(self, values: Mapping[str, Any], count: int, spec: DataSpec) -> Tensor:
        return torch.full((count, 1), float(values["side"]))

    def missing(self, dataset: Dataset) -> str:
        return ""

    @property
    def description(self) -> str:
        return "a side"


def test_a_condition_of_ones_own(tmp_path: Path) -> None:
    own = {"network": Net(), "conditions": [Quadrant()], **SHORT}
    run = ornstein.train(POINTS, out=tmp_path / "run", **own)
    loaded = ornstein.load(tmp_path / "run", network=Net(), conditions=[Quadrant()])
    one, other = (loaded.sample(8, condition={"side": side}) for side in (1, -1))
    assert not np.array_equal(one, other)
    assert np.array_equal(one, run.sample(8, condition={"side": 1}))
    with pytest.raises(OrnsteinError, match="Quadrant"):
        ornstein.load(tmp_path / "run", network=Net())


WRONG = {
    "conditions": [3],
    "optimizer": 3,
    "schedule": 3,
    "path": 3,
    "target": 3,
    "weight": 3,
    "network": 3,
    "objective": 3,
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_kinds_are_one_sentence(key: str) -> None:
    with pytest.raises(TypeError, match=f"^{key} = .*must be") as caught:
        ornstein.train(POINTS, **{**SHORT, key: WRONG[key]})
    assert "\n" not in str(caught.value)


@dataclass
class Plain:
    """An objective of one's own: the velocity of the straight path."""

    calls: int = 0

    def loss(self, predict: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        self.calls += 1
        t, noise = torch.rand(len(x), generator=generator), torch.randn(x.shape, generator=generator)
        return (predict(x + t[:, None] * (noise - x), t) - (noise - x)).square().mean(1)


def test_own_objective_and_optimiser(tmp_path: Path) -> None:
    own = Plain()
    trainer = ornstein.Trainer(
        nn_of_two(), own, POINTS, optimizer=lambda p: torch.optim.SGD(p, 0.2), schedule=lambda done: 1 - done, **SHORT
    )
    rates = [event.progress.rate for event in trainer]
    assert own.calls == 6
    assert np.allclose(rates, 0.2 * (1 - np.arange(6) / 6))
    assert trainer.run().sample(3).shape == (3, 2)
    with pytest.raises(UsageError, match="learning_rate"):
        ornstein.Trainer(Net(), own, POINTS, optimizer=torch.optim.SGD, learning_rate=0.1, **SHORT)


def nn_of_two() -> nn.Module:
    return Net()


def test_an_objective_brings_its_path_and_target() -> None:
    own = objective.Objective(path.VariancePreserving(), target.Noise(), weight=objective.MinSNR(3.0))
    trainer = ornstein.Trainer(None, own, POINTS, **SHORT)
    losses = [event.progress.loss for event in trainer]
    run = ornstein.train(POINTS, path="vp", target="noise", weight=objective.MinSNR(3.0), **SHORT)
    assert losses == [line["loss"] for line in run.metrics()]
    assert trainer.settings.path == "vp"


def test_early_stop_by_stop() -> None:
    trainer = ornstein.Trainer(None, None, POINTS, **SHORT)
    steps = []
    for event in trainer:
        steps.append(event.progress.step)
        if event.progress.step == 3:
            trainer.stop()
    assert steps == [1, 2, 3]
    assert all(b == a + 1 for a, b in pairwise(steps))


def test_a_start_of_another_run(tmp_path: Path) -> None:
    first = ornstein.train((POINTS, LABELS), out=tmp_path / "first", **SHORT)
    said: list[str] = []
    again = ornstein.Trainer(None, None, (POINTS, LABELS), start=first, tell=said.append, **SHORT)
    own, theirs = again.network.state_dict(), first.model.network.state_dict()
    assert all(torch.equal(own[name], theirs[name]) for name in own)
    assert not said
    fewer = ornstein.Trainer(None, None, (POINTS, LABELS % 2), start=first, tell=said.append, **SHORT)
    own = fewer.network.state_dict()
    assert [name for name in own if own[name].shape != theirs[name].shape] == ["conditioning.labels.weight"]
    assert all(torch.equal(own[name], theirs[name]) for name in own if name != "conditioning.labels.weight")
    assert len(said) == 1
    assert "conditioning.labels.weight" in said[0]
    with pytest.raises(UsageError, match="another network"):
        ornstein.Trainer(Net(), None, POINTS, start=first, **SHORT)
    with pytest.raises(
        UsageError, match="predicts velocity, and this training is to predict v; give --target velocity"
    ):
        ornstein.Trainer(None, None, (POINTS, LABELS), start=first, target="v", **SHORT)


def test_the_command_starts_from_a_run(tmp_path: Path) -> None:
    first = ornstein.train(POINTS, out=tmp_path / "first", **SHORT)
    np.save(tmp_path / "points.npy", POINTS)
    words = ["train", "--data", str(tmp_path / "points.npy"), "--out", str(tmp_path / "next"), "--samples", "0"]
    words += ["--steps", "1", "--learning-rate", "1e-12", "--device", "cpu", "--from", str(tmp_path / "first")]
    assert main(words) == 0
    started = ornstein.load(tmp_path / "next").model.network.state_dict()
    for name, tensor in first.model.network.state_dict().items():
        assert torch.allclose(started[name], tensor, atol=1e-9)


@dataclass(frozen=True)
class Tenfold(objective.Objective):
    """An objective with an error of its own."""

    def error(self, predict: Any, draw: Any) -> Tensor:
        return 10 * super().error(predict, draw)


def test_an_error_of_ones_own_is_what_is_trained() -> None:
    plain, own = (
        ornstein.Trainer(None, kind(path.Linear(), target.Velocity()), POINTS, steps=1, clip=1e9, tell=lambda _: None)
        for kind in (objective.Objective, Tenfold)
    )
    (one,), (other,) = list(plain), list(own)
    assert 5 < other.progress.loss / one.progress.loss < 20  # other draws, and ten times their error

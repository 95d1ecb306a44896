"""A run loaded in two lines: samples in the data's own units, seeds per sample, and files that are checked."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ornstein
from ornstein import data, solvers
from ornstein.cli import main
from ornstein.errors import OrnsteinError, UsageError
from ornstein.guidance import APG, ClassifierFree, Clip, GuidanceConfig, NegativeLabel, WeakModel
from ornstein.noise import PerSampleNoise
from ornstein.runs import ConditionBatch, Run
from ornstein.settings import Settings
from ornstein.training.trainer import FolderTraining
from ornstein.tuning import Progress
from ornstein.weights import hashed


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    for _ in FolderTraining(
        Settings(data="digits", out=str(folder), steps=30, batch_size=32, samples=0), data.open("digits")
    ):
        pass
    return folder


def test_samples_have_the_datas_type_and_range(trained: Path) -> None:
    run = ornstein.load(trained)
    samples = run.sample(5, label=3)
    assert samples.shape == (5, 8, 8, 1)
    assert samples.dtype == np.dtype(run.spec.dtype)
    assert samples.min() >= run.spec.low
    assert samples.max() <= run.spec.high
    assert samples.std() > 0


def test_a_run_shows_itself_in_one_line(trained: Path) -> None:
    shown = repr(ornstein.load(trained))
    assert shown.startswith(f"Run({str(trained)!r}: digits, UNet of ")
    assert "Velocity() on Linear()" in shown
    assert len(shown.splitlines()) == 1


def test_a_sample_does_not_depend_on_its_batch(trained: Path) -> None:
    run = ornstein.load(trained)
    together = run.sample(6, seed=4).astype(int)
    apart = np.concatenate([run.sample(1, seed=4, first=i) for i in range(6)]).astype(int)
    assert np.abs(together - apart).max() <= 1  # a network agrees to rounding
    assert np.abs(together - run.sample(6, seed=4, batch_size=4).astype(int)).max() <= 1
    assert np.abs(together - run.sample(6, seed=5).astype(int)).max() > 2


def test_a_grid_a_noise_source_and_progress_are_those_of_sample(trained: Path) -> None:
    run, reports = ornstein.load(trained), list[tuple[int, int]]()
    plain = run.sample(6, seed=3, steps=5)
    times = solvers.ABM().grid(run.model.path, 5)
    given = run.sample(6, seed=3, grid=times, progress=lambda *report: reports.append(report), batch_size=4)
    assert np.abs(plain.astype(int) - given.astype(int)).max() <= 1
    assert [total for _, total in reports] == [30] * len(reports)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert reports[-1] == (30, 30)
    assert np.array_equal(plain[2:], run.sample(4, first=2, seed=3, steps=5, noise=PerSampleNoise(3, 2)))
    one = run.sample(3, label=1, steps=4, noise=lambda x, t, s: torch.ones_like(x))
    assert np.array_equal(one[0], one[2])  # a source that draws the same for every row
    wrong: dict[str, Any] = {"grid": 5, "noise": torch.zeros(3), "progress": 5}
    for name, value in wrong.items():
        with pytest.raises(TypeError, match=name):
            run.sample(3, **{name: value})
    with pytest.raises(ValueError, match="the grid rises"):
        run.sample(3, grid=times.flip(0))


def test_labels_by_number_name_and_list(trained: Path) -> None:
    run = ornstein.load(trained)
    three = run.sample(2, label=3)
    np.testing.assert_array_equal(three, run.sample(2, label=run.spec.classes[3]))
    np.testing.assert_array_equal(three, run.sample(2, label=[3, 3]))
    assert (three != run.sample(2, label=4)).any()


def test_without_a_label_classes_come_as_often_as_in_the_data(trained: Path) -> None:
    model = ornstein.load(trained).model
    drawn = model.labels(0, 4000, seed=0)
    assert drawn is not None
    counts = np.bincount(drawn.numpy(), minlength=10) / 4000
    assert np.abs(counts - np.array(model.frequencies)).max() < 0.02
    np.testing.assert_array_equal(drawn[17:30], model.labels(17, 30, seed=0))


@pytest.mark.parametrize(
    ("label", "says"),
    [(12, "12 is no class"), ("12", "12 is no class"), ("threee", "no class"), ([1, 2], "2 labels for 3")],
)
def test_a_label_that_does_not_exist(trained: Path, label: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ornstein.load(trained).sample(3, label=label)


# Guidance


def rows_of_calls(run: ornstein.runs.Run, **how: Any) -> tuple[list[int], np.ndarray]:
    """How many rows the network gets at each call of a sampling, and the samples."""
    rows: list[int] = []
    hook = run.model.network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    try:
        return rows, run.sample(3, steps=5, **how)
    finally:
        hook.remove()


@pytest.mark.parametrize("how", [{"label": 3}, {}, {"label": [1, 2, 3], "solver": solvers.Ancestral()}], ids=str)
def test_scale_one_is_the_plain_model_in_single_calls(trained: Path, how: dict[str, Any]) -> None:
    run = ornstein.load(trained)
    calls, plain = rows_of_calls(run, **how)
    assert calls == [3] * 5
    weaker = WeakModel(run.earlier(next((trained / "averages").iterdir())).denoiser)
    for guide in (
        GuidanceConfig(1.0),
        GuidanceConfig(1.0, APG, (0.2, 5.0), 0.7, NegativeLabel(8)),
        GuidanceConfig(1.0, negative=weaker),
    ):
        again, samples = rows_of_calls(run, guide=guide, **how)
        assert again == calls
        np.testing.assert_array_equal(samples, plain)


def test_guidance_is_the_guided_denoiser(trained: Path) -> None:
    run, labels = ornstein.load(trained), torch.tensor([3, 3, 8])
    calls, samples = rows_of_calls(run, label=labels.tolist(), guide=GuidanceConfig(2.0))
    assert calls == [6] * 5
    d = run.denoiser
    by_hand = ornstein.sample(ClassifierFree(d.given(labels), d, 2.0), (3, *run.spec.shape), steps=5)
    np.testing.assert_array_equal(samples, run.spec.from_model(by_hand))
    assert (samples != run.sample(3, label=labels.tolist(), steps=5)).any()
    calls, _ = rows_of_calls(run, label=3, guide=GuidanceConfig(2.0, levels=(0.3, 3.0)))
    assert set(calls) == {3, 6}
    for guide in (
        GuidanceConfig(lambda t: 1 + t),
        GuidanceConfig(2.0, negative=NegativeLabel(1)),
        lambda d, c: Clip(d.given(c), -0.5, 0.5),
    ):
        assert (run.sample(3, label=3, steps=5) != run.sample(3, label=3, steps=5, guide=guide)).any()


def test_guidance_that_a_run_has_no_means_for(trained: Path, tmp_path: Path) -> None:
    whole = Path(shutil.copytree(trained, tmp_path / "run"))
    config = whole / "config.yaml"
    config.write_text(config.read_text().replace("label_dropout: 0.1", "label_dropout: 0.0"))
    run = ornstein.load(whole)
    with pytest.raises(UsageError, match="label_dropout 0, so there is no unconditional model"):
        run.sample(2, label=3, guide=GuidanceConfig(2.0))
    assert run.sample(2, label=3, steps=2, guide=GuidanceConfig(2.0, negative=NegativeLabel(8))).shape == (2, 8, 8, 1)
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    settings = Settings(data=str(tmp_path / "points.npy"), out=str(tmp_path / "points"), steps=9, samples=0)
    for _ in FolderTraining(settings, data.open(settings.data)):
        pass
    run = ornstein.load(tmp_path / "points")
    for guide in (GuidanceConfig(2.0), GuidanceConfig(2.0, negative=NegativeLabel(0))):
        with pytest.raises(UsageError, match="so there is nothing to guide it towards"):
            run.sample(2, guide=guide)
    weaker = run.earlier(next((tmp_path / "points" / "averages").iterdir()))
    assert (run.sample(2, guide=GuidanceConfig(2.0, negative=WeakModel(weaker.denoiser))) != run.sample(2)).any()


def test_earlier_weights(trained: Path, tmp_path: Path) -> None:
    run = ornstein.load(trained)
    *_, place = sorted((trained / "checkpoints").iterdir())  # slow machines save more than one
    np.testing.assert_array_equal(run.earlier(place).sample(2), run.sample(2))
    snapshot = sorted((trained / "averages").iterdir())[0]
    assert (run.earlier(snapshot).sample(2) != run.sample(2)).any()
    for wrong in (tmp_path, trained / "config.yaml"):
        with pytest.raises(UsageError, match=r"is no snapshot in .* and no checkpoint"):
            run.earlier(wrong)


def briefly() -> dict[str, Any]:
    """Arguments of fits that begin from the tables of one grid and end after an iteration, however busy the machine."""
    told = [Progress(1.0, 0.0, 0.0)]
    ends = {"progress": told.append, "stop": lambda: told[-1].done > 0}
    return {"seconds": 600.0, "starts": 48, "teacher": 8, **ends}


def test_a_tuned_solver_is_kept_for_each_label_and_guidance(trained: Path, tmp_path: Path) -> None:
    run, quick = ornstein.load(shutil.copytree(trained, tmp_path / "run")), briefly()
    run.tune(2, guide=GuidanceConfig(2.0), **quick)
    run.tune(2, label="3", guide=GuidanceConfig(2.0), **quick)
    assert sorted(file.name for file in (run.folder / "tuned").iterdir()) == [
        "steps-2-guidance-2.json",
        "steps-2-label-3-guidance-2.json",
    ]
    for_all, for_three = run.tuned(2, guide=GuidanceConfig(2.0)), run.tuned(2, label=3, guide=GuidanceConfig(2.0))
    assert run.tuned(2, label=8, guide=GuidanceConfig(2.0)).fitted == for_all.fitted != for_three.fitted
    for guide, says in (
        (GuidanceConfig(), "no solver of 2 steps is tuned yet"),
        (GuidanceConfig(3.0), "2 steps is tuned with guidance 3"),
    ):
        with pytest.raises(UsageError, match=says):
            run.tuned(2, guide=guide)
    with pytest.raises(UsageError, match="has no name that a tuned solver could be stored under"):
        run.tune(2, guide=GuidanceConfig(lambda t: 1 + t), **quick)
    shutil.copy(run.folder / "tuned" / "steps-2-guidance-2.json", run.folder / "tuned" / "steps-2.json")
    with pytest.raises(OrnsteinError, match="it was tuned for label None with guidance 2"):
        run.tuned(2)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda run: run.sample(2, labels=3), "sample has no labels=; did you mean label=?"),
        (lambda run: run.sample(2, num_inference_steps=3), "sample has no num_inference_steps=; did you mean steps=?"),
        (lambda run: next(run.batches(2, sampler="heun")), "batches has no sampler=; did you mean solver=?"),
        (lambda run: run.tune(6, second=3), "tune has no second=; did you mean seconds=?"),
        (lambda run: run.sample(2, steps=2.5), "steps = 2.5 must be a whole number"),
    ],
)
def test_a_keyword_that_is_none_is_named(trained: Path, do: Callable[[Run], object], says: str) -> None:
    with pytest.raises(TypeError, match=re.escape(says)):
        do(ornstein.load(trained))


def test_a_tuned_solver_serves_the_conditions_that_it_was_fitted_to(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)
    data, out = {"x": x, "conditions": x + 0.1}, tmp_path / "run"
    run, quick = ornstein.train(data, out=out, steps=20, preset="tiny", device="cpu"), briefly()
    one, other = {"vector": [0.1, 0.2]}, [0.3, 0.4]
    assert run.tune(2, condition=one, **quick) == run.tuned(2, condition=[0.1, 0.2])
    (own,) = (out / "tuned").iterdir()
    for condition, says in ((other, "tuned for this condition yet"), (None, "steps-2.json is missing")):
        with pytest.raises(UsageError, match=says):
            run.tuned(2, condition=condition)
    several = run.tune(2, condition=x[:20] + 0.1, **quick)
    assert run.tuned(2, condition=other) == run.tuned(2, condition=ConditionBatch((torch.rand(5, 3),))) == several
    assert run.tuned(2, condition=one) != several
    assert json.loads((out / "tuned" / "steps-2-given-several.json").read_text())["made"]["conditions"] == 20
    plain = run.tune(2, **quick)
    assert plain == run.tuned(2) != several
    np.testing.assert_array_equal(run.sample(3, solver=plain), run.sample(3, solver=plain, steps=2))
    with pytest.raises(UsageError, match="takes 2 finite numbers"):
        run.tune(2, condition=[1.0, 2.0, 3.0], **quick)
    shutil.copy(own, out / "tuned" / "steps-2.json")
    with pytest.raises(OrnsteinError, match=r"it was tuned for label None and condition [0-9a-f]{16} with"):
        run.tuned(2)


def test_a_run_that_was_always_given_its_condition_needs_one(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32)
    settings: dict[str, Any] = {"steps": 1, "preset": "tiny", "device": "cpu", "label_dropout": 0.0}
    run = ornstein.train({"x": x, "conditions": x}, out=tmp_path / "run", **settings)
    for draw in (lambda: run.sample(2), lambda: run.tune(2, **briefly())):
        with pytest.raises(UsageError, match=r"label_dropout 0, so .* give one \(vector\)"):
            draw()
    assert run.sample(2, condition=[0.0, 1.0]).shape == (2, 2)
    assert ornstein.train(x, given="any", **settings).sample(2).shape == (2, 2)  # the law gives nothing at times


# Compiling


@pytest.mark.parametrize("fault", ["wrong", "missing", "right"])
def test_compiling_is_undone_where_answers_change(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    def compile_(network: Any, dynamic: bool) -> None:
        def called(*args: Any) -> torch.Tensor:
            if fault == "missing":
                raise RuntimeError("no C++ compiler\nlong story")
            asked.append(len(args[0]))
            return network._call_impl(*args) * (1.01 if fault == "wrong" else 1.0)

        network._compiled_call_impl = called

    asked: list[int] = []
    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    run = ornstein.load(trained)
    reason = run.compile(GuidanceConfig(2.0), 3)
    assert set(asked) == (set() if fault == "missing" else {6})
    assert (run.model.network._compiled_call_impl is None) == (fault != "right")
    says = {
        "wrong": "the compiled network answers otherwise than the network as written (first at t = 1)",
        "missing": "the network could not be compiled (no C++ compiler)",
        "right": None,
    }
    assert reason == says[fault]
    words = ["sample", str(trained), "-n", "2", "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "x.npz")]
    assert main([*words, "--compile"]) == 0
    out, err = capsys.readouterr()
    assert "compiling" in out
    assert err == (f"warning: {reason}; sampling goes on without compiling\n" if reason else "")
    with np.load(tmp_path / "x.npz") as arrays:
        np.testing.assert_array_equal(arrays["samples"], ornstein.load(trained).sample(2, steps=2))


@pytest.mark.slow
def test_a_compiled_network_makes_the_same_samples(trained: Path) -> None:
    run = ornstein.load(trained)
    expected = run.sample(5, label=3, guide=GuidanceConfig(2.0), batch_size=3).astype(int)
    assert run.compile(GuidanceConfig(2.0), 3) is None
    found = run.sample(5, label=3, guide=GuidanceConfig(2.0), batch_size=3).astype(int)  # a last batch of 2
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("solver", solvers.ALL, ids=repr)
def test_every_solver_samples_a_trained_network(trained: Path, solver: solvers.Solver) -> None:
    samples = ornstein.load(trained).sample(2, solver=solver, steps=5)
    assert samples.shape == (2, 8, 8, 1)


def test_missing_and_damaged_files_are_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        ornstein.load(tmp_path / "none")
    with pytest.raises(OrnsteinError, match=r"config\.json is missing"):
        ornstein.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    weights = copy / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(OrnsteinError, match=r"model\.safetensors cannot be read"):
        ornstein.load(copy)
    config = json.loads((copy / "model" / "config.json").read_text())
    for broken in (
        {**config, "format": 99},
        {**config, "path": {"type": "os"}},
        {**config, "network": {"type": "Evil"}},
    ):
        (copy / "model" / "config.json").write_text(json.dumps(broken))
        with pytest.raises(OrnsteinError, match=r"config\.json"):
            ornstein.load(copy)
    (copy / "model" / "config.json").write_text("{")
    with pytest.raises(OrnsteinError, match="cannot be read"):
        ornstein.load(copy)


def test_the_hash_is_that_of_the_weights_in_memory(trained: Path, tmp_path: Path) -> None:
    """Also when the file is replaced while it is read, or afterwards."""
    run = ornstein.load(shutil.copytree(trained, tmp_path / "run"))
    file = run.folder / "model" / "model.safetensors"
    old, new = (load_file(file), {name: tensor + 1 for name, tensor in load_file(file).items()})
    assert run.weights_hash == sha256(file.read_bytes()).hexdigest()
    save_file(new, tmp_path / "new")
    reads: list[dict[str, torch.Tensor]] = []

    def read(place: Path) -> dict[str, torch.Tensor]:
        reads.append(load_file(place))
        if len(reads) == 1:
            (tmp_path / "new").replace(file)
        return reads[-1]

    found, digest = hashed(file, read)
    assert len(reads) == 2
    assert all(torch.equal(found[name], tensor) for name, tensor in new.items())
    assert digest == sha256(file.read_bytes()).hexdigest() != run.weights_hash
    made = run.tune(2, **briefly())
    assert made.model == json.loads((run.folder / "tuned" / "steps-2.json").read_text())["model"] == run.weights_hash
    with pytest.raises(UsageError, match="tuned for other weights"):
        ornstein.load(run.folder).tuned(2)
    save_file(old, file)
    ornstein.load(run.folder).tuned(2)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(trained: Path, tmp_path: Path, number: float) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    tensors = load_file(folder / "model" / "model.safetensors")
    name = sorted(tensors)[3]
    tensors[name].flatten()[0] = number
    save_file(tensors, folder / "model" / "model.safetensors")
    with pytest.raises(OrnsteinError, match=rf"model\.safetensors holds numbers that are not finite \(in {name}\)"):
        ornstein.load(folder)

"""What leaves is what was trained: graphs, loops and pipelines beside the run itself, and places that are taken."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from ornstein import export, guidance, networks
from ornstein.errors import UsageError
from ornstein.export.format import example, loop_file_of
from ornstein.export.graph import Graph
from ornstein.export.loop import Loop
from ornstein.model import described
from ornstein.noise import PerSampleNoise
from ornstein.runs import Run
from ornstein.sampling import begin

HERE = Path(__file__).parent


def module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = made
    spec.loader.exec_module(made)
    return made


toys = module(HERE / "runs.py")


class Network:
    """A network of torch behind the interface of onnxruntime, so that the loop is tested where that is not installed."""

    def __init__(self, run: Run) -> None:
        self.graph = Graph(Loop(run))

    def run(self, _: None, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        with torch.no_grad():
            return [self.graph(*(torch.from_numpy(feed[name]) for name in self.graph.names)).numpy()]


def loop_of(monkeypatch: pytest.MonkeyPatch, session: Any) -> Any:
    """The example's sampler, with a session in the place of onnxruntime's."""
    stand_in = type(sys)("onnxruntime")
    stand_in.InferenceSession = lambda *_, **__: session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", stand_in)
    return module(HERE.parent.parent / "examples" / "sample_onnx.py").sample


def both(
    run: Run, sampler: Any, file: Path, loop: Loop, condition: dict[str, Any], rows: dict[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Samples of the run and of the loop from one start."""
    loop_file_of(file).write_text(json.dumps(loop.to_dict()))
    grid, table = loop.times_and_table()
    like = torch.zeros(4, *run.spec.shape)
    start = begin(run.model.path, like, float(grid[0]), PerSampleNoise(5))
    level = float(run.model.path.sigma(grid[0]))
    fresh = [
        PerSampleNoise(5)(like, float(t), float(s)) for t, s in zip(table.times[:-1], table.times[1:], strict=True)
    ]
    noise = np.stack([part.double().numpy() for part in [start / level, *fresh]])
    mine = run.sample(4, solver=loop.solver, steps=loop.steps, guide=loop.guide, seed=5, **condition)
    return mine, sampler(file, 4, noise=noise, **rows)


CONDITIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "unet, class": ({"label": list("abcb")}, {"label": [0, 1, 2, 1]}),
    "unet, aim": ({"label": list("abcb")}, {"label": [0, 1, 2, 1]}),
    "dit, class": ({"label": "b"}, {"label": 1}),
    "dit, variance": ({"label": "b"}, {"label": 1}),
    "mlp, vector": ({"condition": {"vector": [0.5, 0.0, -1.0]}}, {"vector": [0.5, 0.0, -1.0, 1.0]}),
    "mlp, labels": ({"label": ["a", "b"]}, {"label": [True, True, False, True]}),
}


def close(mine: NDArray[Any], theirs: NDArray[Any]) -> None:
    assert mine.shape == theirs.shape
    assert mine.dtype == theirs.dtype
    gap = np.abs(mine.astype(float) - theirs.astype(float))
    if mine.dtype == np.uint8:  # a number at the border of two levels may fall to either side
        assert gap.max() <= 1
        assert (gap > 0).mean() < 0.01
    else:
        assert gap.max() <= 1e-4 * max(1.0, float(np.abs(mine).max()))


@pytest.mark.parametrize("name", toys.ALL)
def test_the_numpy_loop_draws_what_the_run_draws(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toys.small(name)
    condition, rows = CONDITIONS.get(name, ({}, {}))
    close(*both(run, loop_of(monkeypatch, Network(run)), tmp_path / "m.onnx", Loop(run, steps=5), condition, rows))


def test_a_jump_to_the_data_is_one_call_of_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, asked = toys.small("unet, aim"), list[float]()
    network = Network(run)

    class Counting:
        def run(self, outputs: None, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
            asked.extend(feed["aim"].tolist())
            return network.run(outputs, feed)

    loop = Loop(run, "jump", 1)
    close(*both(run, loop_of(monkeypatch, Counting()), tmp_path / "m.onnx", loop, *CONDITIONS["unet, aim"]))
    assert asked == pytest.approx([1.0] * 4)  # of one batch, aimed at the data


@pytest.mark.parametrize("solver", ["abm", "dpmpp", "unipc", "heun", "ddim", "ancestral", "sde-dpmpp", "er-sde"])
def test_any_table_is_a_loop(solver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = toys.small("dit, class")
    loop = Loop(run, solver, 4)
    close(*both(run, loop_of(monkeypatch, Network(run)), tmp_path / "m.onnx", loop, {"label": "a"}, {"label": 0}))


@pytest.mark.parametrize(
    "guide",
    [
        guidance.GuidanceConfig(2.5),
        guidance.GuidanceConfig(2.5, levels=(0.3, 2.0)),
        guidance.GuidanceConfig(2.5, negative=guidance.NegativeLabel("c")),
        guidance.GuidanceConfig(lambda t: 1 + 2 * t),
    ],
    ids=["scale", "interval", "negative", "varying"],
)
def test_guidance_is_in_the_loop(
    guide: guidance.GuidanceConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = toys.small("dit, class")
    monkeypatch.setattr(Run, "_settings", lambda self: None)
    loop = Loop(run, "abm", 6, guide)
    mine, theirs = both(
        run, loop_of(monkeypatch, Network(run)), tmp_path / "m.onnx", loop, {"label": "a"}, {"label": 0}
    )
    close(mine, theirs)
    assert np.abs(mine - run.sample(4, steps=6, seed=5, label="a")).max() > 1e-2


def test_guidance_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_settings", lambda self: None)
    for guide in (guidance.GuidanceConfig(2.0, method=guidance.APG), guidance.GuidanceConfig(2.0, rescale=0.5)):
        with pytest.raises(UsageError, match="needs more"):
            Loop(toys.small("dit, class"), None, 4, guide)
    with pytest.raises(TypeError, match="loop of its own"):
        Loop(toys.small("mlp"), "ode", 4).to_dict()
    with pytest.raises(UsageError, match="few-step"):
        Loop(toys.small("mlp"), "jump", 4).to_dict()


QUICK = "dit, class", "mlp, vector", "mlp, aim"  # torch.export takes its time for a U-Net


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in toys.ALL if name not in QUICK)]
)
def test_torch_export_answers_alike_for_any_batch(name: str, tmp_path: Path) -> None:
    run = toys.small(name)
    file, loop = export.write(run, export.TorchExport(), tmp_path / "network.pt2", steps=4)
    assert json.loads(loop.read_text())["model"] == "network.pt2"
    loaded, graph = torch.export.load(file).module(), Graph(Loop(run))
    for count in (1, 2, 5):
        inputs = varied(example(Loop(run), count))
        assert (loaded(*inputs) - graph(*inputs)).abs().max() <= 1e-5


def varied(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Conditions that are not all null."""
    x, c_noise, *others = inputs
    rows = [
        row.clone().random_(0, 3) if row.dtype == torch.int64 else row | True if row.dtype == torch.bool else row + 0.3
        for row in others
    ]
    return x, c_noise, *rows


@pytest.mark.peers
@pytest.mark.parametrize("name", toys.ALL)
def test_onnx_answers_alike_for_any_batch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    import onnxruntime

    run = toys.small(name)
    file, _ = export.write(run, export.ONNX(), tmp_path / "network.onnx", steps=4)
    session, graph = onnxruntime.InferenceSession(str(file)), Graph(Loop(run))
    for count in (1, 2, 5):
        inputs = varied(example(Loop(run), count))
        (answer,) = session.run(None, dict(zip(graph.names, (part.numpy() for part in inputs), strict=True)))
        assert (torch.from_numpy(answer) - graph(*inputs)).abs().max() <= 1e-5
    condition, rows = CONDITIONS.get(name, ({}, {}))
    sampler = module(HERE.parent.parent / "examples" / "sample_onnx.py").sample
    close(*both(run, sampler, file, Loop(run, steps=4), condition, rows))


def test_safetensors_hold_all_that_gives_weights_a_meaning(tmp_path: Path) -> None:
    run = toys.small("dit, class")
    (file,) = export.write(run, export.Safetensors(), tmp_path / "model.safetensors")
    with safe_open(file, "pt") as stream:
        about = stream.metadata()
    again = described(json.loads(about["config"]))
    again.network.load_state_dict(load_file(file))
    x, c_noise = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.7])
    assert torch.equal(again.network(x, c_noise), run.model.network(x, c_noise))
    assert json.loads(about["loop"])["shape"] == [1, 8, 8]


@pytest.mark.peers
def test_a_pipeline_of_diffusers_draws_what_the_run_draws(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    import ornstein.export.pipeline  # noqa: F401

    for name, label in (("unet, bytes", None), ("dit, class", "b")):
        run, folder = toys.small(name), tmp_path / name
        export.write(run, export.Diffusers(), folder, solver="dpmpp")
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        if label:
            pipe.unet.condition(1)
        generator = torch.Generator().manual_seed(3)
        images = pipe(4, generator, num_inference_steps=8, output_type="pt").images
        start = torch.randn(4, *run.spec.shape, generator=torch.Generator().manual_seed(3))
        mine = run.sample(start=start, label=label, steps=8, solver="dpmpp").astype(float)
        whole = 255 if run.spec.is_whole else 1
        mine = np.clip(mine.reshape(4, *run.spec.shape[1:], -1) / whole, 0, 1)
        assert np.abs(images.permute(0, 2, 3, 1).numpy() - mine).max() < (0.6 / 255 if whole > 1 else 1e-3)
        pipe.save_pretrained(tmp_path / f"{name} again")
        again = diffusers.DiffusionPipeline.from_pretrained(tmp_path / f"{name} again")
        assert type(again.unet) is type(pipe.unet)


def test_what_has_no_place_in_a_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "_settings", lambda self: None)
    with pytest.raises(UsageError, match="pipelines of diffusers make images"):
        export.write(toys.small("mlp"), export.Diffusers(), tmp_path / "a")
    with pytest.raises(UsageError, match="guided where it is used"):
        export.write(toys.small("dit, class"), export.Diffusers(), tmp_path / "a", guide=guidance.GuidanceConfig(2.0))
    with pytest.raises(UsageError, match="keeps a solver by its name"):
        export.write(toys.small("unet, aim"), export.Diffusers(), tmp_path / "a", solver="jump")
    with pytest.raises(UsageError, match=r"is a \.pt2 file"):
        export.write(toys.small("mlp"), export.TorchExport(), tmp_path / "a.onnx")

    class Own(networks.MLP):
        pass

    own = toys.run_of(Own(2, 16, 1), toys.spec((2,)))
    with pytest.raises(UsageError, match="no file says how to build"):
        export.write(own, export.Safetensors(), tmp_path / "a.safetensors")

    class OneSize(networks.MLP):
        def forward(self, x: torch.Tensor, *others: Any) -> torch.Tensor:
            return super().forward(x, *others) + torch.zeros(len(x), 1)

    frozen = toys.run_of(OneSize(2, 16, 1), toys.spec((2,)))
    with pytest.raises(UsageError, match=r"OneSize cannot be exported for batches of any size.* x\.shape\[0\]"):
        export.write(frozen, export.TorchExport(), tmp_path / "a.pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "form", [export.Safetensors(), export.TorchExport(), export.Diffusers()], ids=lambda f: type(f).__name__
)
def test_only_the_same_export_is_written_over(form: Any, tmp_path: Path) -> None:
    run = toys.small("unet" if isinstance(form, export.Diffusers) else "mlp")
    out = tmp_path / f"out{form.ending}"
    files = [file for file in export.write(run, form, out, steps=4, solver="abm") if file.is_file()]
    export.write(run, form, out, steps=4, solver="abm")
    with pytest.raises(UsageError, match="other flags"):
        export.write(run, form, out, steps=5, solver="abm")
    before = files[-1].read_bytes()
    files[-1].write_bytes(before + b" ")
    with pytest.raises(UsageError, match="nothing in it shows"):
        export.write(run, form, out, steps=4, solver="abm")
    assert files[-1].read_bytes() == before + b" "
    export.write(run, form, out, steps=4, solver="abm", force=True)
    assert files[-1].read_bytes() != before + b" "

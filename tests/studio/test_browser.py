"""The page in a real Chromium: every view in both widths, by keyboard, through reloads, in two tabs, and when the server goes.

Skipped where playwright or Debian's Chromium is absent. No page may log an error, raise one, open a dialog (as a script in
the name of a class would), or ask anything of another server.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright", reason="the tests in a browser need playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("the tests in a browser need Chromium (on Debian: apt-get install chromium)", allow_module_level=True)

from playwright.sync_api import BrowserContext, Page, expect, sync_playwright  # noqa: E402

FLAGS = [
    *(
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
    ),
    *("--disable-component-update", "--disable-sync"),
]
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 800}
OWN = ("http://127.0.0.1", "data:", "blob:", "file:")
PATIENCE = 30_000  # milliseconds; machines of tests are slow


@dataclass
class Server:
    """`ornstein studio` as a process."""

    runs: list[Path]
    port: int | None = None
    process: "subprocess.Popen[str] | None" = None
    address: str = ""

    def start(self) -> None:
        words = [sys.executable, "-m", "ornstein", "studio", *map(str, self.runs), "--no-browser", "--device", "cpu"]
        words += [] if self.port is None else ["--port", str(self.port)]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                self.port = int(re.findall(r":(\d+)/", self.address)[0])
                return
        raise AssertionError("".join(lines))

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture(scope="module")
def served(digits: Path, moons: Path, waves: Path, holes: Path) -> Iterator[Server]:
    made = Server([digits, moons, waves, holes])
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        profile = tmp_path_factory.mktemp("profile")
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, viewport=WIDE, reduced_motion="reduce"
        )
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        yield context
        context.close()


@dataclass
class Tab:
    """A page that remembers what went wrong in it."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda m: m.type == "error" and self.wrong.append(m.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda r: r.url.startswith(OWN) or self.wrong.append(r.url))

    def _dialog(self, dialog: Any) -> None:
        self.wrong.append("dialog")
        dialog.dismiss()

    def view(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).click()
        expect(self.page).to_have_title(f"{name} – Ornstein studio")

    def drawn(self, label: str) -> None:
        """A canvas with this in its text for screen readers is there, and its pixels are not all one."""
        canvas = self.page.locator(f"canvas[aria-label*='{label}']").first
        canvas.wait_for()
        several = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size > 2"
        for _ in range(100):
            if canvas.evaluate(several):
                return
            time.sleep(0.1)
        raise AssertionError(f"{label}: nothing is drawn")

    def fits(self) -> None:
        """Nothing is wider than the window."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")


@pytest.fixture
def tab(chromium: BrowserContext, served: Server) -> Iterator[Tab]:
    made = Tab(chromium.new_page())
    made.page.set_viewport_size(WIDE)
    made.page.goto(served.address)
    made.page.get_by_role("link", name="Watch", exact=True).wait_for()
    yield made
    made.page.close()
    assert not made.wrong


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_view_shows_what_it_is_for(tab: Tab, size: Any) -> None:
    page = tab.page
    page.set_viewport_size(size)
    assert "token" not in page.url
    tab.drawn("Estimate of the clean data at t = 0:")
    tab.fits()
    expect(page.get_by_label("Command", exact=True)).to_contain_text("ornstein sample")
    tab.view("Race")
    page.get_by_role("slider", name="Network calls of each").fill("3")
    tab.drawn("abm after 3 calls")
    page.get_by_role("img", name=re.compile("Mean error by call")).wait_for()
    tab.fits()
    tab.view("Guide")
    tab.drawn("at scale 3")
    page.get_by_role("slider", name="Guidance scale").fill("6")
    tab.drawn("at scale 6")
    tab.fits()
    tab.view("Edit")
    tab.drawn("Image 1")
    page.get_by_label("Do", exact=True).select_option("vary")
    page.get_by_role("button", name="Go", exact=True).click()
    tab.drawn("4 results")
    tab.fits()
    tab.view("Plane")
    tab.drawn("Eight Gaussians on a circle")
    tab.fits()
    tab.view("Measure")
    page.get_by_role("img", name=re.compile("^Loss by step")).wait_for()
    page.get_by_role("button", name="Compare six samples").click()
    tab.drawn("nearest training items")
    tab.fits()


def test_a_run_of_vectors_has_histograms_and_pairs(tab: Tab) -> None:
    page = tab.page
    page.get_by_label("Run", exact=True).select_option("moons")
    tab.view("Table")
    page.get_by_role("img", name=re.compile(r"number 2: samples .* data")).wait_for()
    tab.drawn("samples over training data")
    page.get_by_label("Run", exact=True).select_option("run-0")


def test_a_series_has_a_forecast_with_bands(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    page.get_by_label("Run", exact=True).select_option("waves")
    tab.view("Forecast")
    expect(page.locator(".error")).to_contain_text("--data")  # the data do not come with the library
    tab.wrong.clear()  # the refusal is in the console
    np.save(tmp_path / "own.npy", np.ones((1, 2, 16), np.float32))
    page.get_by_label("Foretell a file").set_input_files(tmp_path / "own.npy")
    page.get_by_role("img", name="Channel 2: 10 places given, 6 foretold").locator("path.band").first.wait_for()
    expect(page.get_by_label("Python", exact=True)).to_contain_text("known=known")
    tab.fits()
    page.get_by_label("Run", exact=True).select_option("run-0")


def test_an_image_with_a_painted_hole_is_a_condition(tab: Tab, tmp_path: Path) -> None:
    page = tab.page
    page.get_by_label("Run", exact=True).select_option("holes")
    Image.linear_gradient("L").save(tmp_path / "own.png")
    page.get_by_label("The image of the condition").set_input_files(tmp_path / "own.png")
    board = page.get_by_role("application")
    board.press("Space")
    expect(board).to_have_attribute("aria-label", re.compile("1 of 64 pixels are painted"))
    page.get_by_role("button", name="Sample", exact=True).click()
    expect(page.get_by_label("Python", exact=True)).to_contain_text("'mask': mask")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save GIF").click()
    assert saved.value.suggested_filename.endswith(".gif")
    page.get_by_label("Run", exact=True).select_option("run-0")


def test_names_of_classes_are_text(tab: Tab) -> None:
    option = tab.page.get_by_label("Class", exact=True).locator("option", has_text="onerror")
    expect(option).to_have_count(1)
    assert tab.page.locator("img").count() == 0


def test_the_slider_goes_over_the_calls_and_back(tab: Tab) -> None:
    page = tab.page
    tab.drawn("Estimate of the clean data at t = 0:")
    slider = page.get_by_role("slider", name="Call")
    end = page.get_by_label(re.compile("^x_t at t = 0:")).screenshot()
    slider.fill("0")
    expect(page.get_by_label(re.compile("^x_t at t = 0.98"))).to_be_visible()
    assert page.get_by_label(re.compile("^x_t at t = 0.98")).screenshot() != end
    slider.fill("20")
    assert page.get_by_label(re.compile("^x_t at t = 0:")).screenshot() == end


def test_the_keyboard_alone_is_enough(tab: Tab) -> None:
    """Tab to a view, to its controls, to its button; arrows on the slider; a mask without a mouse."""
    page = tab.page
    tab.drawn("Estimate of the clean data at t = 0:")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the view"
    for _ in range(4):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Edit"
    page.keyboard.press("Enter")
    tab.drawn("Image 1")
    easel = page.get_by_role("application")
    for _ in range(40):
        page.keyboard.press("Tab")
        if easel.evaluate("c => c === document.activeElement"):
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowDown")
    expect(easel).to_have_attribute("aria-label", re.compile("4 of 64 pixels are painted"))
    page.get_by_role("button", name="Go", exact=True).press("Enter")
    tab.drawn("4 results")
    tab.view("Plane")
    plane = page.locator("canvas[aria-label*='Eight Gaussians']")
    before = plane.get_attribute("aria-label")
    plane.focus()
    page.keyboard.press("ArrowUp")
    expect(plane).not_to_have_attribute("aria-label", str(before))


def test_a_page_that_is_loaded_again_goes_on_with_its_job(tab: Tab) -> None:
    page = tab.page
    tab.drawn("Estimate of the clean data at t = 0:")
    page.get_by_role("spinbutton", name="Samples").fill("40")
    page.get_by_role("slider", name="Steps").fill("60")
    page.get_by_label("Solver", exact=True).select_option("heun")
    page.get_by_role("button", name="Sample", exact=True).click()
    expect(page.locator(".player output")).to_contain_text(re.compile(r"call \d+ of \d+, t = 0\.\d"))
    held = "Object.entries(sessionStorage).filter(([name]) => name.startsWith('ornstein watch'))"
    job = page.evaluate(f"{held}.map(([, values]) => JSON.parse(values).job)[0]")
    assert job
    page.reload()
    expect(page.locator(".player output")).to_contain_text("of 120, t = 0", timeout=60_000)
    assert page.get_by_role("spinbutton", name="Samples").input_value() == "40"


def test_two_tabs_work_at_once(tab: Tab, chromium: BrowserContext, served: Server) -> None:
    other = Tab(chromium.new_page())
    other.page.goto(served.address.split("?")[0])  # the cookie is enough
    other.page.get_by_role("spinbutton", name="Samples").fill("64")
    other.page.get_by_role("slider", name="Steps").fill("60")
    other.page.get_by_role("button", name="Sample", exact=True).click()
    tab.view("Plane")
    tab.page.get_by_role("slider", name="Time t").fill("0.7")
    tab.drawn("at t = 0.7")
    expect(other.page.locator(".player output")).to_contain_text("of 61, t = 0")
    other.page.close()
    assert not other.wrong


def test_particles_move_and_stop_at_the_data(tab: Tab) -> None:
    tab.view("Plane")
    tab.page.get_by_label("Data", exact=True).select_option("mixture moons")
    tab.page.get_by_role("button", name="Move particles").click()
    tab.drawn("particles at t = 0")


def test_a_server_that_goes_and_comes_is_said(chromium: BrowserContext, moons: Path) -> None:
    server = Server([moons])
    server.start()
    page = chromium.new_page()
    try:
        page.goto(server.address)
        page.get_by_role("button", name="Sample", exact=True).wait_for()
        assert server.stop() in (143, -15)
        page.get_by_role("button", name="Sample", exact=True).click()
        expect(page.locator("#notice")).to_contain_text("does not answer")
        server.start()
        page.get_by_role("button", name="Sample", exact=True).click()
        expect(page.locator("#notice")).to_contain_text("started anew")
        page.goto(server.address)
        expect(page.locator(".player output")).to_contain_text("t = 0")
        expect(page.locator("#notice")).to_be_empty()
    finally:
        page.close()
        server.stop()


def test_an_exported_page_works_from_a_file(
    chromium: BrowserContext, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ornstein.studio import exporting

    monkeypatch.setattr(exporting, "SEEDS", 2)
    monkeypatch.setattr(exporting, "RECORDED_PATHS", ("linear",))
    monkeypatch.setattr(exporting, "RACES", (3,))
    monkeypatch.setattr(exporting, "SCALES", (3,))
    monkeypatch.setattr(exporting, "EDITING", 3)
    place = exporting.write(tmp_path / "page.html", [digits], "cpu")
    tab = Tab(chromium.new_page())
    tab.page.goto(place.as_uri())
    tab.drawn("Estimate of the clean data at t = 0:")
    tab.page.get_by_text(re.compile("Recorded settings only. Others need a server: ornstein studio")).wait_for()
    tab.page.get_by_label("Recorded").select_option("1")
    tab.drawn("Estimate of the clean data at t = 0:")
    tab.view("Plane")
    tab.page.get_by_role("slider", name="Time t").fill("0.8")
    tab.drawn("at t = 0.8")
    tab.page.get_by_role("button", name="Move particles").click()
    tab.drawn("particles at t = 0")
    tab.view("Race")
    tab.page.get_by_role("img", name=re.compile("Mean error by call")).wait_for()
    tab.view("Guide")
    tab.drawn("at scale 3")
    tab.view("Edit")
    tab.page.get_by_label("Recorded").select_option("3")
    tab.drawn("8 results")
    tab.view("Measure")
    tab.page.get_by_role("img", name=re.compile("^Loss by step")).wait_for()
    tab.page.close()
    assert not tab.wrong

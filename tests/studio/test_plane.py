"""Fields of the plane against the closed forms, and what moves in it against exact samples."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ornstein.names import PATHS
from ornstein.studio import frames, mixtures
from ornstein.studio.fields import Fields
from ornstein.studio.views import plane


def numbers(text: str, *shape: int) -> np.ndarray:
    return frames.array(text, "<f8", shape)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mixture", mixtures.ALL)
def test_fields_are_those_of_the_closed_form(mixture: str, path: str) -> None:
    """What is drawn at a place is the density, score and velocity there, at that time: 1e-6 at most, relative to its size."""
    exact = mixtures.mixture(mixture, PATHS[path])
    for t in (0.0, 0.3, 0.77, 1.0):
        event = plane.field(None, "", Fields({"mixture": mixture, "path": path, "t": t, "cells": 9, "arrows": 4}))()  # type: ignore[arg-type]
        for count, names in ((9, ("log_prob",)), (4, ("score", "velocity"))):
            # the middle of cell (row from the top, column) on its own arithmetic
            side = event["width"]
            along = [(i + 0.5) * 2 * side / count for i in range(count)]
            places = [[-side + across, side - down] for down in along for across in along]
            x = torch.tensor(places, dtype=torch.float64)
            for name in names:
                expected = getattr(exact, name)(x, event["t"]).numpy()
                drawn = numbers(event[name], *expected.shape)
                assert np.abs(drawn - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())


def test_fields_of_a_run_are_its_denoisers(page: Any, studio: Any) -> None:
    event = page.call("field", run="run-1", t=0.4, arrows=5, label=0)
    assert event["log_prob"] is None
    run = studio.shelf.place("run-1").run()
    x = plane.lattice(event["width"], 5).float()
    denoiser = run.denoiser.given(torch.zeros(25, dtype=torch.int64)) if run.spec.classes else run.denoiser
    with torch.no_grad():
        expected = denoiser.score(x, 0.4).double().numpy()
    assert np.abs(numbers(event["score"], 25, 2) - expected).max() <= 1e-6 * np.abs(expected).max()


def test_the_density_of_a_run_is_its_likelihood_and_has_mass_one(page: Any, studio: Any) -> None:
    event = page.run("density", run="run-1", t=0.5, cells=16)
    values = numbers(event[-2]["log_prob"], 16 * 16)
    area = (2 * event[0]["width"] / 16) ** 2
    assert np.exp(values).sum() * area == pytest.approx(1, abs=0.02)
    x = plane.lattice(event[0]["width"], 16).float()[120:126]
    names: dict[str, Any] = {"x": x}
    first, call = event[0]["python"].split("\n")
    exec(f"{first}\n{call.replace('ornstein.likelihood', 'p = ornstein.likelihood', 1)}", names)
    np.testing.assert_allclose(values[120:126], names["p"][0].numpy(), atol=1e-4)


@pytest.mark.parametrize("dynamics", ["ode", "sde", "predictor-corrector"])
@pytest.mark.parametrize("path", ["linear", "vp", "edm"])
def test_particles_arrive_at_the_data(page: Any, path: str, dynamics: str) -> None:
    events = page.run("particles", mixture="pair", path=path, dynamics=dynamics, count=800, steps=50)
    last = [event for event in events if event["type"] == "frame"][-1]
    points = frames.array(last["points"], "<f4", (800, 2)).astype(float)
    right = points[:, 0] > 0
    assert right.mean() == pytest.approx(0.3, abs=0.065)  # 4 standard errors
    assert points[right].mean(0) == pytest.approx([1.0, 0.6], abs=0.08)
    assert points[~right].std(0) == pytest.approx([0.4, 0.4], abs=0.06)


def test_forward_noise_and_langevin_reach_their_densities(page: Any) -> None:
    events = page.run("particles", mixture="ellipse", path="vp", dynamics="forward", count=1000, steps=50)
    last = [event for event in events if event["type"] == "frame"][-1]
    assert frames.array(last["points"], "<f4", (1000, 2)).std(0) == pytest.approx([1.0, 1.0], abs=0.08)
    events = page.run("particles", mixture="ellipse", path="vp", dynamics="langevin", t=0.5, count=1000, steps=100)
    last = [event for event in events if event["type"] == "frame"][-1]
    exact = mixtures.mixture("ellipse", PATHS["vp"])
    expected = exact.draw(4000, 0.5, torch.Generator().manual_seed(0)).std(0)
    assert frames.array(last["points"], "<f4", (1000, 2)).std(0) == pytest.approx(expected.tolist(), abs=0.12)


def test_a_flow_line_is_the_flow_of_the_ode(page: Any) -> None:
    """Of one Gaussian the ODE has a closed form."""
    from ornstein.exact import Gaussian

    _, means, cov = mixtures.ellipse()
    exact = Gaussian(means[0], cov[0], PATHS["trigonometric"])
    event = page.call("curve", mixture="ellipse", path="trigonometric", t=0.6, start=[0.8, -0.5], count=100)
    start = torch.tensor([[0.8, -0.5]], dtype=torch.float64)
    for rows in (event["down"], event["up"]):
        for t, x, y in rows[:: len(rows) // 4]:
            assert exact.flow(start, 0.6, t)[0].tolist() == pytest.approx([x, y], abs=2e-3)
    assert event["down"][0][0] == event["up"][0][0] == pytest.approx(0.6)
    assert event["down"][-1][0] == plane.NEAR
    assert event["up"][-1][0] == plane.FAR


def test_the_path_is_drawn_with_what_is_finite(page: Any) -> None:
    event = page.call("path", path="linear", count=11)
    t = np.array(event["t"])
    np.testing.assert_allclose(event["drift"], -1 / (1 - t))
    np.testing.assert_allclose(event["diffusion"], np.sqrt(2 * t / (1 - t)), rtol=1e-9)
    np.testing.assert_allclose(event["log_snr"], 2 * np.log((1 - t) / t), rtol=1e-9)
    for path in PATHS:
        values = [v for row in page.call("path", path=path, count=5).values() if isinstance(row, list) for v in row]
        assert all(v is None or math.isfinite(v) for v in values)


def test_the_python_of_the_plane_runs(page: Any) -> None:
    for path in ("linear", "ddpm"):
        names: dict[str, Any] = {"x": torch.zeros(3, 2)}
        exec(page.call("field", mixture="moons", path=path, t=0.4)["python"], names)

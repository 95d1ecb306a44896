"""Every public function of a denoiser, over every wrong kind of argument: one sentence that names the argument, never a traceback
from within; and the same keywords are spelled the same in all of them."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ornstein import editing, encode, exact, likelihood, path, sample, solvers, target, tilting, trajectory, tuning
from ornstein.denoiser import NetworkDenoiser
from ornstein.errors import OrnsteinError
from ornstein.noise import PerSampleNoise

MIXTURE = exact.GaussianMixture([0.3, 0.7], [[-1.0, 0.3], [0.8, -0.5]], 0.2, path.Linear())
X = torch.ones(2, 2)


class Net(nn.Module):
    """A network that is no denoiser."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 2)

    def forward(self, x: Tensor, t: Tensor, condition: Any = None) -> Tensor:
        y: Tensor = self.body(torch.cat([x, t[:, None]], 1))
        return y


FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "sample": (sample, {"shape": (2, 2)}),
    "trajectory": (trajectory, {"start": X}),
    "encode": (encode, {"x": X}),
    "inpaint": (editing.inpaint, {"known": X, "mask": X}),
    "interpolate": (editing.interpolate, {"a": X[:1], "b": X[:1]}),
    "reconstruct": (editing.reconstruct, {"x": X}),
    "sdedit": (editing.sdedit, {"x": X}),
    "log_prob": (likelihood.log_prob, {"x": X}),
    "estimate": (likelihood.estimate, {"x": X}),
    "elbo": (likelihood.elbo, {"x": X}),
    "bound": (likelihood.bound, {"x": X}),
    "fit": (tuning.fit, {"shape": (2,)}),
    "tilt": (tilting.tilt, {"reward": lambda x: x.sum(1), "shape": (2, 2)}),
}
SHARED = ("seed", "device", "dtype", "solver", "steps", "grid", "noise", "batch_size", "progress")
DENOISERS = {
    "a bare network": (Net(), "bare network"),
    "a class": (exact.GaussianMixture, "is a class"),
    "a class of networks": (Net, "is a class"),
    "a name": ("runs/moons", "load"),
    "a number": (3, "needs a denoiser"),
    "a tensor": (X, "needs a denoiser"),
    "nothing": (None, "needs a denoiser"),
}
UNKNOWN = {
    "labels": "given",
    "label": "given",
    "condition": "given",
    "num_inference_steps": "steps",
    "n_steps": "steps",
    "generator": "seed",
    "callback": "progress",
    "sede": "seed",
}
VALUES: list[tuple[str, Any, str]] = [
    ("solver", solvers.Heun, "solver"),
    ("solver", solvers.rk4, "solver"),
    ("solver", "huen", "solver"),
    ("solver", 3, "solver"),
    ("solver", Net(), "solver"),
    ("steps", 0, "steps"),
    ("steps", 2.5, "steps"),
    ("steps", "many", "steps"),
    ("steps", None, "steps"),
    ("seed", -1, "seed"),
    ("seed", 0.5, "seed"),
    ("seed", torch.Generator(), "seed"),
    ("dtype", "float64", "dtype"),
    ("device", "gpu", "device"),
    ("device", 3.5, "device"),
    ("batch_size", 0, "batch_size"),
    ("batch_size", 2.5, "batch_size"),
    ("batch_size", "all", "batch_size"),
    ("progress", 3, "progress"),
    ("progress", "yes", "progress"),
    ("noise", X, "noise"),
    ("noise", PerSampleNoise, "noise"),
    ("noise", 7, "noise"),
    ("grid", 20, "grid"),
    ("grid", "karras", "grid"),
    ("grid", [0.5], "grid"),
    ("grid", X, "grid"),
    ("x", (2, 2), "x"),
    ("x", X.to(torch.uint8), "x"),
    ("x", "image.png", "x"),
    ("x", None, "x"),
    ("known", (2, 2), "known"),
    ("a", (2, 2), "a"),
    ("b", [2, 2], "b"),
    ("start", (2, 2), "start"),
    ("shape", X, "shape"),
    ("shape", 64, "shape"),
    ("shape", "2", "shape"),
    ("shape", (2.5, 2), "shape"),
]


def used(made: Any) -> None:
    """Begin what is a generator."""
    if inspect.isgenerator(made):
        next(made)


def refused(call: Callable[[], Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError, OrnsteinError)) as caught:
        used(call())
    text = str(caught.value)
    assert says in text, text
    assert "\n" not in text
    assert len(text) < 400
    inside = caught.traceback[-1].path
    assert "ornstein" in str(inside), f"raised in {inside}: {text}"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("kind", DENOISERS)
def test_what_is_no_denoiser(name: str, kind: str) -> None:
    function, base = FUNCTIONS[name]
    value, says = DENOISERS[kind]
    refused(lambda: function(value, **base), says)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("keyword", UNKNOWN)
def test_a_keyword_that_is_another_s(name: str, keyword: str) -> None:
    function, base = FUNCTIONS[name]
    refused(lambda: function(MIXTURE, **base, **{keyword: 3}), f"has no {keyword}=")
    if UNKNOWN[keyword] in (*inspect.signature(function).parameters, "given"):
        refused(lambda: function(MIXTURE, **base, **{keyword: 3}), UNKNOWN[keyword])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_of_a_wrong_kind(name: str) -> None:
    function, base = FUNCTIONS[name]
    taken = inspect.signature(function).parameters
    for key, value, says in VALUES:
        if key in taken and not (key == "shape" and name == "trajectory"):
            refused(lambda key=key, value=value: function(MIXTURE, **{**base, key: value}), says)  # type: ignore[misc]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_solver_where_an_integrator_is_wanted_and_the_reverse(name: str) -> None:
    function, base = FUNCTIONS[name]
    if "solver" in inspect.signature(function).parameters:
        other = solvers.Heun() if function.__module__.startswith("ornstein.likelihood") else likelihood.FixedSteps()
        refused(lambda: function(MIXTURE, **base, solver=other), "solver")


def test_the_same_keywords_are_spelled_the_same() -> None:
    """What a function has of them it has under these names; the words of other libraries are nowhere."""
    for function, _ in FUNCTIONS.values():
        names = set(inspect.signature(function).parameters)
        assert names & set(SHARED)
        assert not names & set(UNKNOWN)
        assert {"seed", "noise"} <= names or not names & {"seed"} or function is tuning.fit
        for key in names & set(SHARED):
            assert inspect.signature(function).parameters[key].kind in (
                inspect.Parameter.KEYWORD_ONLY,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
            )


def test_classes_inside_a_denoiser_are_refused() -> None:
    for arguments in ((Net, path.Linear(), target.Velocity()), (Net(), path.Linear, target.Velocity())):
        with pytest.raises(TypeError, match="is a class"):
            NetworkDenoiser(*arguments)  # type: ignore[arg-type]

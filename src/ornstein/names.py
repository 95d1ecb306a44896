"""Names for what a user chooses: the same for the command and for Python. Importing this imports nothing of what is named."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from ornstein.errors import UsageError, brief

T = TypeVar("T")


def pick(key: str, name: str, choices: Mapping[str, T]) -> T:
    """choices[name]. Raises UsageError that names the key and the nearest choice."""
    if name in choices:
        return choices[name]
    near = get_close_matches(name[:80].lower(), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{key}: {brief(name)} is not one of {', '.join(choices)}{hint}")


class Names(Mapping[str, Any]):
    """A registry: names to objects made when they are looked up. `what` is the kind of thing, for error messages.

    `makers` are names of functions or classes of `module`, which are called without arguments.
    """

    def __init__(self, what: str, module: str, makers: Mapping[str, str]) -> None:
        self.what, self._module, self._makers = what, module, dict(makers)

    def __getitem__(self, name: str) -> Any:
        return getattr(import_module(self._module), self._makers[name])()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def pick(self, name: str) -> Any:
        """The object of that name. Raises UsageError that says which names there are, and the nearest."""
        return pick(self.what, name, self)


SOLVERS = Names(
    "solver",
    "ornstein.solvers",
    {
        "abm": "ABM",
        "dpmpp": "DPMSolverPP",
        "unipc": "UniPC",
        "deis": "DEIS",
        "heun": "Heun",
        "ddim": "DDIM",
        "euler": "Euler",
        "rk4": "rk4",
        "ode": "AdaptiveODE",
        "ancestral": "Ancestral",
        "em": "EulerMaruyama",
        "sde-dpmpp": "SDEDPMSolverPP",
        "er-sde": "ERSDE",
        "pc": "PredictorCorrector",
        "sde": "AdaptiveSDE",
    },
)

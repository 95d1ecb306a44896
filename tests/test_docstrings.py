"""Docstrings of public names keep the convention of CONTRIBUTING.md, as far as rules can see it, for all names of the reference.

A reader of an entry sees its own docstring or that of what it overrides, the words on the fields, the docstring of the class,
and the head of the page: errors, shapes, units, equations and sources stand in one of them.
"""

import ast
import builtins
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from tools.pages import api
from torch import Tensor

from ornstein import errors
from ornstein.denoiser import Views

ROOT = Path(__file__).parents[1]
READ_ALONE = re.compile(r"(?!(?:It|Its|That|This|Those|These|They|Theirs|Such|See)\b)\S")
"""How a docstring that names its subject begins."""
SHAPE = re.compile(
    r"(?<!\w)\((?:\*|\.\.\.|(?:[A-Z]|[nmd]|\d+|\d?m|count|parts|steps \+ 1|M \+ 1)\b)[^()]*\)"
    r"|\b(?:0-dim|1-D|[Ss]haped|[Ee]lementwise)\b"
)
EQUATION = re.compile(r"[=≈∝←∫Σ∇‖√⟨≤~]|N\(|E\[|O\(|\bas `")
"""A formula, or the name of a class that has it."""
SOURCE = re.compile(r"[A-ZÀ-Ž][\w’'-]+(?: et al\.)?,? (?:18|19|20)\d\d|k-diffusion")
CITED = re.compile(r"\b([A-Z][^\W\d_][\w’'-]*)(?: et al\.,?)? \(?((?:18|19|20)\d\d)\b")
DENSITY = re.compile(r"(?<!∇)\blog[ -]p(?:_\w+)?\(|\bKL\(|log-(?:density|likelihood)")
NATS = re.compile(r"\bnats?\b|\bbits\b")
METHODS = {
    *("path", "target", "preconditioning", "chart", "coupling", "objective"),
    *("solvers", "guidance", "distillation", "editing", "likelihood"),
}
"""Rooms whose concrete classes are methods: each has an equation and a source, but for those that follow, and why."""
SOURCELESS = {
    "choices of a model and a method": {"NegativeLabel", "WeakModel", "GuidanceConfig"},
    "what methods are made of, or give": {"Measurement", "Units", "Objective", "FlowMapObjective"},
    "what follows from the path": {"Flow", "Angle", "PathTime", "TimeChange", "Combination"},
    "the library's own preconditioning": {"Identity", "UnitVariance"},
    "a law without a method": {"objective.Uniform", "Independent"},
    "a definition": {"CentredPrior", "GaussianDecoder", "ExactTrace"},
    "an operator": {"Blur", "Downsample", "Mask", "Rescale"},
}


@dataclass(frozen=True)
class Entry:
    """A public name as the reference shows it."""

    name: str
    value: Any
    words: str
    around: str = ""
    """The docstring of its class, and the head of its page."""
    owner: type | None = None

    @property
    def text(self) -> str:
        return f"{self.line}\n{self.around}"

    @property
    def line(self) -> str:
        """The words without line breaks."""
        return " ".join(self.words.split())

    @property
    def function(self) -> Any:
        value = self.value.fget if isinstance(self.value, property) else self.value
        return getattr(value, "__func__", value)


@cache
def entries() -> tuple[Entry, ...]:
    """All public names of the reference, each once; methods and properties among them."""
    found: dict[int, Entry] = {}
    for place in api.modules():
        module = import_module(place)
        head = inspect.cleandoc(module.__doc__ or "")
        for name, value in api.public(module).items():
            if id(value) in found:
                continue
            fields = [api.arguments(value), *api.field_docs(value).values()] if inspect.isclass(value) else []
            words = "\n".join([api.said(value), *fields])
            found[id(value)] = Entry(f"{place}.{name}", value, words, head)
            for inner, member in api.members(value) if inspect.isclass(value) else ():
                said = api.said(member, inner, value)
                found[id(member)] = Entry(f"{place}.{name}.{inner}", member, said, f"{words}\n{head}", value)
    return tuple(found.values())


def tree_of(function: Any) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


def resolved(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression such as `ValueError` or `errors.UsageError` names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, getattr(builtins, node.id, getattr(errors, node.id, None)))
    if isinstance(node, ast.Attribute):
        return getattr(resolved(node.value, names), node.attr, None)
    return None


def raised(function: Any, owner: type | None = None, seen: frozenset[Any] = frozenset()) -> set[type]:
    """The errors that a function raises, itself or by private functions that it calls; not those that it catches."""
    tree = tree_of(function)
    if not isinstance(function, FunctionType) or tree is None or function in seen:
        return set()
    names, result, inside = function.__globals__, set[type](), seen | {function}

    def walk(node: ast.AST, caught: tuple[type, ...]) -> None:
        if isinstance(node, ast.Try):
            handlers = [h.type for h in node.handlers if h.type is not None]
            types = [t for h in handlers for t in (h.elts if isinstance(h, ast.Tuple) else [h])]
            stopped = tuple(t for t in (resolved(t, names) for t in types) if inspect.isclass(t))
            for inner in node.body:
                walk(inner, caught + stopped)
            for inner in (*node.handlers, *node.orelse, *node.finalbody):
                walk(inner, caught)
            return
        if isinstance(node, ast.With) and any(re.match(r"_\w+\(", ast.unparse(i.context_expr)) for i in node.items):
            return  # a context of the module, which makes errors of files of others
        some: set[type] = set()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            error = resolved(node.exc.func, names)
            some = {error} if inspect.isclass(error) else set()
        elif isinstance(node, ast.Call):
            called = resolved(node.func, names)
            if (
                isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "self"
            ):
                called = inspect.getattr_static(owner, node.func.attr, None) if owner else None
            called = getattr(called, "__func__", called)
            private = isinstance(called, FunctionType) and called.__name__.startswith("_")
            if (private and called.__module__.startswith(("ornstein", __name__))) or called is errors.reject_class:
                some = raised(called, owner, inside)
        result.update(error for error in some if not issubclass(error, caught or (type(None),)))
        for child in ast.iter_child_nodes(node):
            walk(child, caught)

    walk(tree, ())
    return {
        error
        for error in result
        if not error.__name__.startswith("_") and error not in (NotImplementedError, AssertionError)
    }


def errors_of(entry: Entry) -> set[type]:
    """The errors of a public name: of a class, those of making and calling its objects."""
    if not inspect.isclass(entry.value):
        return raised(entry.function, entry.owner)
    names = () if is_interface(entry.value) else ("__init__", "__post_init__", "__call__", "__iter__")
    methods = [inspect.getattr_static(entry.value, name, None) for name in names]
    ours = [method for method in methods if getattr(method, "__module__", "").startswith("ornstein")]
    return {error for method in ours for error in raised(method, entry.value)}


def unnamed(entry: Entry) -> set[str]:
    """Errors that the words do not name, nor any error that they are a kind of."""
    if re.search(r"[Rr]aises (?:what|as)|errors (?:are those|included)", entry.words):
        return set()
    return {
        error.__name__
        for error in errors_of(entry)
        if not any(re.search(rf"\b{kind.__name__}\b", entry.text) for kind in error.__mro__[:-3])
    }


def takes_tensors(entry: Entry) -> bool:
    """Whether an argument or a field is a tensor."""
    value = entry.value if inspect.isclass(entry.value) else entry.function
    try:
        kinds = [str(p.annotation) for n, p in inspect.signature(value).parameters.items() if n != "self"]
    except (TypeError, ValueError):
        return False
    return any(re.search(r"\bTensor\b", re.sub(r"Callable\[.*\]", "", kind)) for kind in kinds)


def is_interface(value: Any) -> bool:
    return getattr(value, "_is_protocol", False) or api.said(value).startswith("Abstract")


def methods() -> Iterator[Entry]:
    """The concrete classes of the rooms of methods; records of numbers are none."""
    for entry in entries():
        room = entry.name.split(".")[1]
        value = entry.value
        if room in METHODS and inspect.isclass(value) and not is_interface(value) and not issubclass(value, tuple):
            yield entry


def wanting(rows: Iterable[Entry]) -> list[str]:
    return [f"{entry.name}: {entry.line[:80]}" for entry in rows]


def test_a_docstring_can_be_read_alone() -> None:
    assert not wanting(e for e in entries() if not READ_ALONE.match(e.words))


def test_errors_that_a_name_raises_are_named() -> None:
    assert not [f"{e.name}: {', '.join(sorted(missing))}" for e in entries() if (missing := unnamed(e))]


def test_shapes_of_tensors_are_stated() -> None:
    assert not wanting(e for e in entries() if takes_tensors(e) and not SHAPE.search(e.text))


def test_methods_have_an_equation() -> None:
    values = SOURCELESS["choices of a model and a method"] | SOURCELESS["what methods are made of, or give"]
    assert not wanting(e for e in methods() if not EQUATION.search(e.line) and e.name.split(".")[-1] not in values)


def test_methods_name_their_source() -> None:
    """And none stands among those without one that has one, or is gone."""
    silent = [e.name for e in methods() if not SOURCE.search(e.line)]
    allowed = set[str]().union(*SOURCELESS.values())
    assert not [name for name in silent if not any(name.endswith(f".{some}") for some in allowed)]
    assert not [some for some in allowed if not any(name.endswith(f".{some}") for name in silent)]


def test_sources_have_a_title() -> None:
    """Each author and year of a docstring, or of the head of a file, stands in docs/sources.md."""
    rows = re.findall(r"^\| (.+?) \|", (ROOT / "docs" / "sources.md").read_text(encoding="utf-8"), re.MULTILINE)
    files = sorted((ROOT / "src").rglob("*.py"))
    texts = {str(f.relative_to(ROOT)): " ".join(f.read_text(encoding="utf-8").split()) for f in files}
    cited = {(*found, place) for place, text in texts.items() for found in CITED.findall(text)}
    assert not sorted(c for c in cited if not any(re.search(rf"\b{c[0]}\b.*\b{c[1]}\b", row) for row in rows))
    assert len(rows) == len({*rows})


def test_logarithms_of_densities_have_a_unit() -> None:
    assert not wanting(e for e in entries() if DENSITY.search(e.line) and not NATS.search(e.text))


def _checked(x: Tensor) -> None:
    if x.ndim != 2:
        raise ValueError("x must have shape (N, D)")


class Silent(Views):
    """It holds words of which no rule is kept."""

    def method(self, x: Tensor) -> Tensor:
        """log p(x) of x, whatever it is."""
        _checked(x)
        return x

    def careful(self, x: Tensor) -> Tensor:
        """The number x (N, D), or 0."""
        try:
            _checked(x)
        except ValueError:
            return torch.zeros_like(x)
        return x


def test_words_that_are_missing_are_seen() -> None:
    """The rules are no empty ones: each finds what it is for."""
    silent, method, careful = (
        Entry("ornstein.solvers.Silent", Silent, api.said(Silent)),
        Entry("ornstein.solvers.Silent.method", Silent.method, api.said(Silent.method), owner=Silent),
        Entry("ornstein.solvers.Silent.careful", Silent.careful, api.said(Silent.careful), owner=Silent),
    )
    assert not READ_ALONE.match(silent.words)
    assert not EQUATION.search(silent.line)
    assert not SOURCE.search(silent.line)
    assert unnamed(method) == {"ValueError"}
    assert not unnamed(careful)
    assert takes_tensors(method)
    assert not SHAPE.search(method.text)
    assert SHAPE.search(careful.text)
    assert DENSITY.search(method.line)
    assert not NATS.search(method.text)

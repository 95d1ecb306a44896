"""The reference of the library: a page for each public module, made of signatures and docstrings."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import ornstein
from ornstein.denoiser import Denoiser
from ornstein.extras import MissingExtra

BESIDE = ("conditions", "degradations", "distillation", "extras", "flowmap", "variance")
"""Modules that the documentation uses besides those that `import ornstein` offers."""
INSIDE = {
    "interop": (
        *("azula", "convention", "diffusers", "edm", "flows"),
        *("guided_diffusion", "k_diffusion", "lucidrains", "onnx", "score_sde"),
    ),
    "editing": ("operators",),
    "training": ("loggers",),
}
"""Modules of a package whose names are used through it, such as `interop.diffusers.Scheduler`."""


SESSION = re.compile(r"^ *>>> .*(?:\n *\S.*)*", re.MULTILINE)
"""An example of a Python session in a docstring."""


def modules() -> list[str]:
    """The names of all public modules."""
    first = ["ornstein", *(f"ornstein.{name}" for name in sorted((*ornstein._MODULES, *BESIDE)))]
    return [name for module in first for name in (module, *(f"{module}.{n}" for n in INSIDE.get(module[9:], ())))]


def public(module: ModuleType) -> dict[str, Any]:
    """The public classes and functions of a module: those of its `__all__`, else those that it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [n for n, v in vars(module).items() if n[0] != "_" and getattr(v, "__module__", "") == module.__name__]
    found = {}
    for name in names:
        with suppress(MissingExtra):  # such as the scheduler for diffusers, where that is not installed
            found[name] = getattr(module, name)
    return {name: value for name, value in found.items() if inspect.isclass(value) or inspect.isfunction(value)}


def is_method(value: Any) -> bool:
    """Whether what a class holds by a name is a method or a property."""
    return isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(value)


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, value in vars(kind).items():
        if is_method(value) and not name.startswith("_"):
            yield name, value


def arguments(kind: type) -> str:
    """The words of a class on the arguments of its constructor, where it has one of its own."""
    return inspect.cleandoc(getattr(vars(kind).get("__init__"), "__doc__", None) or "")


def head(value: Any, place: str) -> str:
    """The head of the file in which an object is written, where that is no page of its own: the source of a method."""
    module = inspect.getmodule(value)
    inside = module is not None and module.__name__ not in (place, *modules())
    return inspect.cleandoc(module.__doc__ or "") if module is not None and inside else ""


def said(value: Any, name: str = "", owner: type | None = None) -> str:
    """The docstring of an object, for a method also of what it overrides; empty where a dataclass wrote its own."""
    own = inspect.cleandoc(getattr(value, "__doc__", None) or "")
    if dataclasses.is_dataclass(value) and own.startswith(f"{value.__name__}("):
        return ""
    for base in () if own or owner is None else (*owner.__mro__[1:], *protocols()):
        if not base.__module__.startswith("ornstein"):
            continue
        written = vars(base).get(name)
        doc = written.__doc__ if is_method(written) else field_docs(base).get(name)
        if doc:
            return inspect.cleandoc(doc)
    return own


@cache
def protocols() -> tuple[type, ...]:
    """Interfaces that classes have without inheriting from them, so that their methods mean the same."""
    from ornstein.chart import Chart
    from ornstein.degradations import Degradation
    from ornstein.denoiser import Predictor
    from ornstein.export.format import ExportFormat
    from ornstein.interop.convention import NetworkClock
    from ornstein.solvers import Solver
    from ornstein.solvers.deis import Variable
    from ornstein.training.loggers import Logger

    return Chart, Degradation, Denoiser, ExportFormat, Logger, NetworkClock, Predictor, Solver, Variable


def undocumented() -> list[str]:
    """Every public name without a docstring."""
    wanting = []
    for place in modules():
        module = import_module(place)
        wanting += [] if module.__doc__ or place == "ornstein" else [place]
        for name, value in public(module).items():
            wanting += [] if said(value) else [f"{place}.{name}"]
            if inspect.isclass(value):
                wanting += [f"{place}.{name}.{n}" for n, member in members(value) if not said(member, n, value)]
    return sorted(set(wanting))


def names() -> dict[str, str]:
    """Full names by what pages call them: `path.Linear`, `ornstein.sample`, `interop.diffusers.denoiser`."""
    found = {}
    for place in modules():
        for name in public(import_module(place)):
            found[f"{place.removeprefix('ornstein.')}.{name}"] = f"{place}.{name}"
    return found


def linked(text: str, known: dict[str, str]) -> str:
    """A page whose public names between backticks lead to the reference; code stays as it is."""

    def role(found: re.Match[str]) -> str:
        full = known.get(found[1])
        return f"{{py:obj}}`{found[1]}{found[2] or ''} <{full}>`" if full else found[0]

    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        p if p.startswith("```") else re.sub(r"(?<![`\[])`([\w.]+)(\(\))?`(?![`\]])", role, p) for p in parts
    )


def write(folder: Path) -> None:
    """A page for each module that has public names, and the page that lists them."""
    folder.mkdir(parents=True)
    rows, places = [], []
    for place in modules():
        module = import_module(place)
        names = public(module)
        if not names:
            continue
        about = inspect.cleandoc(module.__doc__ or "")
        (folder / f"{place}.md").write_text(page(place, about, names), encoding="utf-8")
        places.append(place)
        rows.append(f"| [{place}]({place}.md) | {about.splitlines()[0]} | {', '.join(names)} |")
    toctree = "\n".join(["```{toctree}", ":hidden:", "", *places, "```"])
    head = (
        "# Reference\n\nEvery public name, with its signature and the words of its docstring. What is public, and how\n"
    )
    head += "long it stays: [stability](../stability.md).\n"
    table = "\n".join(["| module | what it holds | names |", "|---|---|---|", *rows])
    (folder / "index.md").write_text(f"{head}\n{table}\n\n{toctree}\n", encoding="utf-8")


def page(place: str, about: str, names: dict[str, Any]) -> str:
    """The page of one module."""
    parts = [f"# {place}", about, f"```{{py:module}} {place}\n```"]
    for name, value in names.items():
        parts.append(f"## {name}")
        parts.append(head(value, place))
        parts.append(of_class(name, value) if inspect.isclass(value) else entry("function", name, value))
    return "\n\n".join(filter(None, parts)) + "\n"


def of_class(name: str, kind: type) -> str:
    """The entry of a class: its docstring, what its fields are, its methods."""
    inner = [said(kind), arguments(kind)]
    notes = field_docs(kind)
    fields = [f"- `{n}`: {' '.join(text.split())}" for n, text in notes.items() if not n.startswith("_")]
    inner += ["Fields:\n\n" + "\n".join(fields)] if fields else []
    inner.append(code_of(kind))
    for method, value in members(kind):
        text = said(value, method, kind)
        if isinstance(value, property):
            inner.append(block("py:property", method, text))
        else:
            inner.append(block("py:method", method + signature(getattr(kind, method)), text))
    return block("py:class", f"{name}{signature(kind)}", "\n\n".join(filter(None, inner)))


def entry(kind: str, name: str, value: Any) -> str:
    return block(f"py:{kind}", name + signature(value), "\n\n".join(filter(None, [said(value), code_of(value)])))


def block(directive: str, head: str, body: str) -> str:
    """A directive around Markdown, with a fence longer than any inside; examples of a Python session stand as code."""
    body = SESSION.sub(lambda found: f"```pycon\n{textwrap.dedent(found[0])}\n```", body)
    longest = max((len(line) - len(line.lstrip("`")) for line in body.splitlines()), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{{{directive}}} {head}\n\n{body}\n{fence}"


def signature(value: Any) -> str:
    """A signature that Sphinx reads: defaults that Python cannot read are left as dots."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "()"
    shown = []
    for p in found.parameters.values():
        if p.name == "self":
            continue
        default = p.default
        if default is not p.empty and ("<" in repr(default) or len(repr(default)) > 60):
            default = Dots()
        shown.append(p.replace(default=default, annotation=p.empty))
    text = str(found.replace(parameters=shown, return_annotation=inspect.Signature.empty))
    try:
        ast.parse(f"def f{text}: ...")
    except SyntaxError:
        return "(...)"
    return text


class Dots:
    """Stands for a default that is too long to show."""

    def __repr__(self) -> str:
        return "..."


@cache
def field_docs(kind: type) -> dict[str, str]:
    """The string below each field of a class."""
    try:
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    found = {}
    if isinstance(body, ast.ClassDef):
        for item, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                found[ast.unparse(item.target)] = str(after.value.value)
    return found


def code_of(value: Any) -> str:
    """Where an object is written."""
    try:
        place, line = inspect.getsourcefile(value), inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return ""
    inside = Path(place or "").as_posix().rpartition("/src/ornstein/")[2]
    return f"Code: `src/ornstein/{inside}`, line {line}." if inside else ""

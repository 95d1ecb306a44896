"""From the words of a command line to one of the dataclasses of `options`, by tyro; every mistake becomes one sentence."""

import ast
import inspect
import io
import re
import textwrap
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import Field, field, fields, make_dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_type_hints

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ornstein.cli.options import EXAMPLES, Shared
from ornstein.errors import UsageError, brief
from ornstein.spelling import near
from ornstein.terminal import clean, lenient

T = TypeVar("T")
NUMBERS = {int: "a whole number", float: "a number"}
MARKERS = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


def parse(kind: type[T], command: str, args: Sequence[str], defaults: dict[str, Any] | None = None) -> T:
    """The options of a command. Prints the help and raises SystemExit for --help.

    Raises UsageError for an unknown flag (with the nearest one), a value of the wrong type or one that is missing.
    """
    flags = _flags(kind, defaults or {})
    said = io.StringIO()
    try:
        with redirect_stderr(said), lenient():
            options, unknown = tyro.cli(
                flags,
                prog=f"ornstein {command}",
                description=_description(kind, command),
                args=_expanded(args, flags),
                return_unknown_args=True,
                config=MARKERS,
                registry=_registry(),
            )
    except SystemExit as end:
        if end.code == 0:
            raise
        raise UsageError(f"{_sentence(said.getvalue())}; see `ornstein {command} --help`") from None
    if unknown:
        raise UsageError(_unknown(unknown[0], command, [flag for f in fields(flags) for flag in _names(f)]))
    made = kind(**{f.name: getattr(options, f.name) for f in fields(flags)})
    _must_be_whole(made, command)
    return made


def within(options: Any, **limits: tuple[float, float]) -> None:
    """Raises UsageError for the first flag outside its limits; NaN is outside of all."""
    for key, (least, most) in limits.items():
        value, flag = getattr(options, key), "--" + key.replace("_", "-")
        if value is None or least <= value <= most:
            continue
        if value < least:
            raise UsageError(f"{flag} {brief(value)} is too small; give {least:g} or more")
        raise UsageError(f"{flag} {brief(value)} is too large; give {most:.15g} at most")


def _must_be_whole(options: Any, command: str) -> None:
    """Raises UsageError where a run folder or an image that the command works on is not given."""
    places = [f for f in fields(options) if f.metadata.get("positional") and not f.metadata.get("optional")]
    if all(getattr(options, f.name) for f in places):
        return
    run, *images = places
    plain = "run folders" if run.default == () else "a run folder" if run.name == "run" else f"its {run.name}"
    folder = run.metadata.get("what", plain)
    needed = folder + ("", " and an image", " and two images")[len(images)]
    raise UsageError(f"{command} needs {needed}; give for example `{EXAMPLES[command][0]}`")


def _flags(kind: Any, defaults: dict[str, Any]) -> Any:
    """The same dataclass with what tyro is to know about each field: help, short names, places, a default worth saying."""
    helps, types = docstrings(kind), get_type_hints(kind)
    made: list[tuple[str, Any, Any]] = []
    shared = {name for owner in kind.__mro__ if Shared in owner.__bases__ for name in owner.__annotations__}
    for f in sorted(fields(kind), key=lambda f: f.name in shared):
        default = defaults.get(f.name, f.default)
        said = default is None or default is False or default in ("", ())
        said = said or ("(default:" in helps[f.name] and f.name not in defaults)
        about = tyro.conf.arg(
            help=helps[f.name],
            help_behavior_hint="" if said else f"(default: {clean(str(default))})",
            aliases=[f.metadata["short"]] if "short" in f.metadata else None,
            metavar=f.metadata.get("name", "NAME" if types[f.name] in (str, str | None) else None),
        )
        marks = (tyro.conf.Positional,) if f.metadata.get("positional") else ()
        made.append(
            (f.name, Annotated[(_plain(types[f.name]), about, *marks)], field(default=default, metadata=f.metadata))
        )
    return make_dataclass(kind.__name__, made, frozen=True)


def _plain(kind: Any) -> Any:
    """`int | None` as `Optional[int]`, which tyro checks without importing typeguard: half the time of a --help."""
    return Union[get_args(kind)] if isinstance(kind, UnionType) else kind  # noqa: UP007


@cache
def docstrings(kind: type) -> dict[str, str]:
    """The string below each field, of the class and those it extends."""
    docstrings: dict[str, str] = {}
    for owner in reversed(kind.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for item, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(item, ast.AnnAssign)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                docstrings[ast.unparse(item.target)] = inspect.cleandoc(str(after.value.value))
    return docstrings


def _description(kind: type, command: str) -> str:
    examples = "\n".join(f"  {line}" for line in EXAMPLES[command])
    return f"{inspect.getdoc(kind)}\n\nExamples:\n{examples}"


def _registry() -> ConstructorRegistry:
    """Numbers that say what they are when they are not."""
    registry = ConstructorRegistry()

    @registry.primitive_rule
    def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
        kind: Any = next((k for k in NUMBERS if info.type in (k, k | None)), None)
        if kind is None:
            return None

        def read(words: list[str]) -> Any:
            try:
                return kind(words[0])
            except ValueError:
                raise ValueError(f"{words[0]!r} is not {NUMBERS[kind]}") from None

        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="N" if kind is int else "X",
            instance_from_str=read,
            is_instance=lambda value: value is None or isinstance(value, (int, kind)),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def _expanded(args: Sequence[str], flags: Any) -> list[str]:
    """`-n64` as `-n 64`, as other commands have it."""
    short = tuple(f.metadata["short"] for f in fields(flags) if "short" in f.metadata)
    words = [part for word in args for part in ((word[:2], word[2:]) if word[:2] in short and word[2:] else (word,))]
    for f in fields(flags):
        if f.metadata.get("repeats"):
            words = _joined(words, _names(f)[0])
    return words


def _joined(words: list[str], flag: str) -> list[str]:
    """Several values of one flag as one, a line for each."""
    values, rest, left = list[str](), list[str](), iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name != flag:
            rest.append(word)
        elif equals:
            values.append(value)
        elif (after := next(left, None)) is None:
            return words
        else:
            values.append(after)
    return [*rest, f"{flag}=" + "\n".join(values)] if values else words


def _names(f: Field[Any]) -> list[str]:
    return [] if f.metadata.get("positional") else ["--" + f.name.replace("_", "-")]


def _unknown(word: str, command: str, flags: list[str]) -> str:
    if not word.startswith("-"):
        return f"{word!r} was not expected after `ornstein {command}`; see `ornstein {command} --help`"
    name = word.split("=")[0]
    nearest = near(name, [*flags, "--debug", "--help"])
    hint = f"did you mean {nearest}?" if nearest else f"see `ornstein {command} --help`"
    return f"there is no flag {name} in `ornstein {command}`; {hint}"


def _sentence(box: str) -> str:
    """The first part of a framed message: its words up to the first rule, without the frame."""
    lines = [line.strip("│|╭╰╮╯+ ").strip() for line in box.splitlines()]
    inside = [line for line in lines if not line.startswith(("─", "-", "Value error"))] or [box.strip()]
    rules = [i for i, line in enumerate(lines) if line.startswith(("─", "-"))]
    if len(rules) >= 2:
        inside = lines[rules[0] + 1 : rules[1]]
    text = " ".join(inside).removeprefix("Error parsing ").rstrip(".")
    return re.sub(r"^Missing value for argument '(.*?)'.*", r"\1 needs a value", text)

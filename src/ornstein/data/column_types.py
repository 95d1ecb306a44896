"""The types of columns: what their cells say, what a user says, and the coder that fits the values."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain

import numpy as np

from ornstein.data.cells import LARGEST, MISSING, Cells, DateCells, NameCells, NumberCells, finest
from ornstein.data.coders import Lattice, LogitCoder, Numbers, QuantileNormal, StandardCoder, ValueCoder
from ornstein.data.columns import Column, states_of
from ornstein.errors import OrnsteinError, UsageError, brief
from ornstein.spelling import near

MOST = 20_000  # different texts of a column that are counted
CATEGORIES = 1000  # that a column is taken for without being told so
FEW = 20  # rows below which nothing says that a column is an identifier
ATOM = 0.05  # of the rows, from which on a value that repeats is an atom
ATOMS = 4
BITS = 1 << 16  # categories at most
TYPES = ("numeric", "integer", "category", "boolean", "date", "bounded", "drop")
WAYS = {"numeric": ("quantile", "standard"), "category": ("one-hot", "bits")}
INTEGER = re.compile(r"[+-]?\d+")
DECIMAL = re.compile(r"[+-]?(?:\d+([.,])(\d*)|([.,])(\d+))")
EXPONENT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)[eE][+-]?\d+")
ENDLESS = re.compile(r"[+-]?(?:inf|infinity)", re.IGNORECASE)
BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"}, {"on", "off"})
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%Y%m%d")
CLOCKS = ("%H:%M:%S.%f", "%H:%M:%S", "%H:%M")
FORMS = (
    *DAYS[:-1],
    *(f"{day}{between}{clock}" for day in DAYS[:-1] for between in (" ", "T") for clock in CLOCKS),
    *(f"{day}T{clock}Z" for day in DAYS[:1] for clock in CLOCKS),
    *CLOCKS,
    "%Y-%m",
    "%d %b %Y",
    "%b %d, %Y",
)
IDENTIFIER = re.compile(r"(?:.*[_\s-])?(?:id|uuid|guid|index|key|rownames|row)", re.IGNORECASE)


@dataclass(frozen=True)
class WantedType:
    """What a user says of a column: `--column age=integer`, `--column when=date:%d.%m.%Y`, `--column id=drop`."""

    type: str
    way: str = ""


@dataclass(frozen=True)
class Guess:
    """The type of a column and the reason; `problem` says why it cannot be learned, as the end of a sentence."""

    name: str
    type: str
    cells: Cells
    why: str
    problem: str = ""
    way: str = ""

    def fitted(self, values: Numbers) -> Column:
        """The column with the coders that fit these values (N,)."""
        return fit(self, values)


@dataclass
class Survey:
    """What the cells of a column are, read in parts."""

    name: str
    stored: str = ""
    rows: int = 0
    lacking: int = 0
    blanks: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    many: bool = False
    kinds: Counter[str] = field(default_factory=Counter)
    decimals: set[int] = field(default_factory=set)
    marks: set[str] = field(default_factory=set)
    forms: tuple[str, ...] | None = None
    word: tuple[int, str] | None = None
    endless: tuple[int, str] | None = None
    low: float = math.inf
    high: float = -math.inf
    numbers: bool = False
    """The file holds numbers by their type, and not texts."""

    def add(self, column: Sequence[str | None] | Numbers) -> None:
        """The next cells."""
        if isinstance(column, np.ndarray):
            self._add_numbers(column)
            return
        start, self.rows = self.rows, self.rows + len(column)
        seen = Counter(column)
        for text, count in seen.items():
            plain = "" if text is None else text.strip()
            if plain.lower() in MISSING:
                self.lacking += count
                self.blanks[plain] += count
            elif plain in self.counts:
                self.counts[plain] += count
            else:
                self._new(plain, count, lambda text=text: start + list(column).index(text))
                if len(self.counts) < MOST:
                    self.counts[plain] += count
                else:
                    self.many = True

    def _new(self, text: str, count: int, place: object) -> None:
        """A text that was not met before."""
        kind = "word"
        if INTEGER.fullmatch(text):
            digits = text.lstrip("+-")
            kind = "code" if len(digits) > 1 and digits[0] == "0" else "integer"
            if len(digits) > 15 and abs(int(text)) > LARGEST:
                kind = "huge"
        elif match := DECIMAL.fullmatch(text):
            kind = "decimal"
            self.marks.add(match[1] or match[3])
            self.decimals.add(len(match[2] if match[1] else match[4]))
        elif EXPONENT.fullmatch(text):
            kind = "exponent"
        elif ENDLESS.fullmatch(text):
            kind = "endless"
            self.endless = self.endless or (place(), text)  # type: ignore[operator]
        self.kinds[kind] += 1
        if kind in ("integer", "decimal", "exponent"):
            number = float(text.replace(",", "."))
            self.low, self.high = min(self.low, number), max(self.high, number)
        if kind == "word" and self.word is None:
            self.word = place(), text  # type: ignore[operator]
        if kind in ("word", "code", "decimal") and self.forms != ():
            known = FORMS if self.forms is None else self.forms
            self.forms = tuple(form for form in known if _is_date(text, form))
        elif kind not in ("word", "code", "decimal"):
            self.forms = ()

    def _add_numbers(self, column: Numbers) -> None:
        self.numbers = True
        start, self.rows = self.rows, self.rows + len(column)
        there = column[~np.isnan(column)]
        self.lacking += len(column) - len(there)
        if np.isinf(there).any() and self.endless is None:
            place = int(np.argmax(np.isinf(column)))
            self.endless = start + place, f"{column[place]:g}"
        if len(there):
            self.low, self.high = min(self.low, float(there.min())), max(self.high, float(there.max()))
            whole = bool((there == np.rint(there)).all())
            self.kinds["integer" if whole else "decimal"] += 1
        if not self.many:
            values, counts = np.unique(there, return_counts=True)
            self.counts.update(dict(zip(map(repr, values.tolist()), counts.tolist(), strict=True)))
            self.many = len(self.counts) > MOST

    def more(self, guess: Guess) -> str:
        """What besides the type is to be said of a column: how many values are missing, and its atoms."""
        words = ""
        if guess.type in ("numeric", "integer", "date") and not guess.problem and not self.many:
            counts = self.counts.most_common()
            usual = sorted(self.counts.values())[len(counts) // 2] if counts else 0
            atoms = [text for text, count in counts[:ATOMS] if count >= max(ATOM * self.filled, 10 * usual)]
            words = f", atom{'s' * (len(atoms) > 1)} {', '.join(atoms)}" if atoms and len(counts) > FEW else ""
        return f"{words}, {self.lacking:,} missing" if self.lacking and self.filled else words

    @property
    def blank(self) -> str:
        """The word of a missing value, the most frequent one."""
        return self.blanks.most_common(1)[0][0] if self.blanks else ""

    @property
    def filled(self) -> int:
        """Cells that are not missing."""
        return self.rows - self.lacking

    def guess(self) -> Guess:
        """The type, and why."""
        distinct, kinds = len(self.counts), self.kinds
        words, numbers = kinds["word"] + kinds["code"], kinds["integer"] + kinds["decimal"] + kinds["exponent"]
        if not self.filled:
            return Guess(self.name, "constant", NameCells((), self.blank, self.stored), "every cell is missing")
        if distinct == 1 and not self.lacking and not self.many:
            cells = NameCells(tuple(self.counts), self.blank, self.stored)
            if self.numbers:
                cells = self._number_cells(whole=not kinds["decimal"])  # type: ignore[assignment]
            return Guess(self.name, "constant", cells, f"every cell is {brief(next(iter(self.counts)))}")
        if self.endless is not None:
            where, text = self.endless
            return self._problem(
                "numeric", "numbers", f"holds {text} in row {where + 1}, which is no finite number; leave that row out"
            )
        if kinds["huge"]:
            return self._identifier("whole numbers of more than 15 digits")
        if not words and numbers:
            return self._of_numbers(distinct)
        if self.forms:
            return self._of_dates()
        if numbers > 20 and numbers > words and not kinds["code"] and self.word is not None:
            where, text = self.word
            return self._problem(
                "mixed",
                "numbers and words",
                f"holds numbers, but {brief(text)} in row {where + 1}; mend that cell, leave it empty where the number is "
                f"missing, or say --column {self.name}=category",
            )
        return self._of_words(distinct)

    def _of_numbers(self, distinct: int) -> Guess:
        whole = not self.kinds["decimal"] and not self.kinds["exponent"]
        if len(self.marks) == 2:
            return self._problem(
                "mixed", "decimal points and commas", "has decimal points and decimal commas; write all in one way"
            )
        cells = self._number_cells(whole)
        if not whole:
            digits = "" if cells.decimals is None else f", {cells.decimals} decimals"
            comma = ", a decimal comma" if cells.mark == "," else ""
            return Guess(self.name, "numeric", cells, f"numbers from {self.low:g} to {self.high:g}{digits}{comma}")
        each = not self.many and distinct == self.filled and self.rows >= FEW and not self.lacking
        if each and (self.high - self.low + 1 == self.rows or IDENTIFIER.fullmatch(self.name)):
            return self._identifier("a different whole number in each row")
        if distinct == 2 and not self.many:
            return self._truth(f"two values, {' and '.join(sorted(self.counts))}")
        some = f"{distinct:,}{' or more' * self.many}"
        return Guess(self.name, "integer", cells, f"{some} whole numbers from {self.low:.15g} to {self.high:.15g}")

    def _number_cells(self, whole: bool) -> NumberCells:
        mark = next(iter(self.marks), ".")
        if self.numbers:
            return NumberCells(None, False, ".", whole, self.blank, self.stored)
        if whole:
            return NumberCells(0, False, ".", True, self.blank, self.stored)
        if self.kinds["exponent"] or not self.decimals:
            return NumberCells(None, False, mark, False, self.blank, self.stored)
        always = len(self.decimals) == 1 and not self.kinds["integer"]
        return NumberCells(min(20, max(self.decimals)), always, mark, False, self.blank, self.stored)

    def _of_dates(self) -> Guess:
        assert self.forms
        form = self.forms[0]
        unit = finest(list(self.counts), form)
        others = [other for other in self.forms[1:] if not other.endswith("%f")]
        doubt = f"; {others[0]} fits too, say --column {self.name}=date:{others[0]} if it is that" if others else ""
        return Guess(
            self.name,
            "date",
            DateCells(form, unit, self.blank, self.stored),
            f"dates of the form {form}, in {unit}{doubt}",
        )

    def _of_words(self, distinct: int) -> Guess:
        values = {text.lower() for text in self.counts}
        if not self.many and any(values == pair for pair in BOOLEANS):
            return self._truth(f"{' and '.join(sorted(self.counts))}")
        length = sum(map(len, self.counts)) / max(1, distinct)
        if self.many or distinct > CATEGORIES or (self.rows >= FEW and distinct > self.filled / 2):
            some = f"{distinct:,}{' or more' * self.many} different texts in {self.filled:,} cells"
            if length > 24 or any(text.count(" ") > 3 for text in list(self.counts)[:100]):
                return self._problem("text", some, "is free text, which this does not learn; " + self._advice)
            return self._identifier(some)
        return Guess(
            self.name,
            "category",
            NameCells(self._names, self._rarest_blank, self.stored),
            f"{distinct:,} different texts",
        )

    def _truth(self, why: str) -> Guess:
        names = tuple(sorted(self.counts, key=lambda text: (text.lower() in ("true", "yes", "t", "y", "on"), text)))
        if self.numbers:
            names = tuple(f"{float(name):.17g}" for name in names)
        return Guess(self.name, "boolean", NameCells(names, self.blank, self.stored), why)

    @property
    def _names(self) -> tuple[str, ...]:
        """The categories in order; words for a missing value besides the most frequent one are categories of their own."""
        others = [word for word in self.blanks if word and word != self.blank]
        return tuple(sorted(chain(self.counts, others), key=_by_number))

    @property
    def _rarest_blank(self) -> str:
        return self.blank

    def _identifier(self, why: str) -> Guess:
        return self._problem("identifier", why, "is an identifier, of which nothing can be learned; " + self._advice)

    @property
    def _advice(self) -> str:
        return f"leave it out by --column {self.name}=drop, or say --column {self.name}=category"

    def _problem(self, kind: str, why: str, problem: str) -> Guess:
        return Guess(self.name, kind, NameCells(), why, problem)

    def as_wanted(self, wanted: WantedType) -> Guess:
        """The type that the user wants, with what the cells say besides. Raises UsageError where the cells are not of it."""
        return _as_wanted(self, wanted)


def _by_number(text: str) -> tuple[int, float, str]:
    return (0, float(text), text) if INTEGER.fullmatch(text) and len(text) < 300 else (1, 0.0, text)


def _is_date(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    # strptime takes 1:2 for 01:02, which would not come back as it was
    return True


def _as_wanted(survey: Survey, wanted: WantedType) -> Guess:
    name, why = survey.name, "as you say"
    if wanted.type == "drop":
        return Guess(name, "drop", NameCells(), why)
    if wanted.type in ("category", "boolean"):
        names = survey._names
        if survey.numbers:
            names = tuple(f"{float(text):.17g}" for text in sorted(survey.counts, key=float))
        if survey.many or len(names) > BITS:
            raise UsageError(f"--column {name}={wanted.type}: it has more than {MOST:,} different values, too many")
        if wanted.type == "boolean":
            if len(names) != 2:
                raise UsageError(
                    f"--column {name}=boolean: it has {len(names)} different values, not two; say category"
                )
            return replace(survey._truth(why), way=wanted.way)
        return Guess(name, "category", NameCells(names, survey.blank, survey.stored), why, way=wanted.way)
    if survey.filled and not survey.many and len(survey.counts) == 1 and not survey.lacking:
        return survey.guess()
    if wanted.type == "date":
        return _date_wanted(survey, wanted)
    if survey.word is not None or survey.endless is not None:
        where, text = survey.word or survey.endless or (0, "")
        raise UsageError(
            f"--column {name}={wanted.type}: {brief(text)} in row {where + 1} is no number; mend that cell"
        )
    whole = wanted.type == "integer"
    if whole and (survey.kinds["decimal"] or survey.kinds["exponent"]):
        raise UsageError(f"--column {name}=integer: it holds numbers that are not whole; say numeric")
    if survey.kinds["huge"]:
        raise UsageError(f"--column {name}={wanted.type}: it holds whole numbers that are too large; say drop")
    cells = survey._number_cells(whole or not (survey.kinds["decimal"] or survey.kinds["exponent"]))
    if wanted.type == "bounded":
        low, high = _bounds(survey, wanted.way)
        return Guess(name, "numeric", cells, f"{why}, between {low:g} and {high:g}", way=f"logit {low!r} {high!r}")
    return Guess(name, wanted.type, cells, why, way=wanted.way)


def _bounds(survey: Survey, way: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in (way or "0:1").split(":"))
    except ValueError:
        raise UsageError(f"--column {survey.name}=bounded:{way}: give two numbers, such as bounded:0:100") from None
    if not low < high or survey.low < low or survey.high > high:
        raise UsageError(
            f"--column {survey.name}=bounded: its numbers go from {survey.low:g} to {survey.high:g}, which do not lie between "
            f"{low:g} and {high:g}; give other bounds, such as bounded:0:100"
        )
    return low, high


def _date_wanted(survey: Survey, wanted: WantedType) -> Guess:
    texts = list(survey.counts)
    forms = [wanted.way] if wanted.way else [f for f in (*FORMS, *DAYS) if all(_is_date(text, f) for text in texts)]
    wrong = next((text for text in texts if not forms or not _is_date(text, forms[0])), None)
    if wrong is not None or not forms:
        form = f" of the form {forms[0]}" if forms else ""
        raise UsageError(
            f"--column {survey.name}=date: {brief(wrong or '')} is no date{form}; give the form, such as date:%d.%m.%Y"
        )
    unit = finest(texts, forms[0])
    return Guess(survey.name, "date", DateCells(forms[0], unit, survey.blank, survey.stored), f"as you say, in {unit}")


def read_wanted(texts: Iterable[str] | Mapping[str, str]) -> dict[str, WantedType]:
    """What is said of columns: texts NAME=TYPE or NAME=TYPE:WAY, or a mapping of names to TYPE or TYPE:WAY.

    Raises UsageError for an unknown type or way, and for a name that is said twice.
    """
    said: dict[str, WantedType] = {}
    pairs = list(texts.items()) if isinstance(texts, Mapping) else [_pair(text) for text in texts]
    for name, text in pairs:
        kind, _, way = str(text).partition(":")
        if kind not in TYPES:
            nearest = near(kind, TYPES)
            hint = f"did you mean {nearest}?" if nearest else f"give one of {', '.join(TYPES)}"
            raise UsageError(f"--column {name}={text}: there is no type {brief(kind)}; {hint}")
        if way and kind in WAYS and way not in WAYS[kind]:
            raise UsageError(f"--column {name}={text}: there is no way {brief(way)}; give {' or '.join(WAYS[kind])}")
        if way and kind in ("integer", "boolean", "drop"):
            raise UsageError(f"--column {name}={text}: {kind} takes nothing more; give {name}={kind}")
        if name in said:
            raise UsageError(f"--column {name} is said twice; say it once")
        said[name] = WantedType(kind, way)
    return said


def _pair(text: str) -> tuple[str, str]:
    name, equals, kind = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"--column {brief(text)}: give NAME=TYPE, such as age=integer")
    return name, kind


def guesses(surveys: Sequence[Survey], wanted: Mapping[str, WantedType], where: str) -> list[Guess]:
    """The types of all columns. Raises UsageError for a column that is not there."""
    names = [survey.name for survey in surveys]
    for name in wanted:
        if name not in names:
            nearest = near(name, names)
            hint = f"did you mean {nearest}?" if nearest else f"there are {_listed(names)}"
            raise UsageError(f"--column {name}: {where} has no such column; {hint}")
    made = [survey.as_wanted(wanted[survey.name]) if survey.name in wanted else survey.guess() for survey in surveys]
    return [replace(guess, why=f"{guess.why}{survey.more(guess)}") for guess, survey in zip(made, surveys, strict=True)]


def must_be_learnable(columns: Sequence[Guess], where: str) -> None:
    """Raises UsageError for columns that cannot be learned, naming the first and how to mend it, and where nothing varies."""
    wrong = [guess for guess in columns if guess.problem]
    if wrong:
        more = (
            f" (so it is with {len(wrong) - 1} more: {_listed([g.name for g in wrong[1:]])})" if len(wrong) > 1 else ""
        )
        raise UsageError(f"{where}: column {wrong[0].name} {wrong[0].problem}{more}")
    if all(guess.type in ("constant", "drop") for guess in columns):
        raise UsageError(f"{where}: no column varies, so there is nothing to learn")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def fit(guess: Guess, values: Numbers) -> Column:
    """The column of a type with the coders that fit its values. Raises OrnsteinError where it has none that vary."""
    lacking = np.isnan(values)
    there = values[~lacking]
    missing = bool(lacking.any())
    if not len(there) or (not missing and bool((there == there[0]).all())):
        constant = float(there[0]) if len(there) else math.nan
        return Column(guess.name, "constant", guess.cells, constant=constant)
    if isinstance(guess.cells, NameCells):
        count = len(guess.cells.names) + missing
        counts = np.bincount(np.where(lacking, count - 1, np.nan_to_num(values)).astype(np.int64), minlength=count)
        if count < 2:
            raise OrnsteinError(f"column {guess.name} has one category alone")
        bits = None if not guess.way else guess.way == "bits"
        return Column(guess.name, guess.type, guess.cells, states=states_of(counts, bits), missing=missing)
    logit = guess.way.startswith("logit")
    atoms = () if logit or guess.way == "standard" else _atoms(there)
    rest = there[~np.isin(there, np.array(atoms))] if atoms else there
    if len(np.unique(rest)) < 2:  # a few values alone: each is a state
        rest, atoms = there, ()
    value = _value_coder(guess, rest if len(np.unique(rest)) > 1 else _spread(rest))
    counts = np.array(
        [len(rest), *(int((there == atom).sum()) for atom in atoms), *([int(lacking.sum())] if missing else [])]
    )
    states = states_of(counts) if len(counts) > 1 else None
    return Column(guess.name, guess.type, guess.cells, value, states, atoms, missing)


def _spread(values: Numbers) -> Numbers:
    """Of one value alone, which has no scale, that and its neighbours."""
    return np.concatenate([values, values[:1] - 1, values[:1] + 1])


def _atoms(values: Numbers) -> tuple[float, ...]:
    """The values that repeat far more often than others: of those that many others share a column with."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= FEW:
        return ()
    order = np.argsort(-counts, kind="stable")[:ATOMS]
    usual = float(np.median(counts))
    chosen = [i for i in order if counts[i] >= ATOM * len(values) and counts[i] >= 10 * usual]
    return tuple(sorted(float(distinct[i]) for i in chosen))


def _value_coder(guess: Guess, values: Numbers) -> ValueCoder:
    if guess.way.startswith("logit"):
        low, high = map(float, guess.way.split()[1:])
        return LogitCoder.of(values, low, high)
    low, high = float(values.min()), float(values.max())
    if isinstance(guess.cells, DateCells) or (isinstance(guess.cells, NumberCells) and guess.cells.whole):
        step = 1.0
        least, most = low - step / 2, high + step / 2
        if guess.way == "standard":
            return Lattice(step, replace(StandardCoder.of(values), low=least, high=most), low, high)
        return Lattice(step, replace(QuantileNormal.of_lattice(values, step), low=least, high=most), low, high)
    return StandardCoder.of(values) if guess.way == "standard" else QuantileNormal.of(values)

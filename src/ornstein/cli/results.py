"""Results of a command: written before they are printed, and printed in full if they cannot be written."""

import json
import os
import re
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from hashlib import file_digest
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ornstein.cli.printing import say
from ornstein.errors import OrnsteinError, Unwritable, UsageError
from ornstein.extras import MissingExtra

if TYPE_CHECKING:
    from ornstein.cli.options import Calibrate, Diagnose, Evaluate, Likelihood, Tune
    from ornstein.data import Dataset
    from ornstein.files.output import Output
    from ornstein.runs import Run

ELSEWHERE = {
    "run",
    "data",
    "out",
    "force",
    "device",
    "batch_size",
}  # flags that are no part of a recipe, or stand in it apart


def must_be_json(out: str | None) -> None:
    """Raises UsageError for an --out that is no name of a JSON file."""
    if out is not None and Path(out).suffix.lower() != ".json":
        raise UsageError(f"--out {out} is no .json file; the result is written as JSON")


class Results:
    """The results of one command: in a folder of the run, which no other process writes into meanwhile, or in --out.

    Within, `write` comes first, then what is printed, and `also` what is drawn. What cannot be written is the error at the end,
    when all is printed. Raises OrnsteinError at the beginning where another process has the folder, UsageError for an --out that
    may not be replaced.
    """

    def __init__(
        self,
        trained: "Run",
        options: "Calibrate | Diagnose | Evaluate | Likelihood | Tune",
        folder: str,
        doing: str,
        **depends: Any,
    ) -> None:
        from ornstein.files.output import Output, digest
        from ornstein.files.reading import must_be_inside

        self.trained, self.folder, self._doing = trained, trained.folder / folder, doing
        try:
            must_be_inside(self.folder, trained.folder)
        except ValueError as error:
            raise OrnsteinError(
                f"{self.folder} is no folder of the run ({error}); put the folder itself there"
            ) from error
        flags = {key: value for key, value in asdict(options).items() if key not in ELSEWHERE}
        recipe = {"command": type(options).__name__.lower(), "model": trained.weights_hash, **flags, **depends}
        self.recipe, self.force = digest(recipe), options.force
        self.out = None if options.out is None else Output(Path(options.out).expanduser(), self.recipe, self.force)
        self._held, self._refused, self._unwritten = ExitStack(), list[OrnsteinError](), list[str]()

    def __enter__(self) -> "Results":
        from ornstein.files.lock import hold

        if self.out is not None:
            self.out.check()
            return self
        if not os.path.lexists(self.folder):
            self._held.callback(_without_empty, self.folder)  # after the lock in it is gone
        try:
            self._held.enter_context(hold(self.folder, self._doing))
        except Unwritable as error:
            warnings.warn(f"{error}; the results will be printed in any case", stacklevel=1)
        return self

    def at(self, name: str) -> "Output":
        """The place of a result: --out, or a file of this name in the folder.

        An earlier result there, of any recipe, makes room; next to a file that somebody else wrote, the name is another one.
        """
        from ornstein.files.output import Output, recipe_of, unused

        place = self.folder / name
        if self.out is not None:
            return self.out
        if os.path.lexists(place) and recipe_of(place) is None:
            return unused(place, self.recipe, self.force)
        return Output(place, self.recipe, force=True)

    def by_name(self, name: str) -> "Output":
        """As `at`, for a file that is read again by its name, and made anew where it is damaged."""
        from ornstein.files.output import Output

        return self.out or Output(self.folder / name, self.recipe, force=True)

    def write(self, output: "Output", record: dict[str, Any]) -> str:
        """Write the results, as JSON, or print it at the end; words about where it is."""
        if self.also(lambda: output.write_json(record)):
            return str(output.path.resolve())
        self._unwritten.append(json.dumps(record))
        return "the last line, as no file could be written"

    def also(self, work: Callable[[], object]) -> bool:
        """Do what may be refused, and is no reason to print less; whether it was done. Raises MissingExtra at once."""
        try:
            work()
        except MissingExtra:
            raise
        except OrnsteinError as error:
            self._refused.append(error)
            return False
        return True

    def image(self, output: "Output", draw: "Callable[[Output], object]") -> None:
        """Draw the image of a result, which is written, and say where it is; a missing library is a note."""
        drawn = replace(output, path=output.path.with_name(f"{output.path.stem}-plot.png"))
        try:
            if self.also(lambda: draw(drawn)):
                say(f"The image: {drawn.path.resolve()}")
        except MissingExtra as error:
            say(f"Note: {error}.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._held:
            if error is not None:
                return
            for text in self._unwritten:
                say(text)
            if _is_outdated(self.trained):
                say(
                    f"Note: {self.trained.folder} holds another model by now; this belongs to the one before, whose weights "
                    f"have the sha256 {self.trained.weights_hash}."
                )
        if self._refused:
            raise self._refused[0]


def _without_empty(folder: Path) -> None:
    """Removes a folder that was made for results which did not come."""
    with suppress(OSError):
        folder.rmdir()


def _is_outdated(trained: "Run") -> bool:
    """Whether the run's folder has other weights by now than those in memory, or none."""
    if trained.model.is_imported:
        from ornstein.runs.imported import is_outdated

        return is_outdated(trained.folder, trained.weights_hash)
    try:
        with (trained.folder / "model" / "model.safetensors").open("rb") as file:
            return file_digest(file, "sha256").hexdigest() != trained.weights_hash
    except OSError:
        return True


def of_data(data: "Dataset") -> str:
    """A part of a file's name for what is measured on these data: their source, and eight digits of their hash."""
    source = re.sub(r"[^A-Za-z0-9]+", "-", data.spec.source).strip("-")[-40:].strip("-")
    return f"{source}-{data.spec.content_hash.rpartition('-')[2][:8]}"


def report_page(results: Results, training: "Dataset") -> None:
    """Write the report page of the run anew, with the results in it, and say where it is."""
    from ornstein import report

    def write() -> None:
        say(f"The report page: {report.write(results.trained.folder, training).resolve()}")

    results.also(write)

"""torch.export: the network as a .pt2 file that torch alone runs, and the loop as JSON."""

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from ornstein.export.format import example, loop_file_of
from ornstein.export.graph import Graph, traced
from ornstein.export.loop import Loop
from ornstein.files.output import Output, digest_of


@dataclass(frozen=True)
class TorchExport:
    """A `torch.export.ExportedProgram` for any batch: `torch.export.load(FILE).module()(x, c_noise, *conditions)`."""

    ending: ClassVar[str] = ".pt2"

    def write(self, loop: Loop, out: Path, recipe: str, force: bool) -> list[Path]:
        """The .pt2 file, and its .json."""
        graph_file = Output(out, recipe, force)
        loop_file = replace(graph_file, path=loop_file_of(out))
        for place in (graph_file, loop_file):
            place.check()
        program = traced(Graph(loop), example(loop, 2))
        with graph_file.write() as file:
            torch.export.save(program, str(file))
            with zipfile.ZipFile(file, "a") as archive:
                archive.comment = graph_file.stamp.encode()
        loop_file.write_json({"model": out.name, "sha256": digest_of(out), **loop.to_dict()})
        return [out, loop_file.path]

"""ONNX: the network as a graph for any batch, and the loop as JSON, so that NumPy and onnxruntime sample.

examples/sample_onnx.py is such a loop.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from ornstein.export.format import example, loop_file_of, metadata
from ornstein.export.graph import Graph, traced
from ornstein.export.loop import Loop
from ornstein.extras import check, library
from ornstein.files.output import Output, digest_of

PURPOSE = "export to ONNX"


@dataclass(frozen=True)
class ONNX:
    """By torch.onnx's exporter of torch.export graphs; `opset` is that of the operators."""

    ending: ClassVar[str] = ".onnx"
    opset: int = 18

    def write(self, loop: Loop, out: Path, recipe: str, force: bool) -> list[Path]:
        """The .onnx file, which has its weights within, and its .json."""
        graph_file = Output(out, recipe, force)
        loop_file = replace(graph_file, path=loop_file_of(out))
        for place in (graph_file, loop_file):
            place.check()
        onnx = library("onnx", PURPOSE)
        check("onnxscript", PURPOSE)

        graph = Graph(loop)
        exported = traced(
            graph, example(loop, 2)
        )  # not by the exporter, which falls back to a batch of one size unasked
        with torch.no_grad(), quiet():
            program = torch.onnx.export(
                exported,
                dynamo=True,
                input_names=graph.names,
                output_names=["prediction"],
                opset_version=self.opset,
                verbose=False,
            )
        assert program is not None
        proto = program.model_proto
        for key, value in metadata(loop, graph_file.stamp).items():
            entry = proto.metadata_props.add()
            entry.key, entry.value = key, value
        with graph_file.write() as file:
            onnx.save_model(proto, str(file))
        values = {"model": out.name, "sha256": digest_of(out), **loop.to_dict()}
        loop_file.write_json(values)
        return [out, loop_file.path]


@contextmanager
def quiet() -> Iterator[None]:
    """Within, what the exporter says to its developers is not heard."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

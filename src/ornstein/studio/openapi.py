"""The description of what other programs can ask for, as OpenAPI 3.1."""

from typing import Any

from ornstein._version import __version__
from ornstein.names import GUIDANCE, SOLVERS
from ornstein.studio.draws import MOST


def _number(kind: str, words: str, default: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": words, **({} if default is None else {"default": default}), **more}


SAMPLES: dict[str, Any] = {
    "run": _number("string", "The id of a run, as `/about` lists them; by default the first."),
    "count": _number("integer", "How many samples.", 1, minimum=1, maximum=MOST),
    "seed": _number("integer", "Sample i is a function of the seed and i alone.", 0, minimum=0),
    "label": _number(
        "integer", "The place of a class; -1: as often as in the data; -2: each class in turn.", -1, minimum=-2
    ),
    "text": _number("string", "A caption, of runs that take one."),
    "vector": {"type": "array", "items": {"type": "number"}, "description": "Numbers, of runs that take a vector."},
    "solver": _number("string", "By default that of the run.", enum=[*SOLVERS, "tuned"]),
    "steps": _number("integer", "Steps from noise to data; by default those of the run.", minimum=1, maximum=250),
    "scale": _number("number", "Guidance scale; 1 is the conditional model.", 1.0),
    "method": _number("string", "Method of guidance.", "cfg", enum=list(GUIDANCE)),
    "low": _number("number", "Guide from this noise level σ/α on.", 0.0),
    "high": _number("number", "Guide up to this noise level; 1e6 is no limit.", 1e6),
    "negative": _number("integer", "Guide away from the class at this place; -1: from the unconditional model.", -1),
    "format": _number(
        "string", "`json`: numbers in the data's own units; `png`: one image of all.", "json", enum=["json", "png"]
    ),
}
ERROR = {"type": "object", "properties": {"error": {"type": "string", "description": "One sentence."}}}


def _answer(words: str, schema: Any = ERROR) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def document() -> dict[str, Any]:
    """The whole of it."""
    made = {
        "type": "object",
        "required": ["shape", "dtype", "samples"],
        "properties": {
            "shape": {"type": "array", "items": {"type": "integer"}},
            "dtype": {"type": "string"},
            "samples": {"type": "array", "description": "Nested lists of that shape.", "items": {}},
        },
    }
    samples = _answer("The samples.", made)
    samples["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    errors = {
        "400": _answer("A field is not what it must be."),
        "403": _answer("Without the token."),
        "429": _answer("Too much waits already."),
    }
    body = {"application/json": {"schema": {"type": "object", "properties": SAMPLES, "additionalProperties": False}}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ornstein studio",
            "version": __version__,
            "description": "Samples of the runs of this server. Requests that wait at the same time are made in one batch; "
            "the samples are the same as alone.",
        },
        "security": [{"token": []}],
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "paths": {
            "/about": {
                "get": {
                    "summary": "The runs and what can be chosen",
                    "responses": {"200": _answer("The runs.", {"type": "object"})},
                }
            },
            "/api/samples": {
                "post": {
                    "summary": "Draw samples",
                    "requestBody": {"required": True, "content": body},
                    "responses": {"200": samples, **errors},
                }
            },
        },
    }

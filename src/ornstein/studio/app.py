"""The routes of the studio, and what they share."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Any

from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from ornstein._version import __version__
from ornstein.data import grid_image
from ornstein.data.scatter import scatter_image
from ornstein.data.spec import DataSpec
from ornstein.errors import OrnsteinError, UsageError
from ornstein.names import GUIDANCE, PATHS
from ornstein.studio import animation, frames, mixtures, openapi, views
from ornstein.studio.batching import Batcher
from ornstein.studio.fields import Fields
from ornstein.studio.jobs import Busy, Job, sentence
from ornstein.studio.pages import page_files
from ornstein.studio.security import LARGEST, Guard, Hosts, Key, Refused
from ornstein.studio.state import Studio
from ornstein.studio.uploads import items, mask
from ornstein.studio.views import measure

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
TYPES[".svg"] = "image/svg+xml"
BEAT = 10.0  # seconds after which a stream says that it is there
JSON_MOST = 1 << 20  # bytes of a request in JSON


def application(studio: Studio, key: Key, hosts: Hosts) -> ASGIApp:
    """The server as ASGI."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(studio.jobs.close)

    routes = [
        Route("/", _static("index.html")),
        *(Route(f"/{name}", _static(name)) for name in page_files()),
        Route("/about", _about),
        Route("/jobs", _jobs, methods=["GET"]),
        Route("/jobs/{view}", _start, methods=["POST"]),
        Route("/jobs/{job}/events", _events, methods=["GET"]),
        Route("/jobs/{job}/animation", _animation, methods=["GET"]),
        Route("/jobs/{job}", _cancel, methods=["DELETE"]),
        Route("/calls/{call}", _call, methods=["POST"]),
        Route("/api", _static("api.html")),
        Route("/api/openapi.json", _openapi),
        Route("/api/samples", _samples, methods=["POST"]),
        Route("/curves/{run}", _curves, methods=["GET"]),
        Route("/uploads/{run}", _upload, methods=["POST"]),
    ]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _http_error,
            OrnsteinError: _error,
            Busy: _busy,
            Refused: _refused,
            Exception: _unexpected,
            ClientDisconnect: _gone,
        },
    )
    app.state.studio, app.state.batcher = studio, Batcher(studio)
    return Guard(app, key, hosts)


def _static(name: str) -> Callable[[Request], Awaitable[Response]]:
    content, kind = page_files()[name], TYPES[name[name.rindex(".") :]]

    async def serve(request: Request) -> Response:
        return Response(content, media_type=kind)

    return serve


def _studio(request: Request) -> Studio:
    studio: Studio = request.app.state.studio
    return studio


def _client(request: Request) -> str:
    client: str = request.scope["client_id"]
    return client


async def _about(request: Request) -> Response:
    """The runs and all that the page offers to choose."""
    studio = _studio(request)
    runs = await run_in_threadpool(lambda: [place.described() for place in studio.shelf.places.values()])
    return JSONResponse(
        {
            "version": __version__,
            "runs": runs,
            "mixtures": {name: (make.__doc__ or "").rstrip(".") for name, make in mixtures.ALL.items()},
            "paths": list(PATHS),
            "guidance": list(GUIDANCE),
            "animations": [kind for kind in animation.KINDS if kind != "mp4" or animation.encoder() is not None],
        }
    )


async def _jobs(request: Request) -> Response:
    """The jobs of this client that are at work."""
    mine = _studio(request).jobs.of(_client(request))
    return JSONResponse({"jobs": [{"id": job.id, "view": job.title} for job in mine]})


async def _start(request: Request) -> Response:
    """Begin a job of a view; its id."""
    view = request.path_params["view"]
    if view not in views.JOBS:
        return _json_error(404, "there is no such view")
    studio, client, values = _studio(request), _client(request), await _values(request)
    replaced = values.pop("replaces", None)
    if isinstance(replaced, str) and (old := studio.jobs.get(client, replaced)) is not None:
        old.cancelled = True
    work = await run_in_threadpool(views.JOBS[view], studio, client, Fields(values))
    job = studio.jobs.start(client, work, view)
    return JSONResponse({"job": job.id}, status_code=201)


async def _call(request: Request) -> Response:
    """The answer of short work."""
    name = request.path_params["call"]
    if name not in views.CALLS:
        return _json_error(404, "there is no such call")
    studio, client = _studio(request), _client(request)
    work = await run_in_threadpool(views.CALLS[name], studio, client, Fields(await _values(request)))
    content = await studio.jobs.call(client, work, name)
    failed = content.startswith(b'{"type":"error"')
    if failed:
        return _json_error(400, json.loads(content)["message"])
    return Response(content, media_type="application/json")


async def _events(request: Request) -> Response:
    """The events of a job as server-sent events, from the one after `Last-Event-ID` on, or `after` in the address."""
    job = _job(request)
    if job is None:
        return _json_error(404, "this job is not here any more")
    last = request.headers.get("last-event-id") or request.query_params.get("after", "-1")
    first = int(last) + 1 if last.lstrip("-").isascii() and last.lstrip("-").isdigit() and len(last) < 10 else 0
    return StreamingResponse(_stream(job, max(0, first)), media_type="text/event-stream")


async def _stream(job: Job, first: int) -> AsyncIterator[bytes]:
    events = job.follow(first)
    pending: asyncio.Future[tuple[int, bytes]] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([pending], timeout=BEAT)
            if not done:
                yield b": here\n\n"
                continue
            try:
                number, content = pending.result()
            except StopAsyncIteration:
                break
            finally:
                pending = None
            yield b"id: %d\ndata: %s\n\n" % (number, content)
        yield b"event: done\ndata: {}\n\n"
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        await events.aclose()  # type: ignore[attr-defined]


async def _cancel(request: Request) -> Response:
    """End a job after the event that it makes."""
    job = _job(request)
    if job is None:
        return _json_error(404, "this job is not here any more")
    job.cancelled = True
    return JSONResponse({"cancelled": job.id})


async def _curves(request: Request) -> Response:
    """The metrics of a training after a step."""
    place = _studio(request).shelf.place(request.path_params["run"])
    after = Fields({"after": _float(request.query_params.get("after", "-1"))}).number("after", -1, -1, 1e15)
    return JSONResponse(await run_in_threadpool(measure.curves, place, after))


def _float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi.document())


async def _samples(request: Request) -> Response:
    """Samples for a program, in a batch with those of others."""
    fields = Fields(await _values(request))
    write = FORMATS[fields.choice("format", "json", FORMATS)]
    draw, made = await request.app.state.batcher.sample(_client(request), fields)
    return write(draw.run.spec, made)


def _as_json(spec: DataSpec, made: NDArray[Any]) -> Response:
    return JSONResponse({"shape": list(made.shape), "dtype": str(made.dtype), "samples": made.tolist()})


def _as_png(spec: DataSpec, made: NDArray[Any]) -> Response:
    stream = BytesIO()
    (grid_image(made, spec=spec) if spec.traits.drawn else scatter_image(made)).save(stream, "PNG")
    return Response(stream.getvalue(), media_type="image/png")


FORMATS: dict[str, Callable[[DataSpec, NDArray[Any]], Response]] = {"json": _as_json, "png": _as_png}


async def _animation(request: Request) -> Response:
    """The frames of a job, beside those of another where `beside` names one, as an animated GIF, or MP4 by `as`."""
    studio, client, query = _studio(request), _client(request), request.query_params
    jobs = [_job(request), *(studio.jobs.get(client, name) for name in query.getlist("beside")[:1])]
    if None in jobs:
        return _json_error(404, "this job is not here any more; begin it again")
    kind = Fields({"as": query.get("as", "gif")}).choice("as", "gif", animation.KINDS)
    media, write = animation.KINDS[kind]
    return Response(await run_in_threadpool(write, *jobs), media_type=media)


async def _upload(request: Request) -> Response:
    """Items for a run: the content of a .npy, an image or a .csv file; or, `as` a mask, what is to be painted."""
    studio, client = _studio(request), _client(request)
    place = studio.shelf.place(request.path_params["run"])
    kind = Fields({"as": request.query_params.get("as", "items")}).choice("as", "items", ("items", "mask"))
    content = await _body(request, LARGEST)

    def read() -> dict[str, Any]:
        spec = place.run().spec
        if kind == "mask":
            return {"mask": "".join(map(str, mask(content, spec).astype(int).ravel().tolist()))}
        own = items(content, spec)
        upload = studio.uploads.add(client, place.id, own)
        drawn = frames.own_items(spec, own[:1])
        return {"upload": upload.id, "count": len(own), "layout": frames.layout(spec), "item": drawn}

    return JSONResponse(await run_in_threadpool(read), status_code=201)


def _job(request: Request) -> Job | None:
    return _studio(request).jobs.get(_client(request), request.path_params["job"])


async def _body(request: Request, largest: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > largest:
            raise Refused(413, f"this request holds at most {largest >> 20} MB")
        parts.append(part)
    return b"".join(parts)


async def _values(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises UsageError."""
    content = await _body(request, JSON_MOST)
    try:
        values = json.loads(content or b"{}")
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is not JSON") from error
    if not isinstance(values, dict):
        raise UsageError("the request is no JSON object; send one, such as {}")
    return values


def _json_error(status: int, message: str) -> Response:
    return JSONResponse({"error": f"{message.rstrip('.')}."}, status_code=status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json_error(
        error.status_code,
        {404: "there is nothing at this address", 405: "this address takes no such request"}.get(
            error.status_code, str(error.detail)
        ),
    )


async def _error(request: Request, error: Exception) -> Response:
    return _json_error(400 if isinstance(error, UsageError) else 422, sentence(error))


async def _busy(request: Request, error: Exception) -> Response:
    return _json_error(429, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    answer = _json_error(error.status, str(error))
    answer.headers["connection"] = "close"  # the rest of the body is not waited for
    return answer


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)


async def _unexpected(request: Request, error: Exception) -> Response:
    return _json_error(500, sentence(error))

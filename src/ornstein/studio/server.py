"""Serving the studio by uvicorn, with bounds on connections."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ornstein.errors import OrnsteinError, UsageError
from ornstein.extras import library
from ornstein.studio.shelf import Shelf

PORT = 8765
CONNECTIONS = 128
PATIENCE = 15  # seconds for the head of a request


def serve(
    folders: Sequence[Path],
    host: str,
    port: int | None,
    device: str,
    ready: Callable[[str], object],
    data: str | None = None,
) -> None:
    """Serve until a signal ends it; `ready(address)` is called when the server listens. `data` are those beside the runs.

    Without a port, the first free one from 8765 on. Raises UsageError for a port or a host that cannot be had.
    """
    uvicorn = library("uvicorn", "the studio")
    library("starlette", "the studio")
    from ornstein.studio.app import application
    from ornstein.studio.security import Hosts, Key
    from ornstein.studio.state import Studio

    shelf = Shelf(folders, device)
    listening = _socket(host, port)
    number = listening.getsockname()[1]
    key = Key(f"ornstein-studio-{number}")
    studio = Studio(shelf, data)
    app = application(studio, key, Hosts(host))
    config = uvicorn.Config(
        app,
        http=_patient(),
        ws="none",
        log_level="critical",
        access_log=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        server_header=False,
        date_header=False,
    )
    server = uvicorn.Server(config)
    name = f"[{host}]" if ":" in host else host
    visible = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, name)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, lambda: [place.described() for place in shelf.places.values()])  # loads the runs
        loop.call_later(0.05, ready, f"http://{visible}:{number}/?token={key.token}")
        await server.serve(sockets=[listening])

    try:
        asyncio.run(main())
    finally:
        listening.close()


def _socket(host: str, port: int | None) -> socket.socket:
    ports = range(PORT, PORT + 100) if port is None else [port]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    for number in ports:
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, number))
            made.listen(128)
            return made
        except OSError as error:
            made.close()
            reason = error.strerror or str(error)
        except OverflowError:
            made.close()
            raise UsageError(f"--port {number} is no port; give a number from 1 to 65535") from None
    if port is None:
        raise OrnsteinError(f"--host {host}: no port from {PORT} to {PORT + 99} can be had ({reason})")
    raise UsageError(f"--port {port} of {host} cannot be had ({reason}); give another, or leave it out")


def _patient() -> Any:
    """uvicorn's protocol, which ends connections that send no whole head of a request in time."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(PATIENCE, self._first)

        def _first(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Patient

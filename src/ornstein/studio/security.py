"""Who is served. Every request passes `Guard`, before any route: nothing is served without the token, not the style sheet.

- The address that the command prints holds a token. A page that is opened with it gets a cookie of its own (HttpOnly,
  SameSite=Strict), signed with the token; programs send the token as `Authorization: Bearer TOKEN`.
- The `Host` of a request must be a name of this server, so that no other name can be made to lead here (DNS rebinding).
- What changes anything comes from a page of this server: its `Origin` is the `Host` (cross-site request forgery).
- Bodies are bounded in size and time, and answers carry a policy by which the page loads nothing from elsewhere.
"""

import asyncio
import hmac
import ipaddress
import json
import secrets
import socket
from dataclasses import dataclass, field
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST = 8 << 20  # bytes of a body
PATIENCE = 20.0  # seconds for a body to arrive
LONGEST = 4096  # characters of a path with its query
READING = ("GET", "HEAD")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True)
class Key:
    """The token of a server, and the cookies that it signs. `name` is that of the cookie, since cookies know no ports."""

    name: str = "ornstein-studio"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def cookie(self) -> str:
        """A new client and its signature."""
        client = secrets.token_hex(8)
        return f"{client}.{self._signed(client)}"

    def client(self, cookie: str) -> str | None:
        """The client that a cookie belongs to, if this key signed it."""
        client, _, signature = cookie.partition(".")
        return client if hmac.compare_digest(signature.encode(), self._signed(client).encode()) else None

    def opens(self, token: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def _signed(self, client: str) -> str:
        return hmac.new(self.token.encode(), client.encode("utf-8", "replace"), sha256).hexdigest()


@dataclass(frozen=True)
class Hosts:
    """The names under which a server that listens at `host` is reached."""

    host: str = "127.0.0.1"

    def holds(self, header: str) -> bool:
        """Whether a `Host` header names this server, at any port: a tunnel may have another."""
        name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
        name = name.removeprefix("[").removesuffix("]").lower()
        if name in LOOPBACK or name == self.host.lower():
            return True
        return self.host in EVERYWHERE and (_is_address(name) or name == socket.gethostname().lower())


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Refused(Exception):
    """Why a request is not served, with its status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Guard:
    """Serves `app` to those who may have it. The scope of a request that passes has the `client`."""

    app: ASGIApp
    key: Key
    hosts: Hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets: uvicorn refuses the handshake
        try:
            client, cookie = self._admitted(scope)
        except Refused as refusal:
            await _refuse(send, refusal)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [*message.get("headers", []), *HEADERS]
                if cookie is not None:
                    headers.append((b"set-cookie", cookie.encode()))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self.app({**scope, "client_id": client}, _Bounded(receive), answer)
        except Refused as refusal:
            if not started:
                await _refuse(send, refusal)

    def _admitted(self, scope: Scope) -> tuple[str, str | None]:
        """The client of a request, and the cookie to give it. Raises Refused."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if len(scope["raw_path"] or b"") + len(scope["query_string"]) > LONGEST:
            raise Refused(414, "the address is too long")
        host = headers.get("host", "")
        if not self.hosts.holds(host):
            raise Refused(421, "this server has another name; open the address that it printed")
        reading = scope["method"] in READING
        bearer = headers.get("authorization", "")
        if bearer[:7].lower() == "bearer ":
            if not self.key.opens(bearer[7:].strip()):
                raise Refused(403, "the token of this server is another one")
            return "program", None
        if not reading:
            self._must_be_own(headers, host)
        client = self._from_cookie(headers.get("cookie", ""))
        if client is not None:
            return client, None
        token = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8).get("token", [""])[0]
        if not reading or not self.key.opens(token):
            raise Refused(403, "open the address that `ornstein studio` printed, with its token")
        cookie = self.key.cookie()
        return cookie.partition(".")[0], f"{self.key.name}={cookie}; Path=/; HttpOnly; SameSite=Strict"

    def _must_be_own(self, headers: dict[str, str], host: str) -> None:
        """Raises Refused for what another site makes a browser send."""
        origin = headers.get("origin")
        if origin not in (f"http://{host}", f"https://{host}"):
            raise Refused(403, "requests that change anything come from this server's own page, or with its token")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refused(403, "the request comes from another site")

    def _from_cookie(self, header: str) -> str | None:
        try:
            morsel = SimpleCookie(header).get(self.key.name)
        except CookieError:
            return None
        return None if morsel is None else self.key.client(morsel.value)


class _Bounded:
    """The messages of a body, of bounded size, each within `PATIENCE`."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._size, self._whole = receive, 0, False

    async def __call__(self) -> Message:
        if self._whole:  # what comes now is that the client has gone
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), PATIENCE)
        except TimeoutError:
            raise Refused(408, "the request did not arrive in time") from None
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > LARGEST:
            raise Refused(413, f"uploads hold at most {LARGEST >> 20} MB")
        return message


async def _refuse(send: Send, refusal: Refused) -> None:
    body = json.dumps({"error": f"{refusal}."}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    if refusal.status in (408, 413):  # the rest of the body is not waited for
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

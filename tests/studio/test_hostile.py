"""Requests that mean harm, at random: none is served, nothing is told but one sentence, and the server goes on.

Each case is a function of its number. 200 of them are made; `ORNSTEIN_FAULTS=full` (`make faults`) makes 5,000.
"""

import json
import os
import random
import resource
import socket
import string
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ornstein.studio import security
from ornstein.studio.security import Key
from ornstein.studio.views import CALLS, JOBS

CASES = 5000 if os.environ.get("ORNSTEIN_FAULTS") == "full" else 200
MEMORY = 300 << 20  # bytes that the process may grow by
SCRIPT = "<script>alert(1)</script>"
Case = Callable[[random.Random, Any, Any], Any]


def word(rng: random.Random) -> str:
    return "".join(rng.choices(string.printable, k=rng.randrange(1, 40)))


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON value, strange ones often."""
    plain = [
        None,
        True,
        -1,
        0,
        10**30,
        -(10**30),
        1e308,
        0.5,
        "",
        SCRIPT,
        "../../etc/passwd",
        "run-0",
        "\0",
        "é\u202e",
        [],
        {},
    ]
    if depth < 3 and rng.random() < 0.3:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    if depth < 3 and rng.random() < 0.2:
        return {word(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    return rng.choice([*plain, word(rng), rng.randrange(-5, 300), rng.random() * 100])


def traversal(rng: random.Random, page: Any, stranger: Any) -> Any:
    dots = rng.choice(["..", "%2e%2e", "..%2f", "%252e%252e", "....//", ".%00.", "..\\"])
    prefix = rng.choice(["/", "/views/", "/jobs/", "/uploads/", "/curves/", "/api/", "/static/"])
    return page.get(
        prefix
        + "/".join([dots] * rng.randrange(1, 6))
        + rng.choice(["/etc/passwd", "/app.py", "/../.env", "/studio.css%00"])
    )


def without_token(rng: random.Random, page: Any, stranger: Any) -> Any:
    path = rng.choice(
        ["/", "/about", "/main.js", "/jobs", "/api/openapi.json", "/curves/run-0", "/" + rng.choice(["a", "b"])]
    )
    token = rng.choice(
        ["", "a-token-of-the-test", "A-TOKEN-OF-THE-TESTS", "\u0430-token", "a-token-of-the-tests\0", word(rng)]
    )
    headers = rng.choice([{}, {"authorization": f"Bearer {token}".encode("utf-8", "replace")}])
    cookie = rng.choice(
        ["", "ornstein-studio-8765=x", "ornstein-studio-8765=a.b", "ornstein-studio-8765=\x7f.\x01", "=" * 50]
    )
    answer = stranger.request(
        rng.choice(["GET", "POST", "PUT", "HEAD", "DELETE"]),
        path,
        params={"token": token},
        headers={**headers, "cookie": cookie},
    )
    assert answer.status_code in (403, 414)
    return answer


def rebinding(rng: random.Random, page: Any, stranger: Any) -> Any:
    host = rng.choice(
        [
            "evil.example",
            "localhost.evil.example:8765",
            "127.0.0.1.nip.example",
            "0x7f.1",
            "2130706433",
            "",
            "a" * 300,
            "127.0.0.2:8765",
            "[::]",
            "localhost@evil.example",
            "evil.example:127.0.0.1",
        ]
    )
    answer = page.get("/about", headers={"host": host})
    assert answer.status_code == 421
    return answer


def forgery(rng: random.Random, page: Any, stranger: Any) -> Any:
    origin = rng.choice(
        [
            "http://evil.example",
            "null",
            "",
            "http://127.0.0.1:1",
            "http://127.0.0.1:8765.evil.example",
            "file://",
            "https://localhost:8765",
        ]
    )
    kind = rng.choice(
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
    )
    path = rng.choice(["/jobs/watch", "/calls/field", "/uploads/run-0", "/api/samples"])
    answer = page.request(
        rng.choice(["POST", "DELETE", "PUT", "PATCH"]),
        path,
        content=b"{}",
        headers={"origin": origin, "content-type": kind},
    )
    assert answer.status_code == 403
    return answer


def strange_fields(rng: random.Random, page: Any, stranger: Any) -> Any:
    names = [
        "run",
        "count",
        "seed",
        "label",
        "solver",
        "steps",
        "scale",
        "method",
        "low",
        "high",
        "negative",
        "text",
        "vector",
        "image",
        "t",
        "path",
        "mixture",
        "mask",
        "task",
        "upload",
        "solvers",
        "calls",
        "start",
        "dynamics",
        *("beside", "of", "item", "past", "draws", "cells", "other", "task"),
        word(rng),
    ]
    ask = {name: value(rng) for name in rng.sample(names, rng.randrange(1, 4))}
    ask[rng.choice(["nothing", "__class__", SCRIPT])] = value(rng)  # no request has this field
    path = rng.choice([f"/jobs/{rng.choice(list(JOBS))}", f"/calls/{rng.choice(list(CALLS))}", "/api/samples"])
    return page.post(path, content=json.dumps(ask).encode())


def malformed(rng: random.Random, page: Any, stranger: Any) -> Any:
    content = rng.choice(
        [
            b"{",
            b"[" * 10000,
            b"\xff\xfe",
            b"null",
            b"[]",
            b'"x"',
            b"NaN",
            b'{"count": 1e999}',
            b'{"seed": 1' + b"0" * 5000 + b"}",
            rng.randbytes(rng.randrange(300)),
        ]
    )
    return page.post(rng.choice(["/jobs/watch", "/calls/curve", "/api/samples"]), content=content)


def strange_upload(rng: random.Random, page: Any, stranger: Any) -> Any:
    heads = [
        b"",
        b"\x93NUMPY\x01\x00",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"\xff\xd8\xff",
        b"II*\0",
        b"BM",
        b"RIFF",
        b"P6 99999 99999 255\n",
        b"PK\x03\x04",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
    ]
    return page.post(
        f"/uploads/{rng.choice(['run-0', 'run-1'])}",
        params={"as": rng.choice(["items", "mask", SCRIPT, "../items", "\0"])},
        content=rng.choice(heads) + rng.randbytes(rng.randrange(2000)),
    )


def oversized(rng: random.Random, page: Any, stranger: Any) -> Any:
    if rng.random() < 0.8:
        answer = page.get("/about", params={word(rng): "x" * rng.randrange(4100, 20000)})
        assert answer.status_code == 414
        return answer
    answer = page.post("/uploads/run-0", content=b"\0" * (security.LARGEST + rng.randrange(1, 100)))
    assert answer.status_code == 413
    return answer


def unknown(rng: random.Random, page: Any, stranger: Any) -> Any:
    """Jobs, runs, views and files that are not there; ids of others."""
    name = rng.choice(
        ["run-99", "0" * 16, "watch.js", "__init__", SCRIPT.replace("/", ""), "%00", "run-0%2f..%2frun-1"]
    )
    path = rng.choice(
        [
            f"/jobs/{name}/events",
            f"/jobs/{name}/animation?as=mp4&beside={name}",
            f"/curves/{name}",
            f"/views/{name}x",
            f"/{name}",
        ]
    )
    return page.get(path, headers={"last-event-id": word(rng).encode("ascii", "ignore").strip().hex()})


KINDS: list[Case] = [
    traversal,
    without_token,
    rebinding,
    forgery,
    strange_fields,
    malformed,
    strange_upload,
    oversized,
    unknown,
]


def grown() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_requests_that_mean_harm_are_refused_in_a_sentence(page: Any, open_page: Any, studio: Any) -> None:
    stranger = open_page(cookie=False).http
    page.call("path")
    before, threads = grown(), threading.active_count()
    for number in range(CASES):
        rng = random.Random(number)
        kind = KINDS[number % len(KINDS)]
        answer = kind(rng, page.http, stranger)
        assert 400 <= answer.status_code < 500, (number, kind.__name__, answer.status_code, answer.text[:200])
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == "application/json", number
        for secret in ("Traceback", "/site-packages/", "root:", 'File "'):
            assert secret not in answer.text, number
    assert grown() - before < MEMORY
    assert threading.active_count() <= threads + 2
    assert not studio.jobs.of("program")
    assert page.call("path")["type"] == "path"
    assert page.run("watch", run="run-1", count=2, steps=2)[-1]["type"] == "end"


class Listening:
    """The server on a socket, in a thread."""

    def __init__(self, server: Any) -> None:
        import uvicorn

        from ornstein.studio import server as serving

        self.config = uvicorn.Config(
            server, http=serving._patient(), ws="none", log_level="critical", limit_concurrency=30
        )
        self.server = uvicorn.Server(self.config)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def status(self, key: Key) -> int:
        """Of an honest request."""
        with self.connect() as made:
            head = f"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key.token}\r\n"
            made.sendall(f"{head}Connection: close\r\n\r\n".encode())
            return int(made.makefile("rb").readline().split()[1])


@pytest.fixture
def listening(server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    from ornstein.studio import server as serving

    monkeypatch.setattr(serving, "PATIENCE", 1.0)
    monkeypatch.setattr(security, "PATIENCE", 1.0)
    made = Listening(server)
    made.thread.start()
    while not made.server.started:
        time.sleep(0.01)
    yield made
    made.server.should_exit = True
    made.thread.join(timeout=20)


def test_slow_and_broken_clients_are_left_and_others_served(listening: Listening, key: Key) -> None:
    head = f"POST /calls/path HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key.token}\r\n"
    silent = [listening.connect() for _ in range(8)]
    for made in silent[:4]:
        made.sendall(b"GET / HT")  # and no more
    slow = listening.connect()
    slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())  # a body that never comes
    broken = listening.connect()
    broken.sendall(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 not http\r\n\r\n")
    assert listening.status(key) == 200
    assert b" 408 " in slow.makefile("rb").readline()
    for made in silent:
        assert made.recv(100) in (b"",) or made.recv(100) == b""
    assert listening.status(key) == 200
    for made in (*silent, slow, broken):
        made.close()


def test_a_flood_of_connections_is_turned_away_and_passes(listening: Listening, key: Key) -> None:
    flood = [listening.connect() for _ in range(60)]
    for made in flood:
        made.sendall(f"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key.token}\r\n\r\n".encode())
    statuses = [int(made.makefile("rb").readline().split()[1]) for made in flood]
    assert set(statuses) <= {200, 503}
    assert 503 in statuses
    for made in flood:
        made.close()
    time.sleep(0.2)
    assert listening.status(key) == 200


def test_a_flood_of_jobs_is_turned_away_and_passes(page: Any) -> None:
    answers = [page.http.post("/jobs/watch", json={"run": "run-0", "count": 16, "steps": 200}) for _ in range(12)]
    made = [answer.json()["job"] for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} == {201, 429}
    for job in made:
        assert page.http.delete(f"/jobs/{job}").status_code == 200
    assert page.run("watch", run="run-1", count=2, steps=2)[-1]["type"] == "end"

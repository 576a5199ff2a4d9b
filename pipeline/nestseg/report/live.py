"""A run as it goes on: a page on this machine alone, that only reads.

The server listens on 127.0.0.1, and every address begins with a secret: other users of the machine
do not know it, and neither do web pages that make a browser call 127.0.0.1 by another name.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from nestseg.report.latest import Latest
from nestseg.report.page import live_page
from nestseg.report.pictures import snapshot_of
from nestseg.report.sheet import sheet
from nestseg_prep.errors import InputError

HOST: Final = "127.0.0.1"
_LOOK_SECONDS: Final = 0.1  # how soon the server notices that it shall end
_NEVER_ELSEWHERE: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_Answer: TypeAlias = tuple[str, bytes]


@contextmanager
def serving(out: Path, port: int = 0) -> Iterator[str]:
    """Serve the report of an output folder while the block runs.

    Args:
        out: the folder of a run.
        port: TCP port; 0 for any that is free.

    Yields:
        The address of the page.

    Raises:
        InputError: there is no journal, or the port is taken.
    """
    latest = Latest(out)
    latest.report()
    try:
        server = _Server(port, latest)
    except OSError as error:
        raise InputError(f"port {port}: {error.strerror}; choose another --port") from error
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_SECONDS,), daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/{server.secret}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, latest: Latest) -> None:
        super().__init__((HOST, port), _Handler)
        self.latest = latest
        self.secret = secrets.token_urlsafe(16)
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"  # a connection an answer: none outlives the server
    server_version = "nestseg"
    sys_version = ""
    timeout = 30  # seconds that a connection may stay silent
    server: _Server

    def do_GET(self) -> None:
        status, kind, body = self._answer()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _NEVER_ELSEWHERE.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the addresses hold the secret."""

    def _answer(self) -> tuple[HTTPStatus, str, bytes]:
        secret, *parts = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]] or [""]
        if self.headers.get("Host") not in self.server.names:  # a page that rebinds its name
            return HTTPStatus.FORBIDDEN, "text/plain", b"not from here\n"
        if not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            return HTTPStatus.NOT_FOUND, "text/plain", b"not here\n"
        try:
            found = _find(parts, self.server.latest)
        except (InputError, OSError):
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"ask again\n"
        if found is None:
            return HTTPStatus.NOT_FOUND, "text/plain", b"not here\n"
        return HTTPStatus.OK, *found


def _find(parts: list[str], latest: Latest) -> _Answer | None:
    """What stands under an address; names in it are looked up and never joined to a path."""
    match parts:
        case [""]:
            return "text/html; charset=utf-8", live_page(latest.report()).encode()
        case ["report.json"]:
            return "application/json", json.dumps(latest.report(), allow_nan=False).encode()
        case ["report.csv"]:
            return "text/csv; charset=utf-8", sheet(latest.report()).encode()
        case ["cases", key, name]:
            return _part(latest, key, name)
        case _:
            return None


def _part(latest: Latest, key: str, name: str) -> _Answer | None:
    row = latest.row(key)
    found = snapshot_of(row, latest.out) if row else None
    if found is None:
        return None
    return {
        "planes.webp": ("image/webp", found.planes),
        "image.nii.gz": ("application/gzip", found.image),
        "mask.nii.gz": ("application/gzip", found.mask),
    }.get(name)

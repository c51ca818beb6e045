"""A web server on the loopback that serves bytes and misbehaves on demand.

``server.files`` maps paths to bodies. ``server.faults[path]`` is a list of faults: each request of
the path uses up the first one; with none left (or none given) the file is served properly, ranges,
ETags and all. A fault is a function of the request's handler that answers in the file's place.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, path: str) -> list[Mapping[str, str]]:
        return [headers for requested, headers in self.requests if requested == path]

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        headers = {name.title(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers))
        path = self.path.partition("?")[0]
        faults = self.server.faults.get(path)
        if faults:
            faults.pop(0)(self)
        elif path in self.server.files:
            self.serve(self.server.files[path])
        else:
            self.answer(404)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        return None

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def serve(self, body: bytes, etag: str = "") -> None:
        etag = etag or tag(body)
        headers = {"ETag": etag, "Content-Type": "video/mp4", "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted or self.headers.get("If-Range", etag) != etag:
            self.answer(200, body, **headers)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(body) - 1)
        if start >= len(body):
            self.answer(416, Content_Range=f"bytes */{len(body)}")
            return
        covered = f"bytes {start}-{min(end, len(body) - 1)}/{len(body)}"
        self.answer(206, body[start : end + 1], Content_Range=covered, **headers)


def tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def status(code: int, **headers: str) -> Fault:
    return lambda handler: handler.answer(code, b"sorry", **headers)


def page(handler: Handler) -> None:
    handler.answer(200, b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")


def disguised_page(handler: Handler) -> None:
    handler.answer(200, b"\n <!DOCTYPE html><html></html>", Content_Type="video/mp4")


def redirect(to: str, code: int = 302) -> Fault:
    return lambda handler: handler.answer(code, Location=to)


def _begin(handler: Handler, amount: int) -> None:
    """Promise the whole file and send its beginning."""
    body = handler.server.files[handler.path]
    handler.send_response(200)
    handler.send_header("ETag", tag(body))
    handler.send_header("Content-Type", "video/mp4")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:amount])
    handler.wfile.flush()


def cut(amount: int) -> Fault:
    """Hang up after so many bytes."""

    def fault(handler: Handler) -> None:
        _begin(handler, amount)
        handler.close_connection = True

    return fault


def stall(amount: int) -> Fault:
    """Say nothing more after so many bytes, until the server stops."""

    def fault(handler: Handler) -> None:
        _begin(handler, amount)
        handler.server.stopping.wait(30)
        handler.close_connection = True

    return fault


def drip(handler: Handler) -> None:
    """Send a byte at a time: never silent, never done."""
    body = handler.server.files[handler.path]
    _begin(handler, 0)
    for number in range(len(body)):
        handler.wfile.write(body[number : number + 1])
        if handler.server.stopping.wait(0.05):
            break
    handler.close_connection = True


def other_version(body: bytes) -> Fault:
    """Answer a range of another version of the file, whatever ``If-Range`` says."""

    def fault(handler: Handler) -> None:
        start = int(re.match(r"bytes=(\d+)-", handler.headers["Range"])[1])
        covered = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.answer(206, body[start:], Content_Range=covered, ETag=tag(body))

    return fault


def without_length(handler: Handler) -> None:
    """Send the file without saying how long it is."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(handler.server.files[handler.path])
    handler.close_connection = True

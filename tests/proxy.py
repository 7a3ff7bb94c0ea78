"""A proxy before an MLflow server that loses replies, or delivers requests late, on demand."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Fate = Literal["", "lost", "late"]
HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Proxy:
    """Forwards HTTP requests to a port; `fate(request)` says what becomes of each.

    "lost": the server acts, and the connection ends without its reply. "late": the connection ends
    at once, and the server gets the request right after the next one with the same `name`.
    """

    def __init__(
        self, port: int, fate: Callable[[Request], Fate], name: Callable[[Request], Hashable]
    ) -> None:
        self._upstream, self._fate, self._name = port, fate, name
        self._late: list[Request] = []
        self.n_lost = self.n_late = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy._handle(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers.get("content-length", 0))
        request = Request(
            handler.command, handler.path, dict(handler.headers), handler.rfile.read(size)
        )
        fate = self._fate(request)
        if fate == "late":
            self._late.append(request)
            handler.close_connection = True
            return
        status, headers, body = self._forwarded(request)
        if fate == "lost":
            self.n_lost += 1
            handler.close_connection = True
            return
        name = self._name(request)
        for late in [r for r in self._late if self._name(r) == name]:
            self._late.remove(late)
            self._forwarded(late)
            self.n_late += 1
        handler.send_response(status)
        for key, value in headers:
            if key.lower() not in HOP:
                handler.send_header(key, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _forwarded(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream, timeout=120)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
            upstream.request(request.method, request.path, request.body, headers)
            reply = upstream.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            upstream.close()

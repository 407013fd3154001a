"""Reading requests and sending answers, with the faults that a test asked for."""

import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from .faults import Fault
from .hub import Hub
from .repository import HubError


class _CutConnectionError(Exception):
    """The fault "cut"."""


class HubHandler(BaseHTTPRequestHandler):
    """What the handlers of both servers share; a subclass answers."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        request = f"{self.command} {unquote(self.path)}"
        self.hub.requests.append(request)
        self.fault = self.hub.fault_of(request)
        try:
            self.body = self._read_body(self.fault)
            if self.fault is not None and self.fault.kind == "hold":
                self.fault.released.wait()
                raise _CutConnectionError
            if self.fault is not None and self.fault.kind == "fail":
                # The client waits for as long as it is told to, and a second more.
                raise HubError(self.fault.status, "", "a fault of the test", **{"Retry-After": "0"})
            self.answer()
        except HubError as error:
            headers = {"X-Error-Message": str(error)} | ({"X-Error-Code": error.code} if error.code else {})
            self.send_json({"error": str(error)}, error.status, headers | error.headers)
        except (_CutConnectionError, ConnectionError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def answer(self) -> None:
        """Answer the request."""
        raise NotImplementedError

    def _read_body(self, fault: Fault | None) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if length and fault is not None and fault.kind == "cut":
            self.rfile.read(length // 2)
            raise _CutConnectionError
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(length)
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    @property
    def query(self) -> dict[str, str]:
        """The last value of each parameter of the address."""
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def asks_for(self, name: str) -> bool:
        """Whether a parameter of the address is true."""
        return self.query.get(name, "").lower() in ("true", "1")

    def send_json(self, document: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        """Answer with a document."""
        content = json.dumps(document).encode()
        self.send(content, status, {"Content-Type": "application/json"} | (headers or {}))

    def send_content(self, content: bytes, headers: dict[str, str]) -> None:
        """Answer with a file, or the part of it that was asked for."""
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return self.send(content, HTTPStatus.OK, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
        if first > last:
            raise HubError(416, "", "no such range", **{"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.send(content[first : last + 1], HTTPStatus.PARTIAL_CONTENT, headers)

    def send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        """Answer."""
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault is not None and self.fault.kind == "cut":
            self.wfile.write(content[: len(content) // 2])
            raise _CutConnectionError
        self.wfile.write(content)

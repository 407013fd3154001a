"""The part of the Hub that `load_dataset` talks to, for one dataset repository that lies in a folder."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef" * 2 + "01234567"


@contextmanager
def serve_hub(folder: Path, repository: str) -> Iterator[str]:
    """Serve the files of a folder as those of a dataset repository; yields the value for HF_ENDPOINT."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    folders = {parent.as_posix() for name in files for parent in Path(name).parents} - {"."}
    api, content = f"/api/datasets/{repository}", f"/datasets/{repository}/resolve/"

    def entry(name: str) -> dict:
        if name in files:
            return {"type": "file", "path": name, "size": files[name].stat().st_size, "oid": name}
        return {"type": "directory", "path": name, "oid": name}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path == api or path.startswith(f"{api}/revision/"):
                siblings = [{"rfilename": name} for name in files]
                self._answer({"id": repository, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})
            elif path.startswith(f"{api}/tree/"):
                _, _, below = path.removeprefix(f"{api}/tree/").partition("/")
                recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "true"
                parent = Path(below)
                found = [name for name in {*files, *folders} if parent in Path(name).parents]
                if not recursive:
                    found = [name for name in found if Path(name).parent == parent]
                self._answer([entry(name) for name in sorted(found)])
            elif path.startswith(content):
                self._send_file(path.removeprefix(content).partition("/")[2])
            else:
                self._answer({"error": "not found"}, 404)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            paths = json.loads(sent)["paths"] if sent.startswith("{") else parse_qs(sent)["paths"]
            self._answer([entry(name) for name in paths if name in files or name in folders])

        def _send_file(self, name: str) -> None:
            if name not in files:
                return self._answer({"error": "not found"}, 404)
            data = files[name].read_bytes()
            total, first = len(data), 0
            if wanted := self.headers.get("Range"):
                begin, end = wanted.removeprefix("bytes=").split("-")
                first, data = int(begin), data[int(begin) : int(end or total) + 1]
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            if wanted:
                headers["Content-Range"] = f"bytes {first}-{first + len(data) - 1}/{total}"
            return self._send(data, 206 if wanted else 200, headers)

        def _answer(self, document: object, status: int = 200) -> None:
            headers = {"Content-Type": "application/json"} | (
                {"X-Error-Code": "EntryNotFound"} if status == 404 else {}
            )
            self._send(json.dumps(document).encode(), status, headers)

        def _send(self, data: bytes, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(data))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

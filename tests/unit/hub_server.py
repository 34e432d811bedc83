"""A hub of models on a loopback port, which the real client of huggingface_hub talks to; it keeps all commits."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

NAME = "owner/digits"


class Hub:
    """The state of the hub's one repository.

    Attributes:
        commits: files by name, for each commit's hash, the oldest first.
        private: whether it was created private; None before.
        asked: paths of the requests for files.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {"0" * 40: {}}
        self.private: bool | None = None
        self.asked: list[str] = []

    @property
    def newest(self) -> str:
        """Hash of the newest commit."""
        return list(self.commits)[-1]

    def commit(self, lines: list[dict]) -> str:
        """Add a commit from the lines that the client sends; return its hash."""
        files = dict(self.commits[self.newest])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        revision = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[revision] = files
        return revision


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer like a GET, without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with what is known of a commit, or with a file of it."""
        parts = self.path.strip("/").split("/")
        if self.path.startswith(f"/api/models/{NAME}/tree/main"):
            files = self.hub.commits[self.hub.newest].items()
            return self._json([{"type": "file", "path": n, "oid": "0" * 40, "size": len(c)} for n, c in files])
        if self.path.startswith(f"/api/models/{NAME}"):
            asked = parts[5] if len(parts) > 5 else self.hub.newest
            revision = self.hub.newest if asked == "main" else asked
            if revision in self.hub.commits:
                names = [{"rfilename": name} for name in self.hub.commits[revision]]
                return self._json({"id": NAME, "sha": revision, "siblings": names})
        elif self.path.startswith(f"/{NAME}/resolve/"):
            self.hub.asked.append("/".join(parts[4:]))
            content = self.hub.commits.get(parts[3], {}).get("/".join(parts[4:]))
            if content is not None:
                etag = hashlib.sha1(content).hexdigest()
                return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": parts[3]})
        return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "there is no such thing"})

    def do_POST(self) -> None:
        """Create the repository, say how files are sent, or add a commit."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            wanted = json.loads(body)
            self.hub.private = wanted.get("private", wanted.get("visibility") == "private")
            return self._json({"url": f"http://{self.headers['Host']}/{NAME}"})
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            return self._json(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if "/commit/" in self.path:
            revision = self.hub.commit([json.loads(line) for line in body.splitlines()])
            address = f"http://{self.headers['Host']}/{NAME}/commit/{revision}"
            return self._json({"success": True, "commitOid": revision, "commitUrl": address})
        return self._send(404, b"{}", {})

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def serve_hub() -> Iterator[tuple[Hub, str]]:
    """Serve a hub; give its state and its address."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

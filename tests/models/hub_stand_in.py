"""A Hugging Face hub for one test: the part of its interface by which models are put there and fetched.

Repositories are dictionaries in memory. What ends in .safetensors goes the way of large files (Git LFS).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

TOKEN = "hf_that_may_write"
READ_ONLY = "hf_that_may_read"

Files = dict[str, bytes]


@dataclass
class Repository:
    """Commits by their hash, and the branches that point to them."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False

    def commit(self, branch: str, files: Files) -> str:
        told = repr((branch, len(self.commits), sorted(files))).encode()
        commit = hashlib.sha1(told, usedforsecurity=False).hexdigest()
        self.commits[commit] = files
        self.branches[branch] = commit
        return commit

    def at(self, revision: str) -> str | None:
        """The commit of a branch or of (the whole of) its own hash."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class RefusedError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str, message: str, **details: str) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details


class HubStandIn:
    """The server; `url` is where it listens on this machine.

    Attributes:
        repositories: By `owner/name`.
        large: Content of large files by their SHA-256.
        requests: Method and path of every request so far.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        """Nobody listens at `url` any more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def put(self, name: str, files: Files, *, branch: str = "main", gated: bool = False) -> str:
        """A commit, as if somebody had pushed it."""
        repository = self.repositories.setdefault(name, Repository(gated=gated))
        return repository.commit(branch, files)

    def files(self, name: str, revision: str = "main") -> Files:
        """What a revision holds."""
        repository = self.repositories[name]
        return repository.commits[repository.branches.get(revision, revision)]


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[HubStandIn]
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: `requests` has them."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  (the base class looks for these names)

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            for method, pattern, handle in _ROUTES:
                if self.command in method and (match := re.fullmatch(pattern, path)):
                    return handle(self, body, *match.groups())
            raise RefusedError(404, "EntryNotFound", f"no route {self.command} {path}")
        except RefusedError as refusal:
            self._send(
                json.dumps({"error": str(refusal), **refusal.details}).encode(),
                status=refusal.status,
                **{"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)},
            )

    def _send(self, content: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        about = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        for name, value in (about | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, record: Any) -> None:
        self._send(json.dumps(record).encode())

    def _may_write(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token:
            raise RefusedError(401, "", "Invalid credentials in Authorization header")
        if token != TOKEN:
            raise RefusedError(403, "", "this token may not write")

    def _repository(self, name: str) -> Repository:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.headers.get("Authorization")):
            raise RefusedError(404, "RepoNotFound", "Repository not found")
        if repository.gated:
            raise RefusedError(403, "GatedRepo", f"Access to model {name} is restricted")
        return repository

    def _commit_of(self, name: str, revision: str) -> tuple[str, Files]:
        repository = self._repository(name)
        commit = repository.at(revision)
        if commit is None:
            raise RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def create(self, body: bytes) -> None:
        self._may_write()
        record = json.loads(body)
        name = f"{record['organization']}/{record['name']}"
        if name in self.hub.repositories:
            url = f"{self.hub.url}/{name}"
            raise RefusedError(409, "", "You already created this model repo", url=url)
        self.hub.repositories[name] = repository = Repository(
            private=record.get("visibility") == "private" or bool(record.get("private"))
        )
        repository.commit("main", {})
        self._json({"url": f"{self.hub.url}/{name}"})

    def branch(self, body: bytes, name: str, branch: str) -> None:
        self._may_write()
        repository = self._repository(name)
        if branch in repository.branches:
            raise RefusedError(409, "", "Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._json({})

    def validate(self, body: bytes) -> None:
        front = json.loads(body)["content"].split("---\n")[1]
        if "license: apache-2.0" not in front:
            message = {"message": '"license" must be one of [apache-2.0, ...]'}
            self._send(json.dumps({"errors": [message]}).encode(), status=400)
        else:
            self._json({})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        self._may_write()
        self._commit_of(name, revision)
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in paths}
        files = [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]
        self._json({"files": files})

    def batch(self, body: bytes, name: str) -> None:
        self._may_write()
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def large(self, body: bytes, digest: str) -> None:
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.large[digest] = body
        self._send(b"")

    def commit(self, body: bytes, name: str, revision: str) -> None:
        self._may_write()
        _, before = self._commit_of(name, revision)
        files = dict(before)
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        commit = self.hub.repositories[name].commit(revision, files)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def info(self, body: bytes, name: str, revision: str = "main") -> None:
        commit, files = self._commit_of(name, revision)
        siblings = [{"rfilename": path} for path in files]
        self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        _, files = self._commit_of(name, revision)
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _etag(content)}
                for path, content in files.items()
            ]
        )

    def resolve(self, body: bytes, name: str, revision: str, path: str) -> None:
        commit, files = self._commit_of(name, revision)
        if path not in files:
            raise RefusedError(404, "EntryNotFound", f"{path} does not exist")
        self._send(files[path], **{"X-Repo-Commit": commit, "ETag": f'"{_etag(files[path])}"'})


def _etag(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("POST",), f"/api/models/{_NAME}/branch/(.+)", _Handler.branch),
    (("POST",), f"/api/models/{_NAME}/preupload/(.+)", _Handler.preupload),
    (("POST",), f"/api/models/{_NAME}/commit/(.+)", _Handler.commit),
    (("POST",), f"/{_NAME}.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), "/large/([0-9a-f]{64})", _Handler.large),
    (("GET",), f"/api/models/{_NAME}", _Handler.info),
    (("GET",), f"/api/models/{_NAME}/revision/(.+)", _Handler.info),
    (("GET",), f"/api/models/{_NAME}/tree/([^/]+)/?", _Handler.tree),
    (("GET", "HEAD"), f"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]

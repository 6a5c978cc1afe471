"""A stand-in for the Hugging Face Hub on 127.0.0.1, with faults to order: for tests of downloads without a network.

    with StandInHub() as hub:
        hub.add_repo("model", "owner/name", "0123…cdef", {"config.json": b"{}", "model.safetensors": weights})
        hub.fail("*/config.json", status=503, times=2)
        …  # a client with HF_ENDPOINT=hub.url
        assert [request.status for request in hub.requests] == [200, 503, 503, 200]

It answers what huggingface_hub asks for a download: the listing of a repository's files (`/api/models/…`,
`/api/datasets/…`), and HEAD and GET of a file (`/{repo}/resolve/{revision}/{file}`), in parts too. As on the real hub,
large kinds of files (`LARGE`) are listed with their SHA-256 and answered by a redirect to a storage host, here a second
port, to which no token may go; the others are listed by their git SHA-1 and sent by the hub itself. A card's metadata
(of README.md) are part of the listing. What `writers` may write is in stand_in_uploads.py.
"""

import hashlib
import json
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from stand_in_uploads import Uploads

LARGE = (".safetensors", ".parquet", ".bin", ".gz")
"""Endings of the files that the hub keeps in its storage (git LFS)."""


@dataclass
class Request:
    """A request as it came and the status it got; 0 where the connection was left without an answer."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass
class _Repo:
    commit: str
    files: dict[str, bytes]
    private: bool = False


@dataclass
class _Fault:
    pattern: str
    times: float
    status: int | None = None
    error_code: str | None = None
    body: bytes | None = None
    truncate: int | None = None
    wrong: bool = False
    hang: float | None = None
    location: str | None = None
    drip: float | None = None
    more: int | None = None


@dataclass
class StandInHub:
    """The server. `url` is its address while it runs as a context manager; `requests` holds all it was asked."""

    ranges: bool = True
    """Whether a Range header is honoured; if not, the whole file is sent with status 200, as servers may."""
    requests: list[Request] = field(default_factory=list)
    writers: dict[str, set[str]] = field(default_factory=dict)
    """The namespaces that each token may write to; an unknown token is refused (401), another namespace too (403)."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """Large files that were uploaded, by their SHA-256."""
    certificate: Path | None = None
    """A file with a certificate and its key, for https."""

    def __post_init__(self):
        self._repos: dict[tuple[str, str, str], _Repo] = {}
        self._faults: list[_Fault] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> "StandInHub":
        handler = type("Handler", (_Handler,), {"hub": self})
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        scheme = "https" if self.certificate else "http"
        hosts = ("127.0.0.1", "localhost")  # two names, as some clients tell hosts apart without the port
        self.url, self.storage_url = (
            f"{scheme}://{host}:{server.server_port}" for host, server in zip(hosts, self._servers, strict=True)
        )
        for server in self._servers:
            if self.certificate:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            server.daemon_threads, server.block_on_close = True, False
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add_repo(
        self,
        kind: str,
        repo: str,
        revision: str,
        files: dict[str, bytes],
        commit: str | None = None,
        private: bool = False,
    ) -> None:
        """Serve `files` as the `model` or `dataset` `repo` at `revision`, which resolves to `commit` (default: itself).

        A repository may have several revisions; the same revision again replaces its files.
        """
        self._repos[kind, repo, revision] = _Repo(commit or revision, dict(files), private)

    def fail(
        self,
        path: str,
        *,
        times: float = float("inf"),
        status: int | None = None,
        error_code: str | None = None,
        body: bytes | None = None,
        truncate: int | None = None,
        wrong: bool = False,
        hang: float | None = None,
        location: str | None = None,
        drip: float | None = None,
        more: int | None = None,
    ) -> None:
        """Order a fault for the next `times` requests (HEAD or GET) whose path matches `path` (fnmatch, no query).

        `status` answers with that status, `error_code` as X-Error-Code (GatedRepo, RepoNotFound, RevisionNotFound,
        EntryNotFound), `body` and, for a redirect, `location`. `hang` waits so many seconds, then closes without an
        answer. `truncate` announces the whole body, sends that many bytes of it and closes, after `hang` seconds if
        both are given. `wrong` sends other bytes of the same length, `drip` a tenth of the body at a time, so many
        seconds apart. `more` states no length and sends the file again and again, up to so many bytes. The last four
        wait for the answer that carries the file, past the redirect.
        Of several faults that match, the one ordered first and not yet used up counts.
        """
        self._faults.append(_Fault(path, times, status, error_code, body, truncate, wrong, hang, location, drip, more))

    def heal(self) -> None:
        """Cancel all faults."""
        self._faults.clear()

    def asked(self, pattern: str, method: str = "GET") -> list[Request]:
        """The requests so far whose path and method match (fnmatch)."""
        return [r for r in self.requests if fnmatchcase(r.method, method) and fnmatchcase(r.path, pattern)]

    def _fault_for(self, path: str, carries_file: bool) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                needs_file = fault.wrong or any(n is not None for n in (fault.truncate, fault.drip, fault.more))
                if fault.times > 0 and fnmatchcase(path, fault.pattern) and (carries_file or not needs_file):
                    fault.times -= 1
                    return fault
        return None


class _Handler(Uploads, BaseHTTPRequestHandler):
    """One connection. Paths below `/storage/` repeat the path of the file at the hub."""

    hub: StandInHub
    large = LARGE
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._note_request(path, headers)
        name, found = self._find(path)
        in_storage = path.startswith("/storage/")
        redirects = isinstance(found, _Repo) and not in_storage and name.endswith(LARGE)
        carries_file = isinstance(found, _Repo) and not redirects and self.command == "GET"
        fault = self.hub._fault_for(path, carries_file)
        if fault and fault.hang is not None and fault.truncate is None:
            self.hub._closing.wait(fault.hang)
            self.close_connection = True
        elif fault and fault.status is not None:
            headers = {"X-Error-Code": fault.error_code, "Location": fault.location}
            self._answer(fault.status, headers, fault.body or b'{"error": "ordered"}')
        elif not isinstance(found, _Repo):
            self._answer(*found)
        else:
            self._send_file(name, found, fault, redirects)

    do_HEAD = do_GET  # noqa: N815

    def _note_request(self, path: str, headers: dict[str, str]) -> None:
        self.request_log = Request(self.command, path, headers)
        self.hub.requests.append(self.request_log)

    def _find(self, path: str) -> tuple[str, "_Repo | tuple"]:
        """The file's name and its repository, or, for a listing and for what does not exist, the whole answer."""
        path = path.removeprefix("/storage")
        if path.startswith("/api/") and not path.startswith(("/api/models/", "/api/datasets/")):
            return "", (404, {}, b"{}")
        if path.startswith("/api/"):
            _, _, kinds, rest = path.split("/", 3)
            repo, _, revision = rest.partition("/tree/" if "/tree/" in rest else "/revision/")
            answer = self._tree if "/tree/" in rest else self._listing
            return "", answer(kinds.removesuffix("s"), repo, revision or "main")
        kind = "dataset" if path.startswith("/datasets/") else "model"
        repo, _, rest = path.removeprefix("/datasets").removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        found = self.hub._repos.get((kind, repo, revision))
        if found is None:
            return name, self._missing(kind, repo)
        if name not in found.files:
            return name, (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found.commit}, b"{}")
        return name, found

    def _missing(self, kind: str, repo: str) -> tuple:
        if any(known[:2] == (kind, repo) for known in self.hub._repos):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b'{"error": "Invalid rev id"}'
        # as the hub does: without a token it does not tell a missing repository from a private one
        return 404 if "authorization" in self.request_log.headers else 401, {"X-Error-Code": "RepoNotFound"}, b"{}"

    def _listing(self, kind: str, repo: str, revision: str) -> tuple:
        found = self.hub._repos.get((kind, repo, revision))
        if found is None:
            return self._missing(kind, repo)
        siblings = [{"rfilename": name} for name in found.files]
        if "blobs" in parse_qs(urlsplit(self.path).query):
            for entry, (name, content) in zip(siblings, found.files.items(), strict=True):
                stated = _stated(name, content)
                entry |= {"size": stated["size"], "blobId": stated["oid"]}
                if "lfs" in stated:
                    entry["lfs"] = stated["lfs"] | {"sha256": stated["lfs"]["oid"]}
        answer = {"_id": "0", "id": repo, "modelId": repo, "sha": found.commit, "siblings": siblings, "tags": []}
        if (card := found.files.get("README.md", b"")).startswith(b"---\n"):
            answer["cardData"] = yaml.safe_load(card.split(b"---\n")[1])
        answer |= {"private": found.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def _tree(self, kind: str, repo: str, revision: str) -> tuple:
        found = self.hub._repos.get((kind, repo, revision))
        if found is None:
            return self._missing(kind, repo)
        answer = [{"type": "file", "path": name, **_stated(name, content)} for name, content in found.files.items()]
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    def _send_file(self, name: str, repo: _Repo, fault: _Fault | None, redirects: bool) -> None:
        content = repo.files[name]
        etag = f'"{sha256(content) if name.endswith(LARGE) else git_sha1(content)}"'
        headers = {"ETag": etag, "X-Repo-Commit": repo.commit, "Accept-Ranges": "bytes"}
        if redirects:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
            headers["Location"] = f"{self.hub.storage_url}/storage{self.path}?Signature=stand-in-signature"
            return self._answer(302, headers, b"")
        status, start = 200, 0
        if self.hub.ranges and (wanted := self.request_log.range):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= len(content):
                return self._answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            status = 206
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        if fault and fault.wrong:
            body = bytes(byte ^ 1 for byte in body)
        if fault and fault.truncate is not None:
            return self._answer(status, headers, body, send=fault.truncate, hang=fault.hang or 0)
        if fault and fault.more is not None:
            return self._send_on(status, headers, body, fault.more)
        return self._answer(status, headers, body, drip=fault.drip if fault else None)

    def _send_on(self, status: int, headers: dict, body: bytes, most: int) -> None:
        self.request_log.status, self.close_connection = status, True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()  # the end of the connection is the body's
        with suppress(ConnectionError):
            for _ in range(0, most, len(body)):
                self.wfile.write(body)

    def _answer(
        self,
        status: int,
        headers: dict,
        body: bytes,
        send: int | None = None,
        hang: float = 0,
        drip: float | None = None,
    ) -> None:
        self.request_log.status = status
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            sent = body[:send]
            size = max(1, len(sent) if drip is None else len(sent) // 10)
            for first in range(0, len(sent), size):
                self.wfile.write(sent[first : first + size])
                self.wfile.flush()
                self.hub._closing.wait(drip or 0)
        except ConnectionError:
            self.close_connection = True
        if send is not None:
            self.hub._closing.wait(hang)
            self.close_connection = True

    def log_message(self, *_) -> None:
        """Nothing on the terminal: `requests` is the log."""


def _stated(name: str, content: bytes) -> dict:
    """Size and hashes of a file, as the hub states them; a large one is a pointer in git, and its SHA-256 beside."""
    if not name.endswith(LARGE):
        return {"size": len(content), "oid": git_sha1(content)}
    lfs = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return {"size": len(content), "oid": git_sha1(b"version https://git-lfs.github.com/spec/v1\n"), "lfs": lfs}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    """The name git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

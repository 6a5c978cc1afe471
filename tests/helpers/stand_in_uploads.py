"""Uploads to the stand-in hub: what huggingface_hub asks to make a repository and to commit files, by plain HTTPS.

A repository is made by POST `/api/repos/create`; a commit is a question which files are large (`preupload`), a batch of
places to PUT those to at the storage host, and the commit itself, which holds the small ones. Only a token that the hub
was told of may write, and only below its namespace.
"""

import base64
import hashlib
import json
from urllib.parse import unquote, urlsplit


class Uploads:
    """A part of the stand-in's handler: POST and PUT. The hub's `writers` are the namespaces by token."""

    def do_POST(self) -> None:  # noqa: N802
        path, body = self._begin_upload()
        if not self._failed_as_ordered(path):
            self._post(path, body)

    def _post(self, path: str, body: bytes) -> None:
        repo = path.removeprefix("/api/models/").removeprefix("/").split("/preupload/")[0].split("/commit/")[0]
        repo = repo.partition(".git/")[0]
        if path == "/api/validate-yaml":
            self._json(200, {"errors": [], "warnings": []})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif refusal := self._refused(repo.split("/")[0]):
            self._json(refusal, {"error": "no"})
        elif "/preupload/" in path:
            names = [entry["path"] for entry in json.loads(body)["files"]]
            self._json(200, {"files": [self._known(repo, name) for name in names]})
        elif path.endswith("/info/lfs/objects/batch"):
            places = [self._place(wanted) for wanted in json.loads(body)["objects"]]
            self._json(200, {"transfer": "basic", "objects": places})
        elif "/commit/" in path:
            self._commit(repo, [json.loads(line) for line in body.splitlines() if line.strip()])
        else:
            self._json(404, {"error": path})

    def do_PUT(self) -> None:  # noqa: N802
        path, body = self._begin_upload()
        if self._failed_as_ordered(path):
            return
        oid = path.removeprefix("/lfs/")
        whole = hashlib.sha256(body).hexdigest() == oid
        if whole:
            self.hub.stored[oid] = body
        self._json(200 if whole else 400, {})

    def _begin_upload(self) -> tuple[str, bytes]:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(headers.get("content-length", 0)))
        self._note_request(path, headers)
        return path, body

    def _failed_as_ordered(self, path: str) -> bool:
        fault = self.hub._fault_for(path, False)
        if fault and fault.status is not None:
            self._answer(fault.status, {"X-Error-Code": fault.error_code}, fault.body or b'{"error": "ordered"}')
        return bool(fault and fault.status is not None)

    def _refused(self, namespace: str) -> int | None:
        token = self.request_log.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.hub.writers:
            return 401
        return None if namespace in self.hub.writers[token] else 403

    def _known(self, repo: str, name: str) -> dict:
        """How a file is to be sent, and the hash of the one that is there under its name."""
        found = {"path": name, "uploadMode": "lfs" if name.endswith(self.large) else "regular", "shouldIgnore": False}
        content = self.hub._repos["model", repo, "main"].files.get(name)
        if content is None:
            return found
        header = b"" if name.endswith(self.large) else b"blob %d\0" % len(content)
        digest = hashlib.sha1 if header else hashlib.sha256
        return found | {"oid": digest(header + content).hexdigest()}

    def _create(self, wanted: dict) -> None:
        repo = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.hub.url}/{repo}"
        if refusal := self._refused(wanted["organization"]):
            self._json(refusal, {"error": "no"})
        elif ("model", repo, "main") in self.hub._repos:
            self._json(409, {"error": "there already", "url": url})
        else:
            private = wanted.get("private", wanted.get("visibility") == "private")
            self.hub.add_repo("model", repo, "main", {}, "0" * 40, private=bool(private))
            self._json(200, {"url": url, "name": repo})

    def _place(self, wanted: dict) -> dict:
        known = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] in self.hub.stored:
            return known
        href = f"{self.hub.storage_url}/lfs/{wanted['oid']}?Signature=stand-in-signature"
        return known | {"actions": {"upload": {"href": href, "header": {}}}}

    def _commit(self, repo: str, lines: list[dict]) -> None:
        before = self.hub._repos["model", repo, "main"]
        files = dict(before.files)
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.hub.stored[line["value"]["oid"]]
        digest = hashlib.sha1(before.commit.encode() + repr(sorted(files.items())).encode()).hexdigest()
        for revision in ("main", digest):
            self.hub.add_repo("model", repo, revision, files, digest, private=before.private)
        url = f"{self.hub.url}/{repo}/commit/{digest}"
        self._json(200, {"success": True, "commitOid": digest, "commitUrl": url, "hookOutput": ""})

    def _json(self, status: int, value: dict) -> None:
        self._answer(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

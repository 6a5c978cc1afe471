"""Files of a Hugging Face Hub repository at one commit: resumed, retried, verified. All of the project's network use.

Requests go through the session of `huggingface_hub`: its proxies, its token, its redirects, its errors. Files are
streamed here and not by `hf_hub_download`, because huggingface_hub 2 deletes a half-fetched file when that call ends,
and repeats requests inside it, out of reach of our own count: for minutes where a server hangs. Here a cut file stays,
and the next attempt, of this process or a later one, asks for the missing bytes only. The transfer is plain HTTPS,
whether or not hf_xet is installed.

Environment, read at each call: HF_ENDPOINT (a mirror of the hub), HF_HUB_DOWNLOAD_TIMEOUT (whole seconds of silence
after which a request has failed, default 30) and, by huggingface_hub itself, HF_TOKEN and HF_HUB_OFFLINE.
"""

import hashlib
import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qa.common.errors import InputError, first_line
from qa.common.files import sha256_of_file
from qa.common.progress import Progress
from qa.common.text import readable_bytes

WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before the second attempt, the third, …: there is one attempt more than there are waits."""

log = logging.getLogger(__name__)


class Repository:
    """The files of one repository of the hub at one commit: their names, their sizes, and a way to bring them here."""

    def __init__(self, kind: str, source: dict, waits: tuple[float, ...] = WAITS):
        """List the files of the `model` or `dataset` that `source` pins by `repo` and `revision`.

        Raises InputError if the revision is no commit, and whatever `bring` raises.
        """
        self.kind, self.repo, self.revision, self.waits = kind, source["repo"], source["revision"], waits
        self.where = f"{kind} {self.repo} at revision {self.revision[:12]}"
        self.record = {"repo": self.repo, "revision": self.revision}
        self.endpoint, self.timeout = endpoint(), _timeout()
        address = urlsplit(self.endpoint)
        self.host = address.hostname
        site = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"  # a mirror's password stays out
        self.page = f"{site}/datasets/{self.repo}" if kind == "dataset" else f"{site}/{self.repo}"
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise InputError(
                f"{kind} {self.repo}: the revision {self.revision!r} is no commit: pin one by its 40 hexadecimal"
                f" digits, from {self.page}/commits/main"
            )
        for name in ("httpx", "httpx2"):  # their request lines hold signed addresses, which are secrets
            logging.getLogger(name).setLevel(logging.WARNING)
        self.stated = self._retried("listing its files", self._list)
        self.names = sorted(self.stated)

    def size(self, name: str) -> int:
        """Size of a file in bytes, 0 where the hub does not state it."""
        return self.stated[name].size or 0

    def bring(self, name: str, place: Path) -> None:
        """Fetch a file to `place` and check it against what the hub states of it; one that is there is only checked.

        Raises InputError where the hub refuses, or where it cannot be reached, or what it sends is wrong, at every
        attempt; the bytes fetched so far stay in `part_of(place)`.
        """
        if place.exists() and not self.stated[name].fault_of(place):
            log.info("%s of %s is there from an earlier attempt", name, self.where)
            return
        log.info("fetching %s (%s) of %s", name, readable_bytes(self.size(name)), self.where)
        self._retried(f"fetching {name}", self._fetch, name, place)

    def _list(self) -> dict[str, "_Stated"]:
        """What the hub states of each file, by its name."""
        from huggingface_hub import HfApi, errors

        api = HfApi(endpoint=self.endpoint)
        options = {"repo_type": self.kind, "files_metadata": True, "timeout": self.timeout}
        try:
            info = api.repo_info(self.repo, revision=self.revision, **options)
        except errors.HFValidationError:
            raise InputError(f"{self.repo!r} is no name of a repository: write it as owner/name") from None
        except errors.HfHubHTTPError:
            raise
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{self.where}: {self.host} does not answer as a hub; check HF_ENDPOINT") from None
        if info.sha != self.revision:
            raise InputError(f"{self.where}: {self.host} answers with commit {info.sha}; pin a commit that it has")
        self.record |= card_terms(info.card_data)
        return {
            file.rfilename: _Stated(file.size, file.lfs.sha256, None)
            if file.lfs
            else _Stated(file.size, None, file.blob_id)
            for file in info.siblings or []
        }

    def _fetch(self, name: str, place: Path) -> None:
        """One attempt: receive what is missing, verify, rename."""
        part, stated = part_of(place), self.stated[name]
        have = part.stat().st_size if part.exists() else 0
        if stated.size is None or have > stated.size:
            part.unlink(missing_ok=True)
            have = 0
        if have != stated.size or not part.exists():
            self._receive(name, part, have)
        if fault := stated.fault_of(part):
            part.unlink()
            raise _PassingError(fault, f"a proxy may alter files, or {self.host} may be at fault; try again later")
        part.replace(place)

    def _receive(self, name: str, part: Path, have: int) -> None:
        """Append to `part`, which holds `have` bytes, what is missing; start over if the server sends all of it."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

        url = hf_hub_url(self.repo, name, repo_type=self.kind, revision=self.revision, endpoint=self.endpoint)
        # without compression, so that the bytes that are missing can be counted
        headers = build_hf_headers() | {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        options = {"headers": headers, "timeout": self.timeout, "follow_redirects": True}
        with get_session().stream("GET", url, **options) as response:
            hf_raise_for_status(response)
            with open(part, "ab" if response.status_code == 206 else "wb") as stream:
                progress = Progress(name, self.size(name) >> 20, "MiB", stream.tell() >> 20)
                for chunk in response.iter_bytes():
                    stream.write(chunk)
                    progress.reach(stream.tell() >> 20)
                    if self.stated[name].size is not None and stream.tell() > self.stated[name].size:
                        return  # a server that never ends would fill the disk; the length will be told as wrong

    def _retried(self, doing: str, call: Callable, *args: Any) -> Any:
        """Call until it succeeds, waiting longer each time; raise InputError for what lasts or cannot pass."""
        attempts = len(self.waits) + 1
        for attempt in range(1, attempts + 1):
            try:
                with self._explained(doing):
                    return call(*args)
            except _PassingError as error:
                fault, advice = f"{self.where}, {doing}: {error}", error.advice
            if attempt < attempts:
                wait = self.waits[attempt - 1]
                log.warning("attempt %d of %d in %g s: %s", attempt + 1, attempts, wait, fault)
                time.sleep(wait)
        raise InputError(f"{fault}, {attempts} attempts in a row: {advice} (what is fetched so far is kept)")

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn the client's exceptions into InputError, or _PassingError where another attempt may help."""
        from huggingface_hub import errors

        # the base of all errors of the HTTP library: httpx in huggingface_hub 1, httpx2 in 2
        transport_error = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
        try:
            yield
        except errors.OfflineModeIsEnabled:
            raise InputError(f"{self.where}: HF_HUB_OFFLINE forbids the download; unset it for this step") from None
        except errors.HfHubHTTPError as error:  # its own text quotes addresses, which may be signed
            raise self._refusal(doing, error) from None
        except transport_error as error:
            if type(error).__name__ == "TooManyRedirects":
                raise InputError(
                    f"{self.where}, {doing}: {self.host} redirects in a circle; check HF_ENDPOINT"
                ) from None
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise InputError(
                    f"{self.where}, {doing}: {self.host} shows a certificate that this machine does not trust"
                    f" ({first_line(error)}): check HF_ENDPOINT, and for a mirror of your own name its authority's"
                    " certificate by SSL_CERT_FILE"
                ) from None
            fault = f"no whole answer from {self.host} ({type(error).__name__}: {error})"
            raise _PassingError(fault, "downloads need the network, so run this on a login node, or later") from None

    def _refusal(self, doing: str, error: Exception) -> Exception:
        """Say what an answer with a status of 400 or more means."""
        from huggingface_hub import errors

        status, what = error.response.status_code, f"{self.where}, {doing}"
        if isinstance(error, errors.GatedRepoError):
            return InputError(
                f"{self.where} is gated: accept its terms at {self.page}, then set HF_TOKEN to a token of your account"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return InputError(
                f"{self.kind} {self.repo} has no commit {self.revision}: copy one from {self.page}/commits/main"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return InputError(
                f"{self.host} has no {self.kind} {self.repo}, or it is private: check the name, or set HF_TOKEN to a"
                " token that may read it"
            )
        if status in (401, 403):
            return InputError(
                f"{what}: {self.host} refuses access (status {status}): set HF_TOKEN to a valid token that may read it"
            )
        if status == 429:
            return _PassingError("too many requests (status 429)", "set HF_TOKEN, or try again in some minutes")
        if status == 408 or status >= 500:
            return _PassingError(f"{self.host} answers with status {status}", "try again later")
        return InputError(f"{what}: {self.host} answers with status {status}; look at {self.page}")


class _PassingError(Exception):
    """A fault that may be gone at the next attempt: what happened, and what to do if it stays."""

    def __init__(self, fault: str, advice: str):
        super().__init__(fault)
        self.advice = advice


@dataclass(frozen=True)
class _Stated:
    """What the hub states of a file: its size in bytes and a hash of its content; None where it does not."""

    size: int | None
    sha256: str | None
    git_sha1: str | None

    def fault_of(self, path: Path) -> str:
        """Say in what the file at `path` differs from what is stated; nothing where it does not."""
        size = path.stat().st_size
        if self.size not in (None, size):
            return f"{size:,} bytes where {self.size:,} are expected"
        if self.sha256 and (found := sha256_of_file(path)) != self.sha256:
            return f"sha256 {found} where {self.sha256} is expected"
        if self.git_sha1 and (found := git_sha1_of_file(path)) != self.git_sha1:
            return f"git sha1 {found} where {self.git_sha1} is expected"
        return ""


def card_terms(metadata: Any) -> dict[str, Any]:
    """`license` and `language` of a card's metadata (a mapping, or None), each if it names one."""
    found = {name: metadata.get(name) for name in ("license", "language")} if metadata else {}
    return {name: value for name, value in found.items() if value}


def git_sha1_of_file(path: Path) -> str:
    """Hexadecimal SHA-1 by which git names a file's content: that of `blob {size}`, a zero byte and the bytes."""
    header = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: header).hexdigest()


def part_of(place: Path) -> Path:
    """Where the bytes of a file stay until it is complete."""
    return place.with_name(place.name + ".part")


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT as it is now, else the client's default.

    Raises InputError for one that is not https, unless it is this very machine: the token would go in clear.
    """
    from huggingface_hub import constants

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    try:
        scheme, host = urlsplit(endpoint).scheme, urlsplit(endpoint).hostname
    except ValueError:  # half an IPv6 address
        scheme, host = "", None
    if scheme not in ("http", "https") or not host:
        shown = endpoint.rpartition("@")[2]  # without a mirror's password
        raise InputError(f"HF_ENDPOINT is {shown!r}: it must begin with https:// and name a host")
    if scheme == "http" and not _is_this_machine(host):
        raise InputError(
            f"HF_ENDPOINT is an http address of {host}: a token would go there in clear; it must begin with https://"
            " (http is for localhost, 127.0.0.1 and ::1 only)"
        )
    return endpoint


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _timeout() -> float:
    """Seconds of silence after which a request has failed: HF_HUB_DOWNLOAD_TIMEOUT, which the client reads too."""
    value = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or "30"
    if not value.isdigit() or int(value) == 0:
        raise InputError(f"HF_HUB_DOWNLOAD_TIMEOUT is {value!r}: give whole seconds, such as 30")
    return float(value)

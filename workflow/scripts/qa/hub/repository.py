"""Repositories of the Hugging Face Hub at one commit, through `huggingface_hub`; each of its failures in one line.

The client does the transfer: proxies, token, redirects, parallel files, the rest of a file that was cut. This module
lists a repository, bounds and verifies what comes, and says what a failure means and what to do. The transfer is plain
HTTPS, whether or not hf_xet is installed.

Environment, read at each call: HF_ENDPOINT (a mirror of the hub), HF_HUB_DOWNLOAD_TIMEOUT (whole seconds of silence
after which a request has failed, default 30) and, by the client itself, HF_TOKEN and HF_HUB_OFFLINE.
"""

import glob
import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from qa.common.errors import InputError, first_line
from qa.common.files import link, remove
from qa.common.progress import Progress
from qa.common.text import readable_bytes

WAITS = (1.0, 4.0)  # seconds before the second and the third attempt, beside those that the client makes itself
SNAPSHOT = ".snapshot"  # folder within that of a download, in which files stand at their paths in the repository
_ALTERED = "a proxy may alter files, or the hub may be at fault; try again later"

log = logging.getLogger(__name__)


class PassingError(Exception):
    """A fault that may be gone at the next attempt; `advice` is what to do if it stays."""

    def __init__(self, fault: str, advice: str):
        super().__init__(fault)
        self.advice = advice


class UnreachableError(PassingError):
    """No whole answer came. For files, the client has asked several times already."""


class Repository:
    """The files of one repository of the hub at one commit: their names, their sizes, and a way to fetch them."""

    def __init__(self, kind: str, source: dict[str, Any], waits: tuple[float, ...] = WAITS):
        """List the files of the `model` or `dataset` that `source` pins by `repo` and `revision`, a commit.

        `waits` are the seconds before each further attempt. Raises InputError if the hub refuses, if it answers with
        another commit, and if it cannot be reached at any attempt.
        """
        self.kind, self.repo, self.revision, self.waits = kind, source["repo"], source["revision"], waits
        self.where = f"{kind} {self.repo} at revision {self.revision[:12]}"
        self.record = {"repo": self.repo, "revision": self.revision}
        self.endpoint = endpoint()
        address = urlsplit(self.endpoint)
        self.host = address.hostname
        site = f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"  # without a mirror's password
        self.page = f"{site}/datasets/{self.repo}" if kind == "dataset" else f"{site}/{self.repo}"
        self.api = client().HfApi(endpoint=self.endpoint)
        self.sizes: dict[str, int | None] = self._retried("listing its files", self._list)
        self.names = sorted(self.sizes)

    def size(self, name: str) -> int:
        """Size of a file in bytes, 0 where the hub does not state it."""
        return self.sizes[name] or 0

    def fetch(self, names: dict[str, str], folder: Path) -> None:
        """Download files, given as {place below `folder`: name in the repository}, and verify the hub's checksums.

        They are hard links to those in `folder / SNAPSHOT`, which an earlier call may have finished; these are only
        verified. Raises InputError where a name leads out of the folder, the hub refuses, or a fault stays at every
        attempt; finished files remain.
        """
        snapshot, chosen = folder / SNAPSHOT, sorted(set(names.values()))
        if unsafe := [name for name in chosen if name.startswith("/") or {"..", ""} & set(re.split(r"[/\\]", name))]:
            raise InputError(f"{self.where}: the file name {unsafe[0]!a} leads out of the folder and is refused")
        for path in snapshot.rglob("*.incomplete"):  # left by a killed process; the client never takes them up again
            path.unlink()
        if missing := [name for name in chosen if not (snapshot / name).is_file()]:
            size = readable_bytes(sum(map(self.size, missing)))
            log.info("fetching %d files (%s) of %s", len(missing), size, self.where)
        self._retried("fetching its files", self._fetch, chosen, snapshot)
        for place, name in names.items():
            remove(folder / place)
            link(snapshot / name, folder / place)

    def _list(self) -> dict[str, int | None]:
        """Size in bytes of each file, by its name."""
        info = self.api.repo_info(
            self.repo, repo_type=self.kind, revision=self.revision, files_metadata=True, timeout=download_timeout()
        )
        if info.sha != self.revision:
            raise InputError(f"{self.where}: {self.host} answers with commit {info.sha}; pin a commit that it has")
        self.record |= card_terms(info.card_data)
        return {file.rfilename: file.size for file in info.siblings or []}

    def _fetch(self, names: list[str], folder: Path) -> None:
        """One attempt: download what is missing, and remove what does not have the hub's checksum."""
        sizes = [self.sizes[name] for name in names]
        most = None if None in sizes else sum(sizes)
        folder.mkdir(exist_ok=True)
        client().snapshot_download(
            self.repo,
            repo_type=self.kind,
            revision=self.revision,
            local_dir=folder,
            allow_patterns=[glob.escape(name) for name in names],
            endpoint=self.endpoint,
            etag_timeout=download_timeout(),
            tqdm_class=_byte_counter(self.repo, most),
        )
        found = self.api.verify_repo_checksums(self.repo, repo_type=self.kind, revision=self.revision, local_dir=folder)
        if wrong := found.mismatches:
            for mismatch in wrong:
                (folder / mismatch["path"]).unlink()
            hashes = f"{wrong[0]['algorithm']} {wrong[0]['actual']} where {wrong[0]['expected']} is expected"
            raise PassingError(f"{wrong[0]['path']}: {hashes}", _ALTERED)
        # the client takes an existing folder for a whole one where it cannot list the repository
        if absent := sorted(set(names) & set(found.missing_paths)):
            raise PassingError(f"{absent[0]} did not come", f"look at {self.page}")

    def _retried(self, doing: str, call: Callable, *args: Any) -> Any:
        """Call until it succeeds, with a wait before each further attempt; raise InputError for what lasts."""
        attempt, attempts = 0, len(self.waits) + 1
        while True:
            attempt += 1
            try:
                with explained(f"{self.where}, {doing}", self.host, self._refusal):
                    return call(*args)
            except PassingError as error:
                fault = f"{self.where}, {doing}: {error}"
                if attempt == attempts or (isinstance(error, UnreachableError) and call == self._fetch):
                    raise InputError(
                        f"{fault}, {attempt} attempts in a row: {error.advice} (finished files are kept)"
                    ) from None
            wait = self.waits[attempt - 1]
            log.warning("attempt %d of %d in %g s: %s", attempt + 1, attempts, wait, fault)
            time.sleep(wait)

    def _refusal(self, what: str, error: Exception, status: int) -> Exception:
        """What an answer with a status of 400 or more means."""
        from huggingface_hub import errors

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
            return PassingError("too many requests (status 429)", "set HF_TOKEN, or try again in some minutes")
        file = unquote(error.response.request.url.path).partition(f"/resolve/{self.revision}/")[2]
        fault = f"{self.host} answers with status {status}" + (f" for {file}" if file else "")
        if status == 408 or status >= 500:
            return PassingError(fault, "try again later")
        return InputError(f"{what}: {fault}; look at {self.page}")


def client() -> ModuleType:
    """`huggingface_hub`, with our timeout, by plain HTTPS, and without log lines: their addresses may be signed."""
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read by the client when it is imported
    timeout = download_timeout()
    import huggingface_hub
    from huggingface_hub import constants, utils

    constants.HF_HUB_DOWNLOAD_TIMEOUT = timeout
    utils.disable_progress_bars()
    utils.logging.set_verbosity_error()
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return huggingface_hub


@contextmanager
def explained(what: str, host: str | None, refusal: Callable[[str, Exception, int], Exception]) -> Iterator[None]:
    """Turn the client's exceptions into InputError, or PassingError where another attempt may help.

    `what` begins a message. `refusal` says what an answer with a status of 400 or more means: it takes `what`, the
    client's error and the status. The client's own texts may quote signed addresses, so no message repeats them.
    """
    try:
        yield
    except (InputError, PassingError):
        raise
    except Exception as error:
        if meaning := _meaning(what, host, refusal, error):
            raise meaning from None
        raise


def _meaning(what: str, host: str | None, refusal: Callable, error: Exception) -> Exception | None:
    """What an exception of the client means; None for one that is not about the hub or the network."""
    from huggingface_hub import errors

    # the base of all errors of the HTTP library: httpx in huggingface_hub 1, httpx2 in 2
    transport_error = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    known = (errors.HfHubHTTPError, errors.FileMetadataError, transport_error, ConnectionError)
    cause: BaseException | None = error  # the client wraps the failure of a file or of a thread
    while cause is not None and not isinstance(cause, known):
        cause = cause.__cause__
    cause = error if cause is None else cause
    name, text = type(cause).__name__, first_line(cause)
    if isinstance(cause, errors.HFValidationError):
        return InputError(f"{what}: no repository has such a name: write it as owner/name")
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return InputError(f"{what}: HF_HUB_OFFLINE forbids it; unset it for this step")
    if isinstance(cause, errors.HfHubHTTPError):
        return refusal(what, cause, cause.response.status_code)
    if name == "TooManyRedirects":
        return InputError(f"{what}: {host} redirects in a circle; check HF_ENDPOINT")
    if "CERTIFICATE_VERIFY_FAILED" in str(cause):
        return InputError(
            f"{what}: {host} shows a certificate that this machine does not trust ({text}): check HF_ENDPOINT, and for"
            " a mirror of your own name its authority's certificate by SSL_CERT_FILE"
        )
    if isinstance(cause, (transport_error, ConnectionError)):
        fault = f"no whole answer from {host} ({name}: {text})"
        return UnreachableError(fault, "downloads and uploads need the network, so run this on a login node, or later")
    if sizes := re.search(r"should be of size (\d+) but has size (\d+)", text):  # an OSError without a number
        return PassingError(f"{int(sizes[2]):,} bytes where {int(sizes[1]):,} are expected", _ALTERED)
    if isinstance(cause, (errors.FileMetadataError, ValueError, KeyError, TypeError)):
        return InputError(f"{what}: {host} does not answer as a hub ({name}); check HF_ENDPOINT")
    return None


def _byte_counter(label: str, most: int | None) -> type:
    """A progress bar for the client that logs lines instead, and stops a server that sends more than `most` bytes."""
    from huggingface_hub.utils import tqdm

    progress = Progress(label, (most or 0) >> 20, "MiB")

    class ByteCounter(tqdm):
        monitor_interval = 0  # no thread that redraws a bar

        def __init__(self, *args, **kwargs):
            self.counts, self.come = kwargs.get("unit") == "B", 0  # the client has a bar for files, too
            super().__init__(*args, **kwargs)

        def update(self, n=1):
            super().update(n)
            self.come += int(n or 0)
            if self.counts and most is not None and self.come > most:
                raise PassingError(f"{self.come:,} bytes where {most:,} are expected", _ALTERED)
            if self.counts:
                progress.reach(self.come >> 20)

    return ByteCounter


def card_terms(metadata: Any) -> dict[str, Any]:
    """`license` and `language` of a card's metadata (a mapping, or None), each if it names one."""
    found = {name: metadata.get(name) for name in ("license", "language")} if metadata else {}
    return {name: value for name, value in found.items() if value}


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or https://huggingface.co.

    Raises InputError for one that is not https, unless it is this very machine: the token would go in clear.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
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


def download_timeout() -> int:
    """Seconds of silence after which a request has failed: HF_HUB_DOWNLOAD_TIMEOUT, default 30."""
    value = os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or "30"
    if not value.isdigit() or int(value) == 0:
        raise InputError(f"HF_HUB_DOWNLOAD_TIMEOUT is {value!r}: give whole seconds, such as 30")
    return int(value)

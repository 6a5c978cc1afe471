"""Publishing: a package uploaded to the Hugging Face Hub as it was planned, and what became of it there.

The token is the client's own: HF_TOKEN, or that of `hf auth login`. It stands in no file, log or message of ours.
Transfers are plain HTTPS, as for downloads (`qa.hub.repository`), whether or not hf_xet is installed.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qa.common.errors import InputError, first_line, some
from qa.common.files import read_json, sha256_of_file, write_json
from qa.common.text import readable_bytes, text_table
from qa.hub.repository import WAITS, Repository, endpoint

LEFT_OUT = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py")  # pickles and code are never part of a package

log = logging.getLogger(__name__)


def plan(package: str | Path, repo: str, private: bool, target: str | Path) -> dict[str, Any]:
    """List what of a package would go to which repository, and write that as JSON; no network is used.

    It has `repo`, `private` and `files`, {name: {"sha256", "size"}}, sizes in bytes. Raises InputError for a package
    that holds a pickle or code.
    """
    paths = sorted(path for path in Path(package).iterdir() if path.is_file() and not path.name.startswith("."))
    if unsafe := [path.name for path in paths if path.suffix in LEFT_OUT]:
        raise InputError(f"{package}: {some(unsafe)} is no part of a package; remove the folder and run again")
    files = {path.name: {"sha256": sha256_of_file(path), "size": path.stat().st_size} for path in paths}
    made = {"repo": repo, "private": private, "files": files}
    write_json(target, made)
    log.info(f"to be published, nothing is sent yet: {told(made)}")
    return made


def told(planned: dict[str, Any]) -> str:
    """A plan for people: where to, then a line a file."""
    sizes = {name: entry["size"] for name, entry in planned["files"].items()}
    listed = text_table([("", name, readable_bytes(size)) for name, size in sizes.items()])
    seen = "private" if planned["private"] else "public"
    return f"{planned['repo']} ({seen}), {readable_bytes(sum(sizes.values()))}:\n{listed}"


def publish(package: str | Path, plan_file: str | Path, target: str | Path, waits: tuple = WAITS) -> dict[str, Any]:
    """Upload what a plan lists, make the repository where there is none, and check what the hub then states.

    Writes JSON with `repo`, `private`, `commit_url`, `revision`, `published` (UTC, ISO 8601) and the plan's `files`.
    Raises InputError where the package is not what was planned, there is no token, the hub refuses or cannot be
    reached, or a repository is public that must not be; then nothing is written.
    """
    planned = read_json(plan_file)
    files, package = planned["files"], Path(package)
    for name, entry in files.items():
        if not (package / name).is_file() or sha256_of_file(package / name) != entry["sha256"]:
            raise InputError(f"{package}: {name} is not what {plan_file} lists; remove that file and run again")
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # read by huggingface_hub when it is imported
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars

    if get_token() is None:
        raise InputError("no token to publish with: set HF_TOKEN to one that may write, or call `hf auth login`")
    disable_progress_bars()
    for name in ("httpx", "httpx2"):  # their request lines hold signed addresses, which are secrets
        logging.getLogger(name).setLevel(logging.WARNING)
    api, repo = HfApi(endpoint=endpoint()), planned["repo"]
    with _explained(repo, api.endpoint):
        api.create_repo(repo, private=planned["private"], exist_ok=True)
        if planned["private"] and not api.model_info(repo).private:
            raise InputError(
                f"{repo} is public already, and the configuration says private; make it private on the hub, or set "
                "publish.private: false"
            )
        log.info(f"uploading to {told(planned)}")
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=package,
            allow_patterns=[_exactly(name) for name in files],
            commit_message=f"Model and card of {package.parent.parent.name}, {package.parent.name}",
        )
    _verify(repo, commit.oid, files, waits)
    done = {
        "repo": repo,
        "private": planned["private"],
        "commit_url": str(commit.commit_url),
        "revision": commit.oid,
        "published": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }
    write_json(target, done)
    log.info(f"published: {commit.commit_url}")
    return done


def _exactly(name: str) -> str:
    """A pattern (fnmatch) that matches one name only."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _verify(repo: str, revision: str, files: dict[str, dict[str, Any]], waits: tuple) -> None:
    """Compare what the hub states of the commit with what was sent."""
    there = Repository("model", {"repo": repo, "revision": revision}, waits).stated
    wrong = [
        name
        for name, entry in files.items()
        if name not in there
        or there[name].size not in (None, entry["size"])
        or there[name].sha256 not in (None, entry["sha256"])
    ]
    if wrong:
        raise InputError(f"{repo} at {revision[:12]}: {some(wrong)} is not there as it was sent; publish it again")


@contextmanager
def _explained(repo: str, address: str) -> Iterator[None]:
    """Turn the client's exceptions into a sentence; their own text may quote signed addresses."""
    from huggingface_hub import errors

    host = urlsplit(address).hostname
    # the base of all errors of the HTTP library: httpx in huggingface_hub 1, httpx2 in 2
    transport_error = next(base for base in errors.HfHubHTTPError.__mro__ if base.__name__ == "HTTPError")
    try:
        yield
    except InputError:
        raise
    except errors.HFValidationError:
        raise InputError(f"{repo!r} is no name of a repository: write it as owner/name") from None
    except Exception as error:
        cause = error.__cause__ if type(error) is RuntimeError else error  # so the client wraps what fails in a thread
        if isinstance(cause, errors.OfflineModeIsEnabled):
            raise InputError(f"{repo}: HF_HUB_OFFLINE forbids publishing; unset it for this step") from None
        if isinstance(cause, errors.HfHubHTTPError):
            raise InputError(_refusal(repo, host, cause.response.status_code)) from None
        if isinstance(cause, (transport_error, ConnectionError)):
            raise InputError(
                f"{repo}: no whole answer from {host} ({type(cause).__name__}); publishing needs the network, so run "
                "this on a login node, or later (what the hub has got is kept)"
            ) from None
        if isinstance(cause, ValueError):  # the card's metadata, or an answer that is no hub's
            raise InputError(f"{repo}: {host} does not take it ({first_line(cause)})") from None
        raise


def _refusal(repo: str, host: str | None, status: int) -> str:
    if status == 401:
        return f"{repo}: {host} does not accept the token (status 401); set HF_TOKEN to a valid one that may write"
    if status in (403, 404):
        return (
            f"{repo}: this token may not write there (status {status}); use one with write permission, of a variant of "
            f"{repo.split('/')[0]}"
        )
    if status == 429 or status >= 500:
        return f"{repo}: {host} answers with status {status}; try again later (what it has got is kept)"
    return f"{repo}: {host} refuses what was sent (status {status}); look at the card's metadata, or try again"

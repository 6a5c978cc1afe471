"""Publishing: packages uploaded to the Hugging Face Hub as they were planned, and verified there.

The token is the client's own: HF_TOKEN, or that of `hf auth login`. It stands in no file, log or message of ours.
Transfers are plain HTTPS, as for downloads (`qa.hub.repository`).
"""

import glob
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from qa.common.errors import InputError, first_line, some
from qa.common.files import read_json, sha256_of_file, write_json
from qa.common.text import readable_bytes, text_table
from qa.hub.repository import PassingError, client, endpoint, explained

LEFT_OUT = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".py")  # pickles and code are never part of a package

log = logging.getLogger(__name__)


def plan(publications: dict[str, dict[str, Any]], target: str | Path) -> dict[str, Any]:
    """List which files of each package would go to which repository, and write that as JSON; no network is used.

    `publications` is `{package folder: {"repo", "private"}}`. The plan has, for each folder, these two and `files`,
    `{name: {"sha256", "size"}}`, sizes in bytes. Raises InputError for a package that holds a pickle or code.
    """
    planned = {}
    for package, publication in publications.items():
        paths = sorted(path for path in Path(package).iterdir() if path.is_file() and not path.name.startswith("."))
        if unsafe := [path.name for path in paths if path.suffix in LEFT_OUT]:
            raise InputError(f"{package}: {some(unsafe)} is no part of a package; remove the folder and run again")
        files = {path.name: {"sha256": sha256_of_file(path), "size": path.stat().st_size} for path in paths}
        planned[package] = {**publication, "files": files}
        log.info(f"to be published, nothing is sent yet: {described(planned[package])}")
    write_json(target, planned)
    return planned


def described(planned: dict[str, Any]) -> str:
    """The plan of one package for people: the repository, then a line a file."""
    sizes = {name: entry["size"] for name, entry in planned["files"].items()}
    listed = text_table([("", name, readable_bytes(size)) for name, size in sizes.items()])
    visibility = "private" if planned["private"] else "public"
    return f"{planned['repo']} ({visibility}), {readable_bytes(sum(sizes.values()))}:\n{listed}"


def publish(plan_file: str | Path, target: str | Path) -> dict[str, Any]:
    """Upload the packages of a plan, make the repositories where there are none, and verify the checksums there.

    Writes JSON: for each package folder `repo`, `private`, `commit_url`, `revision`, `published` (UTC, ISO 8601) and
    the plan's `files`. A package that is there already, from a call that failed later, is not sent again.
    Raises InputError where a package is not what was planned, there is no token, the hub refuses or cannot be reached,
    or a repository is public that must not be; then nothing is written.
    """
    planned = read_json(plan_file)
    for package, publication in planned.items():
        for name, entry in publication["files"].items():
            if not Path(package, name).is_file() or sha256_of_file(Path(package, name)) != entry["sha256"]:
                raise InputError(f"{package}: {name} is not what {plan_file} lists; remove that file and run again")
    if client().get_token() is None:
        raise InputError("no token to publish with: set HF_TOKEN to one that may write, or call `hf auth login`")
    published = {package: _publish(Path(package), publication) for package, publication in planned.items()}
    write_json(target, published)
    return published


def _publish(package: Path, planned: dict[str, Any]) -> dict[str, Any]:
    """Upload one package, and return what is written of it."""
    repo, private, files = planned["repo"], planned["private"], planned["files"]
    api = client().HfApi(endpoint=endpoint())
    host = urlsplit(api.endpoint).hostname

    def refusal(what: str, error: Exception, status: int) -> InputError:
        return InputError(f"{repo}: {_refusal(repo, host, status)}")

    try:
        with explained(repo, host, refusal):
            api.create_repo(repo, private=private, exist_ok=True)
            if private and not api.model_info(repo).private:
                raise InputError(
                    f"{repo} is public already, and the configuration says private; make it private on the hub, or set "
                    "publish.private: false"
                )
            log.info(f"uploading to {described(planned)}")
            commit = _upload(api, repo, package, files)
            found = api.verify_repo_checksums(repo, revision=commit.oid, local_dir=package)
    except PassingError as error:
        raise InputError(f"{repo}: {error}: {error.advice} (what the hub has got is kept)") from None
    wrong = {mismatch["path"] for mismatch in found.mismatches} | set(found.extra_paths)
    if wrong := sorted(wrong & files.keys()):
        raise InputError(f"{repo} at {commit.oid[:12]}: {some(wrong)} is not there as it was sent; publish it again")
    log.info(f"published: {commit.commit_url}")
    return {
        "repo": repo,
        "private": private,
        "commit_url": str(commit.commit_url),
        "revision": commit.oid,
        "published": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": files,
    }


def _upload(api: Any, repo: str, package: Path, files: dict[str, Any]) -> Any:
    """Commit the files that the repository does not hold already; return the client's CommitInfo."""
    from huggingface_hub import errors

    try:
        return api.upload_folder(
            repo_id=repo,
            folder_path=package,
            allow_patterns=[glob.escape(name) for name in files],
            commit_message=f"Model and card of {package.parent.parent.name}, {package.parent.name}",
        )
    except errors.HfHubHTTPError:  # some of them are ValueErrors, too
        raise
    except ValueError as error:
        raise InputError(f"{repo}: the hub does not take the card's metadata ({first_line(error)})") from None


def _refusal(repo: str, host: str | None, status: int) -> str:
    """What an answer with a status of 400 or more means, and what to do."""
    if status == 401:
        return f"{host} does not accept the token (status 401); set HF_TOKEN to a valid one that may write"
    if status in (403, 404):
        return (
            f"this token may not write there (status {status}); use one with write permission, of a member of "
            f"{repo.split('/')[0]}"
        )
    if status == 429 or status >= 500:
        return f"{host} answers with status {status}; try again later (what it has got is kept)"
    return f"{host} refuses what was sent (status {status}); look at the card's metadata, or try again"

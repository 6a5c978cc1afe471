"""Which copy of the library this process runs, and what that copy needs."""

import json
import os
from importlib import metadata
from pathlib import Path

import qa
from qa.common.errors import InputError

DISTRIBUTION = "qa-workflow"
PACKAGE = Path(__file__).resolve().parents[1]
PLACE = ("workflow", "scripts", "qa")  # of the library in a clone of the repository


def clone() -> Path | None:
    """The clone of the repository that this library belongs to; None for an installed copy."""
    return PACKAGE.parents[2] if PACKAGE.parts[-3:] == PLACE else None


def installed_commit() -> str | None:
    """The commit that pip installed this copy from; None for a clone and for any other source."""
    if clone():
        return None
    try:
        origin = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")  # PEP 610
        return json.loads(origin or "{}").get("vcs_info", {}).get("commit_id")
    except (metadata.PackageNotFoundError, ValueError):
        return None


def check(version: str, rules: object, scripts: Path | None) -> None:
    """Raise InputError if this library does not fit the rules; let their jobs find this library before any other.

    `version` is the version that the rules need, `rules` their place, `scripts` their folder of scripts, None for rules
    from git.
    """
    if scripts and not scripts.joinpath("qa").samefile(PACKAGE):
        raise InputError(
            f"the rules of {scripts.parent} would run with the library {PACKAGE}: use the rules of one clone only"
        )
    if qa.__version__ != version:
        raise InputError(
            f"the rules of {rules} need version {version} of the library, but {qa.__version__} is in {PACKAGE}: "
            "pip install --no-deps git+URL@TAG, with the tag of the rules"
        )
    if scripts:
        lead_python_path()


def lead_python_path() -> None:
    """Let Python processes that this one starts find this copy of the library before any other."""
    folder = str(PACKAGE.parent)
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", folder)]
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *others])


def requirements() -> list[str]:
    """The packages that the workflow needs, with their ranges: of the clone, or of the installed copy's metadata."""
    root = clone()
    if root is None:
        try:
            return metadata.requires(DISTRIBUTION) or []
        except metadata.PackageNotFoundError:
            return []
    lines = (root / "envs" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [text for line in lines if (text := line.partition("#")[0].strip())]

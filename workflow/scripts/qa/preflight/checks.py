"""What would stop a run, found before its first job is queued: in about a second, all of it at once, a line each.

It checks this machine, the hub (for missing downloads) and, for cluster runs, SLURM (`qa.preflight.slurm_requests`).
"""

import errno
import importlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from qa.common.errors import InputError, some
from qa.common.files import read_json, sha256_of_file, write_json
from qa.common.text import readable_bytes
from qa.config.settings import listed
from qa.hub.download import INDEX, matching_files, model_files
from qa.hub.repository import Repository
from qa.preflight.findings import PROBLEM, Finding, at_once, collected, problem, right, warning
from qa.preflight.slurm_requests import Request, check_requests
from qa.training import trackers

SECONDS = 10.0  # that hub, SLURM or hashes may take before the run goes on without their answer
HUB_WAITS = (0.5,)  # one more attempt
PYTHON = (3, 11)
REQUIREMENTS = Path(__file__).parents[4] / "envs" / "requirements.txt"
PLUGIN = "snakemake-executor-plugin-slurm"
BYTES_OF_WEIGHT = {"float16": 2, "bfloat16": 2}  # by the dtype of a config.json; 4 otherwise
TRAINED, CHECKPOINT = 4, 12  # bytes of a parameter: fp32, and with it the two moments of AdamW
WINDOWS = 45  # bytes of windows for each byte of a data set; 25 to 45 were measured
SCRATCH = 2**20  # bytes written, and removed at once, to see whether that is possible


@dataclass(frozen=True)
class Training:
    """A training that will run: its model's folder, where it leaves and reports things, the checkpoints it keeps."""

    model: str
    checkpoints: str
    output: str
    keep: int
    keep_after_success: bool = False
    report_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    `downloads` are the folders to be filled, each with its kind (`model` or `dataset`) and source; `present` those that
    are there and will be read; `tokenized` the data set folder of each tokenization; `at_once` how many jobs run
    together; `requests` what is asked of SLURM, None where jobs run on this machine; `commands` the SLURM commands that
    the executor needs beside the usual ones. `packages` is whether jobs use this very Python.
    """

    downloads: dict[str, tuple[str, dict[str, Any]]]
    present: tuple[str, ...] = ()
    trainings: tuple[Training, ...] = ()
    tokenized: tuple[str, ...] = ()
    at_once: int = 1
    requests: tuple[Request, ...] | None = None
    commands: tuple[str, ...] = ()
    packages: bool = True


def preflight(plan: Plan, verified: Path, thoroughly: bool = False) -> list[Finding]:
    """Make all checks. `verified` remembers hashed files: only changed ones are hashed again, all if `thoroughly`."""
    stated: dict[str, int] = {}

    checks = {
        "software": lambda: check_software(plan.packages, plan.requests is not None),
        "reports": lambda: check_reports(plan),
        "downloads": lambda: check_downloads(plan.present, verified, thoroughly),
        "sources": lambda: check_sources(plan.downloads, stated),
    }
    if plan.requests is not None:
        checks["SLURM"] = lambda: check_requests(list(plan.requests or ()), plan.commands)
    # hashing, or an answer that is waited for, may take longer than each question's own limit
    findings = collected(checks, 60.0 if thoroughly else 3 * SECONDS)
    return findings + collected({"space": lambda: check_space(plan, stated)}, SECONDS)


def message(findings: list[Finding]) -> str:
    """The problems, numbered, for the error that ends the run."""
    problems = [finding.text for finding in findings if finding.kind == PROBLEM]
    counted = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"  {number}. {text}" for number, text in enumerate(problems, 1)]
    return "\n".join([f"Preflight found {counted}; nothing was queued:", *lines])


def check_software(packages: bool, slurm: bool, requirements: Path = REQUIREMENTS) -> Iterator[Finding]:
    """Python, and each package against the range that the project asks for; pyarrow is imported, torch is not.

    Without `packages`, jobs bring their own, and only Snakemake's are checked. A torch without CUDA is no fault here.
    """
    if sys.version_info < PYTHON:
        yield problem(
            f"Python {sys.version.split()[0]} is too old, 3.11 is needed: make the environment with a newer one"
        )
    lines = [line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    wanted = {Requirement(line).name: Requirement(line) for line in lines if line}
    if not slurm:
        wanted.pop(PLUGIN, None)
    if not packages:
        wanted = {name: r for name, r in wanted.items() if name.startswith("snakemake")}
    faults = 0
    for name, requirement in wanted.items():
        if fault := _fault_of_package(requirement):
            faults += 1
            yield problem(f"{name} {fault}: install it into this environment, {sys.prefix}")
    if packages and not faults:
        try:
            importlib.import_module("pyarrow")
        except ImportError as error:
            faults += 1
            loading = (
                "load its module (on Alliance: module load gcc arrow) before the environment" if _has_modules() else ""
            )
            yield problem(f"pyarrow cannot be imported ({error}): {loading or 'install it anew'}")
    if not faults:
        yield right(f"Python {sys.version.split()[0]}, and {len(wanted)} packages as {requirements.name} asks for")


def check_reports(plan: Plan) -> Iterator[Finding]:
    """Whether the packages are there that trainings report to; jobs that bring their own packages are not asked."""
    wanted = dict.fromkeys(name for training in plan.trainings for name in training.report_to)
    for fault in trackers.missing(list(wanted)) if plan.packages else ():
        yield problem(fault)


def _fault_of_package(requirement: Requirement) -> str:
    if requirement.marker and not requirement.marker.evaluate():
        return ""
    wanted = f"{requirement.specifier or 'any version'} is needed"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"is not installed, {wanted}"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"{version} is installed, {wanted}"


def _has_modules() -> bool:
    return "LMOD_CMD" in os.environ or "MODULESHOME" in os.environ


def check_sources(downloads: dict[str, tuple[str, dict[str, Any]]], stated: dict[str, int]) -> Iterator[Finding]:
    """Ask the hub, or look on this machine, for each model and data set to come; their bytes go to `stated`, by folder.

    The hub is asked for its list of files, so a wrong name or commit, terms not accepted and weights that are no
    safetensors show too.
    """
    asked = list(downloads.items())
    answers = at_once([lambda a=a: _bytes_to_come(*a[1]) for a in asked], SECONDS)
    for (folder, (kind, source)), answer in zip(asked, answers, strict=True):
        if isinstance(answer, InputError):
            yield problem(str(answer))
        elif isinstance(answer, Exception):
            yield warning(f"{kind} {source}: not checked ({type(answer).__name__}: {answer})")
        elif answer is None:
            yield problem(
                f"{kind} {source['repo']}: the hub did not answer within {SECONDS:g} s;"
                " downloads need the network, so run this on a login node, or later"
            )
        else:
            stated[folder] = answer
            if "repo" in source:
                yield right(f"the hub has {kind} {source['repo']}, {readable_bytes(answer)} to download")


def _bytes_to_come(kind: str, source: dict[str, Any]) -> int:
    if "repo" in source:
        repository = Repository(kind, source, HUB_WAITS)
        size, names, where = repository.size, repository.names, repository.where
    elif kind == "dataset":
        return sum(Path(p).expanduser().stat().st_size for given in source["splits"].values() for p in listed(given))
    else:
        folder = _model_folder(source)
        names, where = [path.name for path in folder.iterdir() if path.is_file()], f"the model folder {folder}"

        def size(name: str) -> int:
            return (folder / name).stat().st_size

    if kind == "model":
        chosen = set(model_files(names, where))
        if INDEX in chosen:  # its shards are most likely all there are
            chosen |= {name for name in names if name.endswith(".safetensors") and "/" not in name}
    else:
        patterns = [listed(given) for given in source["splits"].values()]
        chosen = {name for given in patterns for name in matching_files(given, names, where)}
    return sum(size(name) for name in chosen)


def _model_folder(source: dict[str, Any]) -> Path:
    if "path" in source:
        return Path(source["path"]).expanduser()
    package = source["package"]
    try:
        return Path(importlib.metadata.distribution(package).locate_file(source["directory"]))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"the Python package {package} is not installed here: pip install {package}") from None


def check_downloads(folders: tuple[str, ...], verified: Path, thoroughly: bool = False) -> Iterator[Finding]:
    """Compare downloaded files with their source.json: sizes always, hashes where a file changed since the last time.

    A file is taken as unchanged by its size, times of change, inode and expected hash; `thoroughly` hashes all.
    """
    known = _remembered(verified)
    whole, hashed, count = [], 0, 0
    for folder in folders:
        faults = []
        files = _recorded(Path(folder) / "source.json")
        if files is None:
            yield problem(f"{folder}: its source.json is missing or broken: remove {folder} and it is downloaded again")
            continue
        for name, stated in files.items():
            path = Path(folder) / name
            seal = _seal(path, stated)
            if seal is not None and (thoroughly or known.get(str(path)) != seal):
                hashed += stated["size"]
                seal = seal if sha256_of_file(path) == stated["sha256"] else None
            if seal is None:
                faults.append(f"{name} {_state_of(path, stated)}")
            else:
                known[str(path)] = seal
                count += 1
        if hashed:
            write_json(verified, known)  # after each folder, so that what was done is kept if time runs out
        if faults:
            yield problem(f"{folder}: {some(faults)}: remove {folder} and it is downloaded again")
        else:
            whole.append(folder)
    if whole:
        yield right(f"{count} files of {some(whole)} are whole ({readable_bytes(hashed)} hashed, the rest unchanged)")


def _recorded(source: Path) -> dict[str, dict[str, Any]] | None:
    """The files of a download by its source.json, each with `size` and `sha256`; None where it does not tell them."""
    try:
        files = read_json(source)["files"]
        told = all(isinstance(said["size"], int) and isinstance(said["sha256"], str) for said in files.values())
    except (IsADirectoryError, NotADirectoryError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    return files if files and told else None


def _remembered(verified: Path) -> dict[str, Any]:
    try:
        known = read_json(verified)
    except InputError:
        return {}
    return known if isinstance(known, dict) else {}


def _seal(path: Path, stated: dict[str, Any]) -> list[Any] | None:
    """What tells that a file is still the one that was hashed; None where it is missing or of another size."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # the latter for a name that no file can have
        return None
    if status.st_size != stated["size"]:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, stated["sha256"]]


def _state_of(path: Path, stated: dict[str, Any]) -> str:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != stated["size"]:
        return f"has {size:,} bytes where {stated['size']:,} were downloaded"
    return "is not what was downloaded (its sha256 differs)"


def check_space(plan: Plan, stated: dict[str, int]) -> Iterator[Finding]:
    """Compare what the run will write, an estimate, with what each file system has left, and try to write there.

    A quota shows where the file system reports it as free space, or when it is used up already.
    """
    needs = _needs(plan, stated)
    systems: dict[int, list[str]] = {}
    for folder in needs:
        systems.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in systems.values():
        needed = sum(needs[folder] for folder in folders)
        where = ", ".join(f"{folder}/" for folder in folders)
        for place in {_existing(folder): None for folder in folders}:
            if fault := _write_fault(place):
                yield problem(f"{place}: {fault}")
                break
        else:
            status = os.statvfs(_existing(folders[0]))
            free = status.f_bavail * status.f_frsize
            told = f"{where}: {readable_bytes(free)} free, about {readable_bytes(needed)} needed{_explained(plan)}"
            if free < needed:
                yield problem(f"{told}: free some space, or keep fewer checkpoints")
            else:
                yield right(told)


def _needs(plan: Plan, stated: dict[str, int]) -> dict[str, int]:
    """Bytes to be written below each folder, less what is there already of them."""
    sizes = {t.model: _parameters(t.model, stated) for t in plan.trainings}
    kept = [
        (0 if t.keep_after_success else 1, max(0, CHECKPOINT * sizes[t.model] * (t.keep + 1) - _held(t.checkpoints)))
        for t in plan.trainings
    ]
    # those that go after success take room only while they train: the largest of as many as run at once
    passing = sorted((size for goes, size in kept if goes), reverse=True)[: plan.at_once]
    models = sum(TRAINED * sizes[t.model] for t in plan.trainings)
    tokenized = sum(WINDOWS * (stated[f] if f in stated else _held(f)) for f in plan.tokenized)
    needs = {
        "resources": sum(stated.values()),
        "checkpoints": sum(passing) + sum(size for goes, size in kept if not goes),
        "results": models + tokenized,
    }
    return {folder: size for folder, size in needs.items() if size or folder == "results"}


def _explained(plan: Plan) -> str:
    trained = len(plan.trainings)
    return f" ({trained} trainings, up to {min(plan.at_once, trained)} at once)" if trained else ""


def _parameters(model: str, stated: dict[str, int]) -> int:
    """Number of a model's parameters, by the size of its weights; what a hub states counts as fp32."""
    if model in stated:
        return stated[model] // 4
    folder = Path(model)
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    try:
        config = read_json(folder / "config.json")
    except InputError:
        config = {}
    return weights // BYTES_OF_WEIGHT.get(config.get("dtype") or config.get("torch_dtype"), 4)


def _held(folder: str) -> int:
    """Bytes of the files below a folder, 0 where there is none."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _existing(folder: str) -> Path:
    """A folder, or the nearest one above it that exists."""
    path = Path(folder).absolute()
    while not path.is_dir():
        path = path.parent
    return path


def _write_fault(folder: Path) -> str:
    """Why nothing can be written to a folder, and what to do; nothing where it can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(SCRATCH))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk or your quota is full ({error.strerror}): free some space or files"
        return f"cannot be written to ({error.strerror}): check who owns it"
    return ""

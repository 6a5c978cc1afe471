"""Find what would stop a run before its first job is queued: in about a second, all problems at once, one line each.

It checks this machine, the disk (`space`), what was downloaded, the hub for what is missing, and, for cluster runs,
SLURM (`slurm_requests`).
"""

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from qa.common import checksums, installation
from qa.common.errors import InputError, some
from qa.common.text import counted, readable_bytes
from qa.config.fields import listed
from qa.data import prepare_questions
from qa.data.read_answers import read_answers
from qa.hub.download import INDEX, local_model, matching_files, model_files
from qa.hub.repository import Repository
from qa.plan import timestamps
from qa.preflight.findings import PROBLEM, Finding, at_once, collected, ok, problem, warning
from qa.preflight.plan import Plan
from qa.preflight.slurm_requests import check_requests
from qa.preflight.space import check_space
from qa.training import lora, trackers
from qa.windows.encoder_config import check_length, encoder_config, longest_row

SECONDS = 10.0  # limit for the hub and SLURM; after it, the run goes on without their result
HUB_WAITS = (0.5,)  # seconds before the one retry
PYTHON = (3, 11)
SPLITS_WORDS = r"""[\s"'$&;()<>|\\*?`]"""  # in a shell's command
LIBRARY = Path(__file__).parents[2]
PLUGIN = "snakemake-executor-plugin-slurm"


def preflight(plan: Plan, thoroughly: bool = False) -> list[Finding]:
    """Run all checks. Of downloaded files they compare the sizes, and `thoroughly` every byte."""
    stated: dict[str, int] = {}
    checks = {
        "software": lambda: check_software(plan.packages, plan.requests is not None),
        "optional packages": lambda: check_optional_packages(plan),
        "encoders": lambda: check_encoders(plan),
        "overrides": lambda: check_overrides(plan),
        "downloads": lambda: check_downloads(plan.present, thoroughly),
        "sources": lambda: check_sources(plan.downloads, stated),
        "questions": lambda: check_questions(plan.questions),
        "answers": lambda: check_answers(plan.answers),
    }
    if plan.requests is not None:
        checks["SLURM"] = lambda: check_requests(list(plan.requests or ()), plan.commands, plan.at_once)
    # reading all bytes or waiting may take longer than the limit of a single request
    findings = collected(checks, 60.0 if thoroughly else 3 * SECONDS)
    return findings + collected({"space": lambda: check_space(plan, stated)}, SECONDS)


def message(findings: list[Finding]) -> str:
    """The numbered problems, as the message of the error that ends the run."""
    problems = [finding.text for finding in findings if finding.kind == PROBLEM]
    lines = [f"  {number}. {text}" for number, text in enumerate(problems, 1)]
    return "\n".join([f"Preflight found {counted(len(problems), 'problem')}; nothing was queued:", *lines])


def check_software(packages: bool, slurm: bool) -> Iterator[Finding]:
    """Check the versions of Python and of each required package. It imports pyarrow, but not torch.

    Without `packages`, jobs have environments of their own, so only Snakemake's packages are checked. A torch without
    CUDA is no problem here.
    """
    if sys.version_info < PYTHON:
        yield problem(
            f"Python {sys.version.split()[0]} is too old, 3.11 is needed: make the environment with a newer Python"
        )
    if re.search(SPLITS_WORDS, sys.executable):  # Snakemake does not quote it in the command of a job
        yield problem(
            f"{sys.executable}: jobs cannot start Python from a path with a space or a special letter of the shell: "
            "move the environment, or the clone that it is in"
        )
    wanted = {(needed := Requirement(text)).name: needed for text in installation.requirements()}
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
            remedy = "install it again"
            if {"LMOD_CMD", "MODULESHOME"} & os.environ.keys():
                remedy = "load its module (on Alliance: module load gcc arrow) before the environment"
            yield problem(f"pyarrow cannot be imported ({error}): {remedy}")
    if not faults:
        python = sys.version.split()[0]
        yield ok(f"Python {python}, and {len(wanted)} packages within the ranges of envs/requirements.txt")


def check_optional_packages(plan: Plan) -> Iterator[Finding]:
    """Check that trackers and peft are installed where trainings need them, unless jobs have their own environments."""
    if not plan.packages:
        return
    names = dict.fromkeys(name for training in plan.trainings for name in training.report_to)
    adapted = any(training.lora for training in plan.trainings)
    for fault in trackers.missing(list(names)) + (lora.missing() if adapted else []):
        yield problem(fault)


def check_encoders(plan: Plan) -> Iterator[Finding]:
    """Check that the models that are there can abstain and have positions for their rows."""
    for folder, max_length in plan.rows:
        try:
            if folder not in plan.downloads:
                check_length(max_length, longest_row(encoder_config(folder)), Path(folder).name)
        except InputError as error:
            yield problem(str(error))


def check_overrides(plan: Plan) -> Iterator[Finding]:
    """Whether the models' own configurations take the `overrides`.

    The config.json of a model that is not downloaded yet comes from its source. A process of its own loads
    transformers, which brings torch, so that Snakemake's stays small.
    """
    for folder, overrides in plan.overrides.items() if plan.packages else ():
        _, source = plan.downloads.get(folder, ("model", {"path": folder}))
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, Path(folder).name)
            copy.mkdir()
            try:
                _origin("model", source).fetch({"config.json": "config.json"}, copy)
            except InputError:  # the check of sources or downloads says so
                continue
            command = [sys.executable, "-m", "qa.model.overrides", str(copy), json.dumps(overrides)]
            environment = {**os.environ, "PYTHONPATH": str(LIBRARY), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=2 * SECONDS)
        yield from map(problem, done.stdout.splitlines())
        if done.returncode:
            raise RuntimeError(next(reversed(done.stderr.splitlines()), f"exit code {done.returncode}"))


def _fault_of_package(requirement: Requirement) -> str:
    if requirement.marker and not requirement.marker.evaluate():
        return ""
    need = f"{requirement.specifier or 'any version'} is needed"
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"is not installed, {need}"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"{version} is installed, {need}"


def check_downloads(folders: tuple[str, ...], thoroughly: bool = False) -> Iterator[Finding]:
    """Compare downloaded folders with their seals: missing files and sizes, and `thoroughly` every byte.

    A folder without a seal passes. The stages compare every byte of what they read.
    """
    intact = []
    for folder in folders:
        if fault := checksums.fault_of(folder, sizes_only=not thoroughly):
            yield problem(f"{folder}: {fault}: remove {folder} to download it again")
        else:
            intact.append(folder)
    if intact:
        compared = "every byte" if thoroughly else "sizes"
        yield ok(f"the files of {some(intact)} are as they were downloaded (compared: {compared})")


def check_sources(downloads: dict[str, tuple[str, dict[str, Any]]], stated: dict[str, int]) -> Iterator[Finding]:
    """Look for each model and data set to download, on the hub or this machine. Add its bytes to `stated`, by folder.

    The hub's list of files also reveals wrong names and commits, terms that were not accepted, and weights that are
    not safetensors.
    """
    sizes = at_once([lambda d=download: _bytes_to_download(*d) for download in downloads.values()], SECONDS)
    for (folder, (kind, source)), size in zip(downloads.items(), sizes, strict=True):
        if isinstance(size, InputError):
            yield problem(str(size))
        elif isinstance(size, Exception):
            yield warning(f"{kind} {source}: not checked ({type(size).__name__}: {size})")
        elif size is None:
            yield problem(
                f"{kind} {source['repo']}: the hub did not answer within {SECONDS:g} s;"
                " downloads need the network, so run this on a login node, or later"
            )
        else:
            stated[folder] = size
            if "repo" in source:
                yield ok(f"the hub has {kind} {source['repo']}, {readable_bytes(size)} to download")


def check_questions(questions: tuple[tuple[tuple[str, ...], str], ...]) -> Iterator[Finding]:
    """Check the questions of the user's own files before a copy replaces the last one, and results with it.

    Snakemake reruns all that follows a new copy, even if the good file is back by then. Files whose bytes Snakemake
    does not compare are left to `prepare_questions`.
    """
    for files, misaligned in questions:
        paths = [Path(file).expanduser() for file in files]
        if max(path.stat().st_size for path in paths) > timestamps.HASHED:
            continue
        try:
            counts = prepare_questions.check(paths, misaligned)
            yield ok(f"{some(files)}: {counted(counts.questions, 'question')}")
        except InputError as error:
            yield problem(str(error))


def check_answers(files: tuple[str, ...]) -> Iterator[Finding]:
    """Check that the user's files of answers can be read. Whether they answer all questions, `postprocess` checks."""
    for file in files:
        try:
            yield ok(f"{file}: {counted(len(read_answers(file)), 'answer')}")
        except InputError as error:
            yield problem(str(error))


def _bytes_to_download(kind: str, source: dict[str, Any]) -> int:
    if kind == "dataset" and "repo" not in source:
        return sum(Path(p).expanduser().stat().st_size for files in source["splits"].values() for p in listed(files))
    origin = _origin(kind, source)
    if kind == "model":
        chosen = set(model_files(origin.names, origin.where, origin.page))
        if INDEX in chosen:  # an index names shards, most likely all of them
            chosen |= {name for name in origin.names if name.endswith(".safetensors") and "/" not in name}
    else:
        patterns = [listed(files) for files in source["splits"].values()]
        chosen = {name for files in patterns for name in matching_files(files, origin.names, origin.where)}
    return sum(map(origin.size, chosen))


def _origin(kind: str, source: dict[str, Any]) -> Any:
    """The files of a source, on the hub or, for a model, on this machine, as `download` sees them."""
    return Repository(kind, source, HUB_WAITS) if "repo" in source else local_model(source)

"""Processes that are killed at a file operation or while they write a file, and runs of the workflow that are killed.

What a run leaves is told by `results_of`: everything that must be the same bytes whatever has happened in between.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from chain import Project
from qa.common.files import digest_of_json, sha256_of_file

PRELOADED = Path(__file__).parent / "preloaded"  # a sitecustomize.py, that every Python started with it runs first
# of times, memory and the machine
MEASURED = ("results/usage/", "results/resource_usage.csv", "results/report.html", "results/figures/")
OF_THE_RUN = ("started", "ended", "attempts", "attempts_seconds", "samples_per_second", "machine")
OF_THE_RUN += ("peak_memory_gib", "peak_gpu_memory_gib")
FOLDERS = ("results", "resources")
SEED = os.environ.get("FAULTS_SEED", "7")  # of everything drawn at random; printed, as part of tests' names or output


def results_of(project: Project) -> dict[str, str]:
    """Digests of a project's results by their paths: of all but what is measured; manifests without their times."""
    return results_in(project.folder, FOLDERS)


def results_in(root: Path, parts: Iterable[str]) -> dict[str, str]:
    """The same of some files and folders below `root`."""
    found = {}
    for part in parts:
        start = root / part
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_file() and not name.startswith(MEASURED) and not path.name.startswith("."):
                found[name] = _digest(path)
    return found


def _digest(path: Path) -> str:
    if path.name == "manifest.json":
        told = json.loads(path.read_text())
        return digest_of_json({name: value for name, value in told.items() if name not in OF_THE_RUN})
    if path.name == "training.csv":
        with open(path, newline="") as stream:
            rows = [{**row, "samples_per_second": ""} for row in csv.DictReader(stream)]
        return digest_of_json({"rows": rows})
    if path.name in ("state.json", "source.json"):  # a random fingerprint; a time
        told = json.loads(path.read_text())
        return digest_of_json({key: told[key] for key in told if key not in ("_fingerprint", "downloaded")})
    return sha256_of_file(path)


def leftovers(project: Project) -> list[str]:
    """Files that were written aside and never renamed."""
    return [str(p) for name in (*FOLDERS, "checkpoints") for p in project.path(name).rglob(".*.partial")]


@dataclass(frozen=True)
class Moment:
    """When and what to kill.

    `stage` is the rule whose script is waited for, None for no stage in particular; then `seconds` pass. With
    `operation`, the script itself ends everything at that file operation of its own instead; `snakemake` as a stage is
    Snakemake's own process. `what` is killed: the whole `tree`, only the `stage`, or only `snakemake`.
    """

    stage: str | None
    seconds: float = 0.0
    operation: int | None = None
    what: str = "tree"


class Run:
    """A run of Snakemake in a session of its own."""

    def __init__(self, project: Project, *arguments: str, config: str = "tiny.yaml", **environment: str):
        command = [*project.prefix, sys.executable, "-m", "snakemake", "--profile", project.profile]
        command += [*arguments, "--configfile", config]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTEST_", "COV_"))}
        self.output = project.path("killed-run.txt")
        with open(self.output, "w") as stream:
            self.process = subprocess.Popen(
                command,
                cwd=project.folder,
                env={**kept, **environment},
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def stages(self, name: str | None = None) -> list[psutil.Process]:
        """The scripts of stages that are at work, or of one stage."""
        ending = ".py" if name is None else f".{name}.py"
        found = []
        for process in self.tree()[1:]:
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if any(".snakemake/scripts/" in part and part.endswith(ending) for part in command):
                found.append(process)
        return found

    def tree(self) -> list[psutil.Process]:
        """Snakemake's process and all below it."""
        try:
            mother = psutil.Process(self.process.pid)
            return [mother, *mother.children(recursive=True)]
        except psutil.Error:
            return []

    def kill_tree(self) -> None:
        """Kill all at once; whoever has left the session too."""
        tree = self.tree()
        os.killpg(self.process.pid, signal.SIGKILL)
        for process in tree:
            _kill(process)
        psutil.wait_procs(tree, timeout=900)
        self.process.wait()

    def until(self, condition: Any, seconds: float = 3600.0) -> bool:
        """Wait for a condition; False where Snakemake has ended before. The limit only ends a test that hangs."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.output.read_text()
            time.sleep(0.01)
        return True


def _kill(process: psutil.Process) -> bool:
    try:
        process.kill()
    except psutil.Error:
        return False
    return True


def killed(project: Project, moment: Moment, *arguments: str, config: str = "tiny.yaml") -> bool:
    """Run the workflow and kill it at a moment; False where it had ended before."""
    environment = {}
    if moment.operation is not None:
        environment = {"PYTHONPATH": str(PRELOADED), "QA_KILLED_AT": f"{moment.stage} {moment.operation}"}
    run = Run(project, *arguments, config=config, **environment)
    try:
        if moment.operation is not None:
            run.process.wait()
            return run.process.returncode == -signal.SIGKILL
        if moment.stage and not run.until(lambda: run.stages(moment.stage)):
            return False
        end = time.monotonic() + moment.seconds
        if not run.until(lambda: time.monotonic() >= end):
            return False
        if moment.what == "tree":
            run.kill_tree()
            return True
        if moment.what == "snakemake":
            run.process.kill()  # its stages run on: the next run waits for them
            run.process.wait()
            return True
        hit = [_kill(process) for process in run.stages(moment.stage)]
        code = run.process.wait()
        assert code == 1 if any(hit) else code in (0, 1), run.output.read_text()
        return any(hit)
    finally:
        if run.process.poll() is None:
            run.kill_tree()


def again(project: Project, config: str = "tiny.yaml", **environment: str) -> Any:
    """What a user does after a kill: unlock, and the same command."""
    unlocked = project.snakemake("--unlock", config=config)
    assert unlocked.returncode == 0, unlocked.stdout
    return project.snakemake(config=config, **environment)


MADE = (".snakemake", "results", "resources", "checkpoints", "logs")


def from_nothing(project: Project, folder: Path) -> Project:
    """The same workflow with the same inputs, in another folder, with nothing made yet."""
    shutil.copytree(
        project.folder, folder, symlinks=True, ignore=lambda where, names: MADE if Path(where) == project.folder else ()
    )
    return Project(folder, project.prefix)

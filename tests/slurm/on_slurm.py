"""Projects whose jobs go to a SLURM cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from chain import Project
from cluster import PATIENCE, Cluster, state_of, wait_for
from qa.common.files import sha256_of_folder

SNAKEMAKE = Path(__file__).parent / "frequent_checks.py"
HALTING = Path(__file__).parent / "halting"  # a sitecustomize.py, that every Python started with it runs first
PAUSES = {"slurm_executor": ("= 10.0, 180.0", "= 2.0, 8.0"), "leftover_jobs": ("PAUSE = 30.0", "PAUSE = 3.0")}
BEGUN, SAVED = "attempts.json", "checkpoint-1/complete.json"  # of a training: its first attempt, its first checkpoint
NAMING = ("README.md", "qa_settings.json")  # of a model, its card and its settings


@dataclass
class ClusterProject(Project):
    """A project whose jobs go to a cluster, by the profile as it is shipped but for the pace of asking for states."""

    profile: str = "profiles/slurm"
    cluster: Cluster = field(kw_only=True)

    def snakemake(self, *arguments: str, **options: Any) -> Any:
        """Run Snakemake on the login node, as a user does."""
        with self.running(*arguments, output="called.txt", **options) as snakemake:
            snakemake.wait(PATIENCE)
        return subprocess.CompletedProcess(snakemake.args, snakemake.returncode, self.path("called.txt").read_text())

    def status(self, *arguments: str, **environment: str) -> str:
        """What `qa status` prints on the login node."""
        return super().status(*arguments, **{**self.cluster.environment, **environment})

    @contextmanager
    def running(
        self,
        *arguments: str,
        config: str = "tiny.yaml",
        output: str = "printed.txt",
        halt_at: Iterable[str] = (),
        **environment: str,
    ) -> Iterator[subprocess.Popen]:
        """Snakemake at work beside the block, killed with it at the latest.

        Each training halts where `halt_at` has `RUN/seed-N/BEGUN` or `RUN/seed-N/SAVED`, until `go_on`.
        """
        command = [sys.executable, str(SNAKEMAKE), "--profile", self.profile, *arguments, "--latency-wait", "10"]
        folder = self.path("checkpoints")
        patterns = [f"{folder}/{run}/{seed}/*/{file}" for run, seed, file in (at.split("/", 2) for at in halt_at)]
        policy = {"OMP_WAIT_POLICY": "passive"}  # the nodes share this machine's cores
        halting = {"PYTHONPATH": str(HALTING), "QA_HALT_AT": " ".join(patterns)} if patterns else {}
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTEST_", "COV_"))}
        with open(self.path(output), "w") as stream:
            snakemake = subprocess.Popen(
                [*command, "--configfile", config],
                cwd=self.folder,
                env={**kept, **policy, **self.cluster.environment, **halting, **environment},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield snakemake
        finally:
            snakemake.kill()
            snakemake.wait()

    def printed(self) -> str:
        """What the last Snakemake that ran beside a block has printed so far."""
        return self.path("printed.txt").read_text()

    def attempts(self, run: str, seed: str) -> list[dict[str, Any]]:
        """The attempts at a training that is not finished."""
        for file in self.path("checkpoints", run, seed).glob(f"*/{BEGUN}"):
            with suppress(FileNotFoundError):  # it goes when the training is finished
                return json.loads(file.read_text())
        return []

    def halted(self, at: str, snakemake: subprocess.Popen) -> int:
        """Wait for a training to halt at an item of `halt_at`; the number of its process."""
        run, seed, file = at.split("/", 2)
        there = self.path("checkpoints", run, seed)
        wait_for(lambda: any(there.glob(f"*/{file}")) or snakemake.poll() is not None, f"{at} there")
        assert any(there.glob(f"*/{file}")), self.printed()
        process = self.attempts(run, seed)[-1]["pid"]
        wait_for(lambda: state_of(process) == "T", f"{at}: process {process} halted")
        return process

    def site(self, **values: Any) -> None:
        """Write the user's own profile: requests by rule, with `threads` among them, and for all `jobs`."""
        threads = {rule: asked.pop("threads") for rule, asked in values.items() if "threads" in asked}
        self.path("profiles/default").mkdir(exist_ok=True)
        own = {"default-resources": values.pop("jobs", {}), "set-resources": values, "set-threads": threads}
        self.path("profiles/default/config.yaml").write_text(yaml.safe_dump({key: own[key] for key in own if own[key]}))

    def jobs(self, rule: str = "", wildcards: str = "") -> list[dict[str, str]]:
        """This project's SLURM jobs of a rule, oldest first, by the comment that the executor gives each."""
        ours = [job for job in self.cluster.jobs() if job["WorkDir"] == str(self.folder)]
        return [job for job in ours if job["Comment"].startswith(f"rule_{rule}") and wildcards in job["Comment"]]


def go_on(process: int) -> None:
    """Let a halted process go on."""
    os.kill(process, signal.SIGCONT)


def model_of(project: Project, run: str, variant: str) -> dict[str, str]:
    """SHA-256 of each file of a trained model, but for those that name its run."""
    hashes = sha256_of_folder(project.path("results", run, variant, "model"))
    assert {"model.safetensors", *NAMING} <= hashes.keys()
    return {name: value for name, value in hashes.items() if name not in NAMING and not name.endswith(".seal")}


def on_cluster(folder: Path, cluster: Cluster) -> ClusterProject:
    """A folder with the workflow as a project on the cluster, without a user's own profile, and soon asking again."""
    shutil.rmtree(folder / "profiles/default", ignore_errors=True)
    for hook, (long, short) in PAUSES.items():
        path = folder / "workflow/scripts/hooks" / f"{hook}.py"
        text = path.read_text()
        assert long in text or short in text, path
        path.write_text(text.replace(long, short))
    return ClusterProject(folder, cluster=cluster)


def copied(project: ClusterProject, folder: Path) -> ClusterProject:
    """A copy of a project, time stamps and Snakemake's memory included."""
    shutil.copytree(project.folder, folder, symlinks=True, copy_function=shutil.copy2)
    return on_cluster(folder, project.cluster)
